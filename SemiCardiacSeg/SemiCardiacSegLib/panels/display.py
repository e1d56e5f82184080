"""What the slice views show."""

from __future__ import annotations

import slicer

from .. import sequences


def showVolume(volumeNode, segmentationNode=None) -> None:
    """Shows a volume in the slice views, with one segmentation and no other; does nothing without views."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(node is segmentationNode)
    if slicer.app.layoutManager() is not None and volumeNode is not None:
        slicer.util.setSliceViewerLayers(background=volumeNode, label=None, foreground=None, fit=True)


def volumeOf(segmentationNode):
    """The volume that a segmentation was drawn on, or None."""
    return segmentationNode.GetNodeReference(segmentationNode.GetReferenceImageGeometryReferenceRole())


def showSequence(sequenceNode) -> None:
    """Shows the current frame of a sequence."""
    if (shownNode := sequences.shownBy(sequenceNode)) is not None:
        showVolume(shownNode)


def showTable(tableNode) -> None:
    """Shows a table in a layout with a table view; does nothing without views."""
    if slicer.app.layoutManager() is None:
        return
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)
    selection = slicer.app.applicationLogic().GetSelectionNode()
    selection.SetActiveTableID(tableNode.GetID())
    slicer.app.applicationLogic().PropagateTableSelection()
