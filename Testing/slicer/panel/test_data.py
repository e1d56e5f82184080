"""Section 1 of the panel: the case table."""

from __future__ import annotations

import numpy as np
import pytest

from Testing.slicer.case_tables import CASE, ROLE, SEGMENTATION, SPACING, STATUS, choose, menu, roles, texts, why
from Testing.slicer.panel.support import follow, line, photograph, settle, shown

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from Testing.slicer.scenes import SHAPE, heartLabels, makeHeartSegmentation, makeSequence, makeTransform, makeVolume

RESULT_ATTRIBUTE = "SemiCardiacSeg.Result"


def test_volumes_of_the_scene_become_rows_with_their_segmentations(widget, study):
    assert texts(widget, CASE) == [f"patient{number:02}_ED" for number in range(4)]
    assert texts(widget, SEGMENTATION) == ["patient00_ED heart", "patient01_ED heart", "–", "–"]
    assert roles(widget) == ["labeled", "labeled", "unlabeled", "unlabeled"]
    assert texts(widget, SPACING) == ["1.25"] * 4
    assert widget.ui.caseSummary.text == "2 labeled (2 patients), 2 unlabeled"
    assert not shown(widget, "sampleDataButton")
    assert why(widget, 0) == "Nothing is wrong with this case."
    photograph(widget, "data")


def test_adding_again_says_that_all_is_there(widget, study):
    widget.ui.addSceneButton.click()
    assert "in the table already" in line(widget, "dataMessage")
    assert widget.ui.caseTable.rowCount == 4


def test_a_role_is_set_for_all_selected_rows_and_only_for_them(widget, study):
    choose(widget, 2, 3)
    widget.ui.caseTable.cellWidget(2, ROLE).setCurrentIndex(3)
    assert roles(widget) == ["labeled", "labeled", "ignore", "ignore"]
    widget.ui.caseTable.cellWidget(1, ROLE).setCurrentIndex(2)
    assert roles(widget) == ["labeled", "validation", "ignore", "ignore"]
    assert [row.role for row in widget.dataSet.rows()] == ["labeled", "validation", "ignore", "ignore"]


def test_remove_needs_a_selection_and_says_so(widget, study):
    assert not widget.ui.removeButton.enabled
    assert "Select" in widget.ui.removeButton.toolTip
    choose(widget, 0, 2)
    assert widget.ui.removeButton.enabled
    assert "Nodes and files stay" in widget.ui.removeButton.toolTip
    widget.ui.removeButton.click()
    assert texts(widget, CASE) == ["patient01_ED", "patient03_ED"]


def test_a_deleted_volume_leaves_its_row_with_the_reason(widget, study, scene):
    scene.RemoveNode(study[0])
    settle()
    assert "deleted" in why(widget, 0)
    assert "deleted" in line(widget, "trainWhy")
    assert line(widget, "caseSummary") == "1 labeled (1 patient), 2 unlabeled, 1 deleted from the scene"
    assert not widget.ui.trainButton.enabled
    widget.ui.trainSection.collapsed = False
    photograph(widget, "problem")


def test_a_click_on_the_status_icon_offers_the_mend(widget, study):
    study[0].SetAndObserveTransformNodeID(makeTransform().GetID())
    settle()
    widget.dataSet.setRole([row.key for row in widget.dataSet.rows()][1:], "unlabeled")
    widget.update()
    assert "Click to fix it" in why(widget, 0)
    widget.ui.caseTable.cellClicked.emit(0, STATUS)
    (text,) = menu(widget.data)
    assert text.startswith("Harden a copy: ")
    menu(widget.data)[text].trigger()
    settle()
    assert widget.dataSet.rows()[0].volumeNode is not study[0]
    assert "transform" not in why(widget, 0)


def test_one_button_mends_what_needs_no_answer(widget, study):
    for volume, row in zip(study[:2], widget.dataSet.rows()[:2], strict=True):
        transform = makeTransform()
        volume.SetAndObserveTransformNodeID(transform.GetID())
        row.segmentationNode.SetAndObserveTransformNodeID(transform.GetID())
    settle()
    assert shown(widget, "fixButton")
    widget.ui.fixButton.click()
    settle()
    assert not shown(widget, "fixButton")
    assert why(widget, 0) == why(widget, 1) == "Nothing is wrong with this case."


def test_a_long_table_is_filled_a_few_rows_at_a_time_and_never_again(widget, monkeypatch):
    made, make = [], widget.data._roleBox
    monkeypatch.setattr(widget.data, "_roleBox", lambda key: made.append(key) or make(key))
    names = [f"patient{number:03}" for number in range(90)]
    with widget.dataSet.atOnce():
        rows = [widget.dataSet.addVolume(makeVolume(name)) for name in names]
    widget.update()
    assert 0 < len(made) < 90
    follow(widget, lambda: widget.ui.caseTable.rowCount == 90)
    assert texts(widget, CASE) == names
    widget.dataSet.remove([rows[1].key, rows[80].key])
    widget.dataSet.addVolume(makeVolume("another"))
    settle()
    assert texts(widget, CASE) == [names[0], *names[2:80], *names[81:], "another"]
    assert len(made) == 91
    assert widget.ui.caseTable.cellWidget(79, ROLE) is not None


class TestChecksOfManyCases:
    """The labels of each case are read: many new ones are checked a few at a time."""

    COUNT = 6

    @pytest.fixture
    def checked(self, widget, monkeypatch):
        """Cases of which an update checks one alone; gives the names of those that were checked."""
        from SemiCardiacSegLib import widget as widgetModule
        from SemiCardiacSegLib.table import checks

        names, check = [], checks.problemsOfRow
        monkeypatch.setattr(checks, "problemsOfRow", lambda row, *rest: names.append(row.name) or check(row, *rest))
        monkeypatch.setattr(widgetModule, "CHECK_S", 0.0)
        with widget.dataSet.atOnce():
            for number in range(self.COUNT):
                volume = makeVolume(f"patient{number:02}")
                widget.dataSet.addVolume(volume, makeHeartSegmentation(volume))
        return names

    def test_each_update_goes_on_and_the_table_is_there_at_once(self, widget, checked):
        widget.update()
        assert widget.ui.caseTable.rowCount == self.COUNT
        assert len(checked) == 1
        assert why(widget, 0) == "Nothing is wrong with this case."
        assert why(widget, 1) == "This case has not been checked yet."
        assert "5 to go" in line(widget, "trainWhy")
        assert not widget.ui.trainButton.enabled
        for _round in range(self.COUNT):
            settle()
        assert checked == [f"patient{number:02}" for number in range(self.COUNT)]
        assert {why(widget, row) for row in range(self.COUNT)} == {"Nothing is wrong with this case."}
        assert widget.ui.trainButton.enabled

    def test_what_changes_meanwhile_is_checked_as_it_is_then(self, widget, checked, scene):
        widget.update()
        first, *_others, last = widget.dataSet.rows()
        scene.RemoveNode(first.segmentationNode)
        widget.dataSet.remove([last.key])
        widget.dataSet.addVolume(makeVolume("new"))
        for _round in range(self.COUNT + 2):
            settle()
        assert "was deleted" in why(widget, 0)
        assert texts(widget, CASE)[-2:] == ["patient04", "new"]
        assert "patient05" not in checked
        assert widget.unchecked == set()


@pytest.mark.parametrize("stays", [True, False])
def test_sample_data_are_shown_and_nothing_else_can_begin_meanwhile(widget, slicerQt, monkeypatch, stays):
    from SemiCardiacSegLib.scene.sequences import newCine

    from Testing.slicer.qt_standin.application import addLayers

    layers, browsers, seen = addLayers(), [], []
    slicerQt.modules.sequences.showSequenceBrowser = browsers.append

    def addSampleData():
        widget.update()  # as its clock would
        seen.append((line(widget, "dataMessage"), widget.ui.dataSection.enabled, widget.ui.trainSection.enabled))
        cine = newCine("cine", [np.zeros(SHAPE, np.int16)] * 2, np.eye(4), [0.0, 0.1])
        browsers.append(slicerQt.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(cine))
        volume = makeVolume("patient01")
        row = widget.dataSet.addVolume(volume, makeHeartSegmentation(volume))
        if not stays:
            widget.exit()  # the user has gone to another module
        return [row]

    monkeypatch.setattr(widget.logic, "addSampleData", addSampleData)
    widget.ui.sampleDataButton.click()
    assert seen == [("Drawing phantom hearts…", False, False)]
    assert "Sample data are in the table" in line(widget, "dataMessage")
    expected = widget.dataSet.rows()[0].volumeNode.GetID() if stays else None
    assert layers.GetBackgroundVolumeID() == expected
    assert browsers == [browsers[0]] * (2 if stays else 1)
    widget.enter()
    assert widget.ui.dataSection.enabled
    assert widget.ui.trainSection.enabled


def test_a_double_click_on_a_file_loads_its_frame_and_its_labels_once(widget, scene, tmp_path, slicerQt):
    from semicardiac.images.volumes import Volume, write_labels, write_series

    from Testing.engine.support import ACDC
    from Testing.slicer.qt_standin.application import addLayers

    images = [np.full(SHAPE, value, np.float32) for value in (1, 2)]
    write_series(tmp_path / "heart.nrrd", [Volume(image, np.eye(4), float(time)) for time, image in enumerate(images)])
    write_labels(tmp_path / "labels.nrrd", Volume(heartLabels(), np.eye(4)), ACDC)
    (tmp_path / "cases.csv").write_text(
        "name,patient,image,labels,frame,phase,role\nheart,p1,heart.nrrd,labels.nrrd,1,ES,labeled\n", encoding="utf-8"
    )
    widget.dataSet.addPaths([tmp_path / "cases.csv"])
    settle()
    layers = addLayers()
    for _click in range(2):
        widget.ui.caseTable.cellDoubleClicked.emit(0, CASE)
    assert line(widget, "dataMessage") == ""
    (volume,) = slicerQt.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    (segmentation,) = slicerQt.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert np.unique(slicerQt.util.arrayFromVolume(volume)) == [2]
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 3
    assert layers.GetBackgroundVolumeID() == volume.GetID()
    scene.RemoveNode(segmentation)
    widget.ui.caseTable.cellDoubleClicked.emit(0, CASE)
    (segmentation,) = slicerQt.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert slicerQt.util.getNodesByClass("vtkMRMLScalarVolumeNode") == [volume]
    scene.RemoveNode(volume)
    widget.ui.caseTable.cellDoubleClicked.emit(0, CASE)
    (again,) = slicerQt.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    newest = slicerQt.util.getNodesByClass("vtkMRMLSegmentationNode")[-1]
    assert newest is not segmentation  # that one is somebody's work, maybe
    assert newest.GetNodeReference(newest.GetReferenceImageGeometryReferenceRole()) is again


def test_a_label_map_is_shown_over_its_volume(widget, slicerQt):
    from Testing.slicer.qt_standin.application import addLayers

    volume = makeVolume("patient01")
    labels = slicerQt.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "patient01 labels")
    slicerQt.util.updateVolumeFromArray(labels, heartLabels())
    labels.CopyOrientation(volume)
    widget.dataSet.addVolume(volume, labels)
    settle()
    layers = addLayers()
    widget.ui.caseTable.cellDoubleClicked.emit(0, CASE)
    assert line(widget, "dataMessage") == ""
    assert layers.GetLabelVolumeID() == labels.GetID()


def test_the_context_menu_removes_all_selected_rows(widget, study):
    import qt

    choose(widget, 1, 3)
    table = widget.ui.caseTable
    table.customContextMenuRequested.emit(qt.QPoint(5, table.rowViewportPosition(3) + 3))
    menu(widget.data)["Remove from the table (2)"].trigger()
    assert texts(widget, CASE) == ["patient00_ED", "patient02_ED"]


def test_a_double_click_shows_the_case_with_its_own_segmentation_alone(widget, study):
    widget.ui.caseTable.cellDoubleClicked.emit(1, CASE)
    rows = widget.dataSet.rows()
    visible = [row.segmentationNode.GetDisplayNode().GetVisibility() for row in rows[:2]]
    assert visible == [0, 1]
    assert line(widget, "dataMessage") == ""


def test_a_sequence_becomes_one_row_of_unlabeled_frames(widget, scene):
    widget.ui.addSequenceButton.click()
    assert "no sequence" in line(widget, "dataMessage")
    frames = [np.full(SHAPE, value, np.int16) for value in range(3)]
    makeSequence(frames, name="cine A")
    widget.ui.addSequenceButton.click()
    assert texts(widget, CASE) == ["cine A"]
    assert widget.ui.caseSummary.text == "0 labeled, 3 unlabeled"
    widget.ui.addSequenceButton.click()
    assert "in the table already" in line(widget, "dataMessage")
    for name in ("cine B", "cine C", "map of ours"):
        sequence = makeSequence(frames, name=name)
    sequence.SetAttribute(RESULT_ATTRIBUTE, "confidence")
    widget.ui.addSequenceButton.click()
    assert list(menu(widget.data)) == ["cine B", "cine C"]
    menu(widget.data)["cine C"].trigger()
    assert texts(widget, CASE) == ["cine A", "cine C"]
    assert line(widget, "dataMessage") == ""


def test_what_the_scene_holds_and_cannot_be_used_is_said(widget, slicerQt):
    widget.ui.addSceneButton.click()
    assert line(widget, "dataMessage").startswith("There is no volume in the scene")
    slicerQt.util.addVolumeFromArray(np.zeros((2, 3, 4, 7)), name="rgb", nodeClassName="vtkMRMLVectorVolumeNode")
    widget.ui.addSceneButton.click()
    assert line(widget, "dataMessage").startswith("'rgb' holds 7 numbers in each voxel.")
    makeVolume("patient01")
    slicerQt.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    widget.ui.addSceneButton.click()
    assert line(widget, "dataMessage").endswith("1 others were left out, too.")
    assert [row.name for row in widget.dataSet.rows()] == ["patient01"]


def test_the_wheel_over_a_row_changes_no_role(widget):
    import qt

    volume = makeVolume("patient01")
    row = widget.dataSet.addVolume(volume, makeHeartSegmentation(volume))
    settle()
    from Testing.slicer.qt_standin.application import turnWheel

    for box in (widget.ui.caseTable.cellWidget(0, 2), widget.ui.labelSetBox):
        before = box.currentIndex
        turnWheel(box)
        assert box.currentIndex == before
    assert widget.dataSet.row(row.key).role == "labeled"
    plain = qt.QComboBox()
    plain.addItems(["a", "b"])
    turnWheel(plain)
    assert plain.currentIndex == 1  # so that the test would see it


def test_a_message_goes_with_the_scene_that_it_speaks_of(widget, study, scene):
    widget.ui.addSceneButton.click()
    assert "in the table already" in line(widget, "dataMessage")
    scene.Clear(False)
    settle()
    assert line(widget, "dataMessage") == ""


def test_the_column_leaves_out_what_its_title_says(widget, scene):
    from Testing.slicer.case_tables import SEGMENTATION

    volume = makeVolume("patient01")
    widget.dataSet.addVolume(volume, makeHeartSegmentation(volume, "patient01 segmentation"))
    settle()
    item = widget.ui.caseTable.item(0, SEGMENTATION)
    assert item.text() == "patient01"
    assert "patient01 segmentation" in item.toolTip()
