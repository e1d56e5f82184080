"""What headers of volumes leave open or say wrongly: two places, times, and files that cannot be read at all."""

from __future__ import annotations

import errno
import gzip
import os
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from semicardiac.base.errors import UserError
from semicardiac.data.checks import check_cases
from semicardiac.data.discover import discover
from semicardiac.images import image_files, volumes
from semicardiac.images.volumes import (
    count_frames,
    read_labels,
    read_series,
    read_volume,
    size_and_spacing,
    write_volume,
)

from Testing.engine.data.odd_images import MATRIX, SMALL_BATCHES, make_image, make_labels, write
from Testing.engine.images.hostile_volumes import VOXELS, nrrd
from Testing.engine.images.support import make_matrix, make_volume, matrix_by_simpleitk
from Testing.engine.support import ACDC


def write_places(path: Path, sform: np.ndarray, qform: np.ndarray, codes=(1, 1), zooms=None) -> Path:
    """A NIfTI file with these two matrices, by nibabel alone."""
    image = nib.Nifti1Image(make_volume().array.T, sform)
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1])
    data = bytearray(image.to_bytes())
    if zooms:
        struct.pack_into("<3f", data, 80, *zooms)
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


class TestTwoPlaces:
    sound = make_matrix(3)

    @pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 0), (0, 1), (4, 4)])
    @pytest.mark.parametrize("seed", range(4))
    def test_there_is_no_doubt_where_programs_agree(self, tmp_path, codes, seed):
        matrix = make_matrix(seed, left_handed=bool(seed % 2))
        assert read_volume(write_places(tmp_path / "a.nii", matrix, matrix, codes)).doubts == ()

    def moved(self) -> np.ndarray:
        matrix = self.sound.copy()
        matrix[:3, 3] += [3, 4, 12]
        return matrix

    def test_a_moved_matrix_is_told_in_mm(self, tmp_path):
        path = write_places(tmp_path / "a.nii", self.moved(), self.sound, (2, 1))
        volume = read_volume(path)
        np.testing.assert_allclose(volume.ijk_to_ras, matrix_by_simpleitk(path), atol=1e-6)
        assert "lie up to 13 mm apart" in volume.doubts[0].what
        assert "volumes" not in volume.doubts[0].what

    def test_another_size_of_the_voxels_is_told_as_a_ratio(self, tmp_path):
        longer = self.sound.copy()
        longer[:3, 2] *= 1.25
        volume = read_volume(write_places(tmp_path / "a.nii", longer, self.sound))
        assert "volumes in ml are 0.8 times theirs" in volume.doubts[0].what

    def test_sizes_of_1_mm_beside_a_matrix(self, tmp_path):
        volume = read_volume(write_places(tmp_path / "a.nii", MATRIX, MATRIX, (1, 0), zooms=(1, 1, 1)))
        assert "volumes in ml are 0.0313 times theirs" in volume.doubts[0].what  # 1 / (2 * 2 * 8)

    def test_no_place_at_all(self, tmp_path):
        image = nib.Nifti1Image(np.zeros((4, 5, 3), np.int16), None)
        image.header.set_zooms((1.5, 1.25, 8))
        nib.save(image, tmp_path / "a.nii")
        assert "neither sform nor qform" in read_volume(tmp_path / "a.nii").doubts[0].what

    def test_check_warns_once_for_an_image_and_its_labels(self, tmp_path):
        write_places(tmp_path / "a.nii.gz", self.moved(), self.sound, (2, 1))
        shape = make_volume().array.shape
        labels = nib.Nifti1Image(make_labels((3, 40, 40))[: shape[0], 10 : 10 + shape[1], 10 : 10 + shape[2]].T, None)
        labels.set_sform(self.moved(), 2)
        labels.set_qform(self.sound, 1)
        nib.save(labels, tmp_path / "a_gt.nii.gz")
        found = check_cases(discover([tmp_path]), ACDC, SMALL_BATCHES)
        assert [each.level for each in found if "contradict" in each.what and "sform" in each.what] == ["warning"]

    def test_check_warns_of_labels_alone(self, tmp_path):
        write(tmp_path / "a.nii.gz", make_image(0))
        write(tmp_path / "a_gt.nii.gz", make_labels())
        image = nib.load(tmp_path / "a_gt.nii.gz")
        moved = image.affine.copy()
        moved[0, 3] += 20
        image.set_sform(moved, 2)
        (tmp_path / "a_gt.nii.gz").write_bytes(gzip.compress(image.to_bytes()))
        found = check_cases(discover([tmp_path]), ACDC, SMALL_BATCHES)
        assert ["a_gt" in each.where for each in found if "sform" in each.what] == [True]


class TestTimes:
    directions = "(1.3,0,0) (0,1.3,0) (0,0,8.5) none"

    def write(self, path: Path, more: str = "", data: bytes = VOXELS * 3, **changes: str) -> Path:
        fields = {"dimension": "4", "sizes": "6 7 5 3", "kinds": "domain domain domain time"}
        fields["space_directions"] = self.directions
        path.write_bytes(nrrd(data, more, **(fields | changes)))
        return path

    def frames(self) -> list[np.ndarray]:
        return [np.frombuffer(VOXELS, "<i2").reshape(5, 7, 6)] * 3

    @pytest.mark.parametrize(
        ("more", "times"),
        [
            ("", [None] * 3),
            ('spacings: nan nan nan 40\nunits: "" "" "" "ms"\n', [0, 0.04, 0.08]),
            ('spacings: nan nan nan 0.05\nunits: "" "" "" "s"\n', [0, 0.05, 0.1]),
            ("spacings: nan nan nan 40\n", [None] * 3),  # of what, the file does not say
        ],
        ids=["unknown", "ms", "s", "no unit"],
    )
    def test_an_axis_of_time_without_a_direction(self, tmp_path, more, times):
        path = self.write(tmp_path / "a.nrrd", more)
        found = read_series(path)
        assert [frame.time_s for frame in found] == pytest.approx(times)
        np.testing.assert_array_equal([frame.array for frame in found], self.frames())
        np.testing.assert_allclose(np.diag(found[0].ijk_to_ras), [-1.3, -1.3, 8.5, 1])
        assert count_frames(path) == 3

    def test_packed_and_in_another_file(self, tmp_path):
        self.write(tmp_path / "a.nrrd", data=gzip.compress(VOXELS * 3), encoding="gzip")
        (tmp_path / "b.raw").write_bytes(VOXELS * 3)
        self.write(tmp_path / "b.nhdr", data=None, data_file="b.raw")
        for name in ("a.nrrd", "b.nhdr"):
            np.testing.assert_array_equal([each.array for each in read_series(tmp_path / name)], self.frames())


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_size_and_spacing_by_the_header_alone(tmp_path, suffix):
    write_volume(tmp_path / f"a{suffix}", make_volume())
    size, spacing = size_and_spacing(tmp_path / f"a{suffix}")
    assert size == make_volume().array.shape[::-1]
    assert spacing == pytest.approx(make_volume().spacing, rel=1e-6)


class TestUnreadable:
    @pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
    @pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
    def test_what_the_system_does_not_give_is_neither_damaged_nor_a_place_to_write(
        self, tmp_path, monkeypatch, suffix, code
    ):
        path = tmp_path / f"a{suffix}"
        write_volume(path, make_volume())

        def refuse(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        for module in ("nifti", "itk_headers"):
            monkeypatch.setattr(f"semicardiac.images.{module}.open", refuse, raising=False)
        for work in (read_series, count_frames, lambda path: read_labels(path, ACDC)):
            with pytest.raises(UserError, match=rf"cannot be read \({os.strerror(code)}\)") as caught:
                work(path)
            assert caught.value.where == str(path)

    def test_a_full_memory_names_the_file_and_check_goes_on(self, tmp_path, monkeypatch):
        for name in ("a", "b"):
            write(tmp_path / f"{name}.nii.gz", make_image(ord(name)))
        read_frames = volumes._read_frames

        def full(path: Path) -> object:
            if path.name == "a.nii.gz":
                raise MemoryError
            return read_frames(path)

        monkeypatch.setattr(volumes, "_read_frames", full)
        found = check_cases(discover([tmp_path]), ACDC, SMALL_BATCHES)
        assert [each.where for each in found if "not enough memory" in each.what] == [f"a: {tmp_path / 'a.nii.gz'}"]

    def test_a_volume_beyond_the_memory_of_this_computer(self, tmp_path, monkeypatch):
        write_volume(tmp_path / "a.nii.gz", make_volume())
        monkeypatch.setattr(image_files, "_memory", lambda: 1000)
        with pytest.raises(UserError, match=r"its header announces 4 x 5 x 3 voxels.*GB of memory"):
            read_volume(tmp_path / "a.nii.gz")

    def test_nibabel_says_nothing_on_the_terminal(self, tmp_path, caplog):
        path = write_places(tmp_path / "a.nii", MATRIX, MATRIX, (1, 0))
        data = bytearray(path.read_bytes())
        struct.pack_into("<h", data, 252, 17)  # a code of the qform that stands for nothing
        path.write_bytes(data)
        nib.Nifti1Header(data[:348])
        assert "code 17" in caplog.text  # else this test proves nothing
        caplog.clear()
        read_volume(path)
        assert caplog.text == ""

    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    def test_what_itk_cannot_open_is_not_told_by_it(self, tmp_path, capfd, kind):
        """A file that is packed although its name does not say so, and NIfTI-2."""
        matrix = make_matrix(3)
        voxels = np.random.default_rng(0).integers(0, 900, (20, 20, 3), np.int16)  # packed, longer than a header
        nib.save(kind(voxels, matrix), tmp_path / "a.nii.gz")
        (tmp_path / "a.nii.gz").rename(tmp_path / "a.nii")
        np.testing.assert_allclose(read_volume(tmp_path / "a.nii").ijk_to_ras, matrix, atol=1e-3)
        assert capfd.readouterr() == ("", "")

    def test_a_place_that_is_not_finite_is_not_told_by_itk(self, tmp_path, capfd):
        path = write_places(tmp_path / "a.nii", make_matrix(3), make_matrix(3), codes=(1, 0))
        data = bytearray(path.read_bytes())
        struct.pack_into("<f", data, 280, np.nan)  # the first number of the sform
        path.write_bytes(data)
        with pytest.raises(UserError, match="no usable spacing and orientation"):
            read_volume(path)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(("unit", "refused"), [("mm", False), ("", False), ("cm", True), ("m", True), ("um", True)])
    def test_lengths_of_nrrd_in_other_units(self, tmp_path, unit, refused):
        """ITK passes over them, and a heart in cm would be read as one of a tenth of its size."""
        path = tmp_path / "a.nrrd"
        write_volume(path, make_volume())
        head, voxels = path.read_bytes().split(b"\n\n", 1)
        path.write_bytes(head + b"\nspace units: " + b" ".join([f'"{unit}"'.encode()] * 3) + b"\n\n" + voxels)
        if not refused:
            np.testing.assert_array_equal(read_volume(path).array, make_volume().array)
            return
        with pytest.raises(UserError, match=f"gives lengths in {unit}, where mm are expected"):
            read_volume(path)

    def test_itk_says_nothing_on_the_terminal(self, tmp_path, capfd):
        path = write_places(tmp_path / "a.nii", MATRIX, MATRIX, (1, 0), zooms=(1, 1, 1))
        sitk.ReadImage(str(path))
        assert "WARNING" in capfd.readouterr().err  # else this test proves nothing
        read_volume(path)
        count_frames(path)
        assert capfd.readouterr() == ("", "")
