"""From a volume to square slices of one spacing with the heart in the middle, and back.

All of it is linear interpolation along rows and columns, written as two small matrices, so that the way back is as
exact as the way there. Positions in the slice plane are (row, column) in mm from the center of the plane's first pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..base.text import count
from ..images.volumes import Volume
from .intensities import Normalized, normalize

Center = tuple[float, float]

MOST_SLICES, MOST_PIXELS = 2048, 2**26
"""More slices than a scanner makes, or more pixels in one, would take all memory: a wrong spacing decided on them."""


@dataclass(frozen=True, eq=False)
class Stack:
    """A volume seen as a stack of slices.

    Attributes:
        array: [slice,row,col], a view of the volume's array.
        spacing: (slice, row, col) in mm.
        axes: Which axes of the volume's array became slice, row and column.
        flipped: Which of them run the other way.
    """

    array: np.ndarray
    spacing: tuple[float, float, float]
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    @property
    def middle(self) -> Center:
        """The middle of the plane, (row, col) in mm."""
        rows, cols = self.array.shape[1:]
        return (rows - 1) / 2 * self.spacing[1], (cols - 1) / 2 * self.spacing[2]

    @cached_property
    def normalized(self) -> Normalized:
        """Its intensities as z-scores, worked out once."""
        return normalize(self.array)

    def restore(self, array: np.ndarray) -> np.ndarray:
        """An array in the stack's order back in the order of the volume's array."""
        flips = tuple(axis for axis, flip in enumerate(self.flipped) if flip)
        return np.ascontiguousarray(np.flip(array, flips).transpose(np.argsort(self.axes)))


def as_stack(volume: Volume, plane: str) -> Stack:
    """Sees a volume as slices of a plane; only axes are permuted and flipped, nothing is interpolated.

    Args:
        volume: Any volume.
        plane: `acquired` (across the axis whose spacing is more than 1.5 times both others, else across the last
            stored one), or the stored axes nearest to `axial`, `coronal`, `sagittal`: then columns run to the
            patient's left (to the back in sagittal slices), rows to the back (to the feet), slices upwards
            (to the front; to the left).
    """
    spacing = np.asarray(volume.spacing)[::-1]  # in array order: slice, row, col
    if plane == "acquired":
        coarsest = int(spacing.argmax())
        others = np.delete(spacing, coarsest)
        first = coarsest if spacing[coarsest] > 1.501 * others.max() else 0  # rounding in a file must not tip it
        row, col = (axis for axis in range(3) if axis != first)
        axes = (first, row, col)
        flipped = (False, False, False)
    else:
        directions = (volume.ijk_to_ras[:3, :3] / np.linalg.norm(volume.ijk_to_ras[:3, :3], axis=0))[:, ::-1]
        wanted = {  # slice, row, col as (RAS axis, sign)
            "axial": ((2, 1), (1, -1), (0, -1)),
            "coronal": ((1, 1), (2, -1), (0, -1)),
            "sagittal": ((0, -1), (2, -1), (1, -1)),
        }[plane]
        axes = _nearest_axes(directions, [axis for axis, _ in wanted])
        flipped = tuple(directions[ras, axis] * sign < 0 for axis, (ras, sign) in zip(axes, wanted, strict=True))
    array = volume.array.transpose(axes)
    array = np.flip(array, tuple(axis for axis, flip in enumerate(flipped) if flip))
    slice_mm, row_mm, col_mm = (float(spacing[axis]) for axis in axes)
    return Stack(array, (slice_mm, row_mm, col_mm), axes, flipped)


def stack_fault(stack: Stack, dimensions: int = 2) -> tuple[str, str] | None:
    """What and hint if a stack has slices that cannot be segmented, or more than memory holds.

    Args:
        stack: To look at.
        dimensions: Of the network: 3 needs more than one slice.
    """
    slices, rows, cols = stack.array.shape
    if dimensions == 3 and slices == 1:
        what = "this is a single slice, and a network of three dimensions looks through several"
        return what, "Leave it out, or train with network.dimensions=2"
    if min(rows, cols) < 2:
        return f"the slices have {rows} x {cols} voxels", "Export the volume as a stack of two-dimensional slices"
    if slices <= MOST_SLICES and rows * cols <= MOST_PIXELS:
        return None
    spacing = " x ".join(f"{side:.4g}" for side in stack.spacing[1:])
    what = f"the volume has {count(slices, 'slice')} of {rows} x {cols} voxels, {spacing} mm each and "
    what += f"{stack.spacing[0]:.4g} mm apart; at most {MOST_SLICES:,} slices of {MOST_PIXELS:,} voxels can be used"
    return what, "Correct the spacing in the header of the file, or cut out the part with the heart"


def sample_images(stack: Stack, center: Center, spacing: float, size: int, clip: tuple[float, float]) -> np.ndarray:
    """Slices as the network sees them: z-scored over the volume, resampled, clipped; outside is the volume's minimum.

    Args:
        stack: Intensities.
        center: Where the middle of the square lies, (row, col) in mm.
        spacing: In-plane spacing of the result, mm.
        size: Side of the square in pixels.
        clip: Bounds after the z-score.

    Returns:
        (slices, size, size) float32.
    """
    image, (row, col), lowest = stack.normalized
    center = center[0] - row * stack.spacing[1], center[1] - col * stack.spacing[2]
    return (sample_planes(image, stack, center, spacing, (size, size), outside=lowest) + lowest).clip(*clip)


def sample_labels(stack: Stack, center: Center, spacing: float, size: int, classes: int) -> np.ndarray:
    """Training labels resampled class by class and then decided, (slices, size, size) uint8; outside is background."""
    shares = [
        sample_planes((stack.array == value).astype(np.float32), stack, center, spacing, (size, size))
        for value in range(1, classes)
    ]
    return np.stack([1 - np.sum(shares, axis=0), *shares]).argmax(axis=0).astype(np.uint8)


def restore_probabilities(probability: np.ndarray, stack: Stack, center: Center, spacing: float) -> np.ndarray:
    """The inverse of the resampling: probabilities of the square back on the stack's own grid.

    Args:
        probability: (slices, C, size, size) float32, background first.
        stack: The stack that the square was taken from.
        center: The center that it was taken at.
        spacing: Its spacing, mm.

    Returns:
        (slices, C, rows, cols) float32 that sum to 1; outside the square it is background.
    """
    restored = restore_maps(probability, stack, center, spacing)
    restored[:, 0] += 1 - restored.sum(axis=1)
    return restored


def restore_maps(maps: np.ndarray, stack: Stack, center: Center, spacing: float) -> np.ndarray:
    """Any maps of the square, (..., size, size) float32, on the stack's own grid, (..., rows, cols); 0 outside."""
    high, wide = maps.shape[-2:]
    rows = axis_matrix(high, stack.array.shape[1], spacing, stack.spacing[1], -center[0], (high - 1) / 2)
    cols = axis_matrix(wide, stack.array.shape[2], spacing, stack.spacing[2], -center[1], (wide - 1) / 2)
    return _mix(cols, _mix(rows, maps, -2), -1)


def under_square(stack: Stack, center: Center, spacing: float, size: int) -> tuple[tuple[slice, slice], Stack, Center]:
    """The rows and columns of a stack that lie within a square, the part of the stack there, and the center in it."""
    spans = []
    for pixels, apart, middle in zip(stack.array.shape[1:], stack.spacing[1:], center, strict=True):
        spans.append(_span(np.abs(np.arange(pixels) * apart - middle) < size / 2 * spacing))
    rows, cols = spans
    part = replace(stack, array=stack.array[:, rows, cols])
    return (rows, cols), part, (center[0] - rows.start * stack.spacing[1], center[1] - cols.start * stack.spacing[2])


def centroid(mass: np.ndarray, stack: Stack) -> Center | None:
    """The center of mass over all slices, (row, col) in mm; None without mass. `mass`: (slices, rows, cols)."""
    plane = mass.sum(axis=0, dtype=np.float64)
    total = plane.sum()
    if total <= 0:
        return None
    row = (plane.sum(axis=1) * np.arange(plane.shape[0])).sum() / total
    col = (plane.sum(axis=0) * np.arange(plane.shape[1])).sum() / total
    return row * stack.spacing[1], col * stack.spacing[2]


def sample_planes(  # where, how fine and how large, and what counts as nothing
    array: np.ndarray, stack: Stack, center: Center, spacing: float, size: tuple[int, int], outside: float = 0.0
) -> np.ndarray:
    """What values on the stack's grid, (slices, rows, cols), are above `outside`, resampled; 0 beyond the stack.

    Args:
        array: The values; only those under the result are looked at.
        stack: Gives their grid.
        center: Where the middle of the result lies, (row, col) in mm.
        spacing: Of its pixels, mm.
        size: Its rows and columns.
        outside: What is taken from the values.
    """
    high, wide = size
    rows = axis_matrix(array.shape[1], high, stack.spacing[1], spacing, center[0] - (high - 1) / 2 * spacing)
    cols = axis_matrix(array.shape[2], wide, stack.spacing[2], spacing, center[1] - (wide - 1) / 2 * spacing)
    top, left = (_span(np.any(matrix, axis=0)) for matrix in (rows, cols))
    above = array[:, top, left] - np.float32(outside)
    return _mix(cols[:, left], _mix(rows[:, top], above, -2), -1)


def _mix(matrix: np.ndarray, array: np.ndarray, axis: int) -> np.ndarray:
    """The product of a matrix of `axis_matrix` with an array along its axis -2 or -1, float32.

    Each output mixes a few neighboring inputs. Threads of a matrix product would wait for one another, on a busy
    computer a hundred times as long as they compute; this takes one thread, and gives the same numbers everywhere.
    """
    outputs, inputs = matrix.shape
    used = matrix != 0
    first, width = used.argmax(axis=1) if inputs else np.zeros(outputs, int), int(used.sum(axis=1).max(initial=0))
    shape = list(array.shape)
    shape[axis] = outputs
    mixed = np.zeros(shape, np.float32)
    for place in (first + tap for tap in range(width)):
        weight = matrix[np.arange(outputs), np.minimum(place, inputs - 1)] * (place < inputs)
        mixed += array.take(np.minimum(place, inputs - 1), axis) * (weight[:, None] if axis == -2 else weight)
    return mixed


def _span(wanted: np.ndarray) -> slice:
    """From the first to the last of what is wanted, (N,) bool."""
    places = np.flatnonzero(wanted)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def axis_matrix(
    inputs: int, outputs: int, input_spacing: float, output_spacing: float, start: float, input_middle: float = 0.0
) -> np.ndarray:
    """Linear interpolation along one axis as a matrix (outputs, inputs), with a wider tent where it shrinks.

    Output pixel o lies at `start + o * output_spacing` mm from the input pixel `input_middle`. Where a tent reaches
    over the edge, the edge counts as the half pixel that it is, and beyond that as 0.
    """
    position = (start + np.arange(outputs) * output_spacing) / input_spacing + input_middle
    reach = max(1.0, output_spacing / input_spacing)
    weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(-1, inputs + 1)) / reach)
    inside = (position > -0.5) & (position < inputs - 0.5)
    weights[:, 1] += weights[:, 0] * inside
    weights[:, -2] += weights[:, -1] * inside
    matrix = weights[:, 1:-1] * inside[:, None]
    return (matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _nearest_axes(directions: np.ndarray, ras_axes: list[int]) -> tuple[int, int, int]:
    """The array axis nearest to each RAS axis, each used once, the clearest match first."""
    left = np.abs(directions)
    chosen: dict[int, int] = {}
    for _ in range(3):
        ras, axis = np.unravel_index(left.argmax(), left.shape)
        chosen[int(ras)] = int(axis)
        left[ras, :] = -1
        left[:, axis] = -1
    slices, rows, cols = (chosen[axis] for axis in ras_axes)
    return slices, rows, cols
