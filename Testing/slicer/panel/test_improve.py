"""Section 5: uncertain cases are listed, corrected, accepted."""

from __future__ import annotations

import pytest
from helpers import draw_heart
from helpers_panel import follow, line, photograph, settle

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from helpers_results import MATRIX, Editor, EditorModule, draw, heart, select
from helpers_scene import makeVolume


class TestImprove:
    def test_uncertain_cases_are_listed_corrected_and_accepted(self, withModel, slicerQt, scene, monkeypatch):
        widget = withModel
        labeled, byHand = heart("labeled", 1)
        widget.dataSet.addVolume(labeled, byHand)
        for seed in (2, 3):
            widget.dataSet.addVolume(makeVolume(f"scan{seed}", draw_heart(seed)[0], MATRIX))
        settle()
        widget.ui.rankButton.click()
        follow(widget, lambda: not widget.segmenting)
        folder = widget.improve.view.job.folder
        assert folder.exists()
        assert line(widget, "improveMessage") == ""
        table = widget.ui.reviewTable
        assert {table.item(row, 0).text() for row in range(2)} == {"scan2", "scan3"}
        assert float(table.item(0, 1).text()) >= float(table.item(1, 1).text())
        assert not widget.ui.acceptButton.enabled
        select(table, 0)
        assert widget.ui.acceptButton.enabled
        name = table.item(0, 0).text()
        opened = []
        editor = Editor()
        slicerQt.modules.segmenteditor = EditorModule(editor)
        monkeypatch.setattr(slicerQt.util, "selectModule", opened.append)
        widget.ui.correctButton.click()
        assert opened == ["SegmentEditor"]
        assert editor.segmentation.GetName().startswith(name)
        assert editor.volume.GetName() == name
        draw(editor.segmentation, editor.volume)
        widget.ui.dataSection.collapsed = True
        widget.ui.improveSection.collapsed = False
        photograph(widget, "improve")
        widget.ui.acceptButton.click()
        settle()
        assert "labeled case now" in line(widget, "improveMessage")
        assert table.rowCount == 1
        assert not table.selectionModel().selectedRows()
        assert not widget.ui.acceptButton.enabled  # a second click must not accept the next case, which nobody has seen
        (row,) = [row for row in widget.dataSet.rows() if row.name == name]
        assert (row.role, row.segmentationNode) == ("labeled", editor.segmentation)
        scene.Clear(False)
        assert not folder.exists()  # it held copies of patients' images
        assert table.rowCount == 0

    def test_a_new_search_deletes_the_files_of_the_last_one(self, withModel):
        widget = withModel
        widget.dataSet.addVolume(makeVolume("scan", draw_heart(2)[0], MATRIX))
        settle()
        widget.ui.rankButton.click()
        first = widget.improve.view.job
        widget.ui.rankButton.click()  # Stop
        follow(widget, lambda: not widget.segmenting)
        assert "resumed" not in line(widget, "improveState")  # there is no button for that
        widget.ui.rankButton.click()
        second = widget.improve.view.job
        assert not first.folder.exists()
        widget.cleanup()  # also of one that runs
        assert not second.folder.exists()
        assert not second.isAlive()

    def test_continue_starts_from_the_chosen_model(self, withModel, monkeypatch):
        widget = withModel
        widget.dataSet.addVolume(*heart("labeled"))
        settle()
        given = {}

        def start(folder, **options):
            given.update(options)
            raise ValueError("not now")

        monkeypatch.setattr(widget.logic, "startTraining", start)
        widget.ui.continueButton.click()
        assert given["startFrom"] == str(widget.models.chosen())
        assert widget.ui.startFromBox.currentText.startswith("training-1")
        assert line(widget, "improveMessage") == "not now"

    def test_correct_keeps_the_acquired_plane_that_leaving_gives_back(self, withModel, slicerQt, scene):
        from qt_standin.application import addLayout

        addLayout()
        widget = withModel
        red = scene.GetSingletonNode("Red", "vtkMRMLSliceNode")
        slicerQt.modules.segmenteditor = EditorModule(Editor())
        slicerQt.util.selectModule = lambda name: widget.exit()
        widget.dataSet.addVolume(makeVolume("scan", draw_heart(2)[0], MATRIX))
        settle()
        widget.ui.rankButton.click()
        follow(widget, lambda: not widget.segmenting)
        select(widget.ui.reviewTable, 0)
        assert red.GetOrientation() == "Axial"
        widget.ui.correctButton.click()
        assert red.GetOrientation() == "Reformat"  # the editor paints on slices as they were acquired
        widget.enter()
        widget.exit()
        assert red.GetOrientation() == "Axial"
