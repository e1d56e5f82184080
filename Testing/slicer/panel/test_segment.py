"""Section 3: volumes and cines become segmentations of the scene."""

from __future__ import annotations

import numpy as np
import pytest

from Testing.engine.support import draw_heart
from Testing.slicer.case_tables import menu
from Testing.slicer.panel.support import follow, line, photograph, settle, shown

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from Testing.slicer.results import MATRIX, heart, select
from Testing.slicer.scenes import makeSequence, makeVolume, saveAndReload


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

    def test_the_views_of_another_module_are_left_alone_until_the_user_comes_back(self, withModel, slicerQt):
        from Testing.slicer.qt_standin.application import addLayers

        widget, layers = withModel, addLayers()
        volume, _byHand = heart("scan")
        _other, edited = heart("edited")
        widget.ui.inputSelector.setCurrentNode(volume)
        widget.ui.flipsBox.checked = False
        settle()
        widget.ui.segmentButton.click()
        widget.exit()
        follow(widget, lambda: not widget.segmenting)
        result = slicerQt.util.getNode("scan SemiCardiacSeg")
        assert layers.GetBackgroundVolumeID() is None
        assert edited.GetDisplayNode().GetVisibility() == 1
        widget.enter()
        settle()
        assert layers.GetBackgroundVolumeID() == volume.GetID()
        assert edited.GetDisplayNode().GetVisibility() == 0
        assert widget.ui.measuredSelector.currentNode() is result
        assert widget.parameters.measured is result

    def test_a_cine_is_shown_with_its_segmentation_and_its_map(self, withModel, slicerQt):
        from Testing.slicer.qt_standin.application import addLayers

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

    def test_the_window_lives_while_results_come_and_a_scene_that_closes_ends_it(
        self, withModel, slicerQt, scene, monkeypatch
    ):
        widget, seen = withModel, []
        cine = makeSequence([draw_heart(seed)[0] for seed in (1, 2, 3)], MATRIX)

        def processEvents():
            seen.append((widget.ui.segmentButton.enabled, widget.segmenting))
            if len(seen) == 3:
                scene.Clear(False)

        monkeypatch.setattr(slicerQt.app, "processEvents", processEvents)
        widget.ui.inputSelector.setCurrentNode(cine)
        widget.ui.flipsBox.checked = False
        settle()
        widget.ui.segmentButton.click()
        follow(widget, lambda: len(seen) >= 3)
        settle()
        assert set(seen) == {(False, True)}
        assert "scene was closed" in line(widget, "segmentMessage")
        assert slicerQt.util.getNodesByClass("vtkMRMLSegmentationNode") == []
        assert not widget.segmenting

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
        follow(widget, lambda: slicerQt.mrmlScene.GetFirstNodeByName("scan SemiCardiacSeg"))
        assert line(widget, "segmentMessage") == ""
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

    def test_a_folder_without_a_model_is_refused_at_once_until_another_choice(self, withModel, monkeypatch, tmp_path):
        import qt

        widget, box = withModel, withModel.ui.modelBox
        ours = widget.models.chosen()
        monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *arguments: str(tmp_path))
        box.setCurrentIndex(box.findText("Other folder…"))
        box.activated.emit(box.currentIndex)
        assert "no model here" in line(widget, "segmentMessage")
        assert widget.models.chosen() == ours
        assert box.findText(tmp_path.name) < 0
        box.activated.emit(box.currentIndex)
        assert line(widget, "segmentMessage") == ""

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


class TestCineInput:
    def test_a_frame_of_a_cine_or_all_of_them(self, withModel, slicerQt):
        widget = withModel
        cine = makeSequence([draw_heart(seed)[0] for seed in (1, 2)], MATRIX)
        slicerQt.modules.sequences.logic()
        frame = shownFrame(cine)
        settle()
        assert not shown(widget, "framesBox")
        for node in (cine, frame):
            widget.ui.inputSelector.setCurrentNode(node)
            settle()
            assert shown(widget, "framesBox")
            widget.ui.framesBox.setCurrentIndex(0)
            assert widget.segment._input() is cine
            widget.ui.framesBox.setCurrentIndex(1)
            assert widget.segment._input() is frame
        other = makeVolume("scan")
        widget.ui.inputSelector.setCurrentNode(other)
        settle()
        assert not shown(widget, "framesBox")
        assert widget.segment._input() is other

    def test_a_4d_file_is_opened_as_a_cine(self, withModel, monkeypatch, tmp_path, slicerQt):
        import qt
        from semicardiac.images.volumes import Volume, write_series

        widget = withModel
        frames = [draw_heart(seed)[0].astype("float32") for seed in (1, 2, 3)]
        path = tmp_path / "patient007_4d.nii.gz"
        write_series(path, [Volume(frame, MATRIX, 0.04 * index) for index, frame in enumerate(frames)])
        monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *arguments: str(path))
        widget.ui.openCineButton.click()
        menu(widget.segment)["4D file…"].trigger()
        assert line(widget, "segmentMessage") == ""
        cine = widget.ui.inputSelector.currentNode()
        assert (cine.GetName(), cine.GetNumberOfDataNodes()) == ("patient007_4d", 3)
        assert slicerQt.util.arrayFromVolume(cine.GetNthDataNode(2)) == pytest.approx(frames[2])
        assert float(cine.GetNthIndexValue(1)) == pytest.approx(0.04, abs=1e-4)
        monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda window, title, place, filters: place and "")
        assert slicerQt.util.settingsValue("SemiCardiacSeg/lastFolder", "") == str(tmp_path)

    def test_a_single_volume_is_no_cine(self, withModel, monkeypatch, tmp_path):
        import qt
        from semicardiac.images.volumes import Volume, write_volume

        write_volume(tmp_path / "one.nrrd", Volume(draw_heart(1)[0], MATRIX))
        monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *arguments: str(tmp_path / "one.nrrd"))
        withModel.ui.openCineButton.click()
        menu(withModel.segment)["DICOM folder…"].trigger()
        assert "single volume and no cine" in line(withModel, "segmentMessage")

    def test_a_volume_with_a_frame_in_each_component_becomes_a_cine(self, withModel, slicerQt):
        widget = withModel
        frames = np.stack([draw_heart(seed)[0] for seed in range(6)], axis=-1)
        node = slicerQt.util.addVolumeFromArray(frames, MATRIX, "multi", "vtkMRMLVectorVolumeNode")
        node.SetAttribute("MultiVolume.FrameLabels", "10,50,90,130,170,210")
        node.SetAttribute("MultiVolume.FrameIdentifyingDICOMTagUnits", "ms")
        slicerQt.util.addVolumeFromArray(frames[..., :3], MATRIX, "rgb", "vtkMRMLVectorVolumeNode")
        widget.parameters.inputNode = node
        settle()
        assert "Click Open cine…" in line(widget, "segmentWhy")
        widget.ui.openCineButton.click()
        assert [text for text in menu(widget.segment) if "frames" in text] == ["multi (6 frames)"]
        menu(widget.segment)["multi (6 frames)"].trigger()
        cine = widget.ui.inputSelector.currentNode()
        assert cine.GetNumberOfDataNodes() == 6
        assert slicerQt.util.arrayFromVolume(cine.GetNthDataNode(4)) == pytest.approx(frames[..., 4])
        assert float(cine.GetNthIndexValue(5)) == pytest.approx(0.2)


class TestCineFromDicom:
    """What Slicer's DICOM module may have made of a cine."""

    @pytest.fixture
    def database(self, withModel, monkeypatch, tmp_path, slicerQt):
        from Testing.slicer.dicom_nodes import writeCine

        found = writeCine(tmp_path / "series")
        monkeypatch.setattr(slicerQt, "dicomDatabase", found, raising=False)
        return found

    @pytest.mark.parametrize("form", ["one volume", "a sequence of images"])
    def test_it_is_offered_and_opened_from_its_files(self, withModel, database, form, slicerQt):
        from Testing.slicer.dicom_nodes import CINE, sequenceOfImages, stackedVolume

        widget = withModel
        node = stackedVolume(database) if form == "one volume" else sequenceOfImages(database)[1]
        widget.ui.inputSelector.setCurrentNode(node)
        settle()
        assert "4 images at each position" in line(widget, "segmentWhy")
        assert not widget.ui.segmentButton.enabled
        widget.ui.openCineButton.click()
        (text,) = [text for text in menu(widget.segment) if "from its DICOM files (4 frames)" in text]
        menu(widget.segment)[text].trigger()
        settle()
        assert line(widget, "segmentMessage") == line(widget, "segmentWhy") == ""
        opened = widget.ui.inputSelector.currentNode()
        assert opened.GetNumberOfDataNodes() == 4
        assert (slicerQt.util.arrayFromVolume(opened.GetNthDataNode(3)) == CINE[3]).all()

    def test_one_image_of_it_can_be_segmented(self, withModel, database):
        from Testing.slicer.dicom_nodes import sequenceOfImages

        withModel.ui.inputSelector.setCurrentNode(sequenceOfImages(database)[1])
        withModel.ui.framesBox.setCurrentIndex(1)
        settle()
        assert line(withModel, "segmentWhy") == ""

    def test_a_cine_of_one_slice_is_a_cine(self, withModel, database):
        from Testing.slicer.dicom_nodes import sequenceOfImages

        sequence, frame = sequenceOfImages(database, slices=1)
        withModel.ui.inputSelector.setCurrentNode(frame)
        settle()
        assert line(withModel, "segmentWhy") == ""
        assert shown(withModel, "framesBox")
        assert withModel.segment._input() is sequence

    def test_without_the_files_their_folder_is_asked_for(self, withModel, database, tmp_path):
        import shutil

        from Testing.slicer.dicom_nodes import stackedVolume

        shutil.rmtree(tmp_path / "series")
        withModel.ui.inputSelector.setCurrentNode(stackedVolume(database))
        settle()
        assert "does not know their files" in line(withModel, "segmentWhy")
        withModel.ui.openCineButton.click()
        assert list(menu(withModel.segment)) == ["4D file…", "DICOM folder…"]


def shownFrame(cine):
    """The volume that shows a frame of a cine, by a browser that is made here."""
    import slicer

    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.AddSynchronizedSequenceNode(cine)
    slicer.modules.sequences.logic().UpdateAllProxyNodes()
    return browser.GetProxyNode(cine)


def test_the_3d_view_is_centered_when_surfaces_are_shown(withModel, slicerQt, monkeypatch):
    from Testing.slicer.qt_standin.application import addLayout

    addLayout()
    centered = []
    monkeypatch.setattr(slicerQt.util, "resetThreeDViews", lambda: centered.append(True))
    _volume, segmentation = heart("scan")
    withModel.ui.show3DButton.setSegmentationNode(segmentation)
    withModel.ui.show3DButton.setChecked(True)
    settle()
    withModel.ui.show3DButton.setChecked(False)
    settle()
    assert centered == [True]
