"""Section 4: measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from html import escape

import qt
import slicer

from ..i18n import tr as _
from ..plots import PlotLayout, volumeTimeChart
from ..problems import contentState
from . import display, words
from .panel import Panel, showLine


class MeasurePanel(Panel):
    """Volumes and clinical numbers of a segmentation, and its agreement with a reference."""

    message = "measureMessage"

    def setup(self) -> None:
        self._selection: tuple = ()
        self._made: dict[str, tuple[str, list]] = {}
        self._last = ""
        self.layout = PlotLayout()
        self.onClick(self.ui.measureButton, self._onMeasure)
        self.onClick(self.ui.tableButton, self._onTable)
        self.onClick(self.ui.curveButton, self._onCurve)
        self.onClick(self.ui.csvButton, self._onSave)
        self.onClick(self.ui.compareButton, self._onCompare)
        showLine(self.ui.numbersText, "")

    def update(self) -> None:
        parameters = self.parameters
        selection = (parameters.measured, parameters.otherPhase, parameters.reference) if parameters else ()
        if selection != self._selection:
            self._clear()
            self._selection = selection
        measured = parameters.measured if parameters else None
        sequence = measured is not None and measured.IsA("vtkMRMLSequenceNode")
        why = "" if measured is not None else _("Choose a segmentation, or segment a volume first.")
        self.enable(self.ui.measureButton, why, self.ui.measureWhy)
        self.enable(self.ui.curveButton, why or ("" if sequence else _("A curve needs the segmentations of a cine.")))
        self.enable(self.ui.tableButton, why)
        none = _("Measure or compare first: there is no table yet.")
        self.enable(self.ui.csvButton, "" if self._node(self._last) else none)
        self.ui.otherPhaseSelector.setEnabled(measured is not None and not sequence)
        if sequence:
            why = _("A cine cannot be compared as a whole: choose the segmentation of one frame.")
        elif not why and parameters.reference is None:
            why = _("Choose a reference segmentation to compare with.")
        self.enable(self.ui.compareButton, why)
        showLine(self.ui.compareWhy, why if measured is not None else "", "unknown")

    def forget(self) -> None:
        self._clear()
        self.layout.restore()

    def _clear(self) -> None:
        """Forgets what was measured; its nodes stay in the scene."""
        self._selection, self._made, self._last = (), {}, ""
        showLine(self.ui.numbersText, "")

    def _inputs(self):
        """A sequence, or the list of one or two segmentations."""
        parameters = self.parameters
        if parameters.measured.IsA("vtkMRMLSequenceNode"):
            return parameters.measured
        return [node for node in (parameters.measured, parameters.otherPhase) if node is not None]

    def _node(self, kind: str):
        """What was made of the selection last, if it is still there: `volumes`, `comparison` or `chart`."""
        nodeId, _state = self._made.get(kind, ("", []))
        return slicer.mrmlScene.GetNodeByID(nodeId) if nodeId else None

    def _once(self, kind: str, inputs: Iterable, make: Callable):
        """What there is of a kind already, or `make()` if there is none or the inputs have changed since."""
        state = [self.dataSet.labelSet(), *contentState(*inputs)]
        if self._node(kind) is None or self._made[kind][1] != state:
            self._made[kind] = (make().GetID(), state)
        return self._node(kind)

    def _volumes(self):
        """The table with the volumes of the selection."""
        inputs = self._inputs()
        nodes = inputs if isinstance(inputs, list) else map(inputs.GetNthDataNode, range(inputs.GetNumberOfDataNodes()))
        table = self._once("volumes", nodes, lambda: self.logic.volumesTable(inputs))
        self._last = "volumes"
        return table

    def _onMeasure(self) -> None:
        table = self._volumes()
        inputs = self._inputs()
        isCine = not isinstance(inputs, list)
        numbers = {}
        if isCine or len(inputs) > 1:
            try:
                numbers = self.logic.clinicalNumbers(inputs)
            except ValueError as error:  # the volumes are there all the same
                more = _("The table has the volumes of all frames.") if isCine else ""
                self.say(f"{error} {more}".strip())
        if isCine and not numbers:
            showLine(self.ui.numbersText, "")
        else:
            self._show(_numbers(numbers, inputs) if numbers else _htmlTable(table))

    def _onTable(self) -> None:
        display.showTable(self._volumes())

    def _onCurve(self) -> None:
        table = self._volumes()
        self.layout.show(self._once("chart", [table], lambda: volumeTimeChart(table, self.dataSet.labelSet())))

    def _onCompare(self) -> None:
        measured, reference = self.parameters.measured, self.parameters.reference
        volume = display.volumeOf(measured) or display.volumeOf(reference)
        if volume is None:
            raise ValueError(_("Set the source volume of '{name}' in Segment Editor.").format(name=measured.GetName()))
        nodes = (measured, reference, volume)
        table = self._once("comparison", nodes, lambda: self.logic.compare(*nodes))
        self._last = "comparison"
        self._show(_htmlTable(table))

    def _show(self, html: str) -> None:
        self.ui.numbersText.setText(html)
        self.ui.numbersText.setVisible(True)

    def _onSave(self) -> None:
        table = self._node(self._last)
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
        "".join(f'<td align="{"left" if at == 0 else "right"}">{escape(text)}</td>' for at, text in enumerate(line))
        for line in lines
    ]
    return f'<table width="100%" cellspacing="2">{"".join(f"<tr>{line}</tr>" for line in cells)}</table>'
