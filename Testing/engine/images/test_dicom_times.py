"""The order of the frames of a DICOM cine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from semicardiac.base.errors import UserError
from semicardiac.images.volumes import read_series

from Testing.engine.images.dicom_files import CINE, write_cine

TIMES, SLICES = CINE.shape[:2]


def clock(seconds: float) -> str:
    return f"1012{seconds:09.6f}"


def trigger(index: int, time: int) -> dict[str, Any]:
    """The heart beats faster from slice to slice."""
    return {"TriggerTime": (40.0 - index) * time + 10}


def number_slice_by_slice(index: int, time: int) -> int:
    return index * TIMES + time + 1


def number_time_by_time(index: int, time: int) -> int:
    return time * SLICES + (index * 2) % SLICES + 1  # the slices are interleaved


def without(index: int, time: int, z: int, t: int) -> float | None:
    """A trigger time that one image lacks."""
    return None if (index, time) == (z, t) else 9.0 * t


class TestOrder:
    @pytest.mark.parametrize(
        ("attributes", "step_s"),
        [
            (trigger, 0.04),
            (lambda z, t: trigger(z, t) | {"InstanceNumber": 99 - number_slice_by_slice(z, t)}, 0.04),
            (lambda z, t: {"TriggerTime": without(1, 2, z, t), "AcquisitionTime": clock(z + t / 20)}, 0.05),
            (lambda z, t: {"TemporalPositionIdentifier": t + 1, "InstanceNumber": (z * 7 + t * 5) % 12 + 1}, None),
            (lambda z, t: {"TemporalPositionIdentifier": number_slice_by_slice(z, t)}, None),
            (lambda z, t: trigger(z, t) | {"TemporalPositionIdentifier": 1}, 0.04),
            (lambda z, t: {"NominalPercentageOfCardiacPhase": 25.0 * t}, None),
            (lambda z, t: {"AcquisitionTime": clock(z + 0.05 * t)}, 0.05),
            (lambda z, t: {"AcquisitionTime": ["235959.95", "000000.00", "000000.05", "000000.1"][t]}, 0.05),
            (lambda z, t: {"AcquisitionDateTime": f"20240229{clock(3 * t + z)}+0100"}, 3),
            (lambda z, t: {"AcquisitionTime": clock(z), "ContentTime": clock(z + 0.05 * t), "InstanceNumber": 1}, None),
            (lambda z, t: {"ContentTime": clock((z * 7 + t * 5) % 12), "InstanceNumber": t + 1}, None),
            (lambda z, t: {"InstanceNumber": number_slice_by_slice(z, t)}, None),
            (lambda z, t: {"InstanceNumber": number_time_by_time(z, t), "TriggerTime": 0.0}, None),
        ],
        ids=[
            "trigger times", "numbers against trigger times", "a trigger time is missing", "numbers at random",
            "positions in time go on from slice to slice", "constant positions in time", "percent of a cycle",
            "a clock", "midnight", "date and time", "images told apart by the later clock alone", "a random clock",
            "numbers slice by slice", "numbers time by time",
        ],
    )  # fmt: skip
    def test_frames_come_in_the_order_of_time(self, tmp_path, attributes, step_s):
        write_cine(tmp_path, attributes)
        frames = read_series(tmp_path)
        np.testing.assert_array_equal([frame.array for frame in frames], CINE)
        expected = [None] * TIMES if step_s is None else pytest.approx([step_s * time for time in range(TIMES)])
        assert [frame.time_s for frame in frames] == expected

    @pytest.mark.parametrize(
        ("attributes", "said"),
        [
            (lambda z, t: {}, "nothing tells the order of the 4 images of each slice"),
            (lambda z, t: {"TriggerTime": without(1, 3, z, t)}, r"TriggerTime is missing in 1 of 12, such as 'IM"),
            (lambda z, t: {"InstanceNumber": (z * 7 + t * 5) % 12 + 1}, "InstanceNumber is in no order"),
            (lambda z, t: {"InstanceNumber": 1, "ContentTime": "1012"}, "InstanceNumber repeats"),
            (
                lambda z, t: {"TriggerTime": 9.0 * (t // 2), "InstanceNumber": t + 1},
                r"have the same TriggerTime: 'IM\d+.dcm', and 'IM",
            ),
            (
                lambda z, t: {"TriggerTime": 9.0 * t, "TemporalPositionIdentifier": TIMES - t},
                "is the 4th image of its slice by TriggerTime and the 1st by TemporalPositionIdentifier",
            ),
            (lambda z, t: {"TemporalPositionIdentifier": t + (z == 1 and t > 2)}, "not have the same times by Temp"),
            (lambda z, t: {"TriggerTime": 40.0 * (t + (t > z))}, "not have the same times by TriggerTime"),
            (lambda z, t: {"ImageType": ["ORIGINAL", "PMMP"[t]], "InstanceNumber": t + 1}, "differ in ImageType"),
            (lambda z, t: {"EchoTime": 1.5 + t, "AcquisitionTime": f"10120{t}"}, "differ in EchoTime, such as 'IM"),
        ],
        ids=["nothing", "a trigger time is missing", "random numbers", "equal numbers", "two kinds of images",
             "contradiction", "a position in time is missing", "another frame is missing in each slice",
             "magnitude and phase", "echoes"],
    )  # fmt: skip
    def test_what_cannot_be_ordered_is_an_error(self, tmp_path, attributes, said):
        write_cine(tmp_path, attributes)
        with pytest.raises(UserError, match=said):
            read_series(tmp_path)

    @pytest.mark.parametrize(("good", "bad"), [(b"9.25", b"9,25"), (b"9.25", b"9\\25"), (b"9.25", b"Doe ")])
    def test_a_time_that_is_no_number_names_the_file_and_not_the_value(self, tmp_path, good, bad):
        path = write_cine(tmp_path, lambda z, t: {"TriggerTime": 9.25 + 40 * t})[0]
        path = next(path for path in sorted(tmp_path.iterdir()) if good in path.read_bytes())
        path.write_bytes(path.read_bytes().replace(good, bad, 1))
        with pytest.raises(UserError, match="TriggerTime in this DICOM file is not a number") as caught:
            read_series(tmp_path)
        assert caught.value.where == str(path)
        assert bad.decode() not in str(caught.value)
