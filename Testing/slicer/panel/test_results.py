"""Sections 3 to 6 of the panel, with the real engine: segment, measure, improve, share."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import ACDC, draw_heart
from helpers_engine import model_of, tiny_config
from helpers_panel import answerSaveDialog, follow, line, photograph, settle
from semicardiac.model import save_model
from semicardiac.network import build_network

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from helpers_scene import heartLabels, makeSegmentation, makeSequence, makeVolume, obliqueMatrix, saveAndReload

MATRIX = obliqueMatrix(1, (2.0, 2.0, 8.0))
ABOUT = {
    "labeled_volumes": 14, "labeled_patients": 7, "unlabeled_volumes": 1264, "training_steps": 9074,
    "training_seconds": 605.0, "validation_mean_dice": 0.86,
}  # fmt: skip


@pytest.fixture
def withModel(widget):
    """The widget, with a package in its output folder: of a small network that knows nothing yet."""
    torch.manual_seed(0)
    config = tiny_config(locate={"method": "center"})
    model = replace(model_of(build_network(config.network, ACDC.classes)), config=config)
    model.about = ABOUT
    save_model(widget.train.folder() / "training-1", model)
    widget.models.refresh()
    widget.update()
    return widget


def heart(name: str, seed: int = 1):
    """A volume with a heart, and its exact segmentation."""
    image, labels = draw_heart(seed)
    volume = makeVolume(name, image, MATRIX)
    masks = {"RV cavity": labels == 1, "LV myocardium": labels == 2, "LV cavity": labels == 3}
    return volume, makeSegmentation(volume, masks, f"{name} by hand")


def draw(segmentation, volume) -> None:
    """What a person does in Segment Editor."""
    import slicer

    array = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    array[1:4, 15:25, 15:25] = 1
    segment = segmentation.GetSegmentation().GetNthSegmentID(2)
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, segment, volume)


def select(table, row: int) -> None:
    table.selectRow(row)
    settle()


class TestSegment:
    def test_a_volume_is_segmented_into_the_scene(self, withModel, slicerQt):
        widget = withModel
        volume, byHand = heart("scan")
        assert widget.ui.modelBox.currentText == "training-1, 0.86 Dice, 10 min"
        assert line(widget, "segmentWhy") == "Choose a volume or a sequence."
        widget.ui.inputSelector.setCurrentNode(volume)
        widget.ui.flipsBox.checked = False
        widget.ui.confidenceBox.checked = True
        settle()
        assert widget.ui.segmentButton.enabled
        widget.ui.segmentButton.click()
        assert widget.ui.segmentButton.text == "Stop"
        settle()
        assert "segmentation runs" in line(widget, "trainWhy")
        select(widget.ui.modelTable, 0)
        assert "segmentation runs" in widget.ui.deleteButton.toolTip
        folder = widget.segment.view.job.folder
        follow(widget, lambda: not widget.segmenting)
        assert line(widget, "segmentMessage") == ""
        assert not folder.exists()  # it held a copy of the patient's image
        widget.poll()
        assert line(widget, "segmentState").startswith("Finished in")
        result = slicerQt.util.getNode("scan SemiCardiacSeg")
        assert widget.ui.measuredSelector.currentNode() is result
        assert widget.ui.show3DButton.enabled
        assert widget.ui.show3DButton.segmentationNode() is result
        assert byHand.GetDisplayNode().GetVisibility() == 0
        volumes = [node.GetName() for node in slicerQt.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
        assert any("confidence" in name.lower() for name in volumes)
        widget.ui.segmentSection.collapsed = widget.ui.resultsBox.collapsed = False
        photograph(widget, "segmented")

    def test_a_cine_is_shown_with_its_segmentation_and_its_map(self, withModel, slicerQt):
        from qt_standin.application import addLayers

        widget, layers, browsers = withModel, addLayers(), []
        slicerQt.modules.sequences.showSequenceBrowser = browsers.append
        cine = makeSequence([draw_heart(seed)[0] for seed in (1, 2)], MATRIX)
        widget.ui.inputSelector.setCurrentNode(cine)
        widget.ui.flipsBox.checked = False
        widget.ui.entropyBox.checked = True
        settle()
        widget.ui.segmentButton.click()
        follow(widget, lambda: not widget.segmenting)
        assert line(widget, "segmentMessage") == ""
        result = widget.ui.measuredSelector.currentNode()
        assert result.IsA("vtkMRMLSequenceNode")
        browser = slicerQt.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(cine)
        shown = browser.GetProxyNode(result)
        assert browsers == [browser]
        assert widget.ui.show3DButton.segmentationNode() is shown
        assert shown.GetDisplayNode().GetVisibility() == 1
        assert layers.GetBackgroundVolumeID() == browser.GetProxyNode(cine).GetID()
        overlay = slicerQt.mrmlScene.GetNodeByID(layers.GetForegroundVolumeID())
        assert overlay.GetName() == "cine SemiCardiacSeg entropy"
        assert layers.GetForegroundOpacity() == pytest.approx(0.4)

    def test_a_deleted_volume_is_said_and_nothing_half_made_stays(self, withModel, slicerQt, scene):
        widget = withModel
        volume, byHand = heart("scan")
        scene.RemoveNode(byHand)
        widget.ui.inputSelector.setCurrentNode(volume)
        settle()
        widget.ui.segmentButton.click()
        scene.RemoveNode(volume)
        follow(widget, lambda: not widget.segmenting)
        assert "scan" in line(widget, "segmentMessage")
        assert slicerQt.util.getNodesByClass("vtkMRMLSegmentationNode") == []
        folder = widget.segment.view.job.folder
        assert folder.exists()
        widget.cleanup()
        assert not folder.exists()

    def test_results_of_a_closed_scene_come_when_it_is_opened_again(self, withModel, slicerQt, scene, tmp_path):
        widget = withModel
        volume, byHand = heart("scan")
        scene.RemoveNode(byHand)
        widget.ui.inputSelector.setCurrentNode(volume)
        widget.ui.flipsBox.checked = False
        settle()
        widget.ui.segmentButton.click()
        saveAndReload(tmp_path / "scene.mrb")
        scene.Clear(False)
        follow(widget, lambda: not widget.segmenting)
        assert "come when that scene is opened" in line(widget, "segmentMessage")
        other, _byHand = heart("another scan", 2)
        nodes = scene.GetNumberOfNodes()
        widget.segment.onSceneOpened()
        follow(widget, lambda: not widget.segment._loadNow)
        assert other.GetID() == "vtkMRMLScalarVolumeNode1"  # as the segmented one has
        assert "come when that scene is opened" in line(widget, "segmentMessage")
        assert scene.GetNumberOfNodes() == nodes
        folder = widget.segment.view.job.folder
        scene.Clear(False)
        slicerQt.util.loadScene(str(tmp_path / "scene.mrb"), {})
        follow(widget, lambda: line(widget, "segmentMessage") == "")
        assert slicerQt.util.getNode("scan SemiCardiacSeg") is widget.ui.measuredSelector.currentNode()
        assert not folder.exists()

    def test_all_cases_of_the_table_need_some_without_a_segmentation(self, withModel):
        widget = withModel
        widget.ui.allCasesBox.checked = True
        settle()
        assert "no volume of the scene without a segmentation" in line(widget, "segmentWhy")
        assert not widget.ui.inputSelector.enabled
        row = widget.dataSet.addVolume(makeVolume("scan"))
        settle()
        assert line(widget, "segmentWhy") == ""
        widget.dataSet.setRole([row.key], "ignore")
        settle()
        assert not widget.ui.segmentButton.enabled

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_model_elsewhere_is_chosen_and_stays_in_the_list(self, withModel, monkeypatch, tmp_path, packed):
        import qt

        widget, box = withModel, withModel.ui.modelBox
        ours = widget.models.chosen()
        path = tmp_path / "elsewhere"
        ours.rename(path)
        if packed:
            path = widget.logic.exportModel(path, tmp_path / "shared.zip")
        widget.models.refresh()
        assert widget.models.chosen() is None
        dialog = "getOpenFileName" if packed else "getExistingDirectory"
        monkeypatch.setattr(qt.QFileDialog, dialog, lambda *arguments: str(path))
        box.setCurrentIndex(box.findText("Other .zip…" if packed else "Other folder…"))
        box.activated.emit(box.currentIndex)
        assert widget.models.chosen() == path
        widget.models.refresh()
        assert widget.models.chosen() == path
        assert "no model yet" not in line(widget, "segmentWhy")

    def test_no_other_model_keeps_the_chosen_one(self, withModel, monkeypatch):
        import qt

        widget, box = withModel, withModel.ui.modelBox
        ours = widget.models.chosen()
        monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *arguments: "")
        box.setCurrentIndex(box.findText("Other folder…"))
        box.activated.emit(box.currentIndex)
        assert widget.models.chosen() == ours

    def test_manage_opens_the_models(self, widget):
        widget.ui.manageButton.click()
        assert not widget.ui.modelsSection.collapsed


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
        from SemiCardiacSegLib.panels import display

        (volume, a), (_other, b) = heart("A"), heart("B", 2)
        tables = lambda: [node.GetName() for node in slicerQt.util.getNodesByClass("vtkMRMLTableNode")]  # noqa: E731
        opened = []
        monkeypatch.setattr(display.TableLayout, "show", lambda layout, table: opened.append(table.GetName()))
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
        from qt_standin.application import addLayout

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

    def test_a_curve_that_fails_leaves_its_button_up_and_says_why(self, widget, slicerQt):
        sequence = slicerQt.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "empty")
        widget.ui.measuredSelector.setCurrentNode(sequence)
        settle()
        widget.ui.curveButton.click()
        assert not widget.ui.curveButton.checked
        assert "empty" in line(widget, "measureMessage")

    def test_the_phases_of_a_cine_are_corrected(self, widget, slicerQt):
        from helpers import ACDC
        from SemiCardiacSegLib.sequences import browserOf, newCine, newSegmentationSequence

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
        widget.ui.edButton.click()
        assert "cannot be both ED and ES" in line(widget, "measureMessage")
        widget.ui.measuredSelector.setCurrentNode(None)
        settle()
        assert not widget.ui.edButton.enabled


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
        editor = _Editor()
        slicerQt.modules.segmenteditor = _Module(editor)
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
        assert line(widget, "improveMessage") == "not now"


class _Editor:
    """Segment Editor's widget, as far as the panel uses it."""

    def setSegmentationNode(self, node):
        self.segmentation = node

    def setSourceVolumeNode(self, node):
        self.volume = node


class _Module:
    def __init__(self, editor):
        self.editor = editor

    def widgetRepresentation(self):
        return self

    def self(self):
        return self


class TestModels:
    def test_details_export_import_delete(self, withModel, monkeypatch, tmp_path, slicerQt):
        import qt

        widget = withModel
        table = widget.ui.modelTable
        assert table.item(0, 0).text() == "training-1"
        assert not widget.ui.exportButton.enabled
        assert "Select a model" in widget.ui.exportButton.toolTip
        select(table, 0)
        assert "RV cavity, LV myocardium, LV cavity" in line(widget, "modelDetails")
        packed = tmp_path / "shared.zip"
        answerSaveDialog(monkeypatch, tmp_path / "shared")
        widget.ui.exportButton.click()
        assert packed.is_file()
        monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *arguments: str(packed))
        widget.ui.importButton.click()
        assert line(widget, "modelsMessage") == "Imported: shared"
        assert widget.models.chosen().name == "shared"
        assert table.rowCount == 2
        widget.ui.segmentSection.collapsed = widget.ui.dataSection.collapsed = True
        widget.ui.modelsSection.collapsed = False
        select(table, 0)
        photograph(widget, "models")
        row = next(row for row in range(2) if table.item(row, 0).text() == "shared")
        select(table, row)
        monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: False)
        widget.ui.deleteButton.click()
        assert table.rowCount == 2
        monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: True)
        select(table, row)
        widget.ui.deleteButton.click()
        assert table.rowCount == 1
        assert not (widget.train.folder() / "shared").exists()

    def test_a_damaged_package_is_said_and_cannot_be_chosen(self, withModel, slicerQt, monkeypatch, tmp_path):
        import qt

        widget = withModel
        weights = widget.train.folder() / "training-1/model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-10])
        widget.models.refresh()
        widget.update()
        assert widget.models.chosen() is None
        assert "no model yet" in line(widget, "segmentWhy")
        select(widget.ui.modelTable, 0)
        assert not widget.ui.exportButton.enabled
        assert "model.safetensors" in line(widget, "modelDetails")
        (tmp_path / "no.zip").write_text("no zip", encoding="utf-8")
        monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *arguments: str(tmp_path / "no.zip"))
        widget.ui.importButton.click()
        assert "not a model package" in line(widget, "modelsMessage")
