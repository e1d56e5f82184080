"""NIfTI files that other programs wrote."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from semicardiac.images.volumes import count_frames, read_volume, write_volume

from Testing.engine.images.support import make_matrix, make_volume, matrix_by_simpleitk


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
