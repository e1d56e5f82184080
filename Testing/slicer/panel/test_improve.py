"""Section 5: uncertain cases are listed, corrected, accepted."""

from __future__ import annotations

import numpy as np
import pytest

from Testing.engine.support import draw_heart
from Testing.slicer.panel.support import follow, line, photograph, settle

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from Testing.slicer.results import MATRIX, Editor, EditorModule, draw, heart, select
from Testing.slicer.scenes import makeSequence, makeVolume


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
        from Testing.slicer.qt_standin.application import addLayout

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

    @pytest.fixture
    def reviewed(self, withModel, slicerQt, scene, monkeypatch):
        """The panel with the frames of a cine in its list, and Segment Editor's stand-in."""
        widget, editor = withModel, Editor()
        slicerQt.modules.segmenteditor = EditorModule(editor)
        monkeypatch.setattr(slicerQt.util, "selectModule", lambda name: None)
        monkeypatch.setattr(slicerQt.util, "selectedModule", lambda: "SemiCardiacSeg")
        cine = makeSequence([draw_heart(seed)[0] for seed in (1, 2, 3)], MATRIX)
        widget.dataSet.addSequence(cine)
        settle()
        widget.ui.rankButton.click()
        follow(widget, lambda: not widget.segmenting)
        assert widget.ui.reviewTable.rowCount == 3
        widget.editor = editor
        return widget

    def test_smoothing_and_islands_are_one_click_away(self, reviewed):
        select(reviewed.ui.reviewTable, 0)
        reviewed.ui.smoothButton.click()
        assert reviewed.editor.effect == "Smoothing"
        reviewed.ui.islandsButton.click()
        assert reviewed.editor.effect == "Islands"
        assert reviewed.editor.segmentation is not None

    def test_next_and_previous_case_by_button_and_by_key(self, reviewed, slicerQt, monkeypatch):
        widget, table = reviewed, reviewed.ui.reviewTable
        names = [table.item(row, 0).text() for row in range(3)]
        select(table, 0)
        assert not widget.ui.previousButton.enabled
        widget.ui.nextButton.click()
        assert widget.improve._chosen().name == names[1]
        assert not hasattr(widget.editor, "volume")  # the user is not in Segment Editor
        monkeypatch.setattr(slicerQt.util, "selectedModule", lambda: "SegmentEditor")
        previous, following = widget.improve._shortcuts
        assert previous.isEnabled()
        assert (previous.key.toString(), following.key.toString()) == ("Alt+Up", "Alt+Down")
        following.activated.emit()
        assert widget.improve._chosen().name == names[2]
        assert widget.editor.volume.GetName() == names[2]
        assert not widget.ui.nextButton.enabled
        widget.ui.previousButton.click()
        assert widget.editor.volume.GetName() == names[1]
        widget.improve.forget()
        assert not previous.isEnabled()  # Alt+Down opens a list elsewhere

    def test_a_correction_is_carried_to_the_neighboring_frames(self, reviewed, slicerQt):
        widget, table = reviewed, reviewed.ui.reviewTable
        row = next(row for row in range(3) if table.item(row, 0).text() == "cine frame 2")
        select(table, row)
        widget.ui.carryButton.click()
        assert "Nothing was corrected" in line(widget, "improveMessage")
        widget.ui.correctButton.click()
        node, volume = widget.editor.segmentation, widget.editor.volume
        segment = node.GetSegmentation().GetNthSegmentID(2)
        before = slicerQt.util.arrayFromSegmentBinaryLabelmap(node, segment, volume)
        painted = np.zeros(slicerQt.util.arrayFromVolume(volume).shape, np.uint8) if before is None else before.copy()
        painted[2, 3:6, 3:6] = 1
        for index in range(2):  # the brush paints over the other segments
            other = node.GetSegmentation().GetNthSegmentID(index)
            mask = slicerQt.util.arrayFromSegmentBinaryLabelmap(node, other, volume)
            if mask is not None:
                slicerQt.util.updateSegmentBinaryLabelmapFromArray(mask * (painted == 0), node, other, volume)
        slicerQt.util.updateSegmentBinaryLabelmapFromArray(painted, node, segment, volume)
        widget.ui.carryButton.click()
        assert all(f"cine frame {number}" in line(widget, "improveMessage") for number in (1, 3))
        for name in ("cine frame 1", "cine frame 3"):
            row = next(row for row in range(3) if table.item(row, 0).text() == name)
            select(table, row)
            widget.ui.correctButton.click()
            shown = widget.editor.segmentation, segment, widget.editor.volume
            found = slicerQt.util.arrayFromSegmentBinaryLabelmap(*shown)
            assert found[2, 3:6, 3:6].all()

    def test_a_correction_that_is_not_accepted_outlives_the_next_search(self, reviewed, slicerQt):
        widget, table = reviewed, reviewed.ui.reviewTable
        names = [table.item(row, 0).text() for row in range(3)]
        for row in range(2):
            select(table, row)
            widget.ui.correctButton.click()
            if row == 0:
                corrected, volume = widget.editor.segmentation, widget.editor.volume
                draw(corrected, volume)
            else:
                untouched = widget.editor.segmentation
        segment = corrected.GetSegmentation().GetNthSegmentID(2)
        drawn = slicerQt.util.arrayFromSegmentBinaryLabelmap(corrected, segment, volume)
        assert drawn.sum() == 300
        widget.ui.rankButton.click()
        follow(widget, lambda: not widget.segmenting)
        kept = line(widget, "improveMessage")
        assert "corrections" in kept
        assert names[0] in kept
        assert names[1] not in kept
        shown = {}
        for row in range(3):
            select(table, row)
            widget.ui.correctButton.click()
            shown[table.item(row, 0).text()] = widget.editor.segmentation
        assert shown[names[0]] is corrected
        assert shown[names[1]] is not untouched
        assert (slicerQt.util.arrayFromSegmentBinaryLabelmap(corrected, segment, volume) == drawn).all()
        row = next(row for row in range(3) if table.item(row, 0).text() == names[0])
        select(table, row)
        widget.ui.acceptButton.click()
        (labeled,) = [each for each in widget.dataSet.rows() if each.role == "labeled"]
        assert labeled.segmentationNode is corrected
        widget.ui.rankButton.click()
        follow(widget, lambda: not widget.segmenting)
        assert "corrections" not in line(widget, "improveMessage")

    def test_a_volume_has_no_neighbors(self, withModel):
        widget = withModel
        widget.dataSet.addVolume(makeVolume("scan", draw_heart(2)[0], MATRIX))
        settle()
        widget.ui.rankButton.click()
        follow(widget, lambda: not widget.segmenting)
        select(widget.ui.reviewTable, 0)
        assert not widget.ui.carryButton.enabled
        assert "no frame of a cine" in widget.ui.carryButton.toolTip
