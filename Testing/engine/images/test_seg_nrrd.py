"""Segmentations of Slicer, .seg.nrrd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from semicardiac.base.errors import UserError
from semicardiac.images import itk
from semicardiac.images.volumes import Volume, read_labels, same_geometry, write_labels

from Testing.engine.images.support import make_matrix
from Testing.engine.support import ACDC


def write_segmentation(path: Path, array: np.ndarray, segments: list[dict[str, str]], **more: str) -> Path:
    """A .seg.nrrd by SimpleITK: array [slice,row,col] or, with layers, [slice,row,col,layer]."""
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    image.SetSpacing((1.5, 1.5, 8))
    for index, segment in enumerate(segments):
        for key, value in segment.items():
            image.SetMetaData(f"Segment{index}_{key}", value)
    for key, value in more.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path))
    return path


class TestSegmentations:
    def test_the_header_that_slicer_reads(self, tmp_path):
        labels = np.zeros((4, 5, 6), np.uint8)
        labels[1:3, 2:4, 3:6] = 3
        write_labels(tmp_path / "a.seg.nrrd", Volume(labels, make_matrix(0)), ACDC)
        image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
        header = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if key.startswith("Segment")}
        assert header["Segmentation_MasterRepresentation"] == "Binary labelmap"
        assert header["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
        assert header["Segment2_ID"] == "LV_cavity"
        assert header["Segment2_Name"] == "LV cavity"
        assert header["Segment2_LabelValue"] == "3"
        assert header["Segment2_Layer"] == "0"
        assert header["Segment2_Extent"] == "3 5 2 3 1 2"
        assert header["Segment1_Extent"] == "0 -1 0 -1 0 -1"  # no voxels, but listed
        assert [round(255 * float(part)) for part in header["Segment2_Color"].split()] == [213, 94, 0]
        tags = dict(tag.split(":", 1) for tag in header["Segment2_Tags"].strip("|").split("|"))
        assert tags["Segmentation.Status"] == "inprogress"
        assert "~SCT^87878005^Left Ventricle~" in tags["TerminologyEntry"]

    def test_names_decide_before_values(self, tmp_path):
        array = np.array([[[0, 1], [2, 0]]], np.uint8)
        segments = [
            {"ID": "a", "Name": "lv CAVITY", "LabelValue": "1", "Layer": "0"},
            {"ID": "b", "Name": "RV_cavity", "LabelValue": "2", "Layer": "0"},
        ]
        labels = read_labels(write_segmentation(tmp_path / "a.seg.nrrd", array, segments), ACDC)
        np.testing.assert_array_equal(labels.array, [[[0, 3], [1, 0]]])
        np.testing.assert_allclose(labels.spacing, [1.5, 1.5, 8])

    def test_codes_where_names_are_unknown(self, tmp_path):
        entry = "x~SCT^123037004^Anatomical Structure~SCT^87878005^left ventricle~^^~y~^^~^^"
        segments = [
            {
                "ID": "a",
                "Name": "Ventrikel",
                "LabelValue": "5",
                "Layer": "0",
                "Tags": f"foo:1|TerminologyEntry:{entry}|",
            }
        ]
        path = write_segmentation(tmp_path / "a.seg.nrrd", np.array([[[0, 5], [0, 0]]], np.uint8), segments)
        np.testing.assert_array_equal(read_labels(path, ACDC).array, [[[0, 3], [0, 0]]])

    def test_layers(self, tmp_path):
        array = np.zeros((1, 2, 2, 2), np.uint8)
        array[0, 0, 0, 0] = 1
        array[0, 1, 1, 1] = 1
        segments = [
            {"ID": "a", "Name": "LV cavity", "LabelValue": "1", "Layer": "0"},
            {"ID": "b", "Name": "LV myocardium", "LabelValue": "1", "Layer": "1"},
        ]
        path = write_segmentation(tmp_path / "a.seg.nrrd", array, segments)
        np.testing.assert_array_equal(read_labels(path, ACDC).array, [[[3, 0], [0, 2]]])

    def test_overlapping_segments(self, tmp_path):
        segments = [
            {"ID": "a", "Name": "LV cavity", "LabelValue": "1", "Layer": "0"},
            {"ID": "b", "Name": "LV myocardium", "LabelValue": "1", "Layer": "1"},
        ]
        path = write_segmentation(tmp_path / "a.seg.nrrd", np.ones((1, 2, 2, 2), np.uint8), segments)
        with pytest.raises(UserError, match="'LV cavity' and 'LV myocardium' overlap in 4 voxels"):
            read_labels(path, ACDC)

    @pytest.mark.parametrize("name", ["LV cavity", "lv_cavity", "LV"])
    def test_two_segments_of_one_structure(self, tmp_path, name):
        """One of them is wrongly named or an old copy: together they are what nobody drew."""
        segments = [
            {"ID": "a", "Name": "LV cavity", "LabelValue": "1", "Layer": "0"},
            {"ID": "b", "Name": name, "LabelValue": "2", "Layer": "0"},
        ]
        path = write_segmentation(tmp_path / "a.seg.nrrd", np.array([[[0, 1], [2, 0]]], np.uint8), segments)
        with pytest.raises(UserError, match=f"two segments .*'LV cavity' and '{name}'|'{name}' .*not in the label set"):
            read_labels(path, ACDC)
        path = write_segmentation(tmp_path / "b.seg.nrrd", np.array([[[0, 1], [1, 0]]], np.uint8), segments)
        assert read_labels(path, ACDC).array.sum() == 6  # the other one is empty

    def test_segments_that_are_not_in_the_set(self, tmp_path):
        segments = [
            {"ID": "a", "Name": "Scar", "LabelValue": "1", "Layer": "0"},
            {"ID": "b", "Name": "Empty", "LabelValue": "2", "Layer": "0"},
        ]
        path = write_segmentation(tmp_path / "a.seg.nrrd", np.ones((1, 2, 2), np.uint8), segments)
        with pytest.raises(UserError, match=r"the segments 'Scar' \(4 voxels\) are not in the label set 'acdc'"):
            read_labels(path, ACDC)

    def test_segments_after_a_gap_in_the_numbers(self, tmp_path):
        segments = {f"Segment{number}_Name": name for number, name in ((1, "RV cavity"), (4, "LV cavity"))}
        values = {"Segment1_LabelValue": "1", "Segment4_LabelValue": "2", "Segment1_Layer": "0", "Segment4_Layer": "0"}
        array = np.array([[[0, 1], [2, 0]]], np.uint8)
        path = write_segmentation(tmp_path / "a.seg.nrrd", array, [], **segments, **values)
        np.testing.assert_array_equal(read_labels(path, ACDC).array, [[[0, 1], [3, 0]]])

    @pytest.mark.parametrize("numbers", [(0, 1, 2), (0, 2, 5)])
    def test_old_segments_have_a_layer_each_in_the_order_of_their_numbers(self, tmp_path, numbers):
        array = np.zeros((1, 2, 2, 3), np.uint8)
        array[0, 0, 1, 0] = array[0, 1, 0, 1] = array[0, 1, 1, 2] = 1
        names = {f"Segment{number}_Name": name for number, name in zip(numbers, ACDC.names, strict=True)}
        path = write_segmentation(tmp_path / "a.seg.nrrd", array, [], **names)
        np.testing.assert_array_equal(read_labels(path, ACDC).array, [[[0, 1], [2, 3]]])

    @pytest.mark.parametrize(
        ("array", "said"),
        [
            (np.array([[[1, 1], [4, 0]]], np.uint8), r"values 4 \(1 voxel\) are of no segment"),
            (np.array([[[1, 1], [-2, 7]]], np.int16), r"values -2 \(1 voxel\) and 7 \(1 voxel\) are of no segment"),
            (np.array([[[[1, 0], [1, 0]], [[0, 3], [0, 3]]]], np.uint8), r"values 3 in layer 1 \(2 voxels\)"),
        ],
        ids=["value", "values", "layer"],
    )
    def test_voxels_of_no_segment(self, tmp_path, array, said):
        segments = [
            {"ID": "a", "Name": "RV cavity", "LabelValue": "1", "Layer": "0"},
            {"ID": "b", "Name": "LV cavity", "LabelValue": "9", "Layer": "0"},  # has no voxels, which does no harm
        ]
        path = write_segmentation(tmp_path / "a.seg.nrrd", array, segments)
        with pytest.raises(UserError, match=f"{said}.*the header names 1 RV cavity, 9 LV cavity") as caught:
            read_labels(path, ACDC)
        assert caught.value.where == str(path)

    @pytest.mark.parametrize("key", ["MasterRepresentation", "SourceRepresentation"])
    @pytest.mark.parametrize(
        ("dtype", "background", "half", "full"),
        [(np.int8, -108, 0, 108), (np.int16, -108, 0, 108), (np.uint8, 0, 127, 255), (np.float32, 0, 0.5, 1)],
    )
    def test_fractions(self, tmp_path, key, dtype, background, half, full):
        """Where two segments fill more than half of a voxel, the larger has it; half is outside, as in Slicer."""
        more = half + (full - half) * 3 // 4 if dtype != np.float32 else 0.8
        rv = [full, half, full, background, background]
        lv = [background, half, more, more, half]
        array = np.array([rv, lv], dtype).T.reshape(1, 1, 5, 2)
        segments = [{"ID": name, "Name": name, "LabelValue": "1"} for name in ("RV cavity", "LV cavity")]
        fractional = {f"Segmentation_{key}": "Fractional labelmap"}
        path = write_segmentation(tmp_path / "a.seg.nrrd", array, segments, **fractional)
        np.testing.assert_array_equal(read_labels(path, ACDC).array, [[[1, 0, 1, 3, 0]]])

    @pytest.mark.parametrize("array", [np.full((1, 1, 2, 2), 77, np.uint8), np.full((1, 1, 2, 2), 120, np.int8)])
    def test_fractions_of_an_unknown_whole(self, tmp_path, array):
        segments = [{"ID": name, "Name": name} for name in ("RV cavity", "LV cavity")]
        fractional = {"Segmentation_MasterRepresentation": "Fractional labelmap"}
        path = write_segmentation(tmp_path / "a.seg.nrrd", array, segments, **fractional)
        with pytest.raises(UserError, match=r"fractions from .* cannot be understood.*binary labelmap"):
            read_labels(path, ACDC)

    @pytest.mark.parametrize("damage", [{"LabelValue": "one"}, {"Layer": "3"}])
    def test_a_damaged_header(self, tmp_path, damage):
        segment = {"ID": "a", "Name": "LV cavity", "LabelValue": "1", "Layer": "0"} | damage
        path = write_segmentation(tmp_path / "a.seg.nrrd", np.ones((1, 2, 2), np.uint8), [segment])
        with pytest.raises(UserError, match="header of this segmentation is damaged"):
            read_labels(path, ACDC)

    def cropped(self, path: Path, **header: str) -> tuple[Path, Volume]:
        """The segmentation of a 4 x 5 x 6 volume, cropped to its segment, as Slicer can save it."""
        labels = np.zeros((4, 5, 6), np.uint8)
        labels[1:3, 2:4, 3:6] = 3
        full = Volume(labels, make_matrix(4, left_handed=True))
        matrix = full.ijk_to_ras.copy()
        matrix[:3, 3] += matrix[:3, :3] @ [3, 2, 1]
        segment = {"ID": "a", "Name": "LV cavity", "LabelValue": "3", "Layer": "0"}
        header |= {f"Segment0_{key}": value for key, value in segment.items()}
        itk.write_image(path, itk.Frames(labels[None, 1:3, 2:4, 3:6], matrix), header)
        return path, full

    def test_cropped_with_the_grid_in_the_header(self, tmp_path):
        _, full = self.cropped(tmp_path / "x.seg.nrrd")
        numbers = ";".join(str(number) for number in full.ijk_to_ras.ravel())
        grid = f"Crop|0.5|x&Reference image geometry|{numbers};0;5;0;4;0;3;|text&"
        path, _ = self.cropped(tmp_path / "a.seg.nrrd", Segmentation_ConversionParameters=grid)
        back = read_labels(path, ACDC)
        np.testing.assert_array_equal(back.array, full.array)
        assert same_geometry(back, full) is None

    def test_cropped_without_it_comes_back_on_the_image(self, tmp_path):
        path, full = self.cropped(tmp_path / "a.seg.nrrd")
        assert read_labels(path, ACDC).array.shape == (2, 2, 3)
        back = read_labels(path, ACDC, grid=full)
        np.testing.assert_array_equal(back.array, full.array)

    def test_another_grid_is_not_stretched(self, tmp_path):
        path, full = self.cropped(tmp_path / "a.seg.nrrd")
        shifted = Volume(full.array, full.ijk_to_ras.copy())
        shifted.ijk_to_ras[:3, 3] += 0.3 * full.ijk_to_ras[:3, 0]
        assert read_labels(path, ACDC, grid=shifted).array.shape == (2, 2, 3)
        smaller = Volume(full.array[:2], full.ijk_to_ras)  # would lose voxels
        assert read_labels(path, ACDC, grid=smaller).array.shape == (2, 2, 3)

    def test_slicer_reads_and_writes_the_same(self, tmp_path):
        slicer = pytest.importorskip("slicer")
        vtk = pytest.importorskip("vtk")
        labels = np.zeros((4, 5, 6), np.uint8)
        labels[1:3, 2:4, 3:6] = 3
        labels[1:3, 2:4, 2] = 2
        volume = Volume(labels, make_matrix(6, left_handed=True))
        write_labels(tmp_path / "ours.seg.nrrd", volume, ACDC)
        scene = slicer.vtkMRMLScene()
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
        storage.SetFileName(str(tmp_path / "ours.seg.nrrd"))
        assert storage.ReadData(node)
        segmentation = node.GetSegmentation()
        assert [segmentation.GetNthSegment(index).GetName() for index in range(3)] == ACDC.names
        third = segmentation.GetNthSegment(2)
        entry = vtk.reference("")
        assert third.GetTag(third.GetTerminologyEntryTagName(), entry)
        assert str(entry) == ACDC.structures[2].terminology
        assert [round(255 * part) for part in third.GetColor()] == list(ACDC.structures[2].color)
        assert third.GetLabelValue() == 3
        storage.SetFileName(str(tmp_path / "theirs.seg.nrrd"))
        assert storage.WriteData(node)
        back = read_labels(tmp_path / "theirs.seg.nrrd", ACDC)
        np.testing.assert_array_equal(back.array, labels)
        assert same_geometry(back, volume) is None
