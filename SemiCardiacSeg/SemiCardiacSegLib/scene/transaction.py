"""What was added to the scene is taken out again if the work that added it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import slicer
import vtk


@contextmanager
def nothingHalfMade(tick: Callable[[], object] | None = None) -> Iterator[Callable[[], None]]:
    """If what happens in it fails, the nodes and folders that it has added are taken out of the scene again.

    Gives a function to call between the steps of long work, which calls `tick`: the application may go on there, and
    what the user adds to the scene meanwhile stays.
    """
    before = _content()

    def pause() -> None:
        if tick is not None:
            ours = [now - known for now, known in zip(_content(), before, strict=True)]
            tick()
            for known, now, own in zip(before, _content(), ours, strict=True):
                known |= now - own

    try:
        yield pause
    except BaseException:
        _removeAllBut(*before)
        raise


def _content() -> tuple[set[str], set[int]]:
    """The IDs of the nodes of the scene, and the items of its subject hierarchy."""
    scene = slicer.mrmlScene
    nodes = {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())}
    return nodes, set(_hierarchyItems(scene.GetSubjectHierarchyNode()))


def _removeAllBut(nodeIds: set[str], items: set[int]) -> None:
    scene = slicer.mrmlScene
    hierarchy = scene.GetSubjectHierarchyNode()
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    for node in reversed(nodes):
        if node.GetID() not in nodeIds and scene.IsNodePresent(node):  # some go with others
            if item := hierarchy.GetItemByDataNode(node):  # in Slicer, a plugin that uses Qt would see to it
                hierarchy.RemoveItem(item, False)
            scene.RemoveNode(node)
    for item in _hierarchyItems(hierarchy):
        if item not in items:
            hierarchy.RemoveItem(item, False, False)  # a folder; what lay in it before is not lost with it


def _hierarchyItems(hierarchy) -> list[int]:
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    return [items.GetId(index) for index in range(items.GetNumberOfIds())]
