"""Whether the images of a DICOM series form one stack of parallel slices on one line, and where it lies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from ..base.errors import UserError
from .dicom_headers import Plane
from .geometry import FLIP

_UNEVEN_MM = 0.1
"""Slice distances may differ by this much; positions in headers are rounded."""
_OFF_LINE_MM = 0.25
"""Slices may be this far off the line through the first and the last one: a part of a pixel of any image of a heart."""
_TURNED_DEG = 0.1
"""Orientations may differ by this much: less than half a millimeter at the edge of an image."""
_SLANT_MAX = 1.0
"""How far slices may shift in their plane for a distance between them: no gantry tilts by 45 degrees."""


def levels_of(planes: list[Plane], folder: Path) -> list[list[Plane]]:
    """The images at each position, along the normal of the slices.

    Raises:
        UserError: If they are no stack: for other sizes, spacings and orientations, for slices that are missing or
            shifted in their plane, and for places that contradict each other.
    """
    _require_same_grid(planes, folder)
    normal = np.cross(*planes[0].axes)
    levels: dict[float, list[Plane]] = {}
    for plane in sorted(planes, key=lambda plane: normal @ plane.position):
        height = float(normal @ plane.position)
        below = next(reversed(levels), -np.inf)
        levels.setdefault(below if height - below < _UNEVEN_MM else height, []).append(plane)
    stack = list(levels.values())
    _require_line(stack, normal, folder)
    _require_one_place(stack, folder)
    fewest, most = min(stack, key=len), max(stack, key=len)
    if len(fewest) < len(most):
        what = (
            f"the slice positions hold between {len(fewest)} and {len(most)} images, so that some are missing: "
            f"{len(fewest)} where {fewest[0].name} lies, and {len(most)} where {most[0].name} does"
        )
        raise UserError(what, where=folder, hint="Export the whole series, and none of another one")
    gaps = np.diff(list(levels))
    if len(gaps) and np.ptp(gaps) > _UNEVEN_MM:
        widest = int(gaps.argmax())
        what = (
            f"between {stack[widest][0].name} and {stack[widest + 1][0].name} is a gap: "
            f"the distances between the slices run from {gaps.min():.2f} to {gaps.max():.2f} mm"
        )
        raise UserError(what, where=folder, hint="A slice is missing, or two stacks are mixed: export one whole stack")
    return stack


def matrix_of(slices: list[Plane]) -> np.ndarray:
    """The IJK-to-RAS matrix of a stack. The slice axis is that of the positions, so that a tilted gantry stays exact.

    Raises:
        UserError: If there is one slice and nothing says how thick it is.
    """
    first, last = slices[0], slices[-1]
    lps = np.eye(4)
    lps[:3, :2] = (first.axes * first.spacing[:, None]).T
    if len(slices) > 1:
        lps[:3, 2] = (last.position - first.position) / (len(slices) - 1)
    else:
        lps[:3, 2] = np.cross(*first.axes) * _thickness(first)
    lps[:3, 3] = first.position
    return FLIP @ lps


def _thickness(plane: Plane) -> float:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        if thickness := abs(plane.header.number(keyword) or 0):
            return thickness
    hint = "Export the whole stack, or the slice again with its geometry"
    raise UserError("nothing says how thick this single DICOM slice is", where=plane.file.path, hint=hint)


def _require_same_grid(planes: list[Plane], folder: Path) -> None:
    size = Counter(plane.file.size for plane in planes).most_common(1)[0][0]
    like = next(plane for plane in planes if plane.file.size == size)
    for plane in planes:
        if plane.file.size != size:
            what = f"the sizes of the images differ: {_size(like)}, and {_size(plane)}"
            raise UserError(what, where=folder, hint="Export the whole series, and none of another one")
        if not np.allclose(plane.spacing, like.spacing, rtol=1e-3):
            what = f"PixelSpacing differs: {_spacing(like)}, and {_spacing(plane)}"
            raise UserError(what, where=folder, hint="Export the whole series, and none of another one")
        if (angle := _angle(plane, like)) > _TURNED_DEG:
            what = (
                f"the images have different orientations: {plane.name} is turned by {angle:.1f} degrees "
                f"against {like.name}"
            )
            hint = "Put one stack of parallel slices, such as the short axis, into a folder of its own"
            raise UserError(what, where=folder, hint=hint)


def _require_line(stack: list[list[Plane]], normal: np.ndarray, folder: Path) -> None:
    """Raises UserError unless all positions lie on the line through those of the first and the last slice."""
    first, last = stack[0][0], stack[-1][0]
    way = last.position - first.position
    along = float(normal @ way)
    hint = "Export one stack whose slices lie above one another"

    def distance(plane: Plane) -> float:
        aside = plane.position - first.position
        share = float(normal @ aside) / along if len(stack) > 1 else 0.0
        return float(np.linalg.norm(aside - share * way))

    farthest = max((plane for level in stack for plane in level), key=distance)
    if (off := distance(farthest)) > _OFF_LINE_MM:
        what = f"{farthest.name} lies {off:.2f} mm away from the line through {first.name} and {last.name}"
        raise UserError(f"the slices are shifted in their plane: {what}", where=folder, hint=hint)
    shift = float(np.linalg.norm(way - along * normal))
    if shift > along * _SLANT_MAX:
        what = f"the slices are shifted in their plane: {first.name} and {last.name} lie {along:.2f} mm apart"
        raise UserError(f"{what}, and {shift:.2f} mm aside", where=folder, hint=hint)


def _require_one_place(stack: list[list[Plane]], folder: Path) -> None:
    """Raises UserError if images at one position are slices of several places by what else they say."""
    for level in stack:
        numbers = ((plane.header.number("SliceLocation"), plane.name) for plane in level)
        located = sorted((place, name) for place, name in numbers if place is not None)
        if located and (apart := located[-1][0] - located[0][0]) > _UNEVEN_MM:
            what = f"{located[0][1]} and {located[-1][1]} have the same ImagePositionPatient"
            hint = "Export the series again with its geometry"
            raise UserError(f"{what}, but by SliceLocation they lie {apart:.2f} mm apart", where=folder, hint=hint)


def _size(plane: Plane) -> str:
    return f"{plane.name} has {plane.file.size[0]} rows and {plane.file.size[1]} columns"


def _spacing(plane: Plane) -> str:
    return f"{plane.spacing[1]:g} x {plane.spacing[0]:g} mm in {plane.name}"


def _angle(one: Plane, other: Plane) -> float:
    """By how many degrees an image is turned against another one, in its plane or out of it."""
    turns = (np.vstack([plane.axes, np.cross(*plane.axes)]) for plane in (one, other))
    cosine = (np.trace(np.matmul(next(turns), next(turns).T)) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
