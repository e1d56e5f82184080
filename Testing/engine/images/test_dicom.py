"""Folders with a DICOM series: what makes a volume, and what is no stack, no series or no image."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from semicardiac.base.errors import UserError
from semicardiac.data.discover import discover
from semicardiac.images.volumes import count_frames, read_series, read_volume

from Testing.engine.data.support import DATA
from Testing.engine.images.dicom_files import AXIAL, CINE, MATRIX, place, write_cine, write_image

ARRAY = CINE[0]
"""[slice,row,col]."""
FRAGMENT = pydicom.encaps.encapsulate([b"no picture"])
JPEG = {"syntax": JPEG2000Lossless, "PixelData": FRAGMENT}


def write_slices(folder: Path, array: np.ndarray = ARRAY, **attributes: Any) -> list[Path]:
    """The files in the order of the slices, unlike their names."""
    paths = write_cine(folder, lambda index, _: {"InstanceNumber": 9 - index} | attributes, array[None])
    return sorted(paths, key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])


def patch(path: Path, old: bytes, new: bytes) -> None:
    """What pydicom would refuse to write."""
    content = path.read_bytes()
    assert len(old) == len(new)
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def refuse(folder: Path, said: str) -> UserError:
    with pytest.raises(UserError, match=said) as caught:
        read_series(folder)
    assert "Doe" not in str(caught.value)
    return caught.value


class TestVolume:
    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
    def test_a_series_is_a_volume(self, tmp_path, syntax):
        stored = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
        write_cine(
            tmp_path,
            lambda index, _: {"syntax": syntax, "PixelData": ARRAY[index].astype(stored).tobytes()},
            ARRAY[None],
        )
        volume = read_volume(tmp_path)
        np.testing.assert_array_equal(volume.array, ARRAY)
        np.testing.assert_allclose(volume.ijk_to_ras, MATRIX)
        assert volume.time_s is None
        assert count_frames(tmp_path) == 1

    @pytest.mark.parametrize("modality", ["", "MR"])
    def test_as_written_by_itk(self, tmp_path, modality):
        image = sitk.GetImageFromArray(ARRAY)
        image.SetSpacing((1.25, 1.5, 8))
        for index in range(len(ARRAY)):
            plane = image[:, :, index]
            plane.SetMetaData("0020|0032", "\\".join(map(str, place(index))))
            plane.SetMetaData("0020|0037", "\\".join(map(str, AXIAL)))
            plane.SetMetaData("0020|000e", "1.2.3")
            plane.SetMetaData("0008|0060", modality)
            writer = sitk.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            writer.SetFileName(str(tmp_path / f"{9 - index}.dcm"))
            writer.Execute(plane)
        volume = read_volume(tmp_path)
        np.testing.assert_array_equal(volume.array, ARRAY)
        np.testing.assert_allclose(volume.ijk_to_ras, MATRIX)

    def test_a_tilted_gantry_keeps_its_slices_in_place(self, tmp_path):
        for index, plane in enumerate(ARRAY):
            write_image(tmp_path / f"{index}.dcm", plane, (0, 2 * index, 8 * index))
        np.testing.assert_allclose(read_volume(tmp_path).ijk_to_ras[:3, 2], [0, -2, 8])

    def test_each_slice_has_its_own_rescale(self, tmp_path):
        for index, plane in enumerate(ARRAY):
            scale = {"RescaleSlope": [1, 0.5, 2][index], "RescaleIntercept": [0, 0, -3][index]}
            write_image(tmp_path / f"{index}.dcm", plane, place(index), **scale)
        np.testing.assert_allclose(read_volume(tmp_path).array, [ARRAY[0], ARRAY[1] / 2, ARRAY[2] * 2.0 - 3])

    @pytest.mark.parametrize(
        ("stored", "attributes"),
        [
            (ARRAY | 0xA000, {"BitsStored": 12, "HighBit": 11}),
            (ARRAY << 4 | 9, {"BitsStored": 12, "HighBit": 15}),
            (-ARRAY.astype(int) & 0xFFFF, {"PixelRepresentation": 1}),
            (-ARRAY.astype(int) & 0xFFF, {"PixelRepresentation": 1, "BitsStored": 12, "HighBit": 11}),
        ],
        ids=["others in the high bits", "others in the low bits", "signed", "signed, of 12 bits"],
    )
    def test_pixels_of_fewer_bits(self, tmp_path, stored, attributes):
        write_slices(tmp_path, stored.astype(np.uint16), **attributes)
        read = read_volume(tmp_path).array
        np.testing.assert_array_equal(read, -ARRAY.astype(int) if "PixelRepresentation" in attributes else ARRAY)

    @pytest.mark.parametrize(
        ("attributes", "thick"), [({}, 6), ({"SpacingBetweenSlices": 9.5}, 9.5), ({"SpacingBetweenSlices": -9.5}, 9.5)]
    )
    def test_a_single_slice_is_as_thick_as_it_says(self, tmp_path, attributes, thick):
        write_image(tmp_path / "a.dcm", ARRAY[0], **attributes)
        np.testing.assert_allclose(read_volume(tmp_path).spacing, [1.25, 1.5, thick])

    def test_files_of_other_kinds_are_left_alone(self, tmp_path):
        write_slices(tmp_path)
        write_image(tmp_path / "report", ARRAY[0], Rows=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
        (tmp_path / "notes.txt").write_text("x")
        (tmp_path / "._IM1.dcm").write_bytes(b"\0\5\x16\7")  # as macOS leaves it on other disks
        (tmp_path / "sub.dcm").mkdir()
        np.testing.assert_array_equal(read_volume(tmp_path).array, ARRAY)


class TestCopies:
    def test_a_series_that_was_exported_twice_counts_once(self, tmp_path):
        for path in write_slices(tmp_path):
            shutil.copy(path, path.with_name(f"{path.stem} (1).dcm"))
        np.testing.assert_array_equal([frame.array for frame in read_series(tmp_path)], [ARRAY])

    @pytest.mark.parametrize("copied", [1, 3])
    def test_versions_of_an_image_are_an_error(self, tmp_path, copied):
        for number, path in enumerate(write_slices(tmp_path)[:copied]):
            copy = pydicom.dcmread(path)
            copy.InstanceNumber = 100 + number
            copy.ContentTime = "101200"
            copy.save_as(path.with_name(f"{path.stem} (1).dcm"))
        refuse(tmp_path, r"'IM\d \(1\).dcm' and 'IM\d.dcm' are the same image .* exported twice")

    def test_one_identity_for_all_images_of_a_careless_program(self, tmp_path):
        write_slices(tmp_path, SOPInstanceUID="1.2.3.4")
        np.testing.assert_array_equal(read_volume(tmp_path).array, ARRAY)


class TestNoStack:
    def test_a_missing_slice(self, tmp_path):
        write_slices(tmp_path, np.concatenate([ARRAY, ARRAY]))[2].unlink()
        refuse(tmp_path, r"between 'IM\d.dcm' and 'IM\d.dcm' .* run from 8.00 to 16.00 mm. A slice is missing")

    def test_a_missing_image_of_a_time_series(self, tmp_path):
        write_cine(tmp_path, lambda _, time: {"TriggerTime": 40.0 * time})[0].unlink()
        refuse(tmp_path, r"between 3 and 4 images, so that some are missing: 3 where 'IM\d+.dcm' lies")

    @pytest.mark.parametrize(
        ("attributes", "said"),
        [
            ({"ImagePositionPatient": None}, "odd.dcm: ImagePositionPatient is missing"),
            ({"ImageOrientationPatient": None}, "odd.dcm: ImageOrientationPatient is missing"),
            ({"PixelSpacing": None}, "odd.dcm: PixelSpacing is missing"),
            ({"PixelSpacing": [0, 1.25]}, "odd.dcm: PixelSpacing is 0 x 1.25 mm"),
            ({"PixelSpacing": [1.5, 1.5]}, "differs: 1.5 x 1.25 mm in 'IM0.dcm', and 1.5 x 1.5 mm in 'odd.dcm'"),
            ({"ImageOrientationPatient": [1, 0, 0, 0, 0, 1]}, "'odd.dcm' is turned by 90.0 degrees against 'IM"),
            ({"ImageOrientationPatient": [0, 1, 0, -1, 0, 0]}, "'odd.dcm' is turned by 90.0 degrees against 'IM"),
            ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "odd.dcm: ImageOrientationPatient holds no two perpend"),
            ({"position": [-9, -20.5, 46]}, "shifted in their plane"),
            ({"array": ARRAY[0, :-1]}, "sizes of the images differ: 'IM0.dcm' has 6 rows .*, and 'odd.dcm' has 5"),
            ({"position": place(1)}, "between 1 and 2 images"),
        ],
        ids=["no position", "no orientation", "no spacing", "spacing of 0", "another spacing", "tilted", "turned",
             "no orthogonal axes", "shifted", "another size", "at the place of another one"],
    )  # fmt: skip
    def test_a_slice_that_does_not_belong(self, tmp_path, attributes, said):
        write_slices(tmp_path)[2].unlink()
        write_image(tmp_path / "odd.dcm", **{"array": ARRAY[2], "position": place(2)} | attributes)
        write_image(tmp_path / "IM1.dcm", ARRAY[2], place(3))
        refuse(tmp_path, said)

    def test_slices_beside_one_another(self, tmp_path):
        for index, plane in enumerate(ARRAY):
            write_image(tmp_path / f"{index}.dcm", plane, (20 * index, 0, 8 * index))
        refuse(tmp_path, "shifted in their plane: '0.dcm' and '2.dcm' lie 16.00 mm apart, and 40.00 mm aside")

    def test_slices_that_lost_their_positions_are_no_cine(self, tmp_path):
        for index, plane in enumerate(ARRAY):
            write_image(tmp_path / f"{index}.dcm", plane, InstanceNumber=index)
        refuse(tmp_path, "3 images, which all lie at one place, are times, .*InstanceNumber alone does not say so")
        for index, plane in enumerate(ARRAY):
            write_image(tmp_path / f"{index}.dcm", plane, TriggerTime=40.0 * index, SliceLocation=8.0 * index)
        refuse(tmp_path, "'0.dcm' and '2.dcm' have the same ImagePositionPatient, .* lie 16.00 mm apart")

    def test_a_single_slice_of_unknown_thickness(self, tmp_path):
        write_image(tmp_path / "a.dcm", ARRAY[0], SliceThickness=None)
        refuse(tmp_path, "nothing says how thick this single DICOM slice is")

    def test_several_series_are_listed(self, tmp_path):
        write_slices(tmp_path)
        write_image(tmp_path / "x", ARRAY[0], SeriesInstanceUID="1.2.4", SeriesDescription="scout\x1b[2J")
        said = r"2 DICOM series: 'cine sax' \(3 files\); 'scout\[2J' \(1 file\)\. .*export them as one series, or join"
        refuse(tmp_path, said)

    def test_a_folder_without_dicom(self, tmp_path):
        (tmp_path / "notes.txt").write_text("x")
        refuse(tmp_path, "no DICOM series")


class TestHeaders:
    @pytest.mark.parametrize(
        ("field", "old", "new"),
        [
            ("ImagePositionPatient", b"-10.0\\-20.5\\", b"-10.0\\-20,5\\"),
            ("ImagePositionPatient", b"-10.0\\-20.5\\", b"-10.0\\-20.5 "),
            ("ImageOrientationPatient", b"1.0\\0.0\\0.0\\0.0\\1.0", b"1.0\\0.0\\0.0\\0.0\\Doe"),
            ("PixelSpacing", b"1.5\\1.25", b"1.5\\nan "),
            ("PixelSpacing", b"1.5\\1.25", b"1.5\\\xff\xfe25"),
            ("Rows", b"\x28\0\x10\0US\2\0\6\0", b"\x28\0\x10\0UL\2\0\6\0"),
        ],
        ids=["comma", "two numbers", "a word", "nan", "no text", "another type"],
    )
    def test_a_field_that_is_not_numbers(self, tmp_path, field, old, new):
        path = write_slices(tmp_path)[1]
        patch(path, old, new)
        assert refuse(tmp_path, f"{field} in this DICOM file is not").where == str(path)

    @pytest.mark.parametrize(
        ("attributes", "said"),
        [
            ({"Rows": 60_000, "Columns": 60_000}, "promises 1 x 60000 x 60000 pixels"),
            ({"NumberOfFrames": 2**31 - 1}, "promises 2147483647 x 6 x 7 pixels"),
            ({"NumberOfFrames": 2**31 - 1, **JPEG}, "promises"),
            ({"Rows": 60_000, "Columns": 60_000, **JPEG}, "promises"),
            (JPEG, "stored as 'JPEG 2000 Image Compression .*', are damaged"),
            ({"syntax": DeflatedExplicitVRLittleEndian}, "deflated as a whole"),
            ({"Rows": 0}, "no counts"),
            ({"Rows": None}, "is no DICOM image, or its header is damaged"),
            ({"BitsAllocated": 1}, "segmentation"),
            ({"SamplesPerPixel": 3}, "color image"),
        ],
    )  # fmt: skip
    def test_images_that_cannot_be(self, tmp_path, attributes, said):
        write_image(tmp_path / "a.dcm", ARRAY[0], **attributes)
        refuse(tmp_path, said)

    @pytest.mark.parametrize("size", [0, 100, 140, 400, 700, -1])
    def test_a_file_that_was_cut_short(self, tmp_path, size):
        path = write_slices(tmp_path)[0]
        path.write_bytes(path.read_bytes()[:size])
        assert refuse(tmp_path, "damaged|promises|cut short").where == str(path)

    @pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
    def test_a_name_that_is_not_utf8(self, tmp_path):
        path = write_slices(tmp_path)[0]
        path.rename(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.dcm"))
        np.testing.assert_array_equal(read_volume(tmp_path).array, ARRAY)

    def test_random_damage_is_no_crash(self, tmp_path):
        path = write_slices(tmp_path)[1]
        content, draw = path.read_bytes(), np.random.default_rng(0)
        for _ in range(150):
            damaged = np.frombuffer(content, np.uint8).copy()
            places = draw.integers(132, len(content) - ARRAY[0].nbytes, draw.integers(1, 5))
            damaged[places] = draw.integers(0, 256, len(places))
            path.write_bytes(damaged.tobytes())
            with contextlib.suppress(UserError):
                read_series(tmp_path)


class TestWithoutSuffix:
    def test_a_folder_that_is_named(self, tmp_path):
        for path in write_slices(tmp_path / "SER01"):
            path.rename(path.with_suffix(""))
        (tmp_path / "SER01" / "notes.txt").write_text("x")
        [case] = discover([tmp_path / "SER01"])
        np.testing.assert_array_equal(read_volume(case.image).array, ARRAY)

    def test_series_in_subfolders_are_for_a_person_to_choose(self, tmp_path):
        for path in [*write_slices(tmp_path / "S01" / "SER01"), *write_slices(tmp_path / "S01" / "SER02")]:
            path.rename(path.with_suffix(".1"))
        (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
        with pytest.raises(UserError, match=r"2 subfolders, such as 'S01.SER01'. Name the folder of each series"):
            discover([tmp_path])


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real volumes at {DATA}")
def test_a_cine_of_a_scanner_is_what_itk_reads_of_its_files():
    folder = DATA / "ep_cine" / "long_axis"
    frames = read_series(folder)
    images = [sitk.ReadImage(str(path)) for path in sorted(folder.iterdir())]
    assert len(images) == len(frames) * len(frames[0].array)
    assert all(later.time_s > earlier.time_s for earlier, later in itertools.pairwise(frames))
    for image in images:
        corner = np.append(np.array(image.GetOrigin()) * [-1, -1, 1], 1)
        col, row, index, _ = np.linalg.solve(frames[0].ijk_to_ras, corner)
        np.testing.assert_allclose([col, row, index], [0, 0, round(index)], atol=1e-3)
        pixels = sitk.GetArrayFromImage(image)[0]
        [frame] = [frame for frame in frames if np.array_equal(frame.array[round(index)], pixels)]
        trigger = float(image.GetMetaData("0018|1060")) / 1000
        first = min(float(each.GetMetaData("0018|1060")) for each in images) / 1000
        assert frame.time_s == pytest.approx(trigger - first, abs=0.01)  # the slices' heart rates differ a little
