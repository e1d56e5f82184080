"""Kernels and strides of networks on volumes, chosen from the spacing.

Where slices lie far apart, neighbors in a slice resemble each other long before neighbors through the slices do. So the
first levels look and shrink within slices alone, until the distances are alike in all directions (Isensee et al.,
Nature Methods 2021).
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

Triple = tuple[int, int, int]
"""Through slices, along rows, along columns."""

FAR = 2.0
"""Slices lie far apart if their distance is more than this many times the distance of pixels."""


class Level(NamedTuple):
    """A resolution of a network."""

    kernel: Triple
    """Of its convolutions."""
    stride: Triple
    """How many times coarser than the level above, or than the image, it is."""


def plan_levels(anisotropy: float, count: int, *, full_first: bool = False) -> tuple[Level, ...]:
    """The levels of a network, from the finest one down.

    Args:
        anisotropy: The distance of slices over that of pixels in the image.
        count: How many levels.
        full_first: The first level has the resolution of the image, not half of it.
    """
    levels = []
    for number in range(count):
        stride: Triple = (1 if anisotropy > FAR else 2, 2, 2)
        if full_first and number == 0:
            stride = (1, 1, 1)
        anisotropy *= stride[0] / stride[1]
        levels.append(Level((1 if anisotropy > FAR else 3, 3, 3), stride))
    return tuple(levels)


def whole_stride(levels: tuple[Level, ...]) -> Triple:
    """What slices, rows and columns of an image must be multiples of."""
    slices, rows, cols = (prod(level.stride[axis] for level in levels) for axis in range(3))
    return slices, rows, cols
