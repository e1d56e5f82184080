"""Means with gaps."""

from __future__ import annotations

import math

import pytest
from semicardiac.base.statistics import average, mean_and_sd


@pytest.mark.parametrize(
    ("values", "mean", "sd"),
    [
        ([1.0, 2.0, 6.0], 3.0, math.sqrt(7)),
        ([0.5, math.nan, None, 1.0], 0.75, math.sqrt(0.125)),
        ([math.nan, 0.8], 0.8, math.nan),
        ([math.nan, None], math.nan, math.nan),
        ([], math.nan, math.nan),
        ([2, 4], 3.0, math.sqrt(2)),
        ([1e308, 1e308], 1e308, 0.0),
        ([1.7e308, -1.7e308], 0.0, math.inf),
    ],
)
def test_what_is_not_defined_counts_in_no_mean(values, mean, sd):
    assert average(iter(values)) == pytest.approx(mean, nan_ok=True)
    assert mean_and_sd(values) == pytest.approx((mean, sd), nan_ok=True)
