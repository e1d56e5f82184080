"""Tables that grow while a training runs: history.csv, one row a look, and validation.csv."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from .files import atomic_path
from .tables import to_cell


class History:
    """Rows are appended; those behind a checkpoint are cut off when it is taken up."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, *rows: dict[str, Any]) -> None:
        """Appends rows, the first of whose keys is `step`; all rows of a table have the same keys."""
        new = not self._path.exists()
        with open(self._path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            columns = list(rows[0])
            if new:
                writer.writerow(map(to_cell, columns))
            writer.writerows([to_cell(row[column]) for column in columns] for row in rows)

    def cut(self, step: int) -> None:
        """Leaves out the rows behind `step`, and what a kill may have cut short."""
        if not self._path.exists():
            return
        with open(self._path, newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]  # a kill may leave the file empty, or its last row cut short
        kept = [row for row in rows if len(row) == len(header) and row[0].isdigit() and int(row[0]) <= step]
        if not kept:
            self._path.unlink()
            return
        with atomic_path(self._path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *kept])
