"""Cines and their segmentations in one sequence browser."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

from semicardiac.images.labels import get_label_set
from SemiCardiacSegLib.scene import sequences

from Testing.slicer.scenes import (
    SHAPE,
    heartLabels,
    makeFolder,
    makeSequence,
    makeTransform,
    makeVolume,
    matrixOf,
    obliqueMatrix,
    saveAndReload,
)

pytestmark = pytest.mark.usefixtures("scene")
ACDC = get_label_set("acdc")
FRAMES = 30
MATRIX = obliqueMatrix(3)


def images() -> list[np.ndarray]:
    return [np.random.default_rng(frame).integers(0, 500, SHAPE).astype(np.int16) for frame in range(FRAMES)]


def labelsOfFrames() -> list[np.ndarray]:
    """Hearts whose RV loses a column of voxels each time, so that no two neighbors are equal."""
    frames = []
    for frame in range(FRAMES):
        labels = heartLabels()
        labels[3, :, frame % 4] = 0
        frames.append(labels)
    return frames


def browse(sequence, frame: int) -> None:
    browser = sequences.browserOf(sequence)
    browser.SetSelectedItemNumber(frame)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)


def shownLabels(segmentationNode, volumeNode) -> np.ndarray:
    """Training labels of a segmentation whose segments are those of ACDC, read by Slicer itself."""
    labels = np.zeros(slicer.util.arrayFromVolume(volumeNode).shape, np.uint8)
    for label, structure in enumerate(ACDC.structures, start=1):
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, structure.key, volumeNode)
        if mask is not None:  # no voxels
            labels[mask > 0] = label
    return labels


def test_each_frame_is_a_step_of_its_own():
    ticks = []
    cine = sequences.newCine("cine", images()[:4], MATRIX, [0.0, 0.1, 0.2, 0.3], lambda: ticks.append("image"))
    sequences.newSegmentationSequence("found", cine, labelsOfFrames()[:4], ACDC, lambda: ticks.append("labels"))
    sequences.newVolumeSequence("map", cine, [frame / 500 for frame in images()[:4]], lambda: ticks.append("map"))
    assert ticks == ["image"] * 4 + ["labels"] * 4 + ["map"] * 4


class TestReading:
    def test_the_frames_of_an_oblique_cine(self):
        frames = images()
        arrays, matrix = sequences.readFrames(makeSequence(frames, MATRIX))
        assert len(arrays) == FRAMES
        assert all(np.array_equal(array, frame) for array, frame in zip(arrays, frames, strict=True))
        np.testing.assert_allclose(matrix, MATRIX, atol=1e-9)

    def test_the_browser_stays_at_its_frame(self):
        cine = sequences.newCine("cine", images()[:5], MATRIX, [0.0, 0.1, 0.2, 0.3, 0.4])
        browse(cine, 3)
        sequences.readFrames(cine)
        assert sequences.browserOf(cine).GetSelectedItemNumber() == 3
        assert np.array_equal(slicer.util.arrayFromVolume(sequences.shownBy(cine)), images()[3])

    def test_the_arrays_of_the_frames_are_apart(self):
        arrays, _matrix = sequences.readFrames(makeSequence(images()[:3], MATRIX))
        assert not np.array_equal(arrays[0], arrays[1])

    def test_a_frame_on_another_grid_is_told(self):
        sequence = makeSequence(images()[:3], MATRIX)
        moved = MATRIX.copy()
        moved[:3, 3] += 4.0
        other = makeVolume("other", images()[0], moved)
        sequence.SetDataNodeAtValue(other, "9")
        with pytest.raises(ValueError, match=r"Frame 4 of 'cine' lies on another grid .* mm apart"):
            sequences.readFrames(sequence)

    def test_nothing_and_other_nodes_are_told(self, scene):
        empty = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "empty")
        with pytest.raises(ValueError, match="'empty' has no frames"):
            sequences.readFrames(empty)
        tables = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "tables")
        tables.SetDataNodeAtValue(scene.AddNewNodeByClass("vtkMRMLTableNode", "some table"), "0")
        with pytest.raises(ValueError, match="is no volume"):
            sequences.readFrames(tables)

    @pytest.mark.parametrize(("unit", "times"), [("s", [0, 0.03, 0.06]), ("ms", [0, 3e-5, 6e-5]), ("mm", None)])
    def test_times_are_in_seconds(self, unit, times):
        sequence = makeSequence(images()[:3], MATRIX)
        sequence.SetIndexUnit(unit)
        assert sequences.timesOf(sequence) == (None if times is None else pytest.approx(times))

    def test_index_values_that_are_texts_are_no_times(self, scene):
        sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "named")
        sequence.SetIndexType(slicer.vtkMRMLSequenceNode.TextIndex)
        sequence.SetIndexUnit("s")
        sequence.SetDataNodeAtValue(makeVolume(), "diastole")
        assert sequences.timesOf(sequence) is None


class TestSegmentationSequence:
    def test_every_frame_follows_the_browser_of_the_cine(self):
        cine = sequences.newCine("cine", images(), MATRIX, [0.03 * frame for frame in range(FRAMES)])
        browse(cine, 7)
        segmented = sequences.newSegmentationSequence("cine SemiCardiacSeg", cine, labelsOfFrames(), ACDC)
        assert sequences.browserOf(segmented) is sequences.browserOf(cine)
        assert [segmented.GetNthIndexValue(i) for i in range(FRAMES)] == [
            cine.GetNthIndexValue(i) for i in range(FRAMES)
        ]
        assert sequences.browserOf(cine).GetSelectedItemNumber() == 7
        segmentationNode, volumeNode = sequences.shownBy(segmented), sequences.shownBy(cine)
        assert np.array_equal(shownLabels(segmentationNode, volumeNode), labelsOfFrames()[7])
        for frame in (0, 1, 2, 3, FRAMES - 1):
            browse(cine, frame)
            assert np.array_equal(slicer.util.arrayFromVolume(volumeNode), images()[frame])
            assert np.array_equal(shownLabels(segmentationNode, volumeNode), labelsOfFrames()[frame])

    def test_names_colors_and_terminology(self):
        cine = sequences.newCine("cine", images()[:2], MATRIX, [0.0, 0.1])
        segmented = sequences.newSegmentationSequence("result", cine, labelsOfFrames()[:2], ACDC)
        for frame in (0, 1):
            browse(cine, frame)
            segmentation = sequences.shownBy(segmented).GetSegmentation()
            for structure in ACDC.structures:
                segment = segmentation.GetSegment(structure.key)
                assert segment.GetName() == structure.name
                assert segment.GetColor() == pytest.approx([channel / 255 for channel in structure.color])
                assert segment.GetTerminology() == structure.terminology

    def test_it_lies_in_the_folder_of_the_cine_and_under_its_transform(self):
        cine = sequences.newCine("cine", images()[:3], MATRIX, [0.0, 0.1, 0.2])
        volumeNode = sequences.shownBy(cine)
        folder = makeFolder("patient001", [volumeNode])
        transform = makeTransform()
        volumeNode.SetAndObserveTransformNodeID(transform.GetID())
        segmented = sequences.newSegmentationSequence("result", cine, labelsOfFrames()[:3], ACDC)
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        for frame in (0, 2):
            browse(cine, frame)
            shown = sequences.shownBy(segmented)
            assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(shown)) == folder
            assert shown.GetParentTransformNode() is transform
            assert np.array_equal(shownLabels(shown, volumeNode), labelsOfFrames()[frame])

    def test_a_cine_without_browser_gets_one(self):
        cine = makeSequence(images()[:3], MATRIX)
        assert sequences.browserOf(cine) is None
        segmented = sequences.newSegmentationSequence("result", cine, labelsOfFrames()[:3], ACDC)
        browse(cine, 2)
        assert np.array_equal(slicer.util.arrayFromVolume(sequences.shownBy(cine)), images()[2])
        assert np.array_equal(shownLabels(sequences.shownBy(segmented), sequences.shownBy(cine)), labelsOfFrames()[2])

    def test_what_is_edited_in_a_frame_stays(self):
        cine = sequences.newCine("cine", images()[:3], MATRIX, [0.0, 0.1, 0.2])
        segmented = sequences.newSegmentationSequence("result", cine, labelsOfFrames()[:3], ACDC)
        segmentationNode, volumeNode = sequences.shownBy(segmented), sequences.shownBy(cine)
        browse(cine, 1)
        edited = np.zeros(SHAPE, np.uint8)
        edited[2, 5:7, 5:8] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(edited, segmentationNode, "LV_cavity", volumeNode)
        browse(cine, 2)
        assert np.array_equal(shownLabels(segmentationNode, volumeNode), labelsOfFrames()[2])
        browse(cine, 1)
        assert np.array_equal(shownLabels(segmentationNode, volumeNode) == 3, edited == 1)

    def test_a_second_one_gets_a_name_of_its_own(self):
        cine = sequences.newCine("cine", images()[:2], MATRIX, [0.0, 0.1])
        names = {
            sequences.newSegmentationSequence("result", cine, labelsOfFrames()[:2], ACDC).GetName() for _run in range(2)
        }
        assert names == {"result", "result 2"}

    def test_it_comes_back_with_the_scene(self, tmp_path):
        cine = sequences.newCine("cine", images()[:4], MATRIX, [0.0, 0.1, 0.2, 0.3])
        segmented = sequences.newSegmentationSequence("result", cine, labelsOfFrames()[:4], ACDC)
        sequences.setPhases(segmented, 0, 2)
        cineId, segmentedId = cine.GetID(), segmented.GetID()
        saveAndReload(tmp_path / "scene.mrb")
        cine, segmented = (slicer.mrmlScene.GetNodeByID(each) for each in (cineId, segmentedId))
        assert sequences.phases(segmented) == (0, 2)
        for frame in range(4):
            browse(cine, frame)
            volumeNode = sequences.shownBy(cine)
            labels = shownLabels(sequences.shownBy(segmented), volumeNode)
            # Slicer may turn the slices around when it reads them from a file: what counts is where voxels lie.
            assert placesOf(labels, matrixOf(volumeNode)) == placesOf(labelsOfFrames()[frame], MATRIX)


def placesOf(labels: np.ndarray, matrix: np.ndarray) -> set[tuple]:
    """Where in RAS each labeled voxel lies, to 0.01 mm."""
    k, j, i = np.nonzero(labels)
    ras = (matrix @ np.array([i, j, k, np.ones_like(i)]))[:3].T
    return {(*np.round(point, 2) + 0.0, int(label)) for point, label in zip(ras, labels[k, j, i], strict=True)}


class TestVolumeSequence:
    def test_maps_follow_the_browser_of_the_cine(self):
        cine = sequences.newCine("cine", images()[:4], MATRIX, [0.0, 0.1, 0.2, 0.3])
        maps = [np.random.default_rng(frame).random(SHAPE).astype(np.float32) for frame in range(4)]
        sequence = sequences.newVolumeSequence("entropy", cine, maps)
        for frame in (0, 3, 1):
            browse(cine, frame)
            assert np.array_equal(slicer.util.arrayFromVolume(sequences.shownBy(sequence)), maps[frame])
        np.testing.assert_allclose(matrixOf(sequences.shownBy(sequence)), MATRIX, atol=1e-9)


class TestPhases:
    def test_they_are_kept_on_the_sequence_node(self):
        sequence = makeSequence(images()[:5], MATRIX)
        assert sequences.phases(sequence) == (None, None)
        sequences.setPhases(sequence, 0, 3)
        assert sequences.phases(sequence) == (0, 3)
        assert sequence.GetAttribute("SemiCardiacSeg.ES") == "3"
        sequences.setPhases(sequence, None, 3)
        assert sequences.phases(sequence) == (None, 3)

    @pytest.mark.parametrize(
        ("ed", "es", "message"),
        [(0, 5, "no frame 6 for ES: its frames go from 1 to 5"), (-1, 2, "no frame 0 for ED"), (2, 2, "Frame 3 of")],
    )
    def test_mistakes_are_told_and_change_nothing(self, ed, es, message):
        sequence = makeSequence(images()[:5], MATRIX)
        sequences.setPhases(sequence, 1, 4)
        with pytest.raises(ValueError, match=message):
            sequences.setPhases(sequence, ed, es)
        assert sequences.phases(sequence) == (1, 4)
