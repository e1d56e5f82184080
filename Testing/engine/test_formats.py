"""Files that other programs wrote: NIfTI and DICOM."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from helpers_volumes import make_matrix, make_volume, matrix_by_simpleitk
from semicardiac.errors import UserError
from semicardiac.volumes import (
    count_frames,
    read_series,
    read_volume,
    write_volume,
)

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


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
        assert count_frames(tmp_path / "a.nii.gz") == 1
        assert volume.array.dtype.isnative
        np.testing.assert_allclose(volume.ijk_to_ras, make_matrix(2), atol=1e-4)

    def test_a_gzip_file_without_the_name_of_one(self, tmp_path):
        write_volume(tmp_path / "a.nii.gz", make_volume())
        (tmp_path / "a.nii.gz").rename(tmp_path / "b.nii")
        np.testing.assert_array_equal(read_volume(tmp_path / "b.nii").array, make_volume().array)
        assert count_frames(tmp_path / "b.nii") == 1


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

    def test_a_cine_with_a_series_for_each_slice_is_told_how_to_mend_it(self, tmp_path):
        for number in range(3):
            array = self.array[number : number + 1]
            for phase in ("1", "2"):
                write_dicom(tmp_path / "s", array, uid=f"1.2.{number + 5}", number=f"{number}{phase}")
        with pytest.raises(UserError, match=r"3 DICOM series.*\(2 files\).*export them as one series, or join them"):
            read_series(tmp_path / "s")

    def test_a_folder_without_dicom(self, tmp_path):
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(UserError, match="no DICOM series"):
            read_volume(tmp_path)
