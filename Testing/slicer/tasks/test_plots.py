"""Curves of a training and of volumes over time, as nodes of Slicer's plots."""

from __future__ import annotations

import math

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

import vtk
from semicardiac.images.labels import get_label_set
from SemiCardiacSegLib.tasks.plots import Curves, TrainingCurves, volumeTimeChart

from Testing.slicer.scenes import saveAndReload

pytestmark = pytest.mark.usefixtures("scene")
ACDC = get_label_set("acdc")


def progress(step: int, **fields) -> dict:
    stage = {"event": "progress", "time": 0.0, "stage": "supervised", "step": step, "total": 100}
    return stage | {"loss": 1.0 / step, "losses": {"supervised": 0.5 / step}} | fields


def semiSupervised(step: int, rate: float) -> dict:
    losses = {"supervised": 0.5 / step, "unsupervised": 0.1, "contrast": 0.2}
    unlabeled = {"losses": losses, "figures": {"threshold_mean": 0.8, "lambda_u": 1.0}}
    return progress(step, stage="semi-supervised", pass_rate={"background": 0.9, "LV cavity": rate}, **unlabeled)


def seriesOf(chart) -> dict:
    """The series of a chart by the name of their y column."""
    series = [chart.GetNthPlotSeriesNode(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
    return {node.GetYColumnName(): node for node in series}


def points(series) -> tuple[list[float], list[float]]:
    """What a series draws."""
    table = series.GetTableNode()
    return tuple(
        list(slicer.util.arrayFromTableColumn(table, column))
        for column in (series.GetXColumnName(), series.GetYColumnName())
    )


class TestTrainingCurves:
    def test_losses_are_drawn_over_the_steps(self):
        curves = TrainingCurves(ACDC)
        curves.update([progress(10), progress(20)])
        series = seriesOf(curves.losses.chartNode)
        assert set(series) == {"total", "supervised"}
        assert points(series["total"]) == ([10, 20], [0.1, 0.05])
        assert points(series["supervised"]) == ([10, 20], [0.05, 0.025])

    def test_events_of_an_earlier_version_are_drawn_alike(self):
        now, before = TrainingCurves(ACDC), TrainingCurves(ACDC)
        old = {"loss_supervised": 0.025, "loss_unsupervised": 0.1, "loss_contrast": 0.2, "threshold_mean": 0.8}
        now.update([semiSupervised(20, 0.4)])
        kept = {key: value for key, value in semiSupervised(20, 0.4).items() if key not in ("losses", "figures")}
        before.update([kept | old])
        for ours, theirs in ((now.losses, before.losses), (now.thresholds, before.thresholds)):
            drawn = [{name: points(each) for name, each in seriesOf(c.chartNode).items()} for c in (ours, theirs)]
            assert drawn[0] == drawn[1]

    def test_rows_are_appended_to_the_nodes_that_are_there(self):
        curves = TrainingCurves(ACDC)
        curves.update([progress(10)])
        chart = curves.losses.chartNode
        table = seriesOf(chart)["total"].GetTableNode()
        curves.update([progress(20)])
        curves.update([progress(30)])
        assert curves.losses.chartNode is chart
        assert seriesOf(chart)["total"].GetTableNode() is table
        assert table.GetNumberOfRows() == 3

    def test_a_curve_that_begins_later_has_no_points_before(self):
        curves = TrainingCurves(ACDC)
        curves.update([progress(10)])
        chart = curves.losses.chartNode
        curves.update([semiSupervised(20, 0.4)])
        steps, values = points(seriesOf(chart)["unlabeled"])
        assert steps == [10, 20]
        assert math.isnan(values[0])
        assert values[1] == 0.1

    def test_a_value_that_is_missing_leaves_a_gap(self):
        curves = TrainingCurves(ACDC)
        chart = curves.dice.chartNode
        for step, dice in ((10, 0.5), (20, None), (30, 0.7)):
            event = {"event": "validation", "step": step, "dice": {"LV cavity": dice}, "mean_dice": 0.6}
            curves.update([event])
        series = seriesOf(chart)
        np.testing.assert_equal(points(series["LV cavity"])[1], [0.5, math.nan, 0.7])
        assert points(series["mean"])[1] == [0.6, 0.6, 0.6]

    def test_structures_have_their_colors(self):
        curves = TrainingCurves(ACDC)
        curves.update([semiSupervised(10, 0.4)])
        series = seriesOf(curves.thresholds.chartNode)
        color = [channel / 255 for channel in ACDC.structures[2].color]
        assert series["LV cavity passing"].GetColor() == pytest.approx(color)
        assert points(series["mean threshold"]) == ([10], [0.8])

    def test_other_events_are_passed_over(self):
        curves = TrainingCurves(ACDC)
        heart = {"event": "progress", "stage": "finding the heart", "step": 50, "total": 500, "loss": 0.3}
        curves.update([{"event": "started", "pid": 1}, heart, {"event": "preview", "step": 5, "path": "x.png"}])
        assert not curves.losses.rows
        assert not curves.dice.rows

    def test_a_training_that_went_back_to_its_checkpoint_draws_over_what_was_lost(self):
        curves = TrainingCurves(ACDC)
        chart = curves.losses.chartNode
        curves.update([progress(step) for step in (10, 20, 30, 40)])
        curves.update([progress(25, loss=7.0)])
        assert points(seriesOf(chart)["total"]) == ([10, 20, 25], [0.1, 0.05, 7.0])

    def test_a_closed_scene_loses_nothing(self):
        curves = TrainingCurves(ACDC)
        curves.update([progress(10), semiSupervised(20, 0.4)])
        before = {name: points(series) for name, series in seriesOf(curves.losses.chartNode).items()}
        slicer.mrmlScene.Clear(False)
        curves.update([semiSupervised(30, 0.5)])
        series = seriesOf(curves.losses.chartNode)
        assert points(series["total"]) == ([10, 20, 30], [*before["total"][1], 1 / 30])
        assert len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")) == 1

    def test_a_deleted_table_is_made_anew(self):
        curves = TrainingCurves(ACDC)
        curves.update([progress(10)])
        slicer.mrmlScene.RemoveNode(seriesOf(curves.losses.chartNode)["total"].GetTableNode())
        curves.update([progress(20)])
        assert points(seriesOf(curves.losses.chartNode)["total"])[0] == [10, 20]
        assert len(slicer.util.getNodesByClass("vtkMRMLTableNode")) == 1
        assert len(slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")) == 2

    def test_charts_can_be_taken_away(self):
        curves = TrainingCurves(ACDC)
        curves.update([progress(10), semiSupervised(20, 0.4)])
        before = slicer.mrmlScene.GetNumberOfNodes()
        assert curves.losses.chartNode is not None
        assert curves.thresholds.chartNode is not None
        curves.remove()
        assert slicer.mrmlScene.GetNumberOfNodes() == before

    def test_nothing_of_it_is_saved_with_the_scene(self, tmp_path):
        curves = TrainingCurves(ACDC)
        curves.update([progress(10)])
        assert curves.losses.chartNode is not None
        saveAndReload(tmp_path / "scene.mrb")
        for className in ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode"):
            assert not slicer.util.getNodesByClass(className)

    def test_losses_are_logarithmic_and_axes_are_named(self):
        chart = TrainingCurves(ACDC).losses.chartNode
        assert chart.GetYAxisLogScale()
        assert (chart.GetXAxisTitle(), chart.GetYAxisTitle()) == ("step", "loss")


class TestCurves:
    def test_two_charts_of_one_title_do_not_mix(self):
        first, second = (Curves("Losses", "step", "loss", {}) for _chart in range(2))
        first.append({"step": 1, "a": 1.0})
        second.append({"step": 1, "a": 2.0})
        assert [points(seriesOf(each.chartNode)["a"])[1] for each in (first, second)] == [[1.0], [2.0]]


def volumesTable(rows: list[tuple], names: tuple[str, ...]):
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "cine volumes")
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        column = vtk.vtkStringArray() if isinstance(values[0], str) else vtk.vtkDoubleArray()
        column.SetName(name)
        for value in values:
            column.InsertNextValue(value)
        table.AddColumn(column)
    return table


class TestVolumeTimeChart:
    def test_a_curve_for_each_structure_over_the_time(self):
        names = ("frame", "time (s)", "RV cavity (ml)", "LV cavity (ml)")
        table = volumesTable([(1, 0.0, 80.0, 120.0), (2, 0.3, 40.0, 50.0)], names)
        chart = volumeTimeChart(table, ACDC)
        series = seriesOf(chart)
        assert points(series["LV cavity (ml)"]) == ([0.0, 0.3], [120.0, 50.0])
        assert points(series["RV cavity (ml)"])[1] == [80.0, 40.0]
        assert series["RV cavity (ml)"].GetName() == "RV cavity"
        assert series["LV cavity (ml)"].GetColor() == pytest.approx([c / 255 for c in ACDC.structures[2].color])
        assert chart.GetXAxisTitle() == "time (s)"

    def test_frames_serve_where_there_is_no_time(self):
        table = volumesTable([(1, 120.0), (2, 50.0)], ("frame", "LV cavity (ml)"))
        assert points(seriesOf(volumeTimeChart(table))["LV cavity (ml)"])[0] == [1, 2]

    @pytest.mark.parametrize(
        ("rows", "names"),
        [
            ([("ED", 120.0), ("ES", 50.0)], ("segmentation", "LV cavity (ml)")),
            ([(1, 120.0)], ("frame", "LV cavity (ml)")),
            ([(1, 0.9), (2, 0.8)], ("frame", "Dice")),
        ],
    )
    def test_a_table_of_no_sequence_is_refused(self, rows, names):
        table = volumesTable(rows, names)
        with pytest.raises(ValueError, match="'cine volumes' has no volumes of several frames"):
            volumeTimeChart(table)
        assert not slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
