"""What work adds to the scene goes again if it fails, and nothing else does."""

from __future__ import annotations

import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

from SemiCardiacSegLib.scene.transaction import nothingHalfMade

from Testing.slicer.scenes import makeFolder, makeVolume

pytestmark = pytest.mark.usefixtures("scene")


def names() -> set[str]:
    return {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")}


def test_what_succeeds_stays():
    with nothingHalfMade():
        makeVolume("made")
    assert names() == {"made"}


def test_what_fails_takes_its_nodes_and_folders_with_it(scene):
    makeVolume("before")
    hierarchy = scene.GetSubjectHierarchyNode()

    def work():
        with nothingHalfMade():
            makeFolder("half", [makeVolume("made")])
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        work()
    assert names() == {"before"}
    assert not hierarchy.GetItemByName("half")


def test_what_the_user_adds_between_the_steps_stays():
    def work():
        with nothingHalfMade(lambda: makeVolume("the user's")) as pause:
            makeVolume("made")
            pause()
            makeVolume("made next")
            pause()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        work()
    assert names() == {"the user's"}
