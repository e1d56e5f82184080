"""What is told of the cases before a training, and what is done about it on request."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

import vtk
from semicardiac.images.labels import get_label_set
from SemiCardiacSegLib.scene.segmentations import getLabels
from SemiCardiacSegLib.table.case_table import DataSet
from vtk.util.numpy_support import vtk_to_numpy

from Testing.slicer.datasets import makeDataSet, writeImage
from Testing.slicer.scenes import (
    SHAPE,
    heartLabels,
    makeHeartSegmentation,
    makeSegmentation,
    makeSequence,
    makeTransform,
    makeVolume,
    obliqueMatrix,
)

pytestmark = pytest.mark.usefixtures("scene")
ACDC = get_label_set("acdc")


@pytest.fixture
def dataSet(scene) -> DataSet:
    return makeDataSet()


def told(dataSet: DataSet, row) -> list[tuple[str, str | None]]:
    """Level and fix of the problems of a row as it is now."""
    return [(problem.level, problem.fix) for problem in dataSet.problems(dataSet.row(row.key))]


def texts(dataSet: DataSet, row) -> str:
    return "\n".join(problem.text for problem in dataSet.problems(dataSet.row(row.key)))


def labelsOf(dataSet: DataSet, row) -> np.ndarray:
    return getLabels(row.segmentationNode, row.volumeNode, dataSet.mapping(row.key), dataSet.labelSet())


class TestSoundCases:
    def test_labeled_volume(self, dataSet):
        volume = makeVolume()
        assert dataSet.problems(dataSet.addVolume(volume, makeHeartSegmentation(volume))) == []

    def test_unlabeled_volume_and_sequence(self, dataSet):
        assert dataSet.problems(dataSet.addVolume(makeVolume())) == []
        assert dataSet.problems(dataSet.addSequence(makeSequence([np.zeros((2, 3, 4))]))) == []

    def test_label_map(self, dataSet):
        labels = slicer.util.addVolumeFromArray(
            heartLabels(), obliqueMatrix(0), nodeClassName="vtkMRMLLabelMapVolumeNode"
        )
        assert dataSet.problems(dataSet.addVolume(makeVolume(), labels)) == []

    def test_ignored_cases_are_not_looked_at(self, dataSet, scene):
        row = dataSet.addVolume(makeVolume(), role="ignore")
        scene.RemoveNode(row.volumeNode)
        assert told(dataSet, row) == []

    def test_labels_of_unlabeled_cases_are_not_looked_at(self, dataSet):
        volume = makeVolume()
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        assert dataSet.problems(dataSet.addVolume(volume, empty, role="unlabeled")) == []


class TestVolumes:
    def test_image_data_that_is_gone(self, dataSet):
        row = dataSet.addVolume(makeVolume("a"))
        row.volumeNode.SetAndObserveImageData(None)
        assert told(dataSet, row) == [("error", None)]
        assert "'a' has no image data. Load it again" in texts(dataSet, row)
        assert dataSet.row(row.key).sizeText == ""

    def test_single_slice(self, dataSet):
        row = dataSet.addVolume(makeVolume("a", np.arange(120, dtype=np.int16).reshape(1, 12, 10)))
        assert told(dataSet, row) == [("warning", None)]
        assert "a single slice" in texts(dataSet, row)

    def test_frame_of_a_sequence_that_is_no_image(self, dataSet, scene):
        sequence = makeSequence([np.zeros((2, 3, 4))])
        sequence.SetDataNodeAtValue(slicer.vtkMRMLScalarVolumeNode(), "9")
        row = dataSet.addSequence(sequence)
        assert told(dataSet, row) == [("error", None)]
        assert texts(dataSet, row).startswith("Frame 2: The volume ")

    @pytest.mark.parametrize("role", ["labeled", "validation"])
    def test_sequences_have_no_labels(self, dataSet, role):
        row = dataSet.addSequence(makeSequence([np.zeros((2, 3, 4))]))
        dataSet.setRole([row.key], role)
        assert told(dataSet, row) == [("error", None)]
        assert f"The role is {role}, but there are no labels" in texts(dataSet, row)

    @pytest.mark.parametrize("role", ["labeled", "validation"])
    def test_labeled_without_segmentation(self, dataSet, role):
        row = dataSet.addVolume(makeVolume(), role=role)
        assert told(dataSet, row) == [("error", None)]
        assert f"The role is {role}, but there is no segmentation. Choose one" in texts(dataSet, row)


class TestFiles:
    def test_missing_files(self, dataSet, tmp_path):
        writeImage(tmp_path / "a.nrrd")
        writeImage(tmp_path / "a_gt.nrrd", heartLabels())
        (row,) = dataSet.addPaths([tmp_path])
        assert told(dataSet, row) == []
        (tmp_path / "a_gt.nrrd").unlink()
        assert told(dataSet, row) == [("error", None)]
        assert f"{tmp_path / 'a_gt.nrrd'} is missing. Bring it back" in texts(dataSet, row)

    def test_missing_pool(self, dataSet, tmp_path):
        for index in range(21):
            writeImage(tmp_path / "pool" / f"{index}.nrrd")
        (row,) = dataSet.addPaths([tmp_path / "pool"])
        assert told(dataSet, row) == []
        (tmp_path / "pool").rename(tmp_path / "moved")
        assert told(dataSet, row) == [("error", None)]

    def test_labeled_without_labels(self, dataSet, tmp_path):
        writeImage(tmp_path / "a.nrrd")
        (row,) = dataSet.addPaths([tmp_path])
        dataSet.setRole([row.key], "labeled")
        assert told(dataSet, row) == [("error", None)]


class TestSegmentations:
    def test_no_segments(self, dataSet, scene):
        row = dataSet.addVolume(makeVolume(), scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "nothing"))
        assert told(dataSet, row) == [("error", None)]
        assert "'nothing' has no segments. Draw them" in texts(dataSet, row)

    def test_no_voxels(self, dataSet):
        volume = makeVolume()
        row = dataSet.addVolume(volume, makeSegmentation(volume, {"LV": np.zeros(SHAPE), "RV": np.zeros(SHAPE)}))
        assert told(dataSet, row) == [("error", None)]
        assert "'segmentation' is empty" in texts(dataSet, row)

    def test_none_mapped(self, dataSet):
        volume = makeVolume()
        node = makeSegmentation(volume, {"Segment_1": heartLabels() == 3, "Segment_2": heartLabels() == 1})
        row = dataSet.addVolume(volume, node)
        assert told(dataSet, row) == [("error", "map")]
        assert "(Segment_1, Segment_2) is mapped to a structure (RV cavity, LV myocardium" in texts(dataSet, row)
        dataSet.setMapping(row.key, {"S0": "LV cavity", "S1": "RV cavity"})
        assert told(dataSet, row) == [("warning", "map")]
        assert "No segment stands for: LV myocardium." in texts(dataSet, row)

    def test_mending_the_map_forgets_what_was_said(self, dataSet):
        volume = makeVolume()
        row = dataSet.addVolume(volume, makeHeartSegmentation(volume))
        dataSet.setMapping(row.key, {"gone": "LV cavity"})
        (problem,) = dataSet.problems(dataSet.row(row.key))
        dataSet.fix(row.key, problem)
        assert told(dataSet, row) == []

    def test_segments_that_stand_for_nothing(self, dataSet):
        volume, labels = makeVolume(), heartLabels()
        masks = {"LV": labels == 3, "MYO": labels == 2, "RV": labels == 1, "lung": labels == 0}
        row = dataSet.addVolume(volume, makeSegmentation(volume, masks))
        assert told(dataSet, row) == [("warning", "map")]
        assert texts(dataSet, row) == "Segments that stand for no structure are not used: lung."

    def test_overlap(self, dataSet):
        volume, labels = makeVolume(), heartLabels()
        masks = {"LV": labels == 3, "MYO": labels >= 2, "RV": labels == 1}
        row = dataSet.addVolume(volume, makeSegmentation(volume, masks))
        assert told(dataSet, row) == [("warning", None)]
        count = np.count_nonzero(labels == 3)
        assert (
            texts(dataSet, row) == f"LV myocardium and LV cavity overlap in {count} voxels, which count as LV cavity."
        )

    def test_voxels_outside(self, dataSet):
        part = makeVolume("part", np.arange(250, dtype=np.int16).reshape(5, 5, 10))
        row = dataSet.addVolume(part, makeHeartSegmentation(makeVolume()))
        assert told(dataSet, row) == [("warning", None)]
        assert f"{np.count_nonzero(heartLabels()[:, 5:])} labeled voxels lie outside" in texts(dataSet, row)

    def test_unknown_value_of_a_label_map(self, dataSet):
        labels = slicer.util.addVolumeFromArray(
            heartLabels() * 5, obliqueMatrix(0), name="labels", nodeClassName="vtkMRMLLabelMapVolumeNode"
        )
        row = dataSet.addVolume(makeVolume(), labels)
        assert told(dataSet, row) == [("error", None)]
        assert "the label values 5" in texts(dataSet, row)

    def test_contours_that_nothing_converts(self, dataSet):
        """As they come from a radiotherapy plan where the extension that reads these is not installed."""
        volume = makeVolume("patient001_ED")
        contours = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "contours")
        contours.GetSegmentation().SetSourceRepresentationName("Planar contour")
        segment, shape = slicer.vtkSegment(), vtk.vtkRegularPolygonSource()
        shape.Update()
        segment.SetName("LV cavity")
        segment.AddRepresentation("Planar contour", shape.GetOutput())
        contours.GetSegmentation().AddSegment(segment)
        dataSet.addVolume(volume, contours)
        (problem,) = (each for each in dataSet.allProblems() if each.level == "error")
        assert problem.text.startswith("patient001_ED: The segments of 'contours' cannot be made labelmaps. Convert")


class TestOtherGrid:
    def test_is_told_and_resampled_on_a_copy(self, dataSet):
        half = makeVolume("half", np.arange(150, dtype=np.int16).reshape(5, 6, 5), obliqueMatrix(0, (2.5, 3.0, 8.0)))
        original = makeHeartSegmentation(makeVolume(), "by hand")
        row = dataSet.addVolume(half, original)
        (problem,) = dataSet.problems(row)
        assert (problem.level, problem.fix) == ("error", "resample")
        assert "the spacings are 1.25 × 1.5 × 8 and 2.5 × 3 × 8 mm" in problem.text

        fixed = dataSet.fix(row.key, problem)
        assert fixed.key == row.key
        assert fixed.segmentationNode is not original
        assert fixed.segmentationNode.GetName() == "by hand resampled"
        assert told(dataSet, row) == []
        np.testing.assert_array_equal(labelsOf(dataSet, fixed), heartLabels()[:, ::2, ::2])
        assert original.GetScene() is not None

    def test_mapping_is_kept(self, dataSet):
        half = makeVolume("half", np.zeros((5, 6, 5), np.int16), obliqueMatrix(0, (2.5, 3.0, 8.0)))
        row = dataSet.addVolume(half, makeHeartSegmentation(makeVolume()))
        dataSet.setMapping(row.key, {"S0": "RV cavity"})
        (problem,) = (each for each in dataSet.problems(dataSet.row(row.key)) if each.fix == "resample")
        fixed = dataSet.fix(row.key, problem)
        np.testing.assert_array_equal(labelsOf(dataSet, fixed), heartLabels()[:, ::2, ::2] == 3)


class TestTransforms:
    def test_volume_and_segmentation_are_hardened_on_copies(self, dataSet):
        volume = makeVolume("moved")
        segmentation = makeHeartSegmentation(volume)
        transform = makeTransform(name="registration")
        for node in (volume, segmentation):
            node.SetAndObserveTransformNodeID(transform.GetID())
        row = dataSet.addVolume(volume, segmentation)
        (problem,) = dataSet.problems(row)
        assert (problem.level, problem.fix) == ("error", "harden")
        assert "'moved' lies under the transform 'registration'" in problem.text

        fixed = dataSet.fix(row.key, problem)
        assert fixed.key == row.key
        assert told(dataSet, row) == []
        assert fixed.volumeNode is not volume
        assert fixed.segmentationNode is not segmentation
        np.testing.assert_array_equal(labelsOf(dataSet, fixed), heartLabels())
        assert volume.GetParentTransformNode() is segmentation.GetParentTransformNode() is transform

    def test_segmentation_alone(self, dataSet):
        volume = makeVolume()
        segmentation = makeHeartSegmentation(volume)
        segmentation.SetAndObserveTransformNodeID(makeTransform((1.25, 0, 0), angle=0).GetID())
        row = dataSet.addVolume(volume, segmentation)
        (problem,) = dataSet.problems(row)
        assert (problem.level, problem.fix) == ("error", "harden")
        assert dataSet.fix(row.key, problem).volumeNode is volume
        assert ("error", "resample") in told(dataSet, row)  # now it can be seen that it does not fit

    def test_transform_that_moves_again(self, dataSet):
        volume = makeVolume()
        transform = makeTransform((0, 0, 0), angle=0)
        row = dataSet.addVolume(volume)
        volume.SetAndObserveTransformNodeID(transform.GetID())
        assert told(dataSet, row) == []
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 3, 5.0)
        transform.SetMatrixTransformToParent(matrix)
        assert told(dataSet, row) == [("error", "harden")]


def test_what_cannot_be_mended(dataSet):
    row = dataSet.addVolume(makeVolume(), role="labeled")
    (problem,) = dataSet.problems(row)
    with pytest.raises(ValueError, match="This has to be fixed by hand: The role is labeled"):
        dataSet.fix(row.key, problem)


def test_an_edit_is_seen(dataSet):
    """Labels are read again when they change, and only then."""
    volume = makeVolume()
    node = makeHeartSegmentation(volume)
    row = dataSet.addVolume(volume, node)
    assert told(dataSet, row) == []
    for segmentId in ("S0", "S1", "S2"):
        slicer.util.updateSegmentBinaryLabelmapFromArray(np.zeros(SHAPE, np.uint8), node, segmentId, volume)
    assert told(dataSet, row) == [("error", None)]


def test_an_edit_in_place_is_seen(dataSet):
    """The Segment Editor draws into the labelmap that is there."""
    volume = makeVolume()
    node = makeSegmentation(volume, {"LV": heartLabels() == 3})
    row = dataSet.addVolume(volume, node)
    assert ("error", None) not in told(dataSet, row)
    image = node.GetSegmentation().GetSegment("S0").GetRepresentation("Binary labelmap")
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = 0
    image.Modified()
    assert ("error", None) in told(dataSet, row)


class TestAllTogether:
    def addLabeled(self, dataSet, name: str, **options):
        volume = makeVolume(name)
        return dataSet.addVolume(volume, makeHeartSegmentation(volume), **options)

    def test_nothing_wrong(self, dataSet):
        self.addLabeled(dataSet, "patient001_ED")
        self.addLabeled(dataSet, "patient002_ED", role="validation")
        dataSet.addVolume(makeVolume("patient003_ED"))
        assert dataSet.allProblems() == []

    def test_empty_table(self, dataSet):
        (problem,) = dataSet.allProblems()
        assert problem.level == "error"
        assert problem.text.startswith("No cases yet: add volumes of the scene")

    def test_no_labeled_case(self, dataSet):
        dataSet.addVolume(makeVolume())
        (problem,) = dataSet.allProblems()
        assert problem.level == "error"
        assert problem.text.startswith("There is no labeled case. Give at least one volume a segmentation")

    def test_no_unlabeled_case(self, dataSet):
        self.addLabeled(dataSet, "a")
        (problem,) = dataSet.allProblems()
        assert problem.level == "warning"
        assert "plain supervised training" in problem.text

    @pytest.mark.parametrize(("role", "level"), [("labeled", "error"), ("unlabeled", "warning")])
    def test_patient_in_two_roles(self, dataSet, role, level):
        self.addLabeled(dataSet, "patient001_ED", role=role)
        self.addLabeled(dataSet, "patient001_ES", role="validation")
        self.addLabeled(dataSet, "patient002_ED")
        dataSet.addVolume(makeVolume("patient003_ED"))
        (problem,) = dataSet.allProblems()
        assert problem.level == level
        assert problem.text.startswith(f"The patient patient001 is {role} and in validation")

    def test_patient_of_validation_in_a_pool(self, dataSet, tmp_path):
        self.addLabeled(dataSet, "patient000_ED")
        self.addLabeled(dataSet, "patient005_ED", role="validation")
        for index in range(21):
            writeImage(tmp_path / f"patient{index + 5:03d}_ES.nrrd")
        dataSet.addPaths([tmp_path])
        (problem,) = dataSet.allProblems()
        assert (problem.level, problem.text.split(" is ")[0]) == ("warning", "The patient patient005")

    def test_labeled_and_unlabeled_frames_of_a_patient_go_together(self, dataSet):
        self.addLabeled(dataSet, "patient001_ED")
        dataSet.addVolume(makeVolume("patient001_frame07"))
        assert dataSet.allProblems() == []

    def test_errors_come_first_and_tell_their_case(self, dataSet, scene):
        volume = makeVolume("one slice", np.arange(120, dtype=np.int16).reshape(1, 12, 10))
        dataSet.addVolume(volume)
        row = self.addLabeled(dataSet, "patient001_ED")
        scene.RemoveNode(row.segmentationNode)
        problems = dataSet.allProblems()
        assert [problem.level for problem in problems] == ["error", "warning"]
        assert problems[0].text.startswith("patient001_ED: The segmentation 'segmentation' was deleted")
        assert problems[0].key == row.key
        assert problems[1].text.startswith("one slice: This is a single slice")
