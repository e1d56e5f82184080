"""Which cases the model is least sure of, and how corrected ones become labeled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

from SemiCardiacSegLib.scene import sequences
from SemiCardiacSegLib.table.case_table import DataSet
from SemiCardiacSegLib.table.export import writeCases
from SemiCardiacSegLib.tasks import review
from SemiCardiacSegLib.tasks.segment import readResults

from Testing.engine.support import draw_heart
from Testing.slicer.engine_jobs import modelPackage
from Testing.slicer.scenes import makeSegmentation, makeVolume, obliqueMatrix, saveAndReload
from Testing.slicer.segmented import MATRIX, heartVolume, runHere

SPACING = (8.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return modelPackage(tmp_path_factory.mktemp("model") / "package")


@pytest.fixture
def dataSet(scene):
    return DataSet(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "SemiCardiacSeg"))


def reviewed(dataSet, model: Path, folder: Path) -> Path:
    """The folder of a review job that is done."""
    return runHere(review.createReviewJob(dataSet, model, folder, device="cpu"))


def writeHeart(path: Path, seed: int) -> Path:
    image = sitk.GetImageFromArray(draw_heart(seed)[0])
    image.SetSpacing(SPACING[::-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def cineOf(frames: int):
    arrays = [draw_heart(seed)[0] for seed in range(frames)]
    return sequences.newCine("cine", arrays, MATRIX, [0.1 * frame for frame in range(frames)])


class TestMeanEntropy:
    def test_is_taken_in_the_heart_and_a_little_around_it(self):
        entropy = np.zeros((5, 20, 20))
        heart = np.zeros(entropy.shape, bool)
        heart[2, 10, 10] = True
        entropy[2, 10, 10] = 0.5
        entropy[2, 10, 15] = 0.7  # 10 mm away
        entropy[3, 10, 10] = 0.3  # 8 mm
        entropy[2, 10, 16] = 0.9  # 12 mm: elsewhere
        entropy[0] = 0.9  # 16 mm
        slices, rows, cols = np.mgrid[:5, :20, :20]
        away = np.sqrt(((slices - 2) * 8.0) ** 2 + ((rows - 10) * 2.0) ** 2 + ((cols - 10) * 2.0) ** 2)
        near = away <= review.MARGIN_MM
        assert review.meanEntropy(entropy, heart, SPACING) == pytest.approx(1.5 / near.sum())

    def test_is_cut_at_the_edge_of_the_volume(self):
        heart = np.zeros((2, 4, 4), bool)
        heart[0, 0, 0] = True
        assert review.meanEntropy(np.full(heart.shape, 0.25), heart, SPACING) == pytest.approx(0.25)

    def test_no_heart_is_the_worst(self):
        assert review.meanEntropy(np.zeros((2, 4, 4)), np.zeros((2, 4, 4), bool), SPACING) == 1.0


class TestUncertainties:
    def test_the_least_sure_come_first(self, dataSet, model, tmp_path):
        rows = {dataSet.addVolume(heartVolume(f"scan {seed}", seed)).key: seed for seed in range(5)}
        folder = reviewed(dataSet, model, tmp_path / "review")
        expected = {}
        for result in readResults(folder):
            entropy, labels = (
                sitk.GetArrayFromImage(sitk.ReadImage(str(result.files[kind]))) for kind in ("entropy", "segmentation")
            )
            expected[result.key] = review.meanEntropy(entropy, labels > 0, SPACING)
        found = review.uncertainties(dataSet, folder)
        assert [each.key for each in found] == sorted(rows, key=lambda key: -expected[key])
        assert [each.name for each in found] == [f"scan {rows[each.key]}" for each in found]
        assert [each.uncertainty for each in found] == pytest.approx(sorted(expected.values(), reverse=True), rel=1e-5)
        assert len({each.uncertainty for each in found}) == 5

    def test_labeled_and_ignored_cases_are_not_segmented(self, dataSet, model, tmp_path):
        volumes = [heartVolume(name) for name in ("labeled", "ignored", "unlabeled")]
        dataSet.addVolume(volumes[0], makeSegmentation(volumes[0], {"LV": draw_heart(1)[1] == 3}))
        dataSet.addVolume(volumes[1], role="ignore")
        dataSet.addVolume(volumes[2])
        folder = reviewed(dataSet, model, tmp_path / "review")
        assert [each.title for each in readResults(folder)] == ["unlabeled"]

    def test_frames_files_and_pools_are_cases_each(self, dataSet, model, tmp_path):
        (sequence,) = [dataSet.addSequence(cineOf(2))]
        (file,) = dataSet.addPaths([writeHeart(tmp_path / "one" / "alone.nrrd", 5)])
        for number in range(21):
            writeHeart(tmp_path / "pool" / f"patient{number:03d}" / "image.nrrd", number)  # the same name each time
        (pool,) = dataSet.addPaths([tmp_path / "pool"])
        assert pool.kind == "pool"
        folder = reviewed(dataSet, model, tmp_path / "review")
        found = {each.key: each.name for each in review.uncertainties(dataSet, folder)}
        frames = {f"{sequence.key}/0": "cine frame 1", f"{sequence.key}/1": "cine frame 2"}
        assert found.items() >= {**frames, file.key: "alone"}.items()
        assert len([key for key in found if key.startswith(f"{pool.key}/")]) == 21

    def test_cases_that_left_the_table_are_left_out(self, dataSet, model, tmp_path):
        rows = [dataSet.addVolume(heartVolume(name, seed)) for seed, name in enumerate(("a", "b", "c"))]
        folder = reviewed(dataSet, model, tmp_path / "review")
        dataSet.remove([rows[0].key])
        dataSet.setRole([rows[1].key], "ignore")
        assert [each.name for each in review.uncertainties(dataSet, folder)] == ["c"]

    def test_mistakes_are_told(self, dataSet, model, tmp_path):
        with pytest.raises(ValueError, match="no unlabeled cases"):
            review.createReviewJob(dataSet, model, tmp_path / "review")
        volume = heartVolume()
        dataSet.addVolume(volume)
        dataSet.setLabelSet("mmwhs")
        with pytest.raises(ValueError, match="The model segments RV cavity"):
            review.createReviewJob(dataSet, model, tmp_path / "review")
        dataSet.setLabelSet("acdc")
        slicer.mrmlScene.RemoveNode(volume)
        with pytest.raises(ValueError, match="scan: The volume 'scan' was deleted"):
            review.createReviewJob(dataSet, model, tmp_path / "review")
        assert not (tmp_path / "review").exists()


class TestSegmentationToCorrect:
    def test_of_a_volume_lies_on_it_and_is_loaded_once(self, dataSet, model, tmp_path):
        volume = heartVolume()
        key = dataSet.addVolume(volume).key
        folder = reviewed(dataSet, model, tmp_path / "review")
        node = review.reviewSegmentation(dataSet, folder, key)
        assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
        assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 1
        assert review.reviewSegmentation(dataSet, folder, key) is node

    def test_of_a_frame_brings_the_frame_as_a_volume(self, dataSet, model, tmp_path):
        key = dataSet.addSequence(cineOf(3)).key
        folder = reviewed(dataSet, model, tmp_path / "review")
        node = review.reviewSegmentation(dataSet, folder, f"{key}/2")
        volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
        assert volume.GetName() == "cine frame 3"
        assert np.array_equal(slicer.util.arrayFromVolume(volume), draw_heart(2)[0])

    def test_of_a_deleted_volume_is_told_and_leaves_nothing(self, dataSet, model, tmp_path):
        volume = heartVolume()
        key = dataSet.addVolume(volume).key
        folder = reviewed(dataSet, model, tmp_path / "review")
        slicer.mrmlScene.RemoveNode(volume)
        with pytest.raises(ValueError, match="'scan' is no longer in the scene"):
            review.reviewSegmentation(dataSet, folder, key)
        assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


class TestAccept:
    def test_a_volume_becomes_labeled_with_the_segmentation(self, dataSet, model, tmp_path):
        volume = heartVolume()
        key = dataSet.addVolume(volume, patient="anna", phase="ES").key
        folder = reviewed(dataSet, model, tmp_path / "review")
        node = review.reviewSegmentation(dataSet, folder, key)
        row = review.accept(dataSet, key, node)
        assert (row.key, row.role, row.patient, row.phase) == (key, "labeled", "anna", "ES")
        assert row.segmentationNode is node
        assert review.uncertainties(dataSet, folder) == []

    def test_it_counts_as_a_persons_work_from_then_on(self, dataSet, model, tmp_path):
        volume = heartVolume()
        key = dataSet.addVolume(volume).key
        node = review.reviewSegmentation(dataSet, reviewed(dataSet, model, tmp_path / "review"), key)
        review.accept(dataSet, key, node)
        dataSet.remove([key])
        (row,) = dataSet.addScene()
        assert row.segmentationNode is node

    def test_a_frame_becomes_a_case_of_its_own_and_is_not_asked_for_again(self, dataSet, model, tmp_path):
        sequence = dataSet.addSequence(cineOf(3))
        dataSet.setPatient(sequence.key, "anna")
        folder = reviewed(dataSet, model, tmp_path / "review")
        key = f"{sequence.key}/1"
        row = review.accept(dataSet, key, review.reviewSegmentation(dataSet, folder, key))
        assert (row.name, row.kind, row.role, row.patient) == ("cine frame 2", "volume", "labeled", "anna")
        assert dataSet.row(sequence.key).role == "unlabeled"
        assert dataSet.summary() == "1 labeled (1 patient), 2 unlabeled"
        cases = writeCases(dataSet, tmp_path / "training")
        assert [case.name for case in cases] == ["cine_frame01", "cine_frame03", "cine_frame_2"]  # no image twice
        assert {each.key for each in review.uncertainties(dataSet, folder)} == {
            f"{sequence.key}/0", f"{sequence.key}/2"
        }  # fmt: skip

    def test_a_file_gives_its_place_to_the_volume(self, dataSet, model, tmp_path):
        (file,) = dataSet.addPaths([writeHeart(tmp_path / "one" / "patient007_frame01.nrrd", 5)])
        folder = reviewed(dataSet, model, tmp_path / "review")
        row = review.accept(dataSet, file.key, review.reviewSegmentation(dataSet, folder, file.key))
        assert [(each.kind, each.role, each.patient) for each in dataSet.rows()] == [
            ("volume", "labeled", "patient007")
        ]
        np.testing.assert_allclose(slicer.util.arrayFromVolume(row.volumeNode), draw_heart(5)[0])

    def test_a_case_of_a_pool_keeps_its_patient(self, dataSet, model, tmp_path):
        for number in range(21):
            writeHeart(tmp_path / "pool" / f"patient{number:03d}" / f"patient{number:03d}_frame01.nrrd", number)
        dataSet.addPaths([tmp_path / "pool"])
        folder = reviewed(dataSet, model, tmp_path / "review")
        key = next(e.key for e in review.uncertainties(dataSet, folder) if e.name == "patient013_frame01")
        row = review.accept(dataSet, key, review.reviewSegmentation(dataSet, folder, key))
        assert (row.patient, row.role) == ("patient013", "labeled")
        assert dataSet.summary() == "1 labeled (1 patient), 20 unlabeled"
        cases = writeCases(dataSet, tmp_path / "training")
        assert sorted(case.patient for case in cases) == [f"patient{number:03d}" for number in range(21)]
        dataSet.remove([row.key])  # then it is one of the pool again
        assert dataSet.summary() == "0 labeled, 21 unlabeled"
        np.testing.assert_allclose(slicer.util.arrayFromVolume(row.volumeNode), draw_heart(13)[0])

    def test_the_corrected_labels_are_what_is_trained_on(self, dataSet, model, tmp_path):
        volume = heartVolume()
        key = dataSet.addVolume(volume).key
        node = review.reviewSegmentation(dataSet, reviewed(dataSet, model, tmp_path / "review"), key)
        corrected = np.zeros((6, 40, 40), np.uint8)
        corrected[1:4, 10:20, 12:22] = 1
        for structure in ("RV_cavity", "LV_myocardium"):
            slicer.util.updateSegmentBinaryLabelmapFromArray(np.zeros_like(corrected), node, structure, volume)
        slicer.util.updateSegmentBinaryLabelmapFromArray(corrected, node, "LV_cavity", volume)
        review.accept(dataSet, key, node)
        (case,) = writeCases(dataSet, tmp_path / "training")
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(case.labels))), corrected * 3)

    def test_what_was_accepted_is_known_after_the_scene_was_opened_again(self, dataSet, model, tmp_path):
        sequence = dataSet.addSequence(cineOf(2))
        folder = reviewed(dataSet, model, tmp_path / "review")
        key = f"{sequence.key}/0"
        review.accept(dataSet, key, review.reviewSegmentation(dataSet, folder, key))
        nodeId = dataSet.parameterNode.GetID()
        saveAndReload(tmp_path / "scene.mrb")
        again = DataSet(slicer.mrmlScene.GetNodeByID(nodeId))
        assert [each.key for each in review.uncertainties(again, folder)] == [f"{sequence.key}/1"]

    @pytest.mark.parametrize("role", ["labeled", "validation", "ignore"])
    def test_only_unlabeled_cases_are_accepted(self, dataSet, role):
        """A case of the validation that is trained on would make it look better than it is."""
        volume = heartVolume()
        first, second = (makeSegmentation(volume, {"LV": draw_heart(1)[1] == 3}) for _ in range(2))
        row = dataSet.addVolume(volume, first, role=role)
        with pytest.raises(ValueError, match=f"The role of 'scan' is {role}, .* Change its role in the table first"):
            review.accept(dataSet, row.key, second)
        assert dataSet.row(row.key) == row

    def test_mistakes_are_told_and_change_nothing(self, dataSet):
        volume = heartVolume()
        key = dataSet.addVolume(volume).key
        empty = makeSegmentation(volume, {"LV": draw_heart(1)[1] == 99}, "empty")
        foreign = makeSegmentation(volume, {"liver": draw_heart(1)[1] == 3}, "foreign")
        other = makeVolume("other", draw_heart(1)[0], obliqueMatrix(9))
        elsewhere = makeSegmentation(other, {"LV": draw_heart(1)[1] == 3}, "elsewhere")
        mistakes = {
            "no segmentation to accept": None,
            "'empty' is empty": empty,
            "No segment of 'foreign'": foreign,
            "'elsewhere' lies on another grid": elsewhere,
        }
        for message, node in mistakes.items():
            with pytest.raises(ValueError, match=message):
                review.accept(dataSet, key, node)
            assert (dataSet.row(key).role, dataSet.row(key).segmentationNode) == ("unlabeled", None)
        with pytest.raises(ValueError, match="no case 'case99'"):
            review.accept(dataSet, "case99", empty)
