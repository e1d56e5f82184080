"""A dialog in which segmentations that belong to no case are given to cases."""

from __future__ import annotations

import qt

from ..i18n import tr as _


class MatchDialog:
    """Shows each segmentation with the case that it belongs to.

    Args:
        parent: The window that it belongs to.
        segmentations: Segmentation and label map nodes.
        rows: The rows of the table that have no segmentation.
        onAccept: Called with the keys of rows by segmentation node; those that belong to none are absent.
    """

    def __init__(self, parent, segmentations: list, rows: list, onAccept) -> None:
        self._boxes = {}
        self._onAccept = onAccept
        self.dialog = qt.QDialog(parent)
        self.dialog.setWindowTitle(_("Segmentations without a case"))
        layout = qt.QFormLayout(self.dialog)
        layout.addRow(qt.QLabel(_("Which case does each segmentation belong to?")))
        for node in segmentations:
            box = self._boxes[node] = qt.QComboBox()
            box.addItem(_("none"), "")
            for row in rows:
                box.addItem(row.name, row.key)
            box.setToolTip(_("The case whose labels these are."))
            layout.addRow(node.GetName(), box)
        buttons = qt.QDialogButtonBox()
        buttons.setStandardButtons(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
        buttons.connect("accepted()", self.accept)
        buttons.connect("rejected()", self.reject)
        layout.addRow(buttons)

    def chosen(self) -> dict:
        """The keys of rows by segmentation node."""
        keys = {node: box.itemData(box.currentIndex) for node, box in self._boxes.items()}
        return {node: key for node, key in keys.items() if key}

    def open(self) -> None:
        self.dialog.open()

    def accept(self) -> None:
        self.dialog.accept()
        self._onAccept(self.chosen())

    def reject(self) -> None:
        self.dialog.reject()
