"""A dialog for the structures: their names, and the values that stand for them in label files."""

from __future__ import annotations

import re

import qt

from ..engine import process
from ..i18n import tr as _
from .panel import showLine

NAME, VALUES, COLOR = range(3)


class StructuresDialog:
    """Edits a label set.

    Args:
        parent: The window that it belongs to.
        labelSet: The engine's LabelSet to begin with.
        onAccept: Called with the new one; a ValueError that it raises is shown, and the dialog stays open.
    """

    def __init__(self, parent, labelSet, onAccept) -> None:
        self._onAccept = onAccept
        self._before = {structure.name: structure for structure in labelSet.structures}
        self._labelSet = labelSet
        self.dialog = qt.QDialog(parent)
        self.dialog.setWindowTitle(_("Structures"))
        self.dialog.resize(420, 320)
        layout = qt.QVBoxLayout(self.dialog)
        self.nameEdit = qt.QLineEdit(labelSet.name)
        self.nameEdit.setToolTip(_("What this set of structures is called."))
        layout.addWidget(self.nameEdit)
        self.table = qt.QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels([_("Structure"), _("Values in files"), _("Color")])
        self.table.setToolTip(_("Double-click to change a name, the label values (such as 200, 205) or the color."))
        self.table.horizontalHeader().setSectionResizeMode(NAME, qt.QHeaderView.Stretch)
        self.table.verticalHeader().setVisible(False)
        self.table.connect("cellDoubleClicked(int,int)", self._onDoubleClick)
        layout.addWidget(self.table)
        for structure in labelSet.structures:
            self._addRow(structure.name, ", ".join(map(str, structure.source_values)), structure.color)
        row = qt.QHBoxLayout()
        self.addButton = qt.QPushButton(_("Add"))
        self.addButton.setToolTip(_("Add a structure."))
        self.addButton.connect("clicked()", self._onAdd)
        self.removeButton = qt.QPushButton(_("Remove"))
        self.removeButton.setToolTip(_("Remove the selected structure."))
        self.removeButton.connect("clicked()", lambda: self.table.removeRow(self.table.currentRow()))
        row.addWidget(self.addButton)
        row.addWidget(self.removeButton)
        row.addStretch(1)
        layout.addLayout(row)
        self.line = qt.QLabel()
        self.line.setWordWrap(True)
        self.line.setVisible(False)
        layout.addWidget(self.line)
        buttons = qt.QDialogButtonBox()
        buttons.setStandardButtons(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
        buttons.connect("accepted()", self.accept)
        buttons.connect("rejected()", self.reject)
        layout.addWidget(buttons)

    def labelSet(self):
        """The label set as it is in the dialog.

        Raises:
            ValueError: If it is not valid: two structures of one name, no values, and the like.
        """
        process.addToPath()
        from semicardiac.base.settings import parse
        from semicardiac.images.labels import LabelSet

        structures = []
        for index in range(self.table.rowCount):
            name, values = (self.table.item(index, column).text().strip() for column in (NAME, VALUES))
            before = self._before.get(name)
            fields = before.model_dump() if before else {}
            color = self.table.item(index, COLOR).data(qt.Qt.UserRole)
            found = [int(value) for value in re.findall(r"\d+", values)]
            structures.append({**fields, "name": name, "source_values": tuple(found), "color": tuple(color)})
        fields = {"name": self.nameEdit.text.strip(), "structures": structures, "plane": self._labelSet.plane}
        if fields["name"] == self._labelSet.name and structures != [
            each.model_dump() for each in self._before.values()
        ]:
            fields["name"] = _("{name}, changed").format(name=fields["name"])  # the ready-made sets stay what they are
        return parse(LabelSet, fields, where=_("Structures"))

    def open(self) -> None:
        self.dialog.open()

    def accept(self) -> None:
        try:
            self._onAccept(self.labelSet())
        except ValueError as error:
            showLine(self.line, str(error), "error")
            return
        self.dialog.accept()

    def reject(self) -> None:
        self.dialog.reject()

    def _addRow(self, name: str, values: str, color) -> None:
        index = self.table.rowCount
        self.table.insertRow(index)
        self.table.setItem(index, NAME, qt.QTableWidgetItem(name))
        self.table.setItem(index, VALUES, qt.QTableWidgetItem(values))
        item = qt.QTableWidgetItem()
        item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
        self.table.setItem(index, COLOR, item)
        self._paint(index, color)

    def _paint(self, index: int, color) -> None:
        item = self.table.item(index, COLOR)
        item.setData(qt.Qt.UserRole, list(color))
        item.setBackground(qt.QBrush(qt.QColor(*color)))

    def _onAdd(self) -> None:
        process.addToPath()
        from semicardiac.images.labels import PALETTE

        index = self.table.rowCount
        self._addRow(_("structure {number}").format(number=index + 1), str(index + 1), PALETTE[index % len(PALETTE)])

    def _onDoubleClick(self, index: int, column: int) -> None:
        if column == COLOR:
            before = qt.QColor(*self.table.item(index, COLOR).data(qt.Qt.UserRole))
            color = qt.QColorDialog.getColor(before, self.dialog)
            if color.isValid():
                self._paint(index, (color.red(), color.green(), color.blue()))
