"""Section 4: measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

import qt
import slicer

from ..i18n import tr as _
from ..scene import sequences
from ..scene.borrowed_layout import BorrowedLayout, showChart, showTable
from ..table.problems import contentState
from ..tasks.plots import volumeTimeChart
from . import display, words
from .panel import Panel, fileToSave, showLine

_MARK = "\N{DAGGER}"
"""Stands behind a value that cannot be of a heart."""


class MeasurePanel(Panel):
    """Volumes and clinical numbers of a segmentation, and its agreement with a reference."""

    message = "measureMessage"

    def setup(self) -> None:
        self._selection: tuple = ()
        self._made: dict[str, tuple[str, list]] = {}
        self._last = ""
        self._layouts = {"tableButton": BorrowedLayout(showTable), "curveButton": BorrowedLayout(showChart)}
        self.onClick(self.ui.measureButton, self._onMeasure)
        self.ui.tableButton.connect("toggled(bool)", lambda on: self._onToggled("tableButton", on, self._volumes))
        self.ui.curveButton.connect("toggled(bool)", lambda on: self._onToggled("curveButton", on, self._curve))
        self.onClick(self.ui.edButton, lambda: self._onPhase(0))
        self.onClick(self.ui.esButton, lambda: self._onPhase(1))
        self.onClick(self.ui.csvButton, self._onSave, wait=False)
        self.onClick(self.ui.compareButton, self._onCompare)
        self.onClick(self.ui.reportButton, self._onReport, wait=False)
        self._report = None
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
        writing = _("The report is being written.") if self._report is not None else ""
        self.enable(self.ui.reportButton, why or writing)
        shown = sequence and sequences.browserOf(measured) is not None
        noFrame = _("Choose the segmentations of a cine, whose frames a sequence browser shows.")
        for button in (self.ui.edButton, self.ui.esButton):
            self.enable(button, why or ("" if shown else noFrame))
        none = _("Measure or compare first: there is no table yet.")
        self.enable(self.ui.csvButton, "" if self._node(self._last) else none)
        self.ui.otherPhaseSelector.setEnabled(measured is not None and not sequence)
        if sequence:
            why = _("A cine cannot be compared as a whole: choose the segmentation of one frame.")
        elif not why and parameters.reference is None:
            why = _("Choose a reference segmentation to compare with.")
        self.enable(self.ui.compareButton, why)
        showLine(self.ui.compareWhy, why if measured is not None else "", "unknown")

    def poll(self) -> None:
        if self._report is None:
            return
        self._report.poll()
        if self._report.state == "running":
            return
        work, self._report = self._report, None
        if work.state == "done":
            self.say(_("The report is in {path}").format(path=work.text), "ready")
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(work.text))
        else:
            self.say(work.text, "error")
        self.widget.update()

    def forget(self) -> None:
        self._clear()

    def cleanup(self) -> None:
        self._takeUp()
        if self._report is not None:
            self._report.stop()

    def _clear(self) -> None:
        """Forgets what was measured; its nodes stay in the scene."""
        self._takeUp()
        self._selection, self._made, self._last = (), {}, ""
        showLine(self.ui.numbersText, "")

    def _inputs(self):
        """A sequence, or the list of one or two segmentations."""
        parameters = self.parameters
        if parameters.measured.IsA("vtkMRMLSequenceNode"):
            return parameters.measured
        return [node for node in (parameters.measured, parameters.otherPhase) if node is not None]

    def _nodes(self) -> list:
        """The segmentations of the selection, those of all frames, and what lies in the scene for them."""
        inputs = self._inputs()
        if isinstance(inputs, list):
            return inputs
        frames = map(inputs.GetNthDataNode, range(inputs.GetNumberOfDataNodes()))
        return [*frames, sequences.shownBy(inputs)]

    def _node(self, kind: str):
        """What was made of the selection last, if it is still there: `volumes`, `clinical`, `comparison` or `chart`."""
        nodeId, _state = self._made.get(kind, ("", []))
        return slicer.mrmlScene.GetNodeByID(nodeId) if nodeId else None

    def _once(self, kind: str, inputs: Iterable, make: Callable):
        """What there is of a kind already, or `make()` if there is none or the inputs have changed since."""
        state = [self.logic.labelSetOf(self._inputs()), *contentState(*inputs)]
        if self._node(kind) is None or self._made[kind][1] != state:
            self._made[kind] = (make().GetID(), state)
        return self._node(kind)

    def _volumes(self):
        """The table with the volumes of the selection."""
        table = self._once("volumes", self._nodes(), lambda: self.logic.volumesTable(self._inputs()))
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
                self._once("clinical", self._nodes(), lambda: self.logic.clinicalTable(inputs))
            except ValueError as error:  # the volumes are there all the same
                more = _("The table has the volumes of all frames.") if isCine else ""
                self.say(f"{error} {more}".strip())
        if isCine and not numbers:
            showLine(self.ui.numbersText, "")
        else:
            self._show(_numbers(numbers, inputs) if numbers else _htmlTable(table))

    def _curve(self):
        """The chart of the volumes over the heart cycle."""
        table = self._volumes()
        return self._once("chart", [table], lambda: volumeTimeChart(table, self.logic.labelSetOf(self._inputs())))

    def _onToggled(self, name: str, on: bool, make: Callable) -> None:
        """Shows what `make` makes while a button is down, and the user's layout again when it is up."""
        if not on:
            self._layouts[name].restore()
            return
        self.widget.releaseViews(but=getattr(self.ui, name))
        isShown = False
        with self.attempt():
            self._layouts[name].show(make())
            isShown = True
        if not isShown:
            self._takeUp()

    def _takeUp(self) -> None:
        """Takes up the buttons that show what was measured."""
        for name in self._layouts:
            getattr(self.ui, name).setChecked(False)

    def _onPhase(self, which: int) -> None:
        """Makes the frame that the views show end diastole (0) or end systole (1), and measures anew."""
        sequence = self.parameters.measured
        phases = list(sequences.phases(sequence))
        phases[which] = sequences.browserOf(sequence).GetSelectedItemNumber()
        self.logic.setPhases(sequence, *phases)
        self._made.pop("clinical", None)
        self._onMeasure()

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
        path = fileToSave(_("Save table"), table.GetName(), "CSV", ".csv")
        if path:
            saved = [self.logic.saveTable(table, path)]
            if (clinical := self._clinical()) is not None:
                beside = Path(path).with_name(f"{Path(path).stem}-clinical.csv")
                saved.append(self.logic.saveTable(clinical, beside))
            self.say(_("Saved: {path}").format(path=", ".join(map(str, saved))), "ready")

    def _onReport(self) -> None:
        path = fileToSave(_("Write a report"), self.parameters.measured.GetName(), _("Pages"), ".html")
        if path:
            self._report = self.logic.writeReport(self._inputs(), path)
            self.say(_("Writing the report…"), "running")

    def _clinical(self):
        """The table of the clinical numbers, if the volumes that were shown last gave some; else None."""
        if self._last != "volumes" or self._node("clinical") is None:
            return None
        return self._node("clinical") if self._made["clinical"][1] == self._made["volumes"][1] else None


def _numbers(numbers: dict, inputs) -> str:
    """Clinical numbers as a small table of rich text."""
    rows = []
    doubts = numbers["implausible"]
    for title, side in ((_("LV"), "lv"), (_("RV"), "rv")):
        keys = [f"{side}_{key}" for _name, key, _digits, _unit in _columns()]
        if any(math.isfinite(numbers.get(key, math.nan)) for key in keys):
            cells = [
                f"<b>{words.number(numbers[key], digits)}</b> {unit}{_MARK if key in doubts else ''}"
                if key in numbers
                else ""
                for key, (_name, _key, digits, unit) in zip(keys, _columns(), strict=True)
            ]
            rows.append(f"<tr><td>{title}</td>" + "".join(f"<td align=right>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<td align=right>{name}</td>" for name, *_rest in _columns())
    ed, es = numbers["edFrame"], numbers["esFrame"]
    names = (inputs[ed].GetName(), inputs[es].GetName()) if isinstance(inputs, list) else _frames(ed, es)
    phases = escape(_("End-diastole is {ed}, end-systole {es}.").format(ed=names[0], es=names[1]))
    remark = ""
    if doubts:
        told = _("{mark} Implausible: {doubts}.").format(mark=_MARK, doubts="; ".join(dict.fromkeys(doubts.values())))
        remark = words.richText(told, "warning")
    return f'<table width="100%" cellspacing="2"><tr><td></td>{head}</tr>{"".join(rows)}</table>{phases}{remark}'


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
