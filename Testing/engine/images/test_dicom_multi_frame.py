"""Multi-frame DICOM: enhanced MR with functional groups, and plain cines of one slice."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.tag import Tag
from pydicom.uid import EnhancedMRImageStorage, JPEG2000Lossless
from semicardiac.base.errors import UserError
from semicardiac.images.volumes import count_frames, read_series, read_volume

from Testing.engine.images.dicom_files import AXIAL, CINE, MATRIX, place, trigger_delay, write_enhanced, write_image

TIMES, SLICES = CINE.shape[:2]
SLICES_FIRST = [(index, time) for index in range(SLICES) for time in range(TIMES)]
TIMES_FIRST = [(index, time) for time in range(TIMES) for index in range(SLICES)]
SHUFFLED = random.Random(0).sample(SLICES_FIRST, len(SLICES_FIRST))


def times(index: int, time: int) -> dict[str, dict[str, Any]]:
    """As scanners number and name them."""
    content = {"StackID": "1", "InStackPositionNumber": index + 1, "TemporalPositionIndex": time + 1}
    return trigger_delay(index, time) | {"FrameContentSequence": content}


def content(**attributes: Any) -> dict[str, dict[str, Any]]:
    return {"FrameContentSequence": attributes}


def two_views(index: int, time: int) -> dict[str, dict[str, Any]]:
    axes = [1, 0, 0, 0, 1 - 2 * (index % 2), 0]
    return trigger_delay(index, time) | {"PlaneOrientationSequence": {"ImageOrientationPatient": axes}}


def assert_cine(folder: Path, cine: np.ndarray = CINE, step_s: float | None = 0.04) -> None:
    frames = read_series(folder)
    np.testing.assert_allclose([frame.array for frame in frames], cine)
    for frame in frames:
        np.testing.assert_allclose(frame.ijk_to_ras, MATRIX)
    expected = [None] * len(cine) if step_s is None else pytest.approx([step_s * time for time in range(len(cine))])
    assert [frame.time_s for frame in frames] == expected
    assert count_frames(folder) == len(cine)


class TestEnhanced:
    @pytest.mark.parametrize("images", [SLICES_FIRST, TIMES_FIRST, SHUFFLED], ids=["slices", "times", "shuffled"])
    @pytest.mark.parametrize(
        ("frame", "step_s"),
        [
            (times, 0.04),
            (trigger_delay, 0.04),
            (lambda _, time: {"TemporalPositionSequence": {"TemporalPositionTimeOffset": 0.05 * time}}, 0.05),
            (lambda _, time: content(TemporalPositionIndex=time + 1), None),
            (lambda z, time: content(FrameReferenceDateTime=f"20240101101{z}{5 * time:02d}"), 5),
            (lambda _, time: {"UnassignedPerFrameConvertedAttributesSequence": {"TriggerTime": 30.0 * time}}, 0.03),
        ],
        ids=["all", "trigger delay", "time offset", "index", "clock", "converted from single images"],
    )
    def test_one_file_with_its_frames_in_any_order(self, tmp_path, images, frame, step_s):
        write_enhanced(tmp_path / "a.dcm", images, frame=frame)
        assert_cine(tmp_path, step_s=step_s)

    def test_slices_in_packages_are_a_volume(self, tmp_path):
        write_enhanced(tmp_path / "a.dcm", [(1, 0), (0, 0), (2, 0)], frame=lambda *_: {})
        np.testing.assert_array_equal(read_volume(tmp_path).array, CINE[0])

    def test_a_file_for_each_slice(self, tmp_path):
        for index in range(SLICES):
            write_enhanced(tmp_path / f"{9 - index}", [(index, time) for time in range(TIMES)])
        assert_cine(tmp_path)

    @pytest.mark.parametrize("frame", [times, lambda *_: {}])
    def test_a_file_for_each_time(self, tmp_path, frame):
        for time in range(TIMES):
            images = [(index, time) for index in range(SLICES)]
            write_enhanced(tmp_path / f"{9 - time}", images, frame=frame, InstanceNumber=time + 1)
        assert_cine(tmp_path, step_s=0.04 if frame is times else None)

    def test_a_file_for_each_image(self, tmp_path):
        for number, image in enumerate(SHUFFLED):
            write_enhanced(tmp_path / f"{number}.dcm", [image])
        assert_cine(tmp_path)

    def test_places_of_frames_come_before_that_of_the_file(self, tmp_path):
        def frame(index: int, time: int) -> dict[str, dict[str, Any]]:
            measures = {"PixelSpacing": [1.5, 1.25], "SpacingBetweenSlices": 9.0}
            axes = {"ImageOrientationPatient": list(AXIAL)}
            return times(index, time) | {"PixelMeasuresSequence": measures, "PlaneOrientationSequence": axes}

        shared = {"PixelMeasuresSequence": None, "PlaneOrientationSequence": None}
        top = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [0, 1, 0, 0, 0, 1], "PixelSpacing": [1, 1]}
        write_enhanced(tmp_path / "a.dcm", SHUFFLED, frame=frame, shared=shared, **top)
        assert_cine(tmp_path)

    def test_each_frame_has_its_own_rescale(self, tmp_path):
        def frame(index: int, time: int) -> dict[str, dict[str, Any]]:
            scale = {"RescaleSlope": 0.5 + index, "RescaleIntercept": -time}
            return times(index, time) | {"PixelValueTransformationSequence": scale}

        write_enhanced(tmp_path / "a.dcm", SHUFFLED, frame=frame)
        slopes, intercepts = 0.5 + np.arange(SLICES)[:, None, None], -np.arange(TIMES)[:, None, None, None]
        assert_cine(tmp_path, CINE * slopes + intercepts)

    def test_a_rescale_for_all(self, tmp_path):
        scale = {"RescaleSlope": 2.0, "RescaleIntercept": 3.0}
        write_enhanced(tmp_path / "a.dcm", SHUFFLED, shared={"PixelValueTransformationSequence": scale})
        assert_cine(tmp_path, CINE * 2 + 3)


class TestJpeg2000:
    cine = np.random.default_rng(1).integers(0, 900, (2, 2, 64, 64)).astype(np.uint16)

    def write(self, path: Path, **options: Any) -> None:
        images = [(1, 0), (0, 1), (0, 0), (1, 1)]
        fragments = []
        for index, time in images:
            single = path.with_name("single.dcm")
            sitk.WriteImage(sitk.GetImageFromArray(self.cine[time, index]), str(single), True)
            dataset = pydicom.dcmread(single)
            assert dataset.file_meta.TransferSyntaxUID == JPEG2000Lossless
            fragments += pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)
            single.unlink()
        pixels = pydicom.encaps.encapsulate(fragments)
        write_enhanced(path, images, cine=self.cine, syntax=JPEG2000Lossless, PixelData=pixels, **options)

    def test_frames_are_read(self, tmp_path):
        self.write(tmp_path / "a.dcm")
        assert_cine(tmp_path, self.cine)

    def test_each_frame_has_its_own_rescale(self, tmp_path):
        def frame(index: int, time: int) -> dict[str, dict[str, Any]]:
            return times(index, time) | {"PixelValueTransformationSequence": {"RescaleSlope": index + 1.0}}

        self.write(tmp_path / "a.dcm", frame=frame)
        assert_cine(tmp_path, self.cine * np.array([1.0, 2.0])[:, None, None])


class TestPlain:
    """Classic files of many frames."""

    @pytest.mark.parametrize(
        ("attributes", "times"),
        [
            ({"FrameTime": 40.0}, [0, 0.04, 0.08, 0.12]),
            ({"FrameTime": 40.0, "FrameIncrementPointer": Tag("FrameTime")}, [0, 0.04, 0.08, 0.12]),
            ({"FrameTimeVector": [0, 30, 40, 50]}, [0, 0.03, 0.07, 0.12]),
        ],
    )
    def test_a_cine_of_one_slice(self, tmp_path, attributes, times):
        write_image(tmp_path / "a.dcm", CINE[:, 0], **attributes)
        frames = read_series(tmp_path)
        np.testing.assert_array_equal([frame.array[0] for frame in frames], CINE[:, 0])
        assert [frame.time_s for frame in frames] == pytest.approx(times)
        np.testing.assert_allclose(frames[0].spacing, [1.25, 1.5, 6])

    def test_a_file_for_each_slice(self, tmp_path):
        for index in range(SLICES):
            write_image(tmp_path / f"{9 - index}.dcm", CINE[:, index], place(index), FrameTime=40.0)
        assert_cine(tmp_path)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"frame": lambda *_: {}}, "nothing tells the order of the 4 images of each slice"),
            ({"frame": lambda z, t: trigger_delay(z, t // 2)}, "a.dcm', frame 1, and 'a.dcm', frame 2"),
            ({"frame": lambda *_: {"PlanePositionSequence": None}}, "ImagePositionPatient is missing"),
            ({"frame": two_views}, "'a.dcm', frame 5 is turned by 180.0 degrees against 'a.dcm', frame 1"),
            ({"shared": {"PixelMeasuresSequence": None}}, "PixelSpacing is missing"),
            ({"PixelData": bytes(504)}, "the pixels of this DICOM file, .* are damaged or cut short"),
            ({"PerFrameFunctionalGroupsSequence": []}, "nothing says where and when the 12 frames of this file lie"),
            ({"NumberOfFrames": 11}, "the file has 11 frames, and the header describes 12"),
            ({"NumberOfFrames": 120_000_000}, "promises 120000000 x 6 x 7 pixels"),
        ],
    )  # fmt: skip
    def test_enhanced_files(self, tmp_path, options, said):
        write_enhanced(tmp_path / "a.dcm", SLICES_FIRST, **options)
        with pytest.raises(UserError, match=said):
            read_series(tmp_path)

    @pytest.mark.parametrize(
        "attributes",
        [
            {},
            {"FrameTime": 0.0},
            {"FrameTime": 40.0, "FrameIncrementPointer": Tag(0x0054, 0x0080)},  # slices
            {"FrameTimeVector": [0, 30, 0, 50]},
        ],
    )
    def test_plain_files(self, tmp_path, attributes):
        write_image(tmp_path / "a.dcm", CINE[:, 0], **attributes)
        with pytest.raises(UserError, match=r"multi-frame DICOM.* where and when the 4 frames .* dcm2niix"):
            read_series(tmp_path)

    def test_the_message_names_the_kind_and_a_way_out(self, tmp_path):
        write_enhanced(tmp_path / "a.dcm", SLICES_FIRST, frame=lambda *_: {}, SOPClassUID=EnhancedMRImageStorage)
        with pytest.raises(
            UserError, match=r"this multi-frame DICOM cannot be used: .*convert it to NIfTI, for example"
        ):
            read_series(tmp_path)
