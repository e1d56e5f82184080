"""Section 4: numbers, tables and curves of what is chosen."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from Testing.engine.support import ACDC, draw_heart
from Testing.slicer.panel.support import answerSaveDialog, follow, line, photograph, settle

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from Testing.slicer.results import MATRIX, draw, heart
from Testing.slicer.scenes import heartLabels, makeSegmentation, makeVolume


class TestMeasure:
    def test_two_phases_give_the_clinical_numbers(self, widget, slicerQt, monkeypatch, tmp_path):
        assert "Choose a segmentation" in line(widget, "measureWhy")
        volume = makeVolume("scan", matrix=np.diag([2.0, 2.0, 10.0, 1.0]))  # 0.04 ml a voxel
        labels = heartLabels()
        cavity, smaller = labels == 3, labels == 3
        smaller[2:] = False
        ed = makeSegmentation(volume, {"LV cavity": cavity, "LV myocardium": labels == 2}, "ED heart")
        es = makeSegmentation(volume, {"LV cavity": smaller, "LV myocardium": labels == 2}, "ES heart")
        widget.ui.measuredSelector.setCurrentNode(es)
        settle()
        assert not widget.ui.curveButton.enabled
        assert "cine" in widget.ui.curveButton.toolTip
        assert not widget.ui.csvButton.enabled
        widget.ui.measureButton.click()
        assert "LV cavity (ml)" in line(widget, "numbersText")
        widget.ui.otherPhaseSelector.setCurrentNode(ed)
        settle()
        widget.ui.measureButton.click()
        edv, esv = cavity.sum() * 0.04, smaller.sum() * 0.04
        numbers = line(widget, "numbersText").split()
        for value in (edv, esv, edv - esv, 100 * (1 - esv / edv), (labels == 2).sum() * 0.04 * 1.05):
            assert f"{value:.0f}" in numbers
        assert "End-diastole is ED heart, end-systole ES heart." in line(widget, "numbersText")
        widget.ui.dataSection.collapsed = True
        widget.ui.measureSection.collapsed = False
        photograph(widget, "measure")
        settle()
        answerSaveDialog(monkeypatch, tmp_path / "a")  # the suffix is added
        widget.ui.csvButton.click()
        assert (tmp_path / "a.csv").read_text(encoding="utf-8").count("heart") == 2
        clinical = (tmp_path / "a-clinical.csv").read_text(encoding="utf-8")
        rows = {row["measure"]: row for row in csv.DictReader(clinical.splitlines())}
        assert float(rows["LV end-diastolic volume"]["value"]) == pytest.approx(edv)
        assert float(rows["LV end-systolic volume"]["value"]) == pytest.approx(esv)
        assert rows["LV end-systolic volume"]["unit"] == "ml"
        widget.ui.csvButton.click()
        assert "is there already" in line(widget, "measureMessage")

    def test_numbers_and_tables_belong_to_the_selection(self, widget, slicerQt, monkeypatch, tmp_path):
        from SemiCardiacSegLib.scene.borrowed_layout import BorrowedLayout

        (volume, a), (_other, b) = heart("A"), heart("B", 2)
        tables = lambda: [node.GetName() for node in slicerQt.util.getNodesByClass("vtkMRMLTableNode")]  # noqa: E731
        opened = []
        monkeypatch.setattr(BorrowedLayout, "show", lambda layout, table: opened.append(table.GetName()))
        widget.ui.measuredSelector.setCurrentNode(a)
        settle()
        widget.ui.measureButton.click()
        widget.ui.measureButton.click()
        widget.ui.tableButton.click()
        assert tables() == opened == ["A by hand volumes"]
        widget.ui.referenceSelector.setCurrentNode(a)
        settle()
        assert line(widget, "numbersText") == ""
        widget.ui.compareButton.click()
        widget.ui.tableButton.click()  # shows volumes after a comparison, too
        assert len(tables()) == 3
        assert opened[1].startswith("A by hand volumes")
        widget.ui.measuredSelector.setCurrentNode(b)
        settle()
        assert line(widget, "numbersText") == ""
        assert not widget.ui.csvButton.enabled
        widget.ui.tableButton.click()
        assert opened[2] == "B by hand volumes"
        answerSaveDialog(monkeypatch, tmp_path / "b.csv")
        widget.ui.csvButton.click()
        assert not (tmp_path / "b-clinical.csv").exists()
        assert "B by hand" in (tmp_path / "b.csv").read_text(encoding="utf-8")
        draw(b, volume)
        widget.ui.measureButton.click()  # what was edited since is measured anew
        assert tables()[-1] != "B by hand volumes"

    def test_two_phases_without_a_left_ventricle_show_their_volumes(self, widget):
        volume = makeVolume("scan", matrix=np.diag([2.0, 2.0, 10.0, 1.0]))  # 0.04 ml a voxel
        cavity = heartLabels() == 1
        ed, es = (makeSegmentation(volume, {"RV cavity": cavity}, name) for name in ("<b>ED</b> & more", "ES"))
        widget.ui.measuredSelector.setCurrentNode(ed)
        widget.ui.otherPhaseSelector.setCurrentNode(es)
        settle()
        widget.ui.measureButton.click()
        assert "LV cavity is segmented in 0 of 2 frames" in line(widget, "measureMessage")
        assert f"{cavity.sum() * 0.04:.2f}" in line(widget, "numbersText")
        assert "<b>ED</b> & more" in line(widget, "numbersText")

    def test_a_cine_without_a_left_ventricle_still_has_its_table(self, widget, slicerQt):
        volume = makeVolume("scan")
        node = makeSegmentation(volume, {"RV cavity": heartLabels() == 1})
        sequence = slicerQt.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")
        for index in range(3):
            sequence.SetDataNodeAtValue(node, str(index))
        widget.ui.measuredSelector.setCurrentNode(sequence)
        settle()
        widget.ui.measureButton.click()
        assert "The table has the volumes of all frames." in line(widget, "measureMessage")
        assert line(widget, "numbersText") == ""
        assert widget.ui.csvButton.enabled

    def test_the_volume_of_the_reference_serves_for_a_comparison(self, widget):
        from SemiCardiacSegLib.panels.display import volumeOf

        (_volume, ours), (_volume, other) = heart("scan"), heart("scan")
        role = ours.GetReferenceImageGeometryReferenceRole()
        ours.SetNodeReferenceID(role, None)
        assert volumeOf(ours) is None
        widget.ui.measuredSelector.setCurrentNode(ours)
        widget.ui.referenceSelector.setCurrentNode(other)
        settle()
        widget.ui.compareButton.click()
        assert line(widget, "measureMessage") == ""
        assert line(widget, "numbersText").count("1.00") == 3  # Dice
        other.SetNodeReferenceID(role, None)
        widget.ui.compareButton.click()
        assert line(widget, "measureMessage") == "Set the source volume of 'scan by hand' in Segment Editor."

    def test_agreement_with_a_reference(self, widget):
        volume, byHand = heart("scan")
        _volume, other = heart("scan")
        byHand.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        widget.ui.measuredSelector.setCurrentNode(byHand)
        settle()
        assert "reference" in line(widget, "compareWhy")
        widget.ui.referenceSelector.setCurrentNode(other)
        settle()
        widget.ui.compareButton.click()
        assert line(widget, "measureMessage") == ""
        assert line(widget, "numbersText").count("1.00") == 3  # Dice

    def test_a_cine_gives_a_curve_and_a_table_and_the_users_layout_comes_back(self, widget, slicerQt):
        from Testing.slicer.qt_standin.application import addLayout

        layout = addLayout()
        before = layout.GetViewArrangement()
        _volume, byHand = heart("scan")
        sequence = slicerQt.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine SemiCardiacSeg")
        for index in range(3):
            sequence.SetDataNodeAtValue(byHand, str(index))
        widget.ui.measuredSelector.setCurrentNode(sequence)
        settle()
        widget.ui.curveButton.click()
        plotted = layout.GetViewArrangement()
        assert plotted != before
        widget.ui.curveButton.click()
        assert layout.GetViewArrangement() == before
        widget.ui.curveButton.click()
        assert line(widget, "measureMessage") == ""
        assert [node.GetName() for node in slicerQt.util.getNodesByClass("vtkMRMLTableNode")] == [
            "cine SemiCardiacSeg volumes"
        ]
        (chart,) = slicerQt.util.getNodesByClass("vtkMRMLPlotChartNode")
        assert chart.GetNumberOfPlotSeriesNodes() == 3
        widget.ui.tableButton.click()
        assert not widget.ui.curveButton.checked
        assert layout.GetViewArrangement() == slicerQt.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView
        widget.ui.measuredSelector.setCurrentNode(None)
        settle()
        assert not widget.ui.tableButton.checked
        assert layout.GetViewArrangement() == before

    def test_of_several_that_borrow_the_views_the_last_one_has_them(self, widget, slicerQt):
        from Testing.slicer.qt_standin.application import addLayout

        layout = addLayout()
        before = layout.GetViewArrangement()
        _volume, byHand = heart("scan")
        widget.ui.measuredSelector.setCurrentNode(byHand)
        settle()
        widget.ui.curvesButton.click()
        widget.ui.tableButton.click()
        assert not widget.ui.curvesButton.checked
        assert layout.GetViewArrangement() == slicerQt.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView
        widget.ui.curvesButton.click()
        assert not widget.ui.tableButton.checked
        widget.ui.curvesButton.click()
        assert layout.GetViewArrangement() == before

    def test_a_curve_that_fails_leaves_its_button_up_and_says_why(self, widget, slicerQt):
        sequence = slicerQt.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "empty")
        widget.ui.measuredSelector.setCurrentNode(sequence)
        settle()
        widget.ui.curveButton.click()
        assert not widget.ui.curveButton.checked
        assert "empty" in line(widget, "measureMessage")

    def test_the_phases_of_a_cine_are_corrected(self, widget, slicerQt):
        from SemiCardiacSegLib.scene.sequences import browserOf, newCine, newSegmentationSequence

        images, hearts = zip(*(draw_heart(seed) for seed in (1, 2, 3)), strict=True)
        cine = newCine("cine", images, MATRIX, [0.0, 0.1, 0.2])
        found = newSegmentationSequence("found", cine, hearts, ACDC)
        widget.ui.measuredSelector.setCurrentNode(found)
        settle()
        widget.ui.measureButton.click()
        for frame, button in ((1, widget.ui.edButton), (2, widget.ui.esButton)):
            browserOf(found).SetSelectedItemNumber(frame)
            button.click()
        assert line(widget, "measureMessage") == ""
        assert "End-diastole is frame 2, end-systole frame 3." in line(widget, "numbersText")
        assert "Implausible" not in line(widget, "numbersText")
        for frame, button in ((2, widget.ui.edButton), (0, widget.ui.esButton)):
            browserOf(found).SetSelectedItemNumber(frame)
            button.click()
        assert "the same at end-systole as at end-diastole" in line(widget, "numbersText")
        assert line(widget, "numbersText").count("\N{DAGGER}") == 4 + 1  # of the LV
        browserOf(found).SetSelectedItemNumber(0)
        widget.ui.edButton.click()
        assert "cannot be both ED and ES" in line(widget, "measureMessage")
        widget.ui.measuredSelector.setCurrentNode(None)
        settle()
        assert not widget.ui.edButton.enabled


class TestReport:
    def test_the_engines_page_is_written_and_opened(self, widget, monkeypatch, tmp_path):
        import qt

        _volume, segmentation = heart("scan")
        opened = []
        monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
        widget.ui.measuredSelector.setCurrentNode(segmentation)
        settle()
        answerSaveDialog(monkeypatch, tmp_path / "my report")
        widget.ui.reportButton.click()
        assert line(widget, "measureMessage") == "Writing the report…"
        follow(widget, lambda: widget.measure._report is None)
        assert "The report is in" in line(widget, "measureMessage")
        page = tmp_path / "my report.html"
        assert opened == [str(page)]
        text = page.read_text(encoding="utf-8")
        assert "<title>my report" in text
        assert "scan" in text
        assert text.count("<img") >= 1
        assert [path.name for path in tmp_path.iterdir() if path.suffix == ".nrrd"] == []

    def test_a_page_that_is_there_is_not_replaced(self, widget, monkeypatch, tmp_path):
        _volume, segmentation = heart("scan")
        widget.ui.measuredSelector.setCurrentNode(segmentation)
        settle()
        page = tmp_path / "report.html"
        page.write_text("mine", encoding="utf-8")
        answerSaveDialog(monkeypatch, page)
        widget.ui.reportButton.click()
        assert "already" in line(widget, "measureMessage")
        assert page.read_text(encoding="utf-8") == "mine"

    def test_a_cine_is_drawn_over_its_cycle(self, scene, tmp_path):
        from SemiCardiacSegLib.scene.sequences import newCine, newSegmentationSequence
        from SemiCardiacSegLib.tasks.report import ReportWork

        images, hearts = zip(*(draw_heart(seed) for seed in (1, 2, 3)), strict=True)
        cine = newCine("cine", images, MATRIX, [0.0, 0.1, 0.2])
        found = newSegmentationSequence("found", cine, hearts, ACDC)
        work = ReportWork(found, ACDC, tmp_path / "cine.html")
        assert work.wait() == "done", work.text
        text = (tmp_path / "cine.html").read_text(encoding="utf-8")
        assert "Volumes in ml over seconds" in text
