"""Section 4: measure."""

from __future__ import annotations

import math
from html import escape

import qt
import slicer

from ..i18n import tr as _
from ..plots import PlotLayout, volumeTimeChart
from . import display, words
from .panel import Panel, showLine


class MeasurePanel(Panel):
    """Volumes and clinical numbers of a segmentation, and its agreement with a reference."""

    message = "measureMessage"

    def setup(self) -> None:
        self._tableId = ""
        self.layout = PlotLayout()
        self.onClick(self.ui.measureButton, self._onMeasure)
        self.onClick(self.ui.tableButton, self._onTable)
        self.onClick(self.ui.curveButton, self._onCurve)
        self.onClick(self.ui.csvButton, self._onSave)
        self.onClick(self.ui.compareButton, self._onCompare)
        showLine(self.ui.numbersText, "")

    def update(self) -> None:
        parameters = self.parameters
        measured = parameters.measured if parameters else None
        sequence = measured is not None and measured.IsA("vtkMRMLSequenceNode")
        why = "" if measured is not None else _("Choose a segmentation, or segment a volume first.")
        self.enable(self.ui.measureButton, why, self.ui.measureWhy)
        self.enable(self.ui.curveButton, why or ("" if sequence else _("A curve needs the segmentations of a cine.")))
        self.enable(self.ui.tableButton, why)
        self.enable(self.ui.csvButton, "" if self._table() else _("Measure or compare first: there is no table yet."))
        self.ui.otherPhaseSelector.setEnabled(measured is not None and not sequence)
        if sequence:
            why = _("A cine cannot be compared as a whole: choose the segmentation of one frame.")
        elif not why and parameters.reference is None:
            why = _("Choose a reference segmentation to compare with.")
        self.enable(self.ui.compareButton, why)
        showLine(self.ui.compareWhy, why if measured is not None else "", "unknown")

    def forget(self) -> None:
        self._tableId = ""
        showLine(self.ui.numbersText, "")
        self.layout.restore()

    def _inputs(self):
        """A sequence, or the list of one or two segmentations."""
        parameters = self.parameters
        if parameters.measured.IsA("vtkMRMLSequenceNode"):
            return parameters.measured
        return [node for node in (parameters.measured, parameters.otherPhase) if node is not None]

    def _table(self):
        return slicer.mrmlScene.GetNodeByID(self._tableId) if self._tableId else None

    def _newTable(self):
        """The volumes as a new table node, the one that is then shown and saved."""
        table = self.logic.volumesTable(self._inputs())
        self._tableId = table.GetID()
        return table

    def _onMeasure(self) -> None:
        table = self._newTable()
        inputs = self._inputs()
        two = not isinstance(inputs, list) or len(inputs) > 1
        numbers = self.logic.clinicalNumbers(inputs) if two else {}
        self.ui.numbersText.setText(_numbers(numbers, inputs) if numbers else _htmlTable(table))
        self.ui.numbersText.setVisible(True)

    def _onTable(self) -> None:
        display.showTable(self._table() or self._newTable())

    def _onCurve(self) -> None:
        self.layout.show(volumeTimeChart(self._newTable(), self.dataSet.labelSet()))

    def _onCompare(self) -> None:
        measured = self.parameters.measured
        volume = measured.GetNodeReference(measured.GetReferenceImageGeometryReferenceRole())
        table = self.logic.compare(measured, self.parameters.reference, volume)
        self._tableId = table.GetID()
        self.ui.numbersText.setText(_htmlTable(table))
        self.ui.numbersText.setVisible(True)

    def _onSave(self) -> None:
        table = self._table()
        name = f"{table.GetName()}.csv"
        path = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save table"), name, "CSV (*.csv)")
        if path:
            saved = self.logic.saveTable(table, path)
            self.say(_("Saved: {path}").format(path=saved), "ready")


def _numbers(numbers: dict, inputs) -> str:
    """Clinical numbers as a small table of rich text."""
    rows = []
    for title, side in ((_("LV"), "lv"), (_("RV"), "rv")):
        found = [(name, numbers.get(f"{side}_{key}"), digits, unit) for name, key, digits, unit in _columns()]
        if any(value is not None and math.isfinite(value) for _name, value, _digits, _unit in found):
            cells = [
                f"<b>{words.number(value, digits)}</b> {unit}" if value is not None else ""
                for _name, value, digits, unit in found
            ]
            rows.append(f"<tr><td>{title}</td>" + "".join(f"<td align=right>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<td align=right>{name}</td>" for name, *_rest in _columns())
    ed, es = numbers["edFrame"], numbers["esFrame"]
    names = (inputs[ed].GetName(), inputs[es].GetName()) if isinstance(inputs, list) else _frames(ed, es)
    phases = escape(_("End-diastole is {ed}, end-systole {es}.").format(ed=names[0], es=names[1]))
    return f'<table width="100%" cellspacing="2"><tr><td></td>{head}</tr>{"".join(rows)}</table>{phases}'


def _frames(*indices: int) -> list[str]:
    return [_("frame {number}").format(number=index + 1) for index in indices]


def _columns():
    return (
        (_("EDV"), "edv_ml", 0, "ml"),
        (_("ESV"), "esv_ml", 0, "ml"),
        (_("SV"), "sv_ml", 0, "ml"),
        (_("EF"), "ef_percent", 0, "%"),
        (_("mass"), "mass_g", 0, "g"),
    )


def _htmlTable(tableNode) -> str:
    """A table node with few rows as rich text, turned so that structures stand below each other."""
    table = tableNode.GetTable()
    columns = [table.GetColumn(index) for index in range(table.GetNumberOfColumns())]

    def cell(value) -> str:
        return words.number(value, 2 if abs(value) < 10 else 1) if isinstance(value, float) else str(value)

    if columns[0].GetName() == _("structure"):
        head = [column.GetName().replace(_("volume"), _("vol.")) for column in columns[:4]]
        body = [[cell(column.GetValue(row)) for column in columns[:4]] for row in range(table.GetNumberOfRows())]
    else:
        head = ["", *(str(columns[0].GetValue(row)) for row in range(table.GetNumberOfRows()))]
        body = [
            [column.GetName(), *(cell(column.GetValue(row)) for row in range(table.GetNumberOfRows()))]
            for column in columns[1:]
        ]
    lines = [head, *body]
    cells = [
        "".join(f'<td align="{"left" if at == 0 else "right"}">{text}</td>' for at, text in enumerate(line))
        for line in lines
    ]
    return f'<table width="100%" cellspacing="2">{"".join(f"<tr>{line}</tr>" for line in cells)}</table>'
