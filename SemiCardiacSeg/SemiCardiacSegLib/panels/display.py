"""What the views show."""

from __future__ import annotations

import slicer

from ..scene import sequences
from ..scene.acquired_plane import AcquiredPlane
from ..scene.segmentations import isLabelMap

MAP_OPACITY = 0.4
"""Of a map over the image, so that both are seen."""


class Views:
    """The slice views while the user is in this module; `restore` gives them back."""

    def __init__(self) -> None:
        self._plane = AcquiredPlane()
        self._kept = False

    def showVolume(self, volumeNode, labelsNode=None, mapNode=None) -> None:
        """Shows a volume in the plane of its slices; does nothing without views.

        Args:
            volumeNode: What to show.
            labelsNode: The segmentation or label map to show with it, and no other.
            mapNode: A volume of numbers to lay over it.
        """
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            if node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(node is labelsNode)
        if slicer.app.layoutManager() is not None and volumeNode is not None:
            slicer.util.setSliceViewerLayers(
                background=volumeNode,
                label=labelsNode if labelsNode is not None and isLabelMap(labelsNode) else None,
                foreground=mapNode,
                foregroundOpacity=None if mapNode is None else MAP_OPACITY,
            )
            self._plane.show(volumeNode)

    def showSequence(self, sequenceNode) -> None:
        """Shows the current frame of a sequence, and lets the toolbar step through it."""
        chooseBrowser(sequenceNode)
        if (volumeNode := shownNode(sequenceNode)) is not None:
            self.showVolume(volumeNode)

    def keep(self) -> None:
        """Leaves the views as they are at the next `restore`: the user continues with them in another module."""
        self._kept = True

    def restore(self) -> None:
        """Gives the user's orientation of the views back."""
        if not self._kept:
            self._plane.restore()
        self._kept = False


def volumeOf(segmentationNode):
    """The volume that a segmentation was drawn on, or None."""
    return segmentationNode.GetNodeReference(segmentationNode.GetReferenceImageGeometryReferenceRole())


def shownNode(node):
    """What the views can show of a node: itself, or the current frame of a sequence, None where no browser shows it."""
    return sequences.shownBy(node) if node.IsA("vtkMRMLSequenceNode") else node


def chooseBrowser(node) -> None:
    """Lets the toolbar for sequences step through the frames of a node, if it is a sequence."""
    browser = sequences.browserOf(node) if node.IsA("vtkMRMLSequenceNode") else None
    if browser is not None and hasattr(slicer.modules.sequences, "showSequenceBrowser"):  # not without a GUI
        slicer.modules.sequences.showSequenceBrowser(browser)


def center3D() -> None:
    """Brings what the 3D views show into their middle."""
    if slicer.app.layoutManager() is not None:
        slicer.util.resetThreeDViews()
