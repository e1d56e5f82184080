"""A dialog for what the table says of one case: whose it is, which phase, and its segmentation."""

from __future__ import annotations

import qt
import slicer

from ..i18n import tr as _
from ..table.rows import PHASES
from . import words
from .panel import showLine


class CaseDialog:
    """Changes patient, phase and segmentation of a row.

    Args:
        parent: The window that it belongs to.
        dataSet: The case table.
        row: The row.
        onChanged: Called when the table has been changed.
    """

    def __init__(self, parent, dataSet, row, onChanged) -> None:
        self._dataSet, self._row, self._onChanged = dataSet, row, onChanged
        self.dialog = qt.QDialog(parent)
        self.dialog.setWindowTitle(row.name)
        layout = qt.QFormLayout(self.dialog)
        self.patientEdit = qt.QLineEdit(row.patient)
        self.patientEdit.setToolTip(_("Cases of one patient must not be in both the labeled and the validation cases."))
        layout.addRow(_("Patient"), self.patientEdit)
        self.phaseBox = qt.QComboBox()
        for phase in PHASES:
            self.phaseBox.addItem(words.phase(phase), phase)
        self.phaseBox.setCurrentIndex(self.phaseBox.findData(row.phase))
        self.phaseBox.setToolTip(_("The phase of the heart cycle."))
        layout.addRow(_("Phase"), self.phaseBox)
        self.segmentationBox = None
        if row.kind == "volume":
            self.segmentationBox = qt.QComboBox()
            self.segmentationBox.setToolTip(_("The segmentation or label map that belongs to the volume."))
            self.segmentationBox.addItem(_("none"), "")
            for className in ("vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode"):
                for node in slicer.util.getNodesByClass(className):
                    self.segmentationBox.addItem(node.GetName(), node.GetID())
            before = row.segmentationNode.GetID() if row.segmentationNode is not None else ""
            self.segmentationBox.setCurrentIndex(self.segmentationBox.findData(before))
            layout.addRow(_("Segmentation"), self.segmentationBox)
        self.line = qt.QLabel()
        self.line.setWordWrap(True)
        showLine(self.line, "")
        layout.addRow(self.line)
        buttons = qt.QDialogButtonBox()
        buttons.setStandardButtons(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
        buttons.connect("accepted()", self.accept)
        buttons.connect("rejected()", self.reject)
        layout.addRow(buttons)

    def open(self) -> None:
        self.dialog.open()

    def accept(self) -> None:
        try:
            self._change()
        except ValueError as error:
            showLine(self.line, str(error), "error")
            return
        self.dialog.accept()
        self._onChanged()

    def reject(self) -> None:
        self.dialog.reject()

    def _change(self) -> None:
        key = self._row.key
        self._dataSet.setPatient(key, self.patientEdit.text.strip())
        self._dataSet.setPhase(key, self.phaseBox.itemData(self.phaseBox.currentIndex))
        if self.segmentationBox is not None:
            nodeId = self.segmentationBox.itemData(self.segmentationBox.currentIndex)
            node = slicer.mrmlScene.GetNodeByID(nodeId) if nodeId else None
            if node is not self._row.segmentationNode:
                self._dataSet.setSegmentation(key, node)
