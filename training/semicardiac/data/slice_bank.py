"""The slice bank: preprocessed slices of all training cases in files that are read in place.

Memory use does not grow with the pool: the files are mapped, not loaded. A bank is built once for a training; its index
is written last, so that a bank without an index is one that was never finished. One that is damaged is built anew.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..base.errors import UserError
from ..base.files import as_user_error, sha256
from ..base.sealed import read_sealed, write_sealed
from ..config import Shape
from ..images.labels import LabelSet
from .blocks import Block, Place, on_slices, sample_block, sample_block_labels
from .case_reader import CaseReader
from .cases import Case
from .slices import Center, Stack, as_stack, sample_images, sample_labels

Placing = Callable[[Case, Stack], Center]
BlockPlacing = Callable[[Case, Stack], Place]

IMAGES, LABELS, INDEX = "images.f16", "labels.u8", "index.json"


@dataclass(frozen=True, eq=False)
class SliceBank:
    """Slices of cases, one after the other, the labeled cases first.

    Attributes:
        images: (N, size, size) float16, mapped. Of a training on volumes, N blocks (N, slices, size, size).
        labels: (L, size, size) uint8 training labels of the first L slices, mapped; or of blocks.
        ranges: First slice and the one behind the last, by case name; or block, of which each case has one.
        centers: Where each case's squares have their middle, (row, col) in mm; (slice, row, col) of blocks.
        size: Side of the squares.
    """

    images: np.ndarray
    labels: np.ndarray
    ranges: dict[str, tuple[int, int]]
    centers: dict[str, tuple[float, ...]]
    size: int

    @property
    def labeled_slices(self) -> int:
        return len(self.labels)

    def broken(self) -> list[str]:
        """Cases whose slices hold values that are not numbers."""
        ranges = self.ranges.items()
        return [name for name, (first, last) in ranges if not np.isfinite(self.images[first:last]).all()]


class Source(NamedTuple):
    """What a bank is built from."""

    cases: list[Case]
    """Labeled and unlabeled ones."""
    labels: LabelSet
    """Of the labeled ones."""
    reader: CaseReader
    content: str
    """Tells the training and what its inputs hold, see `Identity.content`."""


class Squares(NamedTuple):
    """How the slices of a bank are cut."""

    plane: str
    """See `slices.as_stack`."""
    spacing: float
    """In the plane, mm."""
    size: int
    """Side of the squares in pixels."""
    clip: tuple[float, float]
    """Bounds of the normalized intensities."""
    place: Placing
    """Gives the center of a case's squares."""

    @property
    def shape(self) -> Shape:
        """Of what is stored, one of them a slice."""
        return self.size, self.size

    @property
    def key(self) -> list[Any]:
        """All that decides on what is cut, but for the places."""
        return [self.plane, self.spacing, self.size, list(self.clip)]

    def cut(self, case: Case, source: Source) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
        """Images and labels of a case (N, size, size), float32 and uint8 (none if unlabeled), and their center."""
        stack = as_stack(source.reader.image(case), self.plane)
        center = self.place(case, stack)
        images = sample_images(stack, center, self.spacing, self.size, self.clip)
        if case.role != "labeled":
            return images, np.empty((0, *self.shape), np.uint8), center
        labels = as_stack(source.reader.labels(case, source.labels), self.plane)
        return images, sample_labels(labels, center, self.spacing, self.size, source.labels.classes), center


class Blocks(NamedTuple):
    """How the blocks of a bank are cut: one of each case."""

    plane: str
    """See `slices.as_stack`."""
    block: Block
    """Its grid."""
    clip: tuple[float, float]
    """Bounds of the normalized intensities."""
    place: BlockPlacing
    """Gives the middle of a case's block."""

    @property
    def shape(self) -> Shape:
        """Of a block."""
        return self.block.shape

    @property
    def key(self) -> list[Any]:
        """All that decides on what is cut, but for the places."""
        return [self.plane, *self.block, list(self.clip)]

    def cut(self, case: Case, source: Source) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
        """As of `Squares`, (1, slices, rows, cols)."""
        stack = as_stack(source.reader.image(case), self.plane)
        middle = on_slices(self.place(case, stack), self.block, stack)
        images = sample_block(stack, middle, self.block, self.clip)[None]
        if case.role != "labeled":
            return images, np.empty((0, *self.shape), np.uint8), middle
        labels = as_stack(source.reader.labels(case, source.labels), self.plane)
        return images, sample_block_labels(labels, middle, self.block, source.labels.classes)[None], middle


def build_bank(
    folder: Path,
    source: Source,
    squares: Squares | Blocks,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> SliceBank:
    """A bank of cases in `folder`; one that was built for the same training is opened, not built again.

    Args:
        folder: Belongs to the bank alone.
        source: The cases.
        squares: What is cut out of their slices.
        progress: Called after each case.

    Raises:
        UserError: If an input cannot be read or used, or the disk is full.
    """
    ordered = sorted(source.cases, key=lambda case: case.role != "labeled")
    settings = [*squares.key, source.labels.model_dump(mode="json"), source.content]
    settings.append([[case.name, case.role, case.frame] for case in ordered])
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    if (stored := _finished(folder, key, [case.name for case in ordered], squares.shape)) is not None:
        return _open(folder, stored)
    (folder / INDEX).unlink(missing_ok=True)

    ranges: dict[str, tuple[int, int]] = {}
    centers: dict[str, tuple[float, ...]] = {}
    start = labeled = 0
    try:
        with _Hashed(folder / IMAGES) as image_file, _Hashed(folder / LABELS) as label_file:
            for number, case in enumerate(ordered):
                images, labels, centers[case.name] = _cut(case, source, squares)
                image_file.write(images.tobytes())
                label_file.write(labels.tobytes())
                ranges[case.name] = (start, start + len(images))
                start, labeled = start + len(images), labeled + len(labels)
                progress(number + 1, len(ordered), case.name)
    except OSError as error:
        raise as_user_error(error, folder) from error
    stored = {
        "key": key,
        "size": squares.shape[-1],
        "slices": start,
        "labeled": labeled,
        "ranges": ranges,
        "centers": centers,
    }
    stored |= {"shape": list(squares.shape), "sha256": {IMAGES: image_file.sha256, LABELS: label_file.sha256}}
    write_sealed(folder / INDEX, stored)
    return _open(folder, stored)


def _cut(case: Case, source: Source, squares: Squares | Blocks) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """What is stored of a case: images float16, their labels uint8 (none if unlabeled), and their center."""
    images, labels, center = squares.cut(case, source)
    images = images.astype(np.float16)
    if not np.isfinite(images).all():
        what = f"the image of {case.name} holds values that are not numbers"
        raise UserError(what, where=case.image, hint="Replace them by a number, such as 0")
    return images, labels, center


class _Hashed:
    """A file that is written, and its checksum."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 - closed on exit
        self._digest = hashlib.sha256()

    def __enter__(self) -> _Hashed:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _finished(folder: Path, key: str, names: list[str], shape: Shape) -> dict[str, Any] | None:
    """The index of a bank that was built for this key and is whole; None if there is none.

    Indexes of earlier versions hold no checksums, and keys of another kind: what they say of cases and size decides.
    """
    try:
        stored = read_sealed(folder / INDEX)
        checksums = stored.get("sha256")
        fits = stored["key"] == key if checksums else (list(stored["ranges"]), _shape(stored)) == (names, shape)
        pixels = math.prod(_shape(stored))
        lengths = {IMAGES: 2 * stored["slices"] * pixels, LABELS: stored["labeled"] * pixels}
        whole = all((folder / name).stat().st_size == length for name, length in lengths.items())
        if fits and whole and all(sha256(folder / name) == each for name, each in (checksums or {}).items()):
            return stored
    except (UserError, OSError, KeyError, TypeError, AttributeError):
        pass  # never finished, or damaged
    return None


def _shape(stored: dict[str, Any]) -> Shape:
    """Of what a bank holds; indexes of earlier versions tell the side of squares alone."""
    return tuple(stored.get("shape", (stored["size"], stored["size"])))


def _open(folder: Path, stored: dict[str, Any]) -> SliceBank:
    shape = _shape(stored)
    # Mode "c" (copy on write) because torch wants arrays that it could write to; nothing is ever written.
    images = np.memmap(folder / IMAGES, np.float16, "c", shape=(stored["slices"], *shape))
    if stored["labeled"]:
        labels: np.ndarray = np.memmap(folder / LABELS, np.uint8, "c", shape=(stored["labeled"], *shape))
    else:
        labels = np.zeros((0, *shape), np.uint8)
    ranges = {name: tuple(bounds) for name, bounds in stored["ranges"].items()}
    centers = {name: tuple(center) for name, center in stored["centers"].items()}
    return SliceBank(images, labels, ranges, centers, shape[-1])
