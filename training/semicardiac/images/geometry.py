"""Frames of voxels as files hold them, with their place in the patient, before anything is made of them.

Files of ITK hold LPS (left, posterior, superior), everything else here is RAS; the two are told apart only in this file
and by its callers, the readers and writers of the formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base.errors import UserError

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
"""LPS to RAS, and back."""

SAME_VOXEL = 0.02
"""Voxels coincide if they are no farther apart than this share of a voxel: more than what the single precision of NIfTI
makes, less than anybody could see."""


LEAST_VOXEL = 1e-9
"""Cubic millimeters; below, a header is damaged."""


class Doubt(NamedTuple):
    """Something in a header that a person has to decide on: what, and what to do about it."""

    what: str
    hint: str


@dataclass(frozen=True, eq=False)
class Frames:
    """One volume, or the volumes of a time series."""

    array: np.ndarray
    """[frame, slice, row, col]."""
    ijk_to_ras: np.ndarray
    """(4, 4) float64: (col, row, slice, 1) of a voxel's center to mm, RAS."""
    times_s: tuple[float, ...] | None = None
    """Time of each frame from the first one on, in seconds; None where that is not known."""
    doubts: tuple[Doubt, ...] = ()


def regular_times(frames: int, step_s: float) -> tuple[float, ...] | None:
    """Times at equal distances, or None for a single frame or an unknown step (0)."""
    return tuple(index * step_s for index in range(frames)) if frames > 1 and step_s > 0 else None


def matrix_from_itk(direction: Sequence[float], spacing: Sequence[float], origin: Sequence[float]) -> np.ndarray:
    """The IJK-to-RAS matrix of an ITK image of three or four dimensions (the fourth is time)."""
    dimensions = len(origin)
    lps = np.eye(4)
    lps[:3, :3] = (np.reshape(direction, (dimensions, dimensions)) * spacing)[:3, :3]
    lps[:3, 3] = origin[:3]
    return FLIP @ lps


def on_grid(array: np.ndarray, ijk_to_ras: np.ndarray, shape: tuple[int, ...], grid: np.ndarray) -> np.ndarray | None:
    """Labels that were cropped, back on the grid that they were cropped from.

    Args:
        array: Labels [slice, row, col], 0 for background.
        ijk_to_ras: Their matrix.
        shape: Of the grid, (slices, rows, cols).
        grid: The grid's matrix.

    Returns:
        Labels of that shape; None if the voxels of the two do not coincide, or labels lie outside the grid.
    """
    if not (np.isfinite(grid).all() and np.linalg.matrix_rank(grid) == len(grid)):
        return None
    to_grid = np.linalg.inv(grid) @ ijk_to_ras
    shift = np.rint(to_grid[:3, 3]).astype(int)
    corners = corners_of(array.shape)
    if np.abs((to_grid @ corners - corners)[:3] - shift[:, None]).max() > SAME_VOXEL:
        return None
    placed = np.zeros(shape, dtype=array.dtype)
    source, target = [], []
    for size, wide, start in zip(array.shape, shape, shift[::-1], strict=True):
        first, last = max(start, 0), min(start + size, wide)
        source.append(slice(first - start, max(last, first) - start))
        target.append(slice(first, max(last, first)))
    placed[tuple(target)] = array[tuple(source)]
    return placed if np.count_nonzero(placed) == np.count_nonzero(array) else None


def corners_of(shape: tuple[int, ...]) -> np.ndarray:
    """The centers of the corner voxels of an array [slice, row, col] as columns (col, row, slice, 1), (4, 8)."""
    last = np.array(shape[::-1]) - 1
    return np.array([(i, j, k, 1) for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])], dtype=float).T


def require_place(ijk_to_ras: np.ndarray, path: Path) -> None:
    """Raises UserError unless a matrix gives voxels a size and a place."""
    if not np.isfinite(ijk_to_ras).all() or abs(np.linalg.det(ijk_to_ras)) < LEAST_VOXEL:
        hint = "Export the volume again"
        raise UserError("the header gives no usable spacing and orientation", where=path, hint=hint)


def require_real(dtype: np.dtype, path: Path) -> None:
    """Raises UserError unless voxels are real numbers."""
    if dtype.fields:
        raise not_scalar("an RGB volume", path)
    if dtype.kind not in "biuf":
        hint = "Export the magnitude as a scalar volume"
        raise UserError(f"voxels are of type {dtype} where real numbers are expected", where=path, hint=hint)


def not_scalar(found: str, path: Path) -> UserError:
    """The error for more than one number in a voxel."""
    hint = "Export it as a scalar (grayscale) volume"
    return UserError(f"this is {found} where one number in each voxel is expected", where=path, hint=hint)


def not_a_stack(path: Path) -> UserError:
    """The error for a file with two dimensions."""
    hint = "Export the whole stack of slices as one volume"
    return UserError("this is a two-dimensional image where a volume is expected", where=path, hint=hint)


def unreadable(error: Exception, path: Path) -> UserError:
    """The error for a file that the operating system does not give, or the library of its format gives up on."""
    if isinstance(error, OSError) and error.errno is not None:
        hint = "See whether you may read it, and whether the drive that it lies on is sound"
        return UserError(f"this file cannot be read ({error.strerror})", where=path, hint=hint)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    detail = lines[-1].rstrip(".") if lines else type(error).__name__
    hint = "Copy or export it again"
    return UserError(f"this file is damaged, cut short or not what its name says ({detail})", where=path, hint=hint)
