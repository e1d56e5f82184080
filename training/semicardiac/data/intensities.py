"""Intensities of any scanner and file on one scale: a z-score that neither padding nor stray voxels move.

A file may hold numbers that are no intensities: a frame that pads the slices, -32768 where the scanner saw nothing, a
voxel of 3.4e38. They do not count in mean and standard deviation. In a volume without any, all voxels do.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..base.text import count
from ..images.volumes import Volume

#: At each end of the intensities, this share of the voxels may be strays, and in a small volume so many. They are if
#: they lie beyond the rest by more than its whole range, as hardly a voxel of a clean volume does.
_STRAYS, _STRAY_VOXELS = 1 / 1000, 8

#: A frame of one value is padding where the image begins at once behind it, with less than this share of the frame's
#: value on every side: the background of something cut out is none.
_SAME = 1 / 2

#: A thinner frame than this share of the volume changes nothing if its value is an intensity, as in the many files
#: with a row of zeros; and no less than this share, if it is in no corner, is padding of another shape.
_THIN = 1 / 50

#: With less there is nothing to see: so many different intensities, and so many standard deviations that the middle
#: 90 % of the voxels span. In clean volumes they are 50 and more, and 2 to 3.5.
_LEVELS, _SPAN = 12, 1.0

#: So many voxels show where nearly all of them lie.
_SAMPLE = 200_000


class Normalized(NamedTuple):
    """A volume as z-scores, without the rows and columns that pad it."""

    array: np.ndarray
    """[slice,row,col] float32."""
    first: tuple[int, int]
    """Row and column of its first pixel in the volume."""
    lowest: float
    """What is taken to lie outside: the lowest intensity that counts."""


def normalize(array: np.ndarray) -> Normalized:
    """Intensities [slice,row,col] of any type and size; a constant volume gives zeros."""
    box = _without_frame(array)
    floor, ceiling = _fence(array[box])
    lowest, extent, unit = _unit(array[box], floor, ceiling)
    mean, deviation = float(unit.mean()), float(unit.std()) or 1.0
    part = array[:, box[1], box[2]]
    normal = np.empty(part.shape, np.float32)
    for plane, into in zip(part, normal, strict=True):  # one at a time: float64 of a whole CT would not fit
        into[:] = ((plane.astype(np.float64).clip(floor, ceiling) - lowest) / extent - mean) / deviation
    return Normalized(normal, (box[1].start, box[2].start), -mean / deviation)


def contrast_fault(image: Volume) -> tuple[str, str] | None:
    """What and hint if so little contrast is left after the normalization that nothing can be seen."""
    inside = image.array[_without_frame(image.array)]
    lowest, extent, unit = _unit(inside, *_fence(inside))
    if len(np.unique(unit[:_SAMPLE])) < _LEVELS and (levels := len(np.unique(unit))) < _LEVELS:
        what = f"the image holds only {count(levels, 'different value')}"
        return what, "See whether it is an image, and export it with its full range of intensities"
    low, high = _ends(unit, unit.size // 20)
    if high - low >= _SPAN * float(unit.std()):
        return None
    bounds = (f"{lowest + place * extent:.4g}" for place in (low, high, 0, 1))
    what = "little contrast is left: 90 % of the voxels lie between {} and {}, all of them between {} and {}"
    return what.format(*bounds), "Look at the image, and replace numbers that stand for padding or missing values"


def _without_frame(array: np.ndarray) -> tuple[slice, ...]:
    """Where the image lies within slices, rows and columns at the border that all hold one value."""
    start: tuple[int, ...] = (0, 0, 0)
    inside = array
    for corner in (0, -1, 0):  # each side of a frame holds one of them, and may hide the one before
        value = inside[corner, corner, corner]
        differs = inside != value
        seen = [np.flatnonzero(differs.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        if len(seen[0]):
            box = tuple(slice(int(each[0]), int(each[-1]) + 1) for each in seen)
            if _is_image(inside[box], value, thin=1 - inside[box].size / array.size < _THIN):
                start = tuple(place + each.start for place, each in zip(start, box, strict=True))
                inside = inside[box]
    return tuple(slice(place, place + side) for place, side in zip(start, inside.shape, strict=True))


def _is_image(inside: np.ndarray, value: float, *, thin: bool) -> bool:
    """Whether the frame of `value` around this part of a volume pads it, so that this part is the image."""
    sides = [inside.take(end, axis) for axis in range(3) for end in (0, -1)]
    if max((side == value).mean() for side in sides) > _SAME or (inside == inside[0, 0, 0]).all():
        return False
    values = _sample(inside)
    low, high = _ends(values, _strays(values))
    return not (thin and low <= value <= high)


def _fence(array: np.ndarray) -> tuple[float, float]:
    """The bounds beyond which there are no intensities."""
    values, corners = _sample(array), array[:, :: max(1, array.shape[1] - 1), :: max(1, array.shape[2] - 1)]
    for side in (0, 1):  # padding of another shape than a frame: one value in more voxels than strays may be
        constant = _ends(values, _strays(values))[side]
        rest = values[values != constant]
        low, high = _far_from(rest)
        if not low <= constant <= high and (len(rest) < (1 - _THIN) * len(values) or (corners == constant).any()):
            values = rest
    return _far_from(values)


def _far_from(values: np.ndarray) -> tuple[float, float]:
    """The range of the values but for strays, widened by itself on both sides; without bounds if it is none."""
    low, high = _ends(values, _strays(values)) if values.size else (0.0, 0.0)
    reach = high - low
    return (low - reach, high + reach) if reach > 0 else (-np.inf, np.inf)


def _strays(values: np.ndarray) -> int:
    return min(max(round(values.size * _STRAYS), _STRAY_VOXELS), values.size // 10)


def _sample(array: np.ndarray) -> np.ndarray:
    step = math.ceil(math.sqrt(array.size / _SAMPLE))
    return array[:, ::step, ::step].ravel()


def _ends(values: np.ndarray, left_out: int) -> tuple[float, float]:
    """The lowest and the highest value when so many are left out at either end."""
    last = len(values) - 1 - left_out
    ordered = np.partition(values, (left_out, last))
    return float(ordered[left_out]), float(ordered[last])


def _unit(array: np.ndarray, floor: float, ceiling: float) -> tuple[float, float, np.ndarray]:
    """The lowest of the values within bounds, their range, and the values with these as 0 and 1, (N,) float64.

    So scaled they can be squared, be they 1e-200 or 1e200.
    """
    values = array[(array >= np.float64(floor)) & (array <= np.float64(ceiling))]
    lowest = float(values.min())
    extent = float(values.max()) - lowest or 1.0
    return lowest, extent, (values - np.float64(lowest)) / extent
