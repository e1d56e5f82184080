"""The slice bank: preprocessed slices of all training cases in files that are read in place.

Memory use does not grow with the pool: the files are mapped, not loaded. A bank is built once per set of inputs and
settings; its index is written last, so that a bank without an index is one that was never finished.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .cases import Case, load_image, load_labels
from .errors import UserError
from .files import as_user_error, read_json, write_json
from .labels import LabelSet
from .preprocess import Center, Stack, as_stack, sample_images, sample_labels

Placing = Callable[[Case, Stack], Center]


@dataclass(frozen=True, eq=False)
class SliceBank:
    """Slices of cases, one after the other, the labeled cases first.

    Attributes:
        images: (N, size, size) float16, mapped.
        labels: (L, size, size) uint8 training labels of the first L slices, mapped.
        ranges: First slice and the one behind the last, by case name.
        centers: Where each case's squares have their middle, (row, col) in mm.
        size: Side of the squares.
    """

    images: np.ndarray
    labels: np.ndarray
    ranges: dict[str, tuple[int, int]]
    centers: dict[str, Center]
    size: int

    @property
    def labeled_slices(self) -> int:
        return len(self.labels)


def read_case(case: Case, plane: str) -> Stack:
    """The image of a case as a stack of slices."""
    return as_stack(load_image(case), plane)


def read_case_labels(case: Case, plane: str, labels: LabelSet) -> Stack:
    """The training labels of a labeled case as a stack of slices."""
    return as_stack(load_labels(case, labels), plane)


def build_bank(
    folder: Path,
    cases: list[Case],
    labels: LabelSet,
    *,
    plane: str,
    spacing: float,
    size: int,
    clip: tuple[float, float],
    place: Placing,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> SliceBank:
    """The bank of these cases in `folder`; one that was built from the same inputs is opened, not built again.

    Args:
        folder: Belongs to the bank alone.
        cases: Labeled and unlabeled ones.
        labels: The label set of the labeled ones.
        plane: See `preprocess.as_stack`.
        spacing: In-plane spacing in mm.
        size: Side of the squares in pixels.
        clip: Bounds of the normalized intensities.
        place: Gives the center of a case's squares.
        progress: Called after each case.

    Raises:
        UserError: If an input cannot be read or the disk is full.
    """
    ordered = sorted(cases, key=lambda case: case.role != "labeled")
    settings = {
        "plane": plane,
        "spacing": spacing,
        "size": size,
        "clip": list(clip),
        "labels": labels.model_dump(mode="json"),
    }
    inputs = [[case.name, case.role, case.frame, _stamp(case.image), _stamp(case.labels)] for case in ordered]
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "index.json"
    key = hashlib.sha256(json.dumps([settings, inputs]).encode()).hexdigest()
    if index.exists() and (stored := read_json(index))["key"] == key and _is_whole(folder, stored):
        return _open(folder, stored)
    index.unlink(missing_ok=True)

    ranges: dict[str, tuple[int, int]] = {}
    centers: dict[str, Center] = {}
    start = 0
    try:
        with open(folder / "images.f16", "wb") as image_file, open(folder / "labels.u8", "wb") as label_file:
            for number, case in enumerate(ordered):
                stack = read_case(case, plane)
                center = place(case, stack)
                image_file.write(sample_images(stack, center, spacing, size, clip).astype(np.float16).tobytes())
                if case.role == "labeled":
                    label_stack = read_case_labels(case, plane, labels)
                    label_file.write(sample_labels(label_stack, center, spacing, size, labels.classes).tobytes())
                centers[case.name] = center
                ranges[case.name] = (start, start + len(stack.array))
                start += len(stack.array)
                progress(number + 1, len(ordered), case.name)
    except OSError as error:
        raise as_user_error(error, folder) from error
    labeled = sum(stop - first for case in ordered if case.role == "labeled" for first, stop in [ranges[case.name]])
    stored = {"key": key, "size": size, "slices": start, "labeled": labeled, "ranges": ranges, "centers": centers}
    write_json(index, stored)
    return _open(folder, stored)


def _is_whole(folder: Path, stored: dict) -> bool:
    """Whether the files are as long as the index says: after a power cut they may not be."""
    pixels = stored["size"] ** 2
    sizes = ((folder / "images.f16", 2 * stored["slices"] * pixels), (folder / "labels.u8", stored["labeled"] * pixels))
    return all(path.is_file() and path.stat().st_size == size for path, size in sizes)


def _open(folder: Path, stored: dict) -> SliceBank:
    size = stored["size"]
    # Mode "c" (copy on write) because torch wants arrays that it could write to; nothing is ever written.
    images = np.memmap(folder / "images.f16", np.float16, "c", shape=(stored["slices"], size, size))
    if stored["labeled"]:
        labels = np.memmap(folder / "labels.u8", np.uint8, "c", shape=(stored["labeled"], size, size))
    else:
        labels = np.zeros((0, size, size), np.uint8)
    ranges = {name: tuple(bounds) for name, bounds in stored["ranges"].items()}
    centers = {name: tuple(center) for name, center in stored["centers"].items()}
    return SliceBank(images, labels, ranges, centers, size)


def _stamp(path: Path | None) -> list | None:
    """What tells whether a file is still the same: cheap even for thousands of files."""
    if path is None:
        return None
    try:
        members = sorted(path.iterdir()) if path.is_dir() else [path]
        return [[member.name, member.stat().st_size, member.stat().st_mtime_ns] for member in members]
    except FileNotFoundError:
        raise UserError(
            "this file is missing", where=path, hint="It was there when the job was made; put it back"
        ) from None
