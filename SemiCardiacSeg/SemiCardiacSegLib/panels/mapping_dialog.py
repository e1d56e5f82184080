"""A dialog in which the segments of a case are told to be structures, also for all cases with the same segments."""

from __future__ import annotations

import qt

from ..i18n import tr as _
from ..scene.labelmaps import segmentVolumesMl
from . import words


class MappingDialog:
    """Shows each segment, with its color and volume, and the structure that it stands for.

    Args:
        parent: The window that it belongs to.
        segmentation: The vtkMRMLSegmentationNode.
        labelSet: The engine's LabelSet.
        mapping: Structures by segment ID, as they are or are proposed.
        alike: How many cases have these segments, this one included.
        onAccept: Called with the new mapping, and whether it is for all those cases.
    """

    def __init__(self, parent, segmentation, labelSet, mapping: dict[str, str], alike: int, onAccept) -> None:
        self._boxes = {}
        self._onAccept = onAccept
        self.dialog = qt.QDialog(parent)
        self.dialog.setWindowTitle(_("Structures of {name}").format(name=segmentation.GetName()))
        layout = qt.QGridLayout(self.dialog)
        layout.addWidget(qt.QLabel(_("What does each segment stand for?")), 0, 0, 1, 4)
        segments, volumes = segmentation.GetSegmentation(), segmentVolumesMl(segmentation)
        for index in range(segments.GetNumberOfSegments()):
            segmentId, segment = segments.GetNthSegmentID(index), segments.GetNthSegment(index)
            box = self._boxes[segmentId] = _box(labelSet, mapping.get(segmentId, ""))
            size = qt.QLabel(_("{volume} ml").format(volume=words.number(volumes[segmentId], 1)))
            size.setAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            for column, widget in enumerate((_swatch(segment.GetColor()), qt.QLabel(segment.GetName()), size, box)):
                layout.addWidget(widget, index + 1, column)
        layout.setColumnStretch(3, 1)
        row = segments.GetNumberOfSegments() + 1
        self.allBox = qt.QCheckBox(_("Use for all {count} cases with these segments").format(count=alike))
        self.allBox.setToolTip(_("Gives the same answer for every case of the table whose segments have these names."))
        self.allBox.setChecked(alike > 1)
        self.allBox.setVisible(alike > 1)
        layout.addWidget(self.allBox, row, 0, 1, 4)
        buttons = qt.QDialogButtonBox()
        buttons.setStandardButtons(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
        buttons.connect("accepted()", self.accept)
        buttons.connect("rejected()", self.reject)
        layout.addWidget(buttons, row + 1, 0, 1, 4)

    def mapping(self) -> dict[str, str]:
        """Structures by segment ID; segments that are left out are absent."""
        chosen = {segmentId: box.itemData(box.currentIndex) for segmentId, box in self._boxes.items()}
        return {segmentId: name for segmentId, name in chosen.items() if name}

    def open(self) -> None:
        self.dialog.open()

    def accept(self) -> None:
        self.dialog.accept()
        self._onAccept(self.mapping(), self.allBox.checked)

    def reject(self) -> None:
        self.dialog.reject()


def _box(labelSet, chosen: str):
    box = qt.QComboBox()
    box.addItem(_("nothing: leave it out"), "")
    for name in labelSet.names:
        box.addItem(name, name)
    box.setCurrentIndex(max(0, box.findData(chosen)))
    box.setToolTip(_("The structure that this segment stands for."))
    return box


def _swatch(color):
    """A small square of a color, given as three numbers from 0 to 1."""
    picture = qt.QPixmap(14, 14)
    picture.fill(qt.QColor.fromRgbF(*color))
    label = qt.QLabel()
    label.setPixmap(picture)
    return label
