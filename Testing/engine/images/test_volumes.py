"""Volumes: exact geometry and exact numbers, there and back."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from semicardiac.base.errors import UserError
from semicardiac.images.labels import get_label_set
from semicardiac.images.volumes import (
    Volume,
    count_frames,
    read_labels,
    read_series,
    read_volume,
    same_geometry,
    stem,
    write_labels,
    write_series,
    write_volume,
)

from Testing.engine.images.support import FORMATS, make_matrix, make_volume, matrix_by_simpleitk
from Testing.engine.support import ACDC, SHARED_DATA

DATA = Path(os.environ.get("SEMICARDIAC_DATA", SHARED_DATA))


needs_data = [pytest.mark.data, pytest.mark.skipif(not DATA.is_dir(), reason=f"no real volumes at {DATA}")]


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
        assert count_frames(path) == 4

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

    @pytest.mark.parametrize("suffix", [*FORMATS, ".seg.nrrd"])
    def test_a_single_volume_counts_as_one_frame(self, tmp_path, suffix):
        labels = Volume(np.ones((2, 3, 3), np.uint8), np.eye(4))
        write_labels(tmp_path / f"a{suffix}", labels, ACDC)
        assert count_frames(tmp_path / f"a{suffix}") == 1

    @pytest.mark.parametrize("suffix", [*FORMATS])
    def test_frames_of_a_damaged_file(self, tmp_path, suffix):
        (tmp_path / f"a{suffix}").write_bytes(b"no volume")
        with pytest.raises(UserError, match="damaged"):
            count_frames(tmp_path / f"a{suffix}")

    def test_a_fourth_axis_of_one_is_none(self, tmp_path):
        nib.save(nib.Nifti1Image(np.ones((4, 5, 3, 1), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
        assert read_volume(tmp_path / "a.nii.gz").array.shape == (3, 5, 4)
        assert count_frames(tmp_path / "a.nii.gz") == 1

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
        assert count_frames(tmp_path / "a.seq.nrrd") == 2
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
