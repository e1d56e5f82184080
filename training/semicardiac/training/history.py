"""Tables that grow while a training runs: history.csv, one row a look, and validation.csv."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import Any

from ..base.files import atomic_path
from ..base.tables import to_cell


class History:
    """Rows are appended; those behind a checkpoint are cut off when it is taken up."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, *rows: dict[str, Any]) -> None:
        """Appends rows, the first of whose keys is `step`; keys that are new become columns behind the others."""
        columns = self._columns()
        if new := [key for key in dict.fromkeys(key for row in rows for key in row) if to_cell(key) not in columns]:
            self._widen(columns, [to_cell(key) for key in new])
            columns += [to_cell(key) for key in new]
        with open(self._path, "a", newline="", encoding="utf-8") as file:
            for row in rows:
                cells = {to_cell(key): to_cell(value) for key, value in row.items()}
                csv.writer(file).writerow([cells.get(column, "") for column in columns])

    def _columns(self) -> list[str]:
        if not self._path.exists():
            return []
        with open(self._path, newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])

    def _widen(self, columns: list[str], new: list[str]) -> None:
        """Writes the table with more columns, which are empty in the rows so far."""
        rows: list[list[str]] = []
        if columns:
            with open(self._path, newline="", encoding="utf-8") as file:
                rows = [[*row, *[""] * len(new)] for row in csv.reader(file)][1:]
        with atomic_path(self._path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([[*columns, *new], *rows])

    def cut(self, step: int) -> None:
        """Leaves out the rows behind `step`, and those that a kill has cut short or a disk has spoilt.

        A table that has lost its header is moved aside, to `history-damaged.csv`.
        """
        if not self._path.exists():
            return
        lines = self._path.read_bytes().decode("utf-8", "replace").replace("\r", "").split("\n")
        header, *rows = map(_cells, lines)
        if header[:1] != ["step"] and any(rows):
            os.replace(self._path, self._path.with_name(f"{self._path.stem}-damaged{self._path.suffix}"))
            return
        kept = [row for row in rows if len(row) == len(header) and _step(row[0]) <= step]
        if not kept:
            self._path.unlink()
            return
        with atomic_path(self._path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *kept])


def _cells(line: str) -> list[str]:
    """The cells of a line, none if it is spoilt."""
    try:
        return [] if "\0" in line or "\N{REPLACEMENT CHARACTER}" in line else next(csv.reader([line]), [])
    except csv.Error:
        return []


def _step(text: str) -> float:
    return int(text) if text.isdecimal() and len(text) < 20 else math.inf
