"""Section 1 of the panel: the dialogs in which cases are added, described and mapped to structures."""

from __future__ import annotations

import pytest

from Testing.slicer.case_tables import CASE, menu, roles, texts, why
from Testing.slicer.panel.support import line, settle, shown

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from Testing.slicer.scenes import heartLabels, makeHeartSegmentation, makeSegmentation, makeVolume


def test_segments_of_unknown_names_are_mapped_in_a_dialog(widget, scene):
    volume = makeVolume("patient01")
    labels = heartLabels()
    node = makeSegmentation(volume, {"one": labels == 1, "two": labels == 2, "three": labels == 3})
    row = widget.dataSet.addVolume(volume, node)
    settle()
    assert "is mapped to a structure" in why(widget, 0)
    widget.ui.fixButton.click()
    dialog = widget.data._dialog
    for segmentId, name in (("S0", "RV cavity"), ("S1", "LV myocardium"), ("S2", "LV cavity")):
        dialog._boxes[segmentId].setCurrentText(name)
    dialog.accept()
    settle()
    assert widget.dataSet.mapping(row.key) == {"S0": "RV cavity", "S1": "LV myocardium", "S2": "LV cavity"}
    assert why(widget, 0) == "Nothing is wrong with this case."


def addUnnamed(widget, name: str, seed: int = 0):
    """A case whose labels Slicer has read from a label file: its segments have numbers for names."""
    volume = makeVolume(name, seed=seed)
    labels = heartLabels()
    node = makeSegmentation(volume, {f"Segment_{value}": labels == value for value in (1, 2, 3)}, f"{name}_gt.nii.gz")
    for index in range(3):
        node.GetSegmentation().GetNthSegment(index).SetLabelValue(index + 1)
    return widget.dataSet.addVolume(volume, node)


def asLabelValues(node) -> None:
    """Makes the voxels of each segment hold its label value, as in a file."""
    from vtk.util.numpy_support import vtk_to_numpy

    for index in range(3):
        image = node.GetSegmentation().GetNthSegment(index).GetRepresentation("Binary labelmap")
        vtk_to_numpy(image.GetPointData().GetScalars())[:] *= index + 1


ACDC = {"S0": "RV cavity", "S1": "LV myocardium", "S2": "LV cavity"}


def test_unnamed_segments_are_proposed_by_their_values_and_answered_once_for_all_cases(widget):
    rows = [addUnnamed(widget, f"patient{number:02}", number) for number in range(3)]
    for row in rows:
        asLabelValues(row.segmentationNode)
    settle()
    assert "is mapped to a structure" in why(widget, 0)
    widget.ui.fixButton.click()
    dialog = widget.data._dialog
    assert dialog.mapping() == ACDC
    assert "all 3 cases" in dialog.allBox.text
    dialog.accept()
    settle()
    assert all(widget.dataSet.mapping(row.key) == ACDC for row in rows)
    assert why(widget, 2) == "Nothing is wrong with this case."


def test_the_answer_can_be_for_one_case(widget):
    first, second = (addUnnamed(widget, f"patient{number:02}", number) for number in range(2))
    for row in (first, second):
        asLabelValues(row.segmentationNode)
    settle()
    widget.ui.fixButton.click()
    widget.data._dialog.allBox.checked = False
    widget.data._dialog.accept()
    assert widget.dataSet.mapping(first.key) == ACDC
    assert widget.dataSet.mapping(second.key) == {}


def test_each_segment_shows_its_volume(widget, slicerQt):
    row = addUnnamed(widget, "patient01")
    asLabelValues(row.segmentationNode)
    settle()
    widget.ui.fixButton.click()
    shown = [label.text for label in widget.data._dialog.dialog.findChildren(slicerQt.qt.QLabel)]
    voxelMl = 1.25 * 1.5 * 8 / 1000
    for value in (1, 2, 3):
        assert f"{(heartLabels() == value).sum() * voxelMl:.1f} ml" in shown


def test_segmentations_that_fit_no_case_are_counted_and_can_be_given_one(widget, scene):
    makeVolume("patient01")
    nodes = [makeHeartSegmentation(makeVolume("gone"), name) for name in ("drawn", "also drawn")]
    for node in nodes:
        node.RemoveNodeReferenceIDs(node.GetReferenceImageGeometryReferenceRole())
    for volume in _named(scene, "gone"):
        scene.RemoveNode(volume)
    widget.ui.addSceneButton.click()
    settle()
    assert "belong to no case: 2 (drawn, also drawn)" in line(widget, "dataMessage")
    assert shown(widget, "matchButton")
    widget.ui.matchButton.click()
    (key,) = [row.key for row in widget.dataSet.rows()]
    box = widget.data._dialog._boxes[nodes[1]]
    box.setCurrentIndex(box.findData(key))
    widget.data._dialog.accept()
    settle()
    assert widget.dataSet.row(key).segmentationNode is nodes[1]
    assert roles(widget) == ["labeled"]
    assert not shown(widget, "matchButton")


def _named(scene, name: str) -> list:
    found = scene.GetNodesByName(name)
    return [found.GetItemAsObject(index) for index in range(found.GetNumberOfItems())]


def openDetails(widget, row: int):
    """The dialog that the context menu of a row opens."""
    import qt

    table = widget.ui.caseTable
    table.customContextMenuRequested.emit(qt.QPoint(5, table.rowViewportPosition(row) + 3))
    menu(widget.data)["Patient, phase, segmentation…"].trigger()
    return widget.data._dialog


def test_a_case_gets_another_patient_phase_and_segmentation(widget, study):
    other = makeHeartSegmentation(study[2], "by hand")
    settle()
    dialog = openDetails(widget, 2)
    assert (dialog.patientEdit.text, dialog.phaseBox.currentText) == ("patient02", "end-diastole")
    dialog.patientEdit.text = "somebody else"
    dialog.phaseBox.setCurrentText("end-systole")
    dialog.segmentationBox.setCurrentText("by hand")
    dialog.accept()
    row = widget.dataSet.rows()[2]
    assert (row.patient, row.phase, row.segmentationNode) == ("somebody else", "ES", other)
    assert roles(widget)[2] == "labeled"
    dialog = openDetails(widget, 2)
    dialog.segmentationBox.setCurrentIndex(0)
    dialog.accept()
    assert roles(widget)[2] == "unlabeled"
    dialog = openDetails(widget, 2)
    dialog.patientEdit.text = "nobody"
    dialog.reject()
    assert widget.dataSet.rows()[2].patient == "somebody else"


def test_no_hourglass_stands_over_a_dialog(widget, monkeypatch):
    import qt

    cursors = []
    monkeypatch.setattr(
        qt.QFileDialog,
        "getExistingDirectory",
        lambda *arguments: cursors.append(qt.QApplication.overrideCursor()) or "",
    )
    widget.ui.addFolderButton.click()
    assert cursors == [None]


def test_files_and_folders_are_added_from_dialogs(widget, scene, tmp_path, monkeypatch, slicerQt):
    import qt

    volume = makeVolume("patient05")
    assert slicerQt.util.saveNode(volume, str(tmp_path / "patient05.nrrd"), {})
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileNames", lambda *arguments: [str(tmp_path / "patient05.nrrd")])
    widget.ui.addFilesButton.click()
    assert texts(widget, CASE) == ["patient05"]
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *arguments: str(tmp_path / "nowhere"))
    widget.ui.addFolderButton.click()
    assert "nowhere" in line(widget, "dataMessage")
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *arguments: "")
    widget.ui.addFolderButton.click()
    assert line(widget, "dataMessage") == ""


def test_structures_are_chosen_from_ready_made_sets(widget, study):
    widget.ui.labelSetBox.setCurrentIndex(1)
    widget.ui.labelSetBox.activated.emit(1)
    assert widget.dataSet.labelSet().name == "mmwhs"
    settle()
    assert widget.ui.labelSetBox.currentText.startswith("MM-WHS")


def test_structures_can_be_defined(widget, scene):
    widget.ui.labelSetButton.click()
    dialog = widget.data._dialog
    dialog.addButton.click()
    dialog.table.item(3, 0).setText("LA cavity")
    dialog.table.item(3, 1).setText("4, 14")
    dialog.accept()
    labelSet = widget.dataSet.labelSet()
    assert labelSet.names == ["RV cavity", "LV myocardium", "LV cavity", "LA cavity"]
    assert labelSet.structures[3].source_values == (4, 14)
    assert labelSet.structures[0].type.value == "53085002"  # codes of the old ones are kept
    assert labelSet.name != "acdc"
    settle()
    assert "LA cavity" in widget.ui.labelSetBox.currentText


def test_wrong_structures_keep_the_dialog_open_with_the_reason(widget, scene):
    widget.ui.labelSetButton.click()
    dialog = widget.data._dialog
    dialog.table.item(1, 0).setText("RV cavity")
    dialog.accept()
    assert "RV_cavity" in dialog.line.text.replace("rv_cavity", "RV_cavity")
    assert dialog.dialog.isVisible()
    assert widget.dataSet.labelSet().name == "acdc"
    dialog.reject()


def test_dialogs_and_menus_go_when_they_are_answered(widget, slicerQt):
    import qt

    def dialogs() -> int:
        settle()
        qt.QCoreApplication.sendPostedEvents(None, qt.QEvent.DeferredDelete.value)  # as a running event loop does
        return len(slicerQt.util.mainWindow().findChildren(qt.QDialog))

    before = dialogs()
    for answer in ("accept", "reject"):
        widget.ui.labelSetButton.click()
        assert dialogs() == before + 1
        getattr(widget.data._dialog, answer)()
        assert dialogs() == before
    widget.ui.labelSetButton.click()
    widget.cleanup()
    assert dialogs() == before
