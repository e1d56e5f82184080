"""Slicer segmentations, .seg.nrrd: a label volume whose header says what its segments are.

Overlapping segments lie in layers, which NRRD holds as several values in each voxel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from ..base.errors import UserError
from ..base.text import count, listed
from .geometry import Frames, on_grid, require_place, require_real
from .image_files import require_room
from .itk import geometry_of, metadata, write_image
from .labels import LabelSet, as_whole_numbers
from .structure_names import meaning_of, plain

SUFFIX = ".seg.nrrd"

_GRID = "Reference image geometry"
_FAR = 1e6
"""No number of a grid in mm or voxels is as large."""
_FULL, _FULL_UNSIGNED = 108, (0, 1, 216, 255)
"""What stands for a voxel that is whole in a segment, in fractional labelmaps with and without a sign."""
_ENTRY = re.compile(r"Segment(\d{1,6})_(?:ID|Name|LabelValue|Layer)")
_REPRESENTATION = ("Segmentation_MasterRepresentation", "Segmentation_SourceRepresentation")


class _Segment(NamedTuple):
    name: str
    value: int
    layer: int
    code: str
    """scheme^value of its type in the terminology, or nothing."""


def is_segmentation(image: sitk.Image) -> bool:
    """Whether an image that was read from a NRRD file is a Slicer segmentation."""
    return bool(_numbers(image))


def read_segmentation(image: sitk.Image, label_set: LabelSet, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The training labels of a segmentation, found by segment names as people write them, and by codes.

    Where the header names the grid that was segmented, a cropped segmentation is put back on it. Of a fractional
    labelmap, a voxel is in the segment that fills more than half of it.

    Args:
        image: The image as read from `path`.
        label_set: What to find.
        path: For messages.

    Returns:
        Training labels [slice, row, col] uint8, and their IJK-to-RAS matrix.

    Raises:
        UserError: If segments of the set overlap, two of them stand for one structure, segments that are not in the set
            hold voxels, voxels are in no segment, or the header is damaged.
    """
    if image.GetDimension() != 3:
        raise UserError("a segmentation of a single volume is expected", where=path, hint="Export one frame")
    matrix = geometry_of(image)
    require_place(matrix, path)
    values = sitk.GetArrayFromImage(image)
    require_real(values.dtype, path)
    values = values.reshape((*values.shape[:3], -1))
    segments = _segments(image, values.shape[3], path)
    fractional = any(metadata(image, key).startswith("Fractional") for key in _REPRESENTATION)
    masks = (_fractional if fractional else _binary)(values, segments, path)
    training = np.zeros(values.shape[:3], dtype=np.uint8)
    unmatched = []
    drawn: dict[int, _Segment] = {}
    for segment, mask in zip(segments, masks, strict=True):
        label = _find(segment, label_set, segments)
        if label is None:
            if mask.any():
                unmatched.append(f"'{segment.name}' ({count(int(mask.sum()), 'voxel')})")
            continue
        if mask.any() and (other := drawn.setdefault(label, segment)) is not segment:
            what = f"two segments stand for '{label_set.names[label - 1]}': '{other.name}' and '{segment.name}'"
            raise UserError(what, where=path, hint="Rename or remove one of them, or make them one segment in Slicer")
        overlap = mask & (training != 0)
        if overlap.any():
            beneath = label_set.names[int(training[overlap][0]) - 1]
            what = f"'{beneath}' and '{label_set.names[label - 1]}' overlap in {count(int(overlap.sum()), 'voxel')}"
            hint = "In Slicer's Segment Editor, allow no overlap and correct one of them"
            raise UserError(what, where=path, hint=hint)
        training[mask] = label
    if unmatched:
        known = ", ".join(label_set.names)
        what = f"the segments {', '.join(unmatched)} are not in the label set '{label_set.name}' ({known})"
        hint = "Rename or remove them, or name the label set that this file follows"
        raise UserError(what, where=path, hint=hint)
    return _uncropped(training, matrix, image, path)


def write_segmentation(path: Path, training: np.ndarray, ijk_to_ras: np.ndarray, label_set: LabelSet) -> None:
    """Writes training labels [slice, row, col] as a segmentation with names, colors and codes.

    Every structure gets its segment, also one without voxels; the voxels hold source values.

    Raises:
        UserError: If the disk is full or the place is not writable.
    """
    header = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        # Without it Slicer would crop the file to the segments when it saves it again.
        "Segmentation_ConversionParameters": f"{_GRID}|{_grid_text(training.shape, ijk_to_ras)}|&",
    }
    for index, structure in enumerate(label_set.structures):
        entries = {
            "ID": structure.key,
            "Name": structure.name,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{channel / 255:.6f}" for channel in structure.color),
            "ColorAutoGenerated": "0",
            "LabelValue": str(structure.source_values[0]),
            "Layer": "0",
            "Extent": _extent(training == index + 1),
            # In progress, not completed: a person has still to look at what a network has drawn.
            "Tags": f"Segmentation.Status:inprogress|TerminologyEntry:{structure.terminology}|",
        }
        header |= {f"Segment{index}_{key}": value for key, value in entries.items()}
    write_image(path, Frames(label_set.to_source(training)[None], ijk_to_ras), header)


def _numbers(image: sitk.Image) -> list[int]:
    """The numbers of the segments, which may have gaps where a program has removed some."""
    found = (_ENTRY.fullmatch(key) for key in image.GetMetaDataKeys())
    return sorted({int(match[1]) for match in found if match})


def _segments(image: sitk.Image, layers: int, path: Path) -> list[_Segment]:
    segments: list[_Segment] = []
    numbers = _numbers(image)
    for index, number in enumerate(numbers):
        prefix = f"Segment{number}_"
        tags = dict(tag.split(":", 1) for tag in metadata(image, f"{prefix}Tags").split("|") if ":" in tag)
        terminology = tags.get("TerminologyEntry", "").split("~")
        code = "^".join(terminology[2].split("^")[:2]) if len(terminology) > 2 else ""
        name = metadata(image, f"{prefix}Name") or metadata(image, f"{prefix}ID")
        # Slicer before version 5 wrote neither: each segment was a layer of its own with the value 1.
        own_layer = number if numbers[-1] < layers else index
        try:
            value = int(metadata(image, f"{prefix}LabelValue", "1"))
            layer = int(metadata(image, f"{prefix}Layer", str(own_layer)))
        except ValueError as error:
            raise _damaged(path, str(error)) from None
        if not 0 <= layer < layers:
            raise _damaged(path, f"layer {layer} of '{name}' is not there")
        segments.append(_Segment(name.strip(), value, layer, code))
    return segments


def _binary(values: np.ndarray, segments: list[_Segment], path: Path) -> Iterator[np.ndarray]:
    """The voxels of each segment; `values` are [slice, row, col, layer]."""
    values = as_whole_numbers(values, where=path)
    unclaimed = []
    for layer in range(values.shape[3]):
        claimed = [0, *(segment.value for segment in segments if segment.layer == layer)]
        found, counts = np.unique(values[..., layer], return_counts=True)
        place = f" in layer {layer}" if values.shape[3] > 1 else ""
        for value, number in zip(found, counts.tolist(), strict=True):
            if value not in claimed:
                unclaimed.append(f"{value}{place} ({count(number, 'voxel')})")
    if unclaimed:
        named = ", ".join(f"{segment.value} {segment.name}" for segment in segments)
        what = f"the values {listed(unclaimed, 8)} are of no segment; the header names {named}"
        raise UserError(what, where=path, hint="Save the segmentation again in Slicer, or correct the header")
    return (values[..., segment.layer] == segment.value for segment in segments)


def _fractional(values: np.ndarray, segments: list[_Segment], path: Path) -> Iterator[np.ndarray]:
    """The voxels of which each segment fills more than half, and more than every other.

    The file does not tell the range. Slicer stores -108 to 108, and 0 where it made a map larger; others store from 0.
    """
    layers = [segment.layer for segment in segments]
    low, high = float(values.min()), float(values.max())
    signed = low < 0 or values.dtype.kind == "i"
    known = low >= -_FULL and high <= _FULL if signed else high in _FULL_UNSIGNED
    if not known or len(set(layers)) < len(layers):
        what = f"its fractions from {low:g} to {high:g}, in {len(set(layers))} layers for {len(layers)} segments"
        hint = "In Slicer, convert the segmentation to a binary labelmap, and save it again"
        raise UserError(f"{what}, cannot be understood", where=path, hint=hint)
    values = values[..., layers]
    largest = values.max(axis=-1)
    inside = largest > (0 if signed else high / 2)
    return (inside & (values[..., index] == largest) for index in range(len(layers)))


def _uncropped(
    training: np.ndarray, matrix: np.ndarray, image: sitk.Image, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    parameters = metadata(image, "Segmentation_ConversionParameters").split("&")
    text = next((parameter.split("|")[1] for parameter in parameters if parameter.startswith(f"{_GRID}|")), "")
    try:
        numbers = [float(number) for number in text.split(";") if number]
    except ValueError:
        numbers = []
    if len(numbers) != 22:  # 16 of a matrix to RAS, and first and last column, row and slice
        return training, matrix
    if not np.abs(numbers).max() < _FAR:
        raise _damaged(path, _GRID)
    grid = np.reshape(numbers[:16], (4, 4))
    first, last = np.array(numbers[16::2], dtype=int), np.array(numbers[17::2], dtype=int)
    shape = tuple(map(int, last - first + 1))
    require_room(shape, 1, path)
    grid[:3, 3] += grid[:3, :3] @ first
    placed = on_grid(training, matrix, shape[::-1], grid)
    return (training, matrix) if placed is None else (placed, grid)


def _grid_text(shape: tuple[int, ...], ijk_to_ras: np.ndarray) -> str:
    numbers = [repr(float(number)) for number in ijk_to_ras.ravel()]
    extent = [str(bound) for size in shape[::-1] for bound in (0, size - 1)]
    return ";".join([*numbers, *extent, ""])


def _find(segment: _Segment, label_set: LabelSet, segments: Sequence[_Segment]) -> int | None:
    """The training label of a segment: by its name, then its code, then what its name means to people.

    A code counts only where the name does not mean something else, and a meaning where no other segment has it too.
    """
    name, meant = plain(segment.name), _by_meaning(segment, label_set)
    for label, structure in enumerate(label_set.structures, start=1):
        if name == plain(structure.name):
            return label
    if (coded := _by_code(segment, label_set)) is not None:
        return coded if meant in (None, coded) else None
    rivals = [each for each in segments if each is not segment and meant in _claims(each, label_set)]
    return None if rivals else meant


def _claims(segment: _Segment, label_set: LabelSet) -> tuple[int | None, ...]:
    return _by_code(segment, label_set), _by_meaning(segment, label_set)


def _by_code(segment: _Segment, label_set: LabelSet) -> int | None:
    codes = [f"{structure.type.scheme}^{structure.type.value}" for structure in label_set.structures]
    return codes.index(segment.code) + 1 if codes.count(segment.code) == 1 else None


def _by_meaning(segment: _Segment, label_set: LabelSet) -> int | None:
    """The label of the one structure that people call so: RV is the RV cavity."""
    meaning = meaning_of(segment.name)
    meanings = [structure.meaning for structure in label_set.structures]
    return meanings.index(meaning) + 1 if meaning and meanings.count(meaning) == 1 else None


def _damaged(path: Path, detail: str) -> UserError:
    what = f"the header of this segmentation is damaged ({detail})"
    return UserError(what, where=path, hint="Save it again in Slicer")


def _extent(mask: np.ndarray) -> str:
    """First and last column, row and slice of a mask; 0 -1 where it is empty, as Slicer writes it."""
    bounds = []
    for axis in (2, 1, 0):
        found = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        bounds += [int(found[0]), int(found[-1])] if len(found) else [0, -1]
    return " ".join(map(str, bounds))
