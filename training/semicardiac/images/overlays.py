"""Pictures of a segmentation on its image: slices side by side, structures in their colors."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from ..base.files import atomic_path
from .labels import LabelSet
from .volumes import Volume

TILE = 220
"""Longer side of a slice's picture, in pixels."""
GAP = 4
"""Pixels between two slices."""
MARGIN_MM = 15.0
"""How much of the surroundings of the structures is shown."""
COLUMNS = (5, 6, 4)
"""Slices in a row, the most liked first; those are chosen that leave the fewest places empty."""
SLICES_MAX = 15
FILL = 0.38
"""Opacity of a filled structure."""
_SHARPNESS = 2  # lines are drawn at this multiple of the size and averaged down, so that they have smooth edges


def overlay_montage(
    volume: Volume,
    labels: Volume,
    label_set: LabelSet,
    reference: Volume | None = None,
) -> npt.NDArray[np.uint8]:
    """The slices of a volume side by side, with the structures drawn on them.

    Without a reference each structure has a thin fill and a contour. With one, the fill is the segmentation and
    the line is the contour of the reference, so that what sticks out of a line, or fails to fill it, is an error.
    What is shown is the structures with a margin of `MARGIN_MM`, or where there are none, the whole slices.
    Slices are true to scale and numbered from 1 in the order of the file, the patient's left to the right and the
    front or the head up where the geometry tells. Of more than `SLICES_MAX` slices with a structure,
    evenly spaced ones are shown.

    Args:
        volume: The image, array [slice,row,col].
        labels: Training labels on the same grid.
        label_set: Gives each structure its color.
        reference: Training labels of the reference on the same grid.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    image, label = (_upright(item.array, volume.ijk_to_ras) for item in (volume, labels))
    truth = None if reference is None else _upright(reference.array, volume.ijk_to_ras)
    spacing = volume.spacing[::-1]  # (slice, row, col), in mm
    drawn = label > 0 if truth is None else (label > 0) | (truth > 0)
    box = _box(drawn, spacing) if drawn.any() else tuple(slice(0, n) for n in image.shape)
    shown = np.arange(image.shape[0])[box[0]]
    if len(shown) > SLICES_MAX:
        shown = shown[np.linspace(0, len(shown) - 1, SLICES_MAX).round().astype(int)]
    gray = _window(image[shown][:, box[1], box[2]])
    height_mm, width_mm = gray.shape[1] * spacing[1], gray.shape[2] * spacing[2]
    scale = TILE / max(height_mm, width_mm)
    size = (max(1, round(height_mm * scale)), max(1, round(width_mm * scale)))
    colors = np.array([structure.color for structure in label_set.structures], float)
    tiles = []
    for row, index in enumerate(shown):
        here = label[index, box[1], box[2]]
        there = None if truth is None else truth[index, box[1], box[2]]
        tiles.append(_numbered(paint_slice(gray[row], here, colors, there, size=size), index + 1))
    return _grid(tiles, min(COLUMNS, key=lambda each: -len(tiles) % each))


def paint_slice(
    gray: npt.NDArray[np.float32],
    labels: np.ndarray,
    colors: npt.NDArray[np.float64],
    reference: np.ndarray | None = None,
    *,
    size: tuple[int, int],
) -> npt.NDArray[np.uint8]:
    """One slice in gray with its structures in color.

    Contours run where the linear interpolation between voxel centres crosses one half, so that they pass
    between the same voxels as the labels do without showing their corners.

    Args:
        gray: (rows, cols) float, 0 black to 1 white.
        labels: (rows, cols) training labels, drawn as a fill, and as contours where there is no reference.
        colors: (structures, 3) RGB, 0 to 255; row i belongs to label i + 1.
        reference: (rows, cols) training labels, drawn as contours.
        size: Height and width of the picture.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    fine = (size[0] * _SHARPNESS, size[1] * _SHARPNESS)
    picture = np.repeat(_resize(gray, fine)[..., None], 3, axis=2) * 255
    filled = _enlarge(labels, fine, len(colors))
    palette = np.concatenate([np.zeros((1, 3)), colors])
    opacity = (filled > 0)[..., None] * (FILL if reference is not None else FILL / 2)
    picture = picture * (1 - opacity) + palette[filled] * opacity
    outlined = filled if reference is None else _enlarge(reference, fine, len(colors))
    for label in np.unique(outlined[outlined > 0]):
        inside = outlined == label
        core = ndimage.binary_erosion(inside, iterations=_SHARPNESS + 1, border_value=True)
        picture[inside & ~core] = palette[label]
    picture = picture.reshape(size[0], _SHARPNESS, size[1], _SHARPNESS, 3).mean(axis=(1, 3))
    return picture.round().astype(np.uint8)


def write_png(path: Path, rgb: np.ndarray) -> None:
    """Writes a (height, width, 3) uint8 picture as PNG, atomically."""
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(png(rgb))


def png(rgb: np.ndarray) -> bytes:
    """A (height, width, 3) uint8 picture as a PNG file's content."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="PNG")
    return buffer.getvalue()


def _upright(array: np.ndarray, ijk_to_ras: np.ndarray) -> np.ndarray:
    """Flips rows and columns so that they run to the patient's left, back or feet, whichever is nearest."""
    for axis, column in ((1, 1), (2, 0)):
        direction = ijk_to_ras[:3, column]
        if direction[np.argmax(np.abs(direction))] > 0:  # towards right, front or head
            array = np.flip(array, axis)
    return array


def _box(mask: np.ndarray, spacing: np.ndarray) -> tuple[slice, ...]:
    """The bounding box of a mask with one slice more at each end and a margin in the plane."""
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    margins = (1, *(math.ceil(MARGIN_MM / step) for step in spacing[1:]))
    return tuple(
        slice(max(0, part.start - margin), min(length, part.stop + margin))
        for part, margin, length in zip(found, margins, mask.shape, strict=True)
    )


def _window(image: np.ndarray) -> npt.NDArray[np.float32]:
    """Intensities from 0 to 1 between the 1st and 99th percentile of what is shown; 0 where not finite."""
    image = np.asarray(image, np.float32)
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
    return np.clip(np.nan_to_num((image - low) / max(high - low, 1e-6)), 0, 1)


def _resize(image: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Linear interpolation of a 2D array onto another number of pixels over the same area."""
    places = [
        np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        for new, old in zip(size, image.shape, strict=True)
    ]
    return ndimage.map_coordinates(image, np.meshgrid(*places, indexing="ij"), order=1)


def _enlarge(labels: np.ndarray, size: tuple[int, int], structures: int) -> npt.NDArray[np.intp]:
    shares = np.stack([_resize((labels == label).astype(np.float32), size) for label in range(structures + 1)])
    return shares.argmax(0)


def _numbered(tile: np.ndarray, number: int) -> np.ndarray:
    picture = Image.fromarray(tile)
    font = ImageFont.load_default(size=13)
    ImageDraw.Draw(picture).text(
        (6, 4), str(number), fill=(235, 235, 235), font=font, stroke_width=1, stroke_fill=(0, 0, 0)
    )
    return np.asarray(picture)


def _grid(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    canvas = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + GAP), number % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = tile
    return canvas
