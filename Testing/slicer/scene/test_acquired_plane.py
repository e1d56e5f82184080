"""The slice views show a volume in its own slices, and the user's views come back."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

from SemiCardiacSegLib.scene.acquired_plane import AcquiredPlane, normals

from Testing.slicer.scenes import makeTransform, makeVolume, matrixOf, obliqueMatrix


@pytest.fixture
def views(scene, tmp_path):
    """The nodes of the three slice views, by name."""
    pytest.importorskip("PySide6", reason="needs PySide6-Essentials")
    from Testing.slicer.qt_standin.application import addLayout

    addLayout()
    return {name: scene.GetSingletonNode(name, "vtkMRMLSliceNode") for name in ("Red", "Green", "Yellow")}


def state(node) -> list[float]:
    sliceToRas = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    return [*sliceToRas.ravel(), *node.GetFieldOfView(), *node.GetXYZOrigin()]


def across(node) -> np.ndarray:
    """The direction in RAS across a slice view."""
    return slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())[:3, 2]


@pytest.mark.parametrize("seed", range(12))
def test_each_view_cuts_across_one_axis_of_an_oblique_volume_and_red_across_the_slices(views, seed):
    volume = makeVolume(matrix=obliqueMatrix(seed, leftHanded=bool(seed % 2)), seed=seed)
    AcquiredPlane().show(volume)
    axes = matrixOf(volume)[:3, :3] / np.linalg.norm(matrixOf(volume)[:3, :3], axis=0)
    found = {name: np.abs(axes.T @ across(node)) for name, node in views.items()}
    assert found["Red"] == pytest.approx([0, 0, 1], abs=1e-6)
    assert sorted(int(each.argmax()) for each in found.values()) == [0, 1, 2]
    assert all(each.max() == pytest.approx(1) for each in found.values())


def test_a_parent_transform_turns_the_views_too(views):
    volume = makeVolume(matrix=np.diag([1.0, 1.0, 8.0, 1.0]))
    AcquiredPlane().show(volume)
    straight = across(views["Green"]).copy()
    volume.SetAndObserveTransformNodeID(makeTransform(angle=20).GetID())
    AcquiredPlane().show(volume)
    assert abs(straight @ across(views["Green"])) == pytest.approx(np.cos(np.radians(20)))


@pytest.mark.parametrize(
    ("spacing", "red"), [((1.0, 1.2, 8.0), 2), ((8.0, 1.2, 1.2), 0), ((1.2, 8.0, 1.0), 1), ((1.0, 1.2, 1.4), 2)]
)
def test_the_slice_axis_is_the_coarsest_or_the_last_one(spacing, red):
    assert normals(np.diag([*spacing, 1.0]))[0] == red


def test_green_is_across_the_axis_nearer_to_front_and_back():
    columnsForward = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 8, 0], [0, 0, 0, 1.0]])
    assert normals(columnsForward) == (2, 0, 1)
    assert normals(np.diag([1.0, 1, 8, 1])) == (2, 1, 0)


def test_the_users_views_come_back_after_several_volumes(views):
    plane = AcquiredPlane()
    before = {name: state(node) for name, node in views.items()}
    for seed in range(3):
        plane.show(makeVolume(matrix=obliqueMatrix(seed), seed=seed))
    assert state(views["Red"]) != pytest.approx(before["Red"])
    plane.restore()
    for name, node in views.items():
        assert state(node) == pytest.approx(before[name])


def test_a_view_that_the_user_has_turned_since_stays(views):
    plane = AcquiredPlane()
    plane.show(makeVolume(matrix=obliqueMatrix(3)))
    views["Green"].SetOrientation("Sagittal")
    plane.restore()
    assert views["Green"].GetOrientation() == "Sagittal"
    assert views["Red"].GetOrientation() == "Axial"
