"""Numbers as a person reads them, for tables and captions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def duration(seconds: float) -> str:
    """`45 s`, `9.8 min` or `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min".replace(".0 ", " ")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def number(value: Any, digits: int) -> str:
    """A number, or a dash where there is none."""
    return f"{value:.{digits}f}" if is_number(value) else DASH


def signed(value: float | None, digits: int) -> str:
    """A difference: always with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS) if is_number(value) else DASH


def count(amount: int, noun: str) -> str:
    """`1 volume`, `20 volumes`."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b, c and 4 more`."""
    shown = list(names[:most])
    last = f"{len(names) - most} more" if len(names) > most else shown.pop()
    return f"{', '.join(shown)} and {last}" if shown else last


def ordinal(place: int) -> str:
    """`1st`, `22nd`, `113th`."""
    ending = "th" if 10 < place % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


def mean_and_sd(values: Sequence[float | None]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) of the numbers among the values; NaN where too few."""
    found = [value for value in values if is_number(value)]
    mean = average(found)
    sd = math.sqrt(sum((value - mean) ** 2 for value in found) / (len(found) - 1)) if len(found) > 1 else math.nan
    return mean, sd


def average(values: Iterable[float | None]) -> float:
    """The mean of the numbers among the values, NaN where there are none."""
    found = [value for value in values if is_number(value)]
    return sum(found) / len(found) if found else math.nan


def is_number(value: Any) -> bool:
    """Whether a value is there and finite."""
    return isinstance(value, int | float) and math.isfinite(value)
