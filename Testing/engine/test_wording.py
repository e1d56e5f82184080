"""Words and numbers as people read them: means with gaps, durations, ordinals."""

from __future__ import annotations

import math

import pytest
from semicardiac.wording import average, duration, mean_and_sd, ordinal


@pytest.mark.parametrize(
    ("values", "mean", "sd"),
    [
        ([1.0, 2.0, 6.0], 3.0, math.sqrt(7)),
        ([0.5, math.nan, None, 1.0], 0.75, math.sqrt(0.125)),
        ([math.nan, 0.8], 0.8, math.nan),
        ([math.nan, None], math.nan, math.nan),
        ([], math.nan, math.nan),
    ],
)
def test_what_is_not_defined_counts_in_no_mean(values, mean, sd):
    assert average(iter(values)) == pytest.approx(mean, nan_ok=True)
    assert mean_and_sd(values) == pytest.approx((mean, sd), nan_ok=True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12, "12 s"), (89.6, "90 s"), (588, "9.8 min"), (600, "10 min"), (7500, "2 h 5 min"), (7199, "2 h 0 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_ordinals():
    assert [ordinal(place) for place in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th",
    ]  # fmt: skip
