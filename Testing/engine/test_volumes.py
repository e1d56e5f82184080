"""Volumes and their files: exact geometry, exact numbers, and refusal of everything else."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from helpers import SHARED_DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from semicardiac import itk
from semicardiac.errors import UserError
from semicardiac.labels import get_label_set
from semicardiac.volumes import (
    Volume,
    read_labels,
    read_series,
    read_volume,
    same_geometry,
    stem,
    write_labels,
    write_series,
    write_volume,
)

DATA = Path(os.environ.get("SEMICARDIAC_DATA", SHARED_DATA))
ACDC = get_label_set("acdc")
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")

needs_data = [pytest.mark.data, pytest.mark.skipif(not DATA.is_dir(), reason=f"no real volumes at {DATA}")]


def make_matrix(seed: int, *, left_handed: bool = False) -> np.ndarray:
    """A random oblique, anisotropic IJK-to-RAS matrix."""
    rng = np.random.default_rng(seed)
    axes = Rotation.random(random_state=seed).as_matrix()
    if left_handed:
        axes[:, rng.integers(3)] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = axes * rng.uniform(0.3, 12, 3)
    matrix[:3, 3] = rng.uniform(-300, 300, 3)
    return matrix


def make_volume(seed: int = 0, shape: tuple[int, int, int] = (3, 5, 4), dtype: type = np.int16, **options) -> Volume:
    rng = np.random.default_rng(seed)
    return Volume(rng.integers(0, 200, shape).astype(dtype), make_matrix(seed, **options))


def matrix_by_simpleitk(path: Path) -> np.ndarray:
    """The matrix as SimpleITK sees it, in RAS; computed voxel by voxel, not by our own formula."""
    image = sitk.ReadImage(str(path))
    points = [
        image.TransformContinuousIndexToPhysicalPoint(index) for index in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    origin, *steps = (np.array([-x, -y, z]) for x, y, z in points)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([*(step - origin for step in steps), origin])
    return matrix


def tolerance(suffix: str) -> float:
    return 1e-4 if suffix.startswith(".nii") else 1e-9  # NIfTI keeps single precision


geometries = st.builds(
    lambda seed, left_handed, shape: (make_matrix(seed, left_handed=left_handed), shape),
    st.integers(0, 10_000),
    st.booleans(),
    st.tuples(st.integers(1, 4), st.integers(2, 7), st.integers(2, 7)),
)


class TestRoundTrip:
    @pytest.mark.parametrize("suffix", FORMATS)
    @given(
        geometry=geometries, dtype=st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
    )
    @settings(max_examples=25, deadline=None)
    def test_any_geometry(self, suffix, geometry, dtype):
        matrix, shape = geometry
        volume = Volume(np.random.default_rng(0).integers(0, 100, shape).astype(dtype), matrix)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"a{suffix}")
            write_volume(path, volume)
            back = read_volume(path)
            foreign = matrix_by_simpleitk(path)
            if suffix.startswith(".nii"):
                image = nib.load(path)
                np.testing.assert_allclose(image.affine, matrix, atol=1e-4)
                np.testing.assert_array_equal(np.asanyarray(image.dataobj).T, volume.array)
            voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        assert back.array.dtype == dtype
        np.testing.assert_array_equal(back.array, volume.array)
        np.testing.assert_array_equal(voxels, volume.array)
        np.testing.assert_allclose(back.ijk_to_ras, matrix, atol=tolerance(suffix))
        np.testing.assert_allclose(foreign, matrix, atol=tolerance(suffix))
        assert same_geometry(back, volume) is None

    @pytest.mark.parametrize("suffix", [*FORMATS, ".seg.nrrd"])
    @given(geometry=geometries)
    @settings(max_examples=15, deadline=None)
    def test_labels(self, suffix, geometry):
        matrix, shape = geometry
        labels = Volume(np.random.default_rng(1).integers(0, 8, shape).astype(np.uint8), matrix)
        mmwhs = get_label_set("mmwhs")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"a{suffix}")
            write_labels(path, labels, mmwhs)
            back = read_labels(path, mmwhs)
            stored = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        assert back.array.dtype == np.uint8
        np.testing.assert_array_equal(back.array, labels.array)
        np.testing.assert_allclose(back.ijk_to_ras, matrix, atol=tolerance(suffix))
        np.testing.assert_array_equal(stored, mmwhs.to_source(labels.array))
        assert stored.dtype == np.uint16

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_what_was_read_is_written_as_it_was(self, tmp_path, suffix):
        """Reading and writing again and again moves nothing."""
        write_volume(tmp_path / f"a{suffix}", make_volume(3))
        first = read_volume(tmp_path / f"a{suffix}")
        write_volume(tmp_path / f"b{suffix}", first)
        second = read_volume(tmp_path / f"b{suffix}")
        np.testing.assert_allclose(second.ijk_to_ras, first.ijk_to_ras, rtol=0, atol=1e-6 if "nii" in suffix else 1e-12)

    def test_the_same_volume_gives_the_same_bytes(self, tmp_path):
        for name in ("a.nii.gz", "b.nii.gz"):
            write_volume(tmp_path / name, make_volume())
        assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()

    @pytest.mark.parametrize(
        ("dtype", "stored"), [(bool, np.uint8), (np.float16, np.float32), (np.int64, np.int32), (np.uint64, np.uint32)]
    )
    @pytest.mark.parametrize("suffix", FORMATS)
    def test_types_that_no_format_holds(self, tmp_path, suffix, dtype, stored):
        volume = Volume(np.array([[[0, 1], [1, 0]]], dtype=dtype), np.eye(4))
        write_volume(tmp_path / f"a{suffix}", volume)
        back = read_volume(tmp_path / f"a{suffix}").array
        assert back.dtype == stored
        np.testing.assert_array_equal(back, volume.array)

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_sheared_grids(self, tmp_path, suffix):
        """A tilted gantry: ITK would quietly straighten this in a NIfTI file."""
        volume = make_volume()
        volume.ijk_to_ras[:3, 2] += volume.ijk_to_ras[:3, 1]
        write_volume(tmp_path / f"a{suffix}", volume)
        np.testing.assert_allclose(read_volume(tmp_path / f"a{suffix}").ijk_to_ras, volume.ijk_to_ras, atol=1e-4)


class TestSeries:
    @pytest.mark.parametrize("suffix", FORMATS)
    @pytest.mark.parametrize("left_handed", [False, True])
    def test_round_trip(self, tmp_path, suffix, left_handed):
        frames = [
            Volume(make_volume(index).array, make_matrix(7, left_handed=left_handed), index * 0.04)
            for index in range(4)
        ]
        path = tmp_path / f"cine{suffix}"
        write_series(path, frames)
        back = read_series(path)
        assert [frame.time_s for frame in back] == pytest.approx([0, 0.04, 0.08, 0.12])
        for frame, expected in zip(back, frames, strict=True):
            np.testing.assert_array_equal(frame.array, expected.array)
            np.testing.assert_allclose(frame.ijk_to_ras, expected.ijk_to_ras, atol=1e-4)
        np.testing.assert_array_equal(read_volume(path, frame=2).array, frames[2].array)

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_times_are_not_made_up(self, tmp_path, suffix):
        write_series(tmp_path / f"a{suffix}", [make_volume(), make_volume()])
        assert [frame.time_s for frame in read_series(tmp_path / f"a{suffix}")] == [None, None]

    def test_nibabel_sees_the_same_frames(self, tmp_path):
        frames = [make_volume(index).array for index in range(3)]
        write_series(
            tmp_path / "a.nii.gz", [Volume(frame, make_matrix(1), index * 0.03) for index, frame in enumerate(frames)]
        )
        image = nib.load(tmp_path / "a.nii.gz")
        assert image.header.get_zooms()[3] == pytest.approx(0.03)
        assert image.header.get_xyzt_units() == ("mm", "sec")
        np.testing.assert_array_equal(np.asanyarray(image.dataobj).T, frames)
        np.testing.assert_allclose(image.affine, make_matrix(1), atol=1e-4)

    def test_milliseconds(self, tmp_path):
        image = nib.Nifti1Image(np.zeros((4, 5, 3, 2), np.int16), np.eye(4))
        image.header.set_zooms((1, 1, 1, 35))
        image.header.set_xyzt_units("mm", "msec")
        nib.save(image, tmp_path / "a.nii.gz")
        assert read_series(tmp_path / "a.nii.gz")[1].time_s == pytest.approx(0.035)

    def test_a_single_volume_is_a_series_of_one(self, tmp_path):
        write_volume(tmp_path / "a.nrrd", make_volume())
        assert [frame.array.shape for frame in read_series(tmp_path / "a.nrrd")] == [(3, 5, 4)]

    def test_a_fourth_axis_of_one_is_none(self, tmp_path):
        nib.save(nib.Nifti1Image(np.ones((4, 5, 3, 1), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
        assert read_volume(tmp_path / "a.nii.gz").array.shape == (3, 5, 4)

    def test_a_sequence_of_slicer(self, tmp_path):
        """Slicer's .seq.nrrd has the frames on an axis of the kind `list`, which ITK takes for a vector."""
        frames = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
        header = (
            "NRRD0004\ntype: short\ndimension: 4\nspace: left-posterior-superior\nsizes: 5 4 3 2\n"
            "space directions: (1.5,0,0) (0,1.5,0) (0,0,8) none\nkinds: domain domain domain list\n"
            'labels: "" "" "" "time"\nunits: "" "" "" "ms"\nendian: little\nencoding: raw\nspace origin: (10,20,30)\n'
            "axis 3 index values:=10.0 50.0\n\n"
        )
        (tmp_path / "a.seq.nrrd").write_bytes(header.encode() + frames.tobytes())
        back = read_series(tmp_path / "a.seq.nrrd")
        assert [frame.time_s for frame in back] == pytest.approx([0, 0.04])
        np.testing.assert_array_equal([frame.array for frame in back], frames)
        np.testing.assert_array_equal(back[1].ijk_to_ras[:3, 3], [-10, -20, 30])

    def test_asking_for_frames(self, tmp_path):
        write_series(tmp_path / "a.nii.gz", [make_volume()] * 3)
        with pytest.raises(UserError, match=r"time series of 3 frames.*Say which frame"):
            read_volume(tmp_path / "a.nii.gz")
        with pytest.raises(UserError, match=r"no frame 3\. Frames go from 0 to 2"):
            read_volume(tmp_path / "a.nii.gz", frame=3)

    def test_labels_of_a_frame(self, tmp_path):
        labels = [Volume(np.full((2, 3, 3), value, np.uint8), np.eye(4)) for value in (1, 2)]
        write_series(tmp_path / "cine.nii.gz", labels)
        write_volume(tmp_path / "one.nii.gz", labels[0])
        assert read_labels(tmp_path / "cine.nii.gz", ACDC, frame=1).array.max() == 2
        assert read_labels(tmp_path / "one.nii.gz", ACDC, frame=5).array.max() == 1  # the labels of that one frame
        with pytest.raises(UserError, match="time series"):
            read_labels(tmp_path / "cine.nii.gz", ACDC)


class TestNiftiOfOthers:
    """Headers as other programs write them."""

    @pytest.mark.parametrize(("sform", "qform"), [(1, 0), (0, 1), (2, 1), (1, 1), (4, 4)])
    @pytest.mark.parametrize("left_handed", [False, True])
    def test_either_matrix(self, tmp_path, sform, qform, left_handed):
        matrix = make_matrix(5, left_handed=left_handed)
        array = make_volume().array
        image = nib.Nifti1Image(array.T, matrix)
        image.set_sform(matrix if sform else None, sform)
        image.set_qform(matrix if qform else None, qform)
        nib.save(image, tmp_path / "a.nii.gz")
        volume = read_volume(tmp_path / "a.nii.gz")
        np.testing.assert_allclose(volume.ijk_to_ras, matrix, atol=1e-4)
        np.testing.assert_array_equal(volume.array, array)

    def test_without_either_matrix_it_lies_where_slicer_shows_it(self, tmp_path):
        image = nib.Nifti1Image(np.zeros((4, 5, 3), np.int16), None)
        image.header.set_zooms((1.5, 1.25, 8))
        nib.save(image, tmp_path / "a.nii.gz")
        volume = read_volume(tmp_path / "a.nii.gz")
        np.testing.assert_allclose(volume.ijk_to_ras, matrix_by_simpleitk(tmp_path / "a.nii.gz"))
        np.testing.assert_allclose(volume.spacing, [1.5, 1.25, 8])

    def test_a_sheared_sform_that_itk_refuses(self, tmp_path):
        matrix = np.array([[1.2, 0.3, 0, 5], [0, 1.4, 0.2, -3], [0.1, 0, 8, 7], [0, 0, 0, 1]])
        image = nib.Nifti1Image(np.zeros((4, 5, 3), np.int16), matrix)
        image.set_sform(matrix, 1)
        image.set_qform(None, 0)
        nib.save(image, tmp_path / "a.nii.gz")
        with pytest.raises(RuntimeError, match="orthonormal"):
            sitk.ReadImage(str(tmp_path / "a.nii.gz"))
        np.testing.assert_allclose(read_volume(tmp_path / "a.nii.gz").ijk_to_ras, matrix, atol=1e-6)

    def test_scaled_intensities(self, tmp_path):
        image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
        image.header.set_slope_inter(0.5, -3)
        nib.save(image, tmp_path / "a.nii.gz")
        stored = np.asanyarray(nib.load(tmp_path / "a.nii.gz").dataobj)
        volume = read_volume(tmp_path / "a.nii.gz")
        np.testing.assert_allclose(volume.array, stored.T)
        np.testing.assert_allclose(volume.array, sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii.gz"))))

    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize("byte_order", ["<", ">"])
    def test_versions_and_byte_orders(self, tmp_path, kind, byte_order):
        array = make_volume().array
        header = kind.header_class(endianness=byte_order)
        header.set_data_dtype(np.dtype(np.int16).newbyteorder(byte_order))
        nib.save(kind(array.T, make_matrix(2), header), tmp_path / "a.nii.gz")
        volume = read_volume(tmp_path / "a.nii.gz")
        np.testing.assert_array_equal(volume.array, array)
        assert volume.array.dtype.isnative
        np.testing.assert_allclose(volume.ijk_to_ras, make_matrix(2), atol=1e-4)

    def test_a_gzip_file_without_the_name_of_one(self, tmp_path):
        write_volume(tmp_path / "a.nii.gz", make_volume())
        (tmp_path / "a.nii.gz").rename(tmp_path / "b.nii")
        np.testing.assert_array_equal(read_volume(tmp_path / "b.nii").array, make_volume().array)


def write_dicom(
    folder: Path, array: np.ndarray, *, step: tuple[float, float, float] = (0, 0, 8), **tags: str
) -> list[Path]:
    """One file for each slice [slice,row,col], axial, 1.5 mm in the plane."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    uid = tags.pop("uid", "1.2.3")
    paths = []
    for index, plane in enumerate(array):
        image = sitk.GetImageFromArray(plane)
        image.SetSpacing((1.5, 1.5))
        position = "\\".join(str(start + index * along) for start, along in zip((-10, -20, 30), step, strict=True))
        entries = {
            "0008|0060": "MR",
            "0008|0018": f"{uid}.{index + 1}.{tags.get('number', '0')}",
            "0020|000d": "1.2",
            "0020|000e": uid,
            "0020|0013": tags.get("number", str(index + 1)),
            "0020|0032": position,
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0008|103e": tags.get("description", "cine sax"),
        }
        if "trigger" in tags:
            entries["0018|1060"] = tags["trigger"]
        for key, value in entries.items():
            image.SetMetaData(key, value)
        # Names against the order of the slices, as exports often have them.
        path = folder / f"{len(array) - index:03d}_{tags.get('number', '0')}.dcm"
        writer.SetFileName(str(path))
        writer.Execute(image)
        paths.append(path)
    return paths


class TestDicom:
    array = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)

    def test_a_series_is_a_volume(self, tmp_path):
        write_dicom(tmp_path / "s", self.array)
        volume = read_volume(tmp_path / "s")
        np.testing.assert_array_equal(volume.array, self.array)
        expected = FLIP @ [[1.5, 0, 0, -10], [0, 1.5, 0, -20], [0, 0, 8, 30], [0, 0, 0, 1]]
        np.testing.assert_allclose(volume.ijk_to_ras, expected)
        assert volume.time_s is None

    def test_files_without_suffix(self, tmp_path):
        for path in write_dicom(tmp_path / "s", self.array):
            path.rename(path.with_suffix(""))
        np.testing.assert_array_equal(read_volume(tmp_path / "s").array, self.array)

    def test_a_tilted_gantry_keeps_its_slices_in_place(self, tmp_path):
        write_dicom(tmp_path / "s", self.array, step=(0, 2, 8))
        np.testing.assert_allclose(read_volume(tmp_path / "s").ijk_to_ras[:3, 2], [0, -2, 8])

    def test_several_images_at_each_position_are_frames(self, tmp_path):
        for number, trigger in ((2, "45"), (1, "5"), (3, "85")):
            write_dicom(tmp_path / "s", self.array + number, number=str(number), trigger=trigger)
        frames = read_series(tmp_path / "s")
        assert [frame.time_s for frame in frames] == pytest.approx([0, 0.04, 0.08])
        np.testing.assert_array_equal(
            [frame.array for frame in frames], [self.array + 1, self.array + 2, self.array + 3]
        )
        with pytest.raises(UserError, match="time series of 3 frames"):
            read_volume(tmp_path / "s")

    def test_a_missing_slice(self, tmp_path):
        write_dicom(tmp_path / "s", self.array)[2].unlink()
        with pytest.raises(UserError, match=r"run from 8.00 to 16.00 mm. A slice is missing"):
            read_volume(tmp_path / "s")

    def test_a_missing_image_of_a_time_series(self, tmp_path):
        write_dicom(tmp_path / "s", self.array, number="1")
        write_dicom(tmp_path / "s", self.array, number="2")[1].unlink()
        with pytest.raises(UserError, match="between 1 and 2 images"):
            read_series(tmp_path / "s")

    def test_several_series_are_listed(self, tmp_path):
        write_dicom(tmp_path / "s", self.array, description="cine sax")
        write_dicom(tmp_path / "s", self.array[:2], description="scout", uid="1.2.4", number="9")
        with pytest.raises(UserError, match=r"2 DICOM series: 'cine sax' \(5 files\); 'scout' \(2 files\)"):
            read_volume(tmp_path / "s")

    def test_a_folder_without_dicom(self, tmp_path):
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(UserError, match="no DICOM series"):
            read_volume(tmp_path)


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

    def test_segments_that_are_not_in_the_set(self, tmp_path):
        segments = [
            {"ID": "a", "Name": "Scar", "LabelValue": "1", "Layer": "0"},
            {"ID": "b", "Name": "Empty", "LabelValue": "2", "Layer": "0"},
        ]
        path = write_segmentation(tmp_path / "a.seg.nrrd", np.ones((1, 2, 2), np.uint8), segments)
        with pytest.raises(UserError, match=r"the segments 'Scar' \(4 voxels\) are not in the label set 'acdc'"):
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


class TestBadFiles:
    @pytest.mark.parametrize("suffix", [*FORMATS, ".seg.nrrd"])
    @pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.97])
    def test_a_file_cut_short(self, tmp_path, suffix, share):
        """Also where the header and much of the voxels are there: ITK fills the rest of a NIfTI file with zeros."""
        path = tmp_path / f"a{suffix}"
        volume = Volume(np.random.default_rng(0).integers(0, 4, (6, 30, 30)).astype(np.uint8), np.eye(4))
        write_labels(path, volume, ACDC)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        for read in (lambda: read_volume(path), lambda: read_labels(path, ACDC)):
            with pytest.raises(UserError) as caught:
                read()
            assert caught.value.where == str(path)
            assert caught.value.hint

    def test_a_gzip_file_that_lacks_only_its_checksum(self, tmp_path):
        write_volume(tmp_path / "a.nii.gz", make_volume())
        whole = (tmp_path / "a.nii.gz").read_bytes()
        (tmp_path / "a.nii.gz").write_bytes(whole[:-4])
        with pytest.raises(UserError, match="cut short"):
            read_volume(tmp_path / "a.nii.gz")

    def test_a_flipped_bit(self, tmp_path):
        write_volume(tmp_path / "a.nii.gz", make_volume(shape=(5, 20, 20)))
        data = bytearray((tmp_path / "a.nii.gz").read_bytes())
        data[len(data) // 2] ^= 16
        (tmp_path / "a.nii.gz").write_bytes(data)
        with pytest.raises(UserError, match="damaged"):
            read_volume(tmp_path / "a.nii.gz")

    @pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.seg.nrrd"])
    @pytest.mark.parametrize("content", [b"", b"<html>not found</html>", gzip.compress(b"no volume"), bytes(400)])
    def test_not_a_volume(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="damaged, cut short or not what its name says"):
            read_volume(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha", "folder"])
    def test_a_missing_file(self, tmp_path, name):
        for read in (lambda: read_volume(tmp_path / name), lambda: read_labels(tmp_path / name, ACDC)):
            with pytest.raises(UserError, match="missing"):
                read()

    def test_another_kind_of_file(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"x")
        with pytest.raises(UserError, match=r"not a volume file.*nii\.gz"):
            read_volume(tmp_path / "a.png")

    def test_rgb_nifti(self, tmp_path):
        rgb = np.zeros((4, 5, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "a.nii.gz")
        with pytest.raises(UserError, match="RGB"):
            read_volume(tmp_path / "a.nii.gz")

    @pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
    def test_vectors(self, tmp_path, suffix):
        sitk.WriteImage(
            sitk.GetImageFromArray(np.zeros((3, 5, 4, 2), np.float32), isVector=True), str(tmp_path / f"a{suffix}")
        )
        with pytest.raises(UserError, match=r"one number in each voxel"):
            read_volume(tmp_path / f"a{suffix}")

    def test_complex(self, tmp_path):
        nib.save(nib.Nifti1Image(np.zeros((4, 5, 3), np.complex64), np.eye(4)), tmp_path / "a.nii.gz")
        with pytest.raises(UserError, match="type complex64"):
            read_volume(tmp_path / "a.nii.gz")

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_flat_images(self, tmp_path, suffix):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 4), np.int16)), str(tmp_path / f"a{suffix}"))
        with pytest.raises(UserError, match="two-dimensional"):
            read_volume(tmp_path / f"a{suffix}")

    def test_label_values_that_are_not_in_the_set(self, tmp_path):
        write_volume(tmp_path / "a.nii.gz", Volume(np.full((1, 2, 3), 7, np.uint8), np.eye(4)))
        with pytest.raises(UserError, match=r"7 \(6 voxels\)") as caught:
            read_labels(tmp_path / "a.nii.gz", ACDC)
        assert caught.value.where == str(tmp_path / "a.nii.gz")


class TestWriting:
    @pytest.mark.parametrize("name", ["a.png", "a.dcm", "a", "a.mhd"])
    def test_names_of_other_formats(self, tmp_path, name):
        with pytest.raises(UserError, match=r"End it with .nii.gz"):
            write_volume(tmp_path / name, make_volume())
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("suffix", [*FORMATS, ".seg.nrrd"])
    def test_a_full_disk_leaves_what_was_there(self, tmp_path, monkeypatch, suffix):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"before")

        def half(data: object, place: object, *_: object, **__: object) -> None:
            Path(str(place)).write_bytes(b"half")
            raise RuntimeError("ITK ERROR: failed to write")

        def half_of_bytes(self: Path, data: bytes) -> None:
            with open(self, "wb") as file:
                file.write(data[:4])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("SimpleITK.WriteImage", half)
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
        monkeypatch.setattr(Path, "write_bytes", half_of_bytes if suffix.startswith(".nii") else Path.write_bytes)
        with pytest.raises(UserError, match="disk is full"):
            write_labels(path, Volume(np.zeros((1, 2, 2), np.uint8), np.eye(4)), ACDC)
        monkeypatch.undo()
        assert path.read_bytes() == b"before"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd", ".mha"])
    def test_a_writer_that_does_not_notice_the_full_disk(self, tmp_path, monkeypatch, suffix):
        """ITK loses what its buffers hold when the disk fills up with the last bytes, and reports success."""
        original = sitk.WriteImage

        def cut(image: sitk.Image, place: str, **options: object) -> None:
            original(image, place, **options)
            Path(place).write_bytes(Path(place).read_bytes()[:-200])

        monkeypatch.setattr("SimpleITK.WriteImage", cut)
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
        labels = Volume(np.random.default_rng(0).integers(0, 4, (3, 40, 40)).astype(np.uint8), np.eye(4))
        with pytest.raises(UserError, match="disk is full"):
            write_labels(tmp_path / f"a{suffix}", labels, ACDC)
        assert not list(tmp_path.iterdir())


class TestSameGeometry:
    def test_names_the_sizes(self):
        text = same_geometry(make_volume(shape=(3, 5, 4)), make_volume(shape=(3, 5, 6)))
        assert text == "the sizes are 4 x 5 x 3 and 6 x 5 x 3 voxels"

    def test_rounding_of_nifti_is_no_difference(self):
        volume = make_volume(shape=(10, 300, 300))
        rounded = Volume(volume.array, volume.ijk_to_ras.astype(np.float32).astype(float))
        assert same_geometry(volume, rounded) is None

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                lambda matrix: matrix + np.outer([3, 4, 0, 0], [0, 0, 0, 1]),
                "up to 5 mm apart: the first voxels are 5 mm",
            ),
            (lambda matrix: matrix @ np.diag([1.25, 1, 1, 1]), "the spacings are 2 x 2 x 8 and 2.5 x 2 x 8 mm"),
            (lambda matrix: matrix @ np.diag([-1, 1, 1, 1]), "turned by up to 180.0 degrees"),
            (lambda matrix: np.diag([-1, -1, 1, 1]) @ matrix, "turned by up to 180.0 degrees"),  # LPS taken for RAS
        ],
    )
    def test_says_by_how_much(self, change, said):
        matrix = np.diag([2.0, 2.0, 8.0, 1.0])
        array = np.zeros((3, 5, 4), np.uint8)
        assert said in same_geometry(Volume(array, matrix), Volume(array, change(matrix)))

    def test_a_shift_of_a_tenth_of_a_voxel_is_seen(self):
        matrix = np.eye(4)
        matrix[0, 3] = 0.1
        assert same_geometry(Volume(np.zeros((2, 2, 2)), np.eye(4)), Volume(np.zeros((2, 2, 2)), matrix))


class TestVolume:
    def test_spacing_and_size_of_a_voxel(self):
        volume = Volume(np.zeros((2, 3, 4)), make_matrix(0) @ np.diag([1, 1, 1, 1]))
        np.testing.assert_allclose(volume.spacing, np.linalg.norm(make_matrix(0)[:3, :3], axis=0))
        assert Volume(np.zeros((2, 3, 4)), np.diag([1.25, -1.25, 8, 1])).voxel_ml == pytest.approx(0.0125)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("a/b.nii.gz", "b"),
            ("b.seg.nrrd", "b"),
            ("b.seq.nrrd", "b"),
            ("B.NII.GZ", "B"),
            ("v1.2_x.nii", "v1.2_x"),
            ("b.mha", "b"),
            ("series.1", "series.1"),
        ],
    )
    def test_stem(self, name, expected):
        assert stem(Path(name)) == expected


class TestRealVolumes:
    pytestmark = needs_data

    @pytest.mark.parametrize("name", ["A0S9V9_sa_ED", "A1D9Z7_sa_ES"])
    @pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".seg.nrrd", ".mha"])
    def test_labels_land_on_an_oblique_image_whoever_reads_them(self, tmp_path, name, suffix):
        source = DATA / "extras" / "mnms" / f"{name}.nii.gz"
        image = read_volume(source)
        labels = np.zeros(image.array.shape, np.uint8)
        labels[3:6, 100:120, 90:130] = 3
        path = tmp_path / f"labels{suffix}"
        write_labels(path, image.with_array(labels), ACDC)
        theirs, ours = sitk.ReadImage(str(source)), sitk.ReadImage(str(path))
        inside = np.argwhere(sitk.GetArrayFromImage(ours) == 3)[:, ::-1]
        for index in (inside[0], inside[-1]):
            point = ours.TransformIndexToPhysicalPoint(index.tolist())
            np.testing.assert_allclose(theirs.TransformPhysicalPointToContinuousIndex(point), index, atol=1e-3)
        if suffix == ".nii.gz":
            np.testing.assert_allclose(nib.load(path).affine, nib.load(source).affine, atol=1e-4)
            np.testing.assert_array_equal(np.asanyarray(nib.load(path).dataobj).T, labels)

    def test_a_single_slice(self):
        volume = read_volume(DATA / "extras" / "cinema" / "mnms2_lax_4c_ed.nii.gz")
        assert volume.array.shape == (1, 256, 256)
