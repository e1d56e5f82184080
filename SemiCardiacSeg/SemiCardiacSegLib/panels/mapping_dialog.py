"""A dialog in which the segments of one case are told to be structures."""

from __future__ import annotations

import qt

from ..i18n import tr as _


class MappingDialog:
    """Shows each segment with the structure that it stands for.

    Args:
        parent: The window that it belongs to.
        segmentation: The vtkMRMLSegmentationNode.
        labelSet: The engine's LabelSet.
        mapping: Structures by segment ID, as they are.
        onAccept: Called with the new mapping.
    """

    def __init__(self, parent, segmentation, labelSet, mapping: dict[str, str], onAccept) -> None:
        self._boxes = {}
        self._onAccept = onAccept
        self.dialog = qt.QDialog(parent)
        self.dialog.setWindowTitle(_("Structures of {name}").format(name=segmentation.GetName()))
        layout = qt.QFormLayout(self.dialog)
        layout.addRow(qt.QLabel(_("What does each segment stand for?")))
        segments = segmentation.GetSegmentation()
        for index in range(segments.GetNumberOfSegments()):
            segmentId = segments.GetNthSegmentID(index)
            box = qt.QComboBox()
            box.addItem(_("nothing: leave it out"), "")
            for name in labelSet.names:
                box.addItem(name, name)
            box.setCurrentIndex(max(0, box.findData(mapping.get(segmentId, ""))))
            box.setToolTip(_("The structure that this segment stands for."))
            layout.addRow(segments.GetNthSegment(index).GetName(), box)
            self._boxes[segmentId] = box
        buttons = qt.QDialogButtonBox()
        buttons.setStandardButtons(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
        buttons.connect("accepted()", self.accept)
        buttons.connect("rejected()", self.reject)
        layout.addRow(buttons)

    def mapping(self) -> dict[str, str]:
        """Structures by segment ID; segments that are left out are absent."""
        chosen = {segmentId: box.itemData(box.currentIndex) for segmentId, box in self._boxes.items()}
        return {segmentId: name for segmentId, name in chosen.items() if name}

    def open(self) -> None:
        self.dialog.open()

    def accept(self) -> None:
        self.dialog.accept()
        self._onAccept(self.mapping())

    def reject(self) -> None:
        self.dialog.reject()
