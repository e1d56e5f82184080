"""Means and standard deviations of what is defined: None, NaN and infinity count in none."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from .text import is_number


def average(values: Iterable[float | None]) -> float:
    """The mean of the numbers among the values, NaN where there are none."""
    found = _numbers(values)
    return statistics.mean(found) if found else math.nan


def mean_and_sd(values: Iterable[float | None]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) of the numbers among the values; NaN where too few."""
    found = _numbers(values)
    try:
        sd = statistics.stdev(found) if len(found) > 1 else math.nan
    except OverflowError:  # such numbers stand in damaged files only
        sd = math.inf
    return average(found), sd


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if is_number(value)]
