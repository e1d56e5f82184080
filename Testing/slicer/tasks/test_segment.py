"""From nodes to a segment job and from its results to nodes, where they belong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

import vtk
from semicardiac.data.cases import Case
from semicardiac.images.labels import get_label_set
from semicardiac.images.volumes import read_series, stem
from semicardiac.jobs.job import load_job
from SemiCardiacSegLib.scene import sequences
from SemiCardiacSegLib.tasks.segment import Options, createSegmentJob, discard, loadResults, readResults

from Testing.slicer.engine_jobs import modelPackage
from Testing.slicer.scenes import (
    makeFolder,
    makeSequence,
    makeTransform,
    makeVolume,
    matrixOf,
    obliqueMatrix,
    saveAndReload,
)
from Testing.slicer.segmented import MATRIX, draw_heart, heartVolume, runHere

pytestmark = pytest.mark.usefixtures("scene")
ACDC = get_label_set("acdc")
PLAIN = Options(flips=False)
ALL = Options(flips=False, confidence=True, entropy=True, thresholdMap=True, pseudoLabels=True)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return modelPackage(tmp_path_factory.mktemp("model") / "package")


def segmented(model: Path, inputs, options: Options = PLAIN) -> Path:
    """The folder of a job that is done."""
    return runHere(createSegmentJob(None, model, inputs, options))


def labelsOf(segmentationNode, volumeNode) -> np.ndarray:
    """Training labels of a result, read by Slicer itself."""
    labels = np.zeros(slicer.util.arrayFromVolume(volumeNode).shape, np.uint8)
    for label, structure in enumerate(ACDC.structures, start=1):
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, structure.key, volumeNode)
        if mask is not None:
            labels[mask > 0] = label
    return labels


def fileOf(folder: Path, kind: str, index: int = 0) -> np.ndarray:
    """What a result file holds, read by SimpleITK alone."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(readResults(folder)[index].files[kind])))


def placesOf(labels: np.ndarray, matrix: np.ndarray) -> set[tuple]:
    """Where in RAS each labeled voxel lies, to 0.01 mm."""
    k, j, i = np.nonzero(labels)
    ras = (matrix @ np.array([i, j, k, np.ones_like(i)]))[:3].T
    return {(*np.round(point, 2) + 0.0, int(label)) for point, label in zip(ras, labels[k, j, i], strict=True)}


def cineOf(frames: int = 3):
    return sequences.newCine(
        "cine", [draw_heart(seed)[0] for seed in range(frames)], MATRIX, [0.1 * frame for frame in range(frames)]
    )


class TestCreate:
    def test_voxels_and_place_of_an_oblique_volume_are_exact(self, model):
        folder = createSegmentJob(None, model, heartVolume(), PLAIN)
        image = sitk.ReadImage(str(load_job(folder).inputs[0]))
        assert np.array_equal(sitk.GetArrayFromImage(image), draw_heart(1)[0])
        axes = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        np.testing.assert_allclose(axes, (RAS_TO_LPS @ MATRIX)[:3, :3], atol=1e-6)
        np.testing.assert_allclose(image.GetOrigin(), (RAS_TO_LPS @ MATRIX)[:3, 3], atol=1e-6)

    def test_options_reach_the_engine(self, model, tmp_path):
        options = Options("cpu", False, confidence=True, entropy=False, thresholdMap=True, pseudoLabels=True)
        job = load_job(createSegmentJob(tmp_path / "job", model, heartVolume(), options))
        assert (job.device, job.flips, job.confidence, job.entropy) == ("cpu", False, True, False)
        assert (job.threshold, job.pseudo_labels) == (True, True)
        assert job.model == model
        assert job.out == tmp_path / "job" / "results"

    def test_a_cine_becomes_a_time_series(self, model):
        folder = createSegmentJob(None, model, cineOf(), PLAIN)
        frames = read_series(load_job(folder).inputs[0])
        assert len(frames) == 3
        assert all(np.array_equal(frame.array, draw_heart(seed)[0]) for seed, frame in enumerate(frames))
        assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, 0.2])

    def test_names_of_nodes_make_files_that_do_not_collide(self, model):
        names = ["scan", "Scan", "心", "scan.seq", "a/b:c*", "scan.seg", "x" * 200]
        folder = createSegmentJob(None, model, [heartVolume(name) for name in names], PLAIN)
        manifest = json.loads((folder / "scene.json").read_text(encoding="utf-8"))
        assert [entry["title"] for entry in manifest["inputs"]] == names
        stems = [stem(path) for path in load_job(folder).inputs]
        assert stems == [entry["name"] for entry in manifest["inputs"]]
        assert len({name.lower() for name in stems}) == len(names)
        assert all(name.isascii() and len(name) < 80 for name in stems)

    def test_a_case_is_segmented_where_it_lies(self, model, tmp_path):
        sitk.WriteImage(sitk.GetImageFromArray(draw_heart(1)[0]), str(tmp_path / "scan_1.nrrd"))
        cases = [Case(name="scan_1", patient="a", image=tmp_path / "scan_1.nrrd")]
        assert load_job(createSegmentJob(None, model, cases, PLAIN)).inputs == (tmp_path / "scan_1.nrrd",)

    def test_a_folder_of_the_users_is_left_alone(self, model, tmp_path):
        (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
        with pytest.raises(ValueError, match="not empty"):
            createSegmentJob(tmp_path, model, heartVolume(), PLAIN)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_bad_inputs_are_told_and_nothing_is_written(self, model, tmp_path, scene):
        empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        vector = slicer.util.addVolumeFromArray(
            np.zeros((2, 3, 4, 3), np.uint8), None, "colors", "vtkMRMLVectorVolumeNode"
        )
        uneven = makeSequence([draw_heart(1)[0]], MATRIX, "uneven")
        uneven.SetDataNodeAtValue(makeVolume("other", draw_heart(1)[0], obliqueMatrix(7)), "1")
        inputs = {
            "nothing to segment": [],
            "no volume": None,
            "'empty' has no image data": empty,
            "'colors' holds 3 numbers": vector,
            "Frame 2 of 'uneven' lies on another grid": uneven,
        }
        for message, each in inputs.items():
            with pytest.raises(ValueError, match=message):
                createSegmentJob(tmp_path / "job", model, each, PLAIN)
            assert not (tmp_path / "job").exists()

    def test_a_model_that_is_none_or_damaged_is_told(self, tmp_path):
        volume = heartVolume()
        with pytest.raises(ValueError, match="no such model"):
            createSegmentJob(tmp_path / "job", tmp_path / "nowhere", volume, PLAIN)
        damaged = modelPackage(tmp_path / "damaged")
        (damaged / "model.safetensors").write_bytes(b"damaged")
        with pytest.raises(ValueError, match=r"model\.safetensors is not what it was"):
            createSegmentJob(tmp_path / "job", damaged, volume, PLAIN)
        assert not (tmp_path / "job").exists()

    def test_a_failure_halfway_leaves_no_job(self, model, tmp_path):
        (tmp_path / "empty").mkdir()
        missing = Case(name="b", patient="b", image=tmp_path / "gone.nrrd")
        for name in ("new", "empty"):
            with pytest.raises(ValueError, match=r"gone\.nrrd"):
                createSegmentJob(tmp_path / name, model, [heartVolume(), missing], PLAIN)
        assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["empty"]
        temporary = Path(slicer.app.temporaryPath)
        before = set(temporary.iterdir())
        with pytest.raises(ValueError, match=r"gone\.nrrd"):
            createSegmentJob(None, model, [heartVolume(), missing], PLAIN)
        assert set(temporary.iterdir()) == before


class TestLoad:
    def test_labels_are_those_of_the_file_on_the_volume(self, model):
        volume = heartVolume()
        folder = segmented(model, volume)
        (node,) = loadResults(folder)
        expected = fileOf(folder, "segmentation")
        assert set(np.unique(expected)) == {0, 1, 2, 3}
        assert np.array_equal(labelsOf(node, volume), expected)
        assert node.GetName() == "scan SemiCardiacSeg"

    def test_it_is_drawn_on_the_volume_in_its_folder(self, model):
        volume = heartVolume()
        place = makeFolder("patient001", [volume])
        (node,) = loadResults(segmented(model, volume))
        assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == place
        geometry = node.GetSegmentation().GetConversionParameter("Reference image geometry")
        image = slicer.vtkOrientedImageData()
        assert slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, image)
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), MATRIX, atol=1e-6)
        assert image.GetDimensions() == volume.GetImageData().GetDimensions()

    def test_a_second_run_does_not_touch_the_first(self, model):
        volume = heartVolume()
        folder = segmented(model, volume)
        (first,) = loadResults(folder)
        before = labelsOf(first, volume)
        (second,) = loadResults(folder)
        assert second.GetName() == "scan SemiCardiacSeg 2"
        assert np.array_equal(labelsOf(first, volume), before)

    def test_maps_and_pseudo_labels_come_after_the_segmentations(self, model):
        volumes = [heartVolume("one", 1), heartVolume("two", 2)]
        folder = segmented(model, volumes, ALL)
        nodes = loadResults(folder)
        assert [node.GetName() for node in nodes[:2]] == ["one SemiCardiacSeg", "two SemiCardiacSeg"]
        byName = {node.GetName(): node for node in nodes}
        assert len(byName) == 10
        for index, volume in enumerate(volumes):
            name = f"{volume.GetName()} SemiCardiacSeg"
            for kind, title in (("confidence", "confidence"), ("entropy", "entropy"), ("threshold", "threshold map")):
                node = byName[f"{name} {title}"]
                assert np.array_equal(slicer.util.arrayFromVolume(node), fileOf(folder, kind, index))
                np.testing.assert_allclose(matrixOf(node), MATRIX, atol=1e-9)
            pseudo = byName[f"{name} pseudo-labels"]
            assert np.array_equal(labelsOf(pseudo, volume), fileOf(folder, "pseudo_labels", index))

    @pytest.mark.parametrize(("least", "darkest"), [(0.96, 0.9), (0.34, 0.3), (1.0, 0.9)])
    def test_thresholds_are_shown_from_the_tenth_below_their_least_to_one(self, model, least: float, darkest: float):
        volume = heartVolume()
        folder = segmented(model, volume, Options(flips=False, entropy=True, thresholdMap=True))
        thresholds = np.zeros_like(fileOf(folder, "threshold"))
        thresholds[:, 5:9] = least
        thresholds[:, 6:7] = 0.999
        path = readResults(folder)[0].files["threshold"]
        image = sitk.ReadImage(str(path))
        changed = sitk.GetImageFromArray(thresholds)
        changed.CopyInformation(image)
        sitk.WriteImage(changed, str(path))
        _segmentation, entropy, shown = loadResults(folder)
        for node, lowest in ((entropy, 0.0), (shown, darkest)):
            display = node.GetDisplayNode()
            assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((lowest, 1.0))

    def test_maps_let_the_image_through_where_the_model_is_sure_and_have_a_legend(self, model):
        volume = heartVolume()
        nodes = loadResults(segmented(model, volume, Options(flips=False, confidence=True, entropy=True)))
        for node, (low, high) in zip(nodes[1:], ((0.0, 0.99), (0.02, 1.0)), strict=True):
            display = node.GetDisplayNode()
            assert display.GetApplyThreshold()
            assert (display.GetLowerThreshold(), display.GetUpperThreshold()) == pytest.approx((low, high))
            assert slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node) is not None

    def test_results_lie_under_the_transform_of_the_volume(self, model):
        volume = heartVolume()
        transform = makeTransform()
        volume.SetAndObserveTransformNodeID(transform.GetID())
        nodes = loadResults(segmented(model, volume, Options(flips=False, entropy=True)))
        assert [node.GetParentTransformNode() for node in nodes] == [transform, transform]

    def test_a_cine_gets_a_segmentation_for_each_frame(self, model):
        cine = cineOf()
        folder = segmented(model, cine, Options(flips=False, entropy=True))
        segmentation, entropy = loadResults(folder)
        assert segmentation.GetName() == "cine SemiCardiacSeg"
        browser = sequences.browserOf(cine)
        assert sequences.browserOf(segmentation) is browser
        for frame in (0, 2, 1):
            browser.SetSelectedItemNumber(frame)
            slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
            labels = labelsOf(sequences.shownBy(segmentation), sequences.shownBy(cine))
            assert np.array_equal(labels, fileOf(folder, "segmentation")[frame])
            shown = slicer.util.arrayFromVolume(sequences.shownBy(entropy))
            assert np.array_equal(shown, fileOf(folder, "entropy")[frame])

    def test_only_what_is_named(self, model):
        folder = segmented(model, [heartVolume("one"), heartVolume("two", 2)], Options(flips=False, entropy=True))
        assert [node.GetName() for node in loadResults(folder, ["two"], ["segmentation"])] == ["two SemiCardiacSeg"]

    def test_results_are_marked_as_such(self, model):
        nodes = loadResults(segmented(model, heartVolume(), Options(flips=False, entropy=True)))
        assert [node.GetAttribute("SemiCardiacSeg.Result") for node in nodes] == ["segmentation", "entropy"]


class TestSavedScene:
    def test_a_result_comes_back_with_names_colors_and_codes(self, model, tmp_path):
        volume = heartVolume()
        folder = segmented(model, volume)
        (node,) = loadResults(folder)
        expected = placesOf(fileOf(folder, "segmentation"), MATRIX)
        nodeId, volumeId = node.GetID(), volume.GetID()
        saveAndReload(tmp_path / "scene.mrb")
        node, volume = (slicer.mrmlScene.GetNodeByID(each) for each in (nodeId, volumeId))
        assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
        assert placesOf(labelsOf(node, volume), matrixOf(volume)) == expected
        for structure in ACDC.structures:
            segment = node.GetSegmentation().GetSegment(structure.key)
            assert segment.GetName() == structure.name
            assert segment.GetColor() == pytest.approx([channel / 255 for channel in structure.color], abs=1e-3)
            assert segment.GetTerminology() == structure.terminology

    def test_results_find_the_volumes_of_a_scene_that_was_opened_again(self, model, tmp_path):
        volume, cine = heartVolume(), cineOf(2)
        folder = segmented(model, [volume, cine])
        volumeId = volume.GetID()
        saveAndReload(tmp_path / "scene.mrb")
        node, _cineSegmentation = loadResults(folder)
        volume = slicer.mrmlScene.GetNodeByID(volumeId)
        expected = placesOf(fileOf(folder, "segmentation"), MATRIX)
        assert placesOf(labelsOf(node, volume), matrixOf(volume)) == expected


class TestDiscard:
    def test_a_temporary_job_is_deleted_and_its_results_stay(self, model):
        volume = heartVolume()
        folder = segmented(model, volume)
        (node,) = loadResults(folder)
        before = labelsOf(node, volume)
        assert folder.parent == Path(slicer.app.temporaryPath)
        discard(folder)
        assert not folder.exists()
        assert np.array_equal(labelsOf(node, volume), before)

    def test_what_somebody_chose_or_copied_stays(self, model, tmp_path):
        chosen = createSegmentJob(tmp_path / "chosen", model, heartVolume(), PLAIN)
        temporary = createSegmentJob(None, model, heartVolume(), PLAIN)
        copy = Path(shutil.copytree(temporary, tmp_path / "copy"))
        for folder in (chosen, copy, tmp_path, tmp_path / "nowhere"):
            discard(folder)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["chosen", "copy"]
        assert (copy / "job.json").exists()
        assert (chosen / "job.json").exists()


class TestTrouble:
    def unchanged(self, folder: Path, message: str, names=None) -> None:
        """Loading fails with this message, and leaves the scene as it was."""
        items = _items()
        nodes = slicer.mrmlScene.GetNumberOfNodes()
        with pytest.raises(ValueError, match=message):
            loadResults(folder, names)
        assert slicer.mrmlScene.GetNumberOfNodes() == nodes
        assert _items() == items

    def test_a_deleted_volume_is_told_and_the_others_can_still_be_loaded(self, model):
        volumes = [heartVolume("kept"), heartVolume("deleted", 2)]
        folder = segmented(model, volumes)
        slicer.mrmlScene.RemoveNode(volumes[1])
        self.unchanged(folder, "'deleted' is no longer in the scene")
        assert [node.GetName() for node in loadResults(folder, ["kept"])] == ["kept SemiCardiacSeg"]

    def test_a_closed_scene_is_told(self, model):
        folder = segmented(model, heartVolume())
        slicer.mrmlScene.Clear(False)
        self.unchanged(folder, "'scan' is no longer in the scene")

    def test_a_volume_that_lost_its_image_is_told(self, model):
        volume = heartVolume()
        folder = segmented(model, volume)
        volume.SetAndObserveImageData(None)
        self.unchanged(folder, "'scan' has no image data")

    @pytest.mark.parametrize("change", ["voxels", "place", "size"])
    def test_a_changed_volume_is_told(self, model, change):
        volume = heartVolume()
        folder = segmented(model, volume)
        if change == "voxels":
            slicer.util.arrayFromVolume(volume)[0, 0, 0] += 1
        elif change == "place":
            volume.SetOrigin(0, 0, 0)
        else:
            slicer.util.updateVolumeFromArray(volume, draw_heart(1)[0][:-1])
        self.unchanged(folder, "'scan' is not what it was")

    def test_a_changed_cine_is_told(self, model):
        cine = cineOf()
        folder = segmented(model, cine)
        cine.RemoveDataNodeAtValue(cine.GetNthIndexValue(2))
        self.unchanged(folder, "'cine' is not what it was")

    def test_a_result_that_cannot_be_read_takes_the_others_back(self, model):
        inputs = [heartVolume("one"), cineOf()]
        makeFolder("patient001", [inputs[0], sequences.shownBy(inputs[1])])
        folder = segmented(model, inputs, Options(flips=False, entropy=True))
        path = readResults(folder)[1].files["entropy"]
        path.write_bytes(path.read_bytes()[:500])
        self.unchanged(folder, path.name)

    def test_an_unfinished_job_is_told(self, model):
        self.unchanged(createSegmentJob(None, model, heartVolume(), PLAIN), "Nothing is segmented in")

    def test_another_folder_is_told(self, tmp_path):
        self.unchanged(tmp_path, r"holds no file scene\.json")


def _items() -> int:
    return slicer.mrmlScene.GetSubjectHierarchyNode().GetNumberOfItems()


class TestSteps:
    """The window lives while results come: `tick` is called after each frame that is compared, read and shown."""

    def test_each_frame_is_a_step_and_the_image_is_not_read_again(self, model, scene):
        cine = cineOf(4)
        folder = segmented(model, cine)
        readResults(folder)[0].image.unlink()
        before, steps = scene.GetNumberOfNodes(), []
        loadResults(folder, tick=lambda: steps.append(scene.GetNumberOfNodes() == before))
        assert steps.count(True) >= 2 * 4  # compared and read, before anything is added
        assert steps.count(False) >= 4

    def test_a_voxel_of_a_frame_in_the_middle_is_seen_to_have_changed(self, model, scene):
        cine = cineOf(4)
        folder = segmented(model, cine)
        frame, before = cine.GetNthDataNode(2), scene.GetNumberOfNodes()
        slicer.util.arrayFromVolume(frame)[1, 2, 3] += 1
        with pytest.raises(ValueError, match="'cine' is not what it was when it was segmented"):
            loadResults(folder)
        slicer.util.arrayFromVolume(frame)[1, 2, 3] -= 1
        cine.RemoveDataNodeAtValue(cine.GetNthIndexValue(3))
        with pytest.raises(ValueError, match="is not what it was"):
            loadResults(folder)
        assert scene.GetNumberOfNodes() == before
