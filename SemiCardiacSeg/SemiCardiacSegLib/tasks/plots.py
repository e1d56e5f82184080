"""Curves in Slicer's plot views: how a training goes, and volumes over the heart cycle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import slicer
import vtk

from ..engine import process
from ..i18n import tr as _
from .measure import ML_SUFFIX

Colors = Mapping[str, tuple[int, int, int]]

PALETTE = ((0, 114, 178), (230, 159, 0), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233))
"""Colors of curves that have none of their own, told apart by color-blind people too."""
NEUTRAL = (127, 127, 127)
"""Color of totals and means, seen on white and on black."""


class Curves:
    """A chart whose rows are appended one by one; its nodes are made anew after the scene was closed.

    The nodes are not saved with the scene: whoever feeds the chart has its numbers.

    Args:
        title: Of the chart; the nodes are named after it.
        xColumn: The column that all curves are drawn over.
        yTitle: Of the vertical axis, with the unit.
        colors: Of the curves, by column; others are colored in turn.
    """

    def __init__(
        self,
        title: str,
        xColumn: str,
        yTitle: str,
        colors: Colors,
        *,
        logarithmic: bool = False,
    ) -> None:
        self.title = title
        self.rows: list[dict[str, float]] = []
        self._xColumn = xColumn
        self._yTitle = yTitle
        self._colors = colors
        self._logarithmic = logarithmic
        self._nodes: list = []  # table, chart, series

    def append(self, row: Mapping[str, float | None]) -> None:
        """Adds a point to each curve that has a number in `row`; a column that is new begins a curve.

        Where the value of the x column is not above the last one, what lies from there on is replaced: a training that
        was interrupted has gone back to its checkpoint.
        """
        row = {name: float(value) for name, value in row.items() if value is not None}
        kept = len(self.rows)
        while kept and self.rows[kept - 1][self._xColumn] >= row[self._xColumn]:
            kept -= 1
        del self.rows[kept:]
        self.rows.append(row)
        if self._areInScene():
            table = self._nodes[0].GetTable()
            table.SetNumberOfRows(kept)
            self._appendToTable(row)
            self._modified()

    @property
    def chartNode(self):
        """The chart in the scene, with its series and its table."""
        if not self._areInScene():
            self.remove()  # somebody may have deleted some of them
            table = _addPassingNode("vtkMRMLTableNode", self.title)
            chart = _addPassingNode("vtkMRMLPlotChartNode", self.title)
            self._nodes = [table, chart]
            chart.SetTitle(self.title)
            chart.SetXAxisTitle(self._xColumn)
            chart.SetYAxisTitle(self._yTitle)
            chart.SetYAxisLogScale(self._logarithmic)
            _addColumn(table, self._xColumn)
            for row in self.rows:
                self._appendToTable(row)
            self._modified()
        return self._nodes[1]

    def remove(self) -> None:
        """Takes the nodes out of the scene; `chartNode` makes them anew."""
        for node in self._nodes:
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)
        self._nodes = []

    def _areInScene(self) -> bool:
        return bool(self._nodes) and all(slicer.mrmlScene.IsNodePresent(node) for node in self._nodes)

    def _appendToTable(self, row: Mapping[str, float]) -> None:
        tableNode, chart = self._nodes[:2]
        table = tableNode.GetTable()
        for name in row:
            if table.GetColumnByName(name) is None:
                _addColumn(tableNode, name)
                series = _addPassingNode("vtkMRMLPlotSeriesNode", name)
                self._nodes.append(series)
                color = self._colors.get(name) or PALETTE[(len(self._nodes) - 3) % len(PALETTE)]
                _draw(series, chart, tableNode, self._xColumn, name, color)
        index = table.InsertNextBlankRow()
        for column in range(table.GetNumberOfColumns()):
            values = table.GetColumn(column)
            values.SetValue(index, row.get(values.GetName(), math.nan))

    def _modified(self) -> None:
        self._nodes[0].GetTable().Modified()
        self._nodes[0].Modified()


class TrainingCurves:
    """The curves of a training, fed by its events: losses, validation Dice, thresholds and pass rates.

    Args:
        labelSet: Gives the structures' curves their colors.
    """

    def __init__(self, labelSet=None) -> None:
        step, colors = _("step"), _colorsOf(labelSet)
        passing = {_passing(name): color for name, color in {**colors, "background": NEUTRAL}.items()}
        self.losses = Curves(_("Losses"), step, _("loss"), {_("total"): NEUTRAL}, logarithmic=True)
        self.dice = Curves(_("Validation Dice"), step, _("Dice"), {**colors, _("mean"): NEUTRAL})
        self.thresholds = Curves(_("Thresholds and pass rates"), step, _("share"), passing)

    def remove(self) -> None:
        """Takes the charts out of the scene."""
        for curves in (self.losses, self.dice, self.thresholds):
            curves.remove()

    def update(self, events: Iterable[Mapping]) -> None:
        """Appends what events of a training tell, in their order; other events are passed over."""
        process.addToPath()
        from semicardiac.base.events import of_this_version

        for event in events:
            if event.get("event") == "validation":
                self.dice.append({_("step"): event["step"], **event["dice"], _("mean"): event.get("mean_dice")})
            elif event.get("event") == "progress":
                self._addProgress(of_this_version(dict(event)))

    def _addProgress(self, event: Mapping) -> None:
        if not event.get("losses"):
            return
        step = {_("step"): event["step"]}
        known = {"supervised": _("supervised"), "unsupervised": _("unlabeled"), "contrast": _("contrast")}
        terms = {known.get(name, name): value for name, value in event["losses"].items()}
        self.losses.append(step | {_("total"): event.get("loss")} | terms)
        mean = event.get("figures", {}).get("threshold_mean")
        passing = {_passing(name): rate for name, rate in event.get("pass_rate", {}).items()}
        if passing or mean is not None:
            self.thresholds.append(step | {_("mean threshold"): mean} | passing)


def volumeTimeChart(tableNode, labelSet=None):
    """A chart of volumes over time, a curve for each structure.

    Args:
        tableNode: From `measure.volumesTable`, of a sequence.
        labelSet: Gives the curves their colors.

    Returns:
        The new vtkMRMLPlotChartNode; its series observe the table.

    Raises:
        ValueError: If the table is not of a sequence, or has fewer than two frames.
    """
    names = [tableNode.GetColumnName(index) for index in range(tableNode.GetNumberOfColumns())]
    structures = [name for name in names if name.endswith(ML_SUFFIX)]
    xColumns = [name for name in names if name not in structures and _isNumeric(tableNode, name)]
    if not structures or not xColumns or tableNode.GetNumberOfRows() < 2:
        message = _("The table '{name}' has no volumes of several frames. Measure a segmented sequence first.")
        raise ValueError(message.format(name=tableNode.GetName()))
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", tableNode.GetName())
    chart.SetTitle(tableNode.GetName())
    chart.SetXAxisTitle(xColumns[-1])  # the time, where the sequence has one
    chart.SetYAxisTitle(_("volume (ml)"))
    colors = _colorsOf(labelSet)
    for index, column in enumerate(structures):
        structure = column.removesuffix(ML_SUFFIX)
        series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", structure)
        _draw(series, chart, tableNode, xColumns[-1], column, colors.get(structure) or PALETTE[index % len(PALETTE)])
    return chart


def _draw(series, chart, table, xColumn: str, yColumn: str, color: tuple[int, int, int]) -> None:
    """Makes a series a line over the columns of a table, and a part of the chart."""
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(xColumn)
    series.SetYColumnName(yColumn)
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)  # in Slicer's words: x and y, with a line
    series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
    series.SetColor(*(channel / 255 for channel in color))
    chart.AddAndObservePlotSeriesNodeID(series.GetID())


def _addColumn(table, name: str) -> None:
    """A column of numbers; rows that are there already have none."""
    column = vtk.vtkDoubleArray()
    column.SetName(name)
    column.SetNumberOfValues(table.GetNumberOfRows())
    column.Fill(math.nan)
    table.AddColumn(column)


def _addPassingNode(className: str, name: str):
    """A node that is not saved with the scene."""
    node = slicer.mrmlScene.CreateNodeByClass(className)
    node.UnRegister(None)
    node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    node.SetSaveWithScene(False)
    return slicer.mrmlScene.AddNode(node)


def _colorsOf(labelSet) -> dict[str, tuple[int, int, int]]:
    return {structure.name: structure.color for structure in labelSet.structures} if labelSet is not None else {}


def _isNumeric(tableNode, name: str) -> bool:
    return tableNode.GetTable().GetColumnByName(name).IsA("vtkDataArray")


def _passing(structure: str) -> str:
    return _("{structure} passing").format(structure=structure)
