"""The slice bank: preprocessed slices of all training cases in files that are read in place.

Memory use does not grow with the pool: the files are mapped, not loaded. A bank is built once for a training, on all
cores, and holds the same bytes whatever their number. Its index is written last, so that a bank without an index is one
that was never finished: that is continued. One that is damaged is built anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..base.errors import UserError
from ..base.files import as_user_error, sha256
from ..base.sealed import read_sealed, write_sealed
from ..config import Shape
from ..images.labels import LabelSet
from .bank_files import IMAGES, LABELS, BankFiles, Cut
from .blocks import Block, Place, on_slices, sample_block, sample_block_labels
from .case_reader import CaseReader
from .cases import Case
from .slices import Center, Stack, as_stack, sample_images, sample_labels

Placing = Callable[[Case, Stack], Center]
BlockPlacing = Callable[[Case, Stack], Place]

INDEX = "index.json"

#: More threads than this would wait for Python, and each holds a volume.
MOST_THREADS = 16


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
    """A bank of cases in `folder`; one of the same training is opened, or continued where it was cut off.

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
    try:
        with BankFiles(folder, key, [case.name for case in ordered], squares.shape) as bank:
            for number, name in enumerate(bank.ranges, start=1):
                progress(number, len(ordered), name)
            with closing(_cut_each(ordered[len(bank.ranges) :], source, squares)) as cuts:
                for case, cut in cuts:
                    bank.add(case.name, cut)
                    progress(len(bank.ranges), len(ordered), case.name)
    except OSError as error:
        raise as_user_error(error, folder) from error
    stored = {
        "key": key, "size": squares.shape[-1], "shape": list(squares.shape), "slices": bank.slices,
        "labeled": bank.labeled, "ranges": bank.ranges, "centers": bank.centers, "sha256": bank.sha256,
    }  # fmt: skip
    write_sealed(folder / INDEX, stored)
    bank.remove_journal()
    return _open(folder, stored)


def _cut_each(cases: list[Case], source: Source, squares: Squares | Blocks) -> Generator[tuple[Case, Cut], None, None]:
    """Cases and what is cut from them, in their order; threads work ahead, one for each core.

    Frames of one file, which stand together, are cut by one thread: the file is read once.
    """
    workers = min(os.cpu_count() or 1, MOST_THREADS)
    with ThreadPoolExecutor(workers, "cutter") as pool:
        waiting: deque[Future[list[tuple[Case, Cut]]]] = deque()
        try:
            for _, group in groupby(cases, key=lambda case: case.image):
                waiting.append(pool.submit(_cut_group, list(group), source, squares))
                if len(waiting) > 2 * workers:  # what is cut has to be written before more of it is held
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


def _cut_group(cases: list[Case], source: Source, squares: Squares | Blocks) -> list[tuple[Case, Cut]]:
    return [(case, _cut(case, source, squares)) for case in cases]


def _cut(case: Case, source: Source, squares: Squares | Blocks) -> Cut:
    """What is stored of a case."""
    images, labels, center = squares.cut(case, source)
    images = images.astype(np.float16)
    if not np.isfinite(images).all():
        what = f"the image of {case.name} holds values that are not numbers"
        raise UserError(what, where=case.image, hint="Replace them by a number, such as 0")
    return Cut(images, labels, center)


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
