"""The files of a slice bank while it is built: what a killed run has written stays, as far as it is whole."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import Shape

IMAGES, LABELS, JOURNAL = "images.f16", "labels.u8", "built.jsonl"


class Cut(NamedTuple):
    """What a bank takes from a case."""

    images: np.ndarray
    """(slices, *shape) float16."""
    labels: np.ndarray
    """(slices, *shape) uint8; of an unlabeled case (0, *shape)."""
    center: tuple[float, ...]
    """See `SliceBank.centers`."""


class BankFiles:
    """Appends the squares of one case after the other, and notes each in a journal when it is there.

    As a context it has the files open. A journal for another key, and what follows a case that is not what was noted,
    is discarded.

    Args:
        folder: Of the bank.
        key: Tells the bank from those of other inputs and settings.
        names: Of the cases, in their order.
        shape: Of a square, or of a block.

    Attributes:
        ranges: First slice and the one behind the last, by the names of the cases that are there.
        centers: Of their squares.
        slices, labeled: How many there are.
    """

    def __init__(self, folder: Path, key: str, names: list[str], shape: Shape) -> None:
        self._folder, self._key, self._names, self._pixels = folder, key, names, math.prod(shape)
        self.ranges: dict[str, tuple[int, int]] = {}
        self.centers: dict[str, tuple[float, ...]] = {}
        self.slices = self.labeled = 0

    def __enter__(self) -> BankFiles:
        journal = self._folder / JOURNAL
        noted = list(_noted(journal, self._key)) if journal.exists() else []
        self._images, self._labels = _Hashed(self._folder / IMAGES), _Hashed(self._folder / LABELS)
        self._journal = open(journal, "w", encoding="ascii")
        self._note({"key": self._key})
        for name, entry in zip(self._names, noted, strict=False):
            if not self._take_up(name, entry):
                break
        self._images.cut()
        self._labels.cut()
        return self

    def __exit__(self, *error: object) -> None:
        for file in (self._images, self._labels, self._journal):
            file.close()

    @property
    def sha256(self) -> dict[str, str]:
        """The checksums of both files, by their names."""
        return {IMAGES: self._images.sha256, LABELS: self._labels.sha256}

    def add(self, name: str, cut: Cut) -> None:
        """Writes what was cut from the next case."""
        images, labels = cut.images.tobytes(), cut.labels.tobytes()
        self._images.write(images)
        self._labels.write(labels)
        self._count(name, len(cut.images), len(cut.labels), cut.center)
        self._note(
            {
                "name": name, "slices": len(cut.images), "labeled": len(cut.labels), "center": list(cut.center),
                "sha256": hashlib.sha256(images + labels).hexdigest(),
            }
        )  # fmt: skip

    def remove_journal(self) -> None:
        """Once the bank is whole."""
        (self._folder / JOURNAL).unlink(missing_ok=True)

    def _take_up(self, name: str, entry: dict[str, Any]) -> bool:
        """Whether the next case in the files is this one and what was noted of it."""
        try:
            slices, labeled = int(entry["slices"]), int(entry["labeled"])
            center = tuple(map(float, entry["center"]))
            known = entry["name"] == name
        except (KeyError, TypeError, ValueError):
            return False
        images = self._images.peek(2 * slices * self._pixels)
        labels = self._labels.peek(labeled * self._pixels)
        if not known or hashlib.sha256(images + labels).hexdigest() != entry.get("sha256"):
            return False
        self._images.keep(images)
        self._labels.keep(labels)
        self._count(name, slices, labeled, center)
        self._note(entry)
        return True

    def _count(self, name: str, slices: int, labeled: int, center: tuple[float, ...]) -> None:
        self.ranges[name] = self.slices, self.slices + slices
        self.centers[name] = center
        self.slices, self.labeled = self.slices + slices, self.labeled + labeled

    def _note(self, entry: dict[str, Any]) -> None:
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()


def _noted(journal: Path, key: str) -> Iterator[dict[str, Any]]:
    """What a journal for this key says of cases, as far as it is whole."""
    with open(journal, encoding="ascii", errors="replace") as lines:
        for number, line in enumerate(lines):
            try:
                entry = json.loads(line)
            except ValueError:  # cut off by a kill
                return
            if not isinstance(entry, dict) or (number == 0 and entry.get("key") != key):
                return
            if number > 0:
                yield entry


class _Hashed:
    """A file that is continued, and the checksum of what is kept of it and written to it."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115 - closed by who uses it
        self._digest = hashlib.sha256()
        self._kept = 0

    def peek(self, count: int) -> bytes:
        """The bytes behind what is kept; fewer if the file ends there."""
        self._file.seek(self._kept)
        return self._file.read(count)

    def keep(self, content: bytes) -> None:
        """Keeps these bytes, which `peek` gave."""
        self._digest.update(content)
        self._kept += len(content)

    def cut(self) -> None:
        """Ends the file behind what is kept."""
        self._file.seek(self._kept)
        self._file.truncate()

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self._file.flush()  # the journal tells of it next
        self._digest.update(content)

    def close(self) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()
