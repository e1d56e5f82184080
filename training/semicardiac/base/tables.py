"""All CSV: tables that we write and read back, tables that grow, and tables that people write in spreadsheets.

A spreadsheet takes a cell for a formula that begins with one of = + - @ or with white space before these. Such texts
get an apostrophe before them in our tables; what a terminal would obey or a reader could not see is escaped
(`text.escaped`), and the names read back are the same. Numbers stay as they are.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from .errors import UserError
from .files import atomic_path, write_text
from .text import escaped, unescaped

_FORMULA = re.compile("'*[\\s=+@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH COMMERCIAL AT}-]")

_MARKS = {  # the longer ones first: one begins as another does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""How Excel's "Unicode text" begins."""

_DELIMITERS = (",", ";", "\t")
_NAMED_DELIMITER = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)
"""A first line that Excel writes and reads."""


def to_cell(value: Any, digits: int | None = None) -> Any:
    """A value as it stands in a table: no text is a formula, what is undefined is empty, floats have so many digits."""
    if isinstance(value, str):
        text = escaped(value)
        return f"'{text}" if _FORMULA.match(text) else text
    if isinstance(value, float) and digits is not None and not math.isnan(value):
        return f"{value:.{digits}g}"
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def to_text(cell: str) -> str:
    """The text that a cell stands for."""
    return unescaped(cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell)


def format_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]], digits: int | None = None) -> str:
    """A whole table as text."""
    text = io.StringIO(newline="")
    _writer(text).writerows([to_cell(value, digits) for value in row] for row in (columns, *rows))
    return text.getvalue()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a table, whole or not at all; numbers keep six significant digits."""
    write_text(path, format_csv(columns, ([row[column] for column in columns] for row in rows), digits=6))


def read_csv(path: Path, texts: Iterable[str], needed: Iterable[str]) -> list[dict[str, Any]]:
    """Rows of a table, numbers as float, NaN where there is none; rows that a kill cut short are left out.

    Args:
        path: The file.
        texts: Columns that hold words, also where these look like numbers: patient 001.
        needed: Columns without which it is another table.

    Raises:
        UserError: If the file is no such table, or cannot be read.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = [list(map(to_text, row)) for row in csv.reader(file)] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"this table cannot be read ({type(error).__name__})", where=path) from None
    if header and (missing := sorted(set(needed) - set(header))):
        raise UserError(f"this table has no column '{missing[0]}'", where=path)
    words = set(texts)
    return [
        {column: text if column in words else _number(text) for column, text in zip(header, row, strict=True)}
        for row in rows
        if len(row) == len(header)
    ]


class GrowingTable:
    """A table whose first column is `step`, such as history.csv: rows are appended while a training runs.

    Those behind a checkpoint are cut off when it is taken up.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, *rows: dict[str, Any]) -> None:
        """Appends rows, the first of whose keys is `step`; keys that are new become columns behind the others."""
        columns = self._columns()
        cells = [{to_cell(key): to_cell(value) for key, value in row.items()} for row in rows]
        if new := [key for key in dict.fromkeys(key for row in cells for key in row) if key not in columns]:
            self._widen(columns, new)
            columns = [*columns, *new]
        with open(self._path, "a", newline="", encoding="utf-8") as file:
            _writer(file).writerows([row.get(column, "") for column in columns] for row in cells)

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
            _writer(file).writerows([[*columns, *new], *rows])

    def cut(self, step: int) -> None:
        """Leaves out the rows behind `step`, and those that a kill has cut short or a disk has spoilt.

        A table that has lost its header is moved aside: history.csv to `history-damaged.csv`.
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
            _writer(file).writerows([header, *kept])


class Row(NamedTuple):
    line: int
    """Where it ends in the file, from 1."""
    cells: dict[str, str]
    """By column; a cell that is not there is empty."""


class Table(NamedTuple):
    columns: tuple[str, ...]
    """As the head names them, in lower case."""
    rows: list[Row]
    """Those that hold anything."""


def read_table(path: Path) -> Table:
    """Reads a table: a head, and a row in each line.

    Raises:
        UserError: If it is no text, a quotation mark is missing, a row has more cells than the head, or two columns
            have one name.
    """
    lines = [f"{line}\n" for line in _text(path).split("\n")]
    named = _NAMED_DELIMITER.fullmatch(lines[0].rstrip(" \n"))
    skipped = 1 if named else 0
    head = next((line for line in lines[skipped:] if line.strip()), "")
    delimiter = named[1] if named else max(_DELIMITERS, key=head.count)
    reader = csv.reader(lines[skipped:], delimiter=delimiter, skipinitialspace=True, strict=True)
    columns: tuple[str, ...] = ()
    rows: list[Row] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            line = reader.line_num + skipped
            if columns:
                rows.append(Row(line, _by_column(cells, columns, f"{path}, line {line}")))
            else:
                columns = _columns(cells, f"{path}, line {line}")
    except csv.Error as error:
        hint = "See whether a quotation mark is missing, or stands inside a cell"
        where = f"{path}, line {reader.line_num + skipped}"
        raise UserError(f"this table cannot be read ({error})", where=where, hint=hint) from None
    return Table(columns, rows)


def _text(path: Path) -> str:
    """The text of a file, with line ends as everywhere."""
    try:
        content = path.read_bytes()
        encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8-sig")
        text = content.decode(encoding)
    except OSError as error:
        hint = "See that it is there and that you may read it"
        raise UserError(f"this table cannot be read ({error.strerror})", where=path, hint=hint) from None
    except UnicodeDecodeError as error:
        hint = "Save it as UTF-8, which Excel calls 'CSV UTF-8'"
        raise UserError(f"this table is no UTF-8 text ({error})", where=path, hint=hint) from None
    if "\0" in text:
        raise UserError("this is no table, or damaged: it holds NUL bytes", where=path, hint="Save it as UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _columns(cells: list[str], where: str) -> tuple[str, ...]:
    columns = tuple(cell.lower() for cell in cells)
    repeated = [column for column, count in Counter(columns).items() if column and count > 1]
    if repeated:
        raise UserError(f"there are two columns '{repeated[0]:.60}'", where=where, hint="Remove or rename one")
    return columns


def _by_column(cells: list[str], columns: tuple[str, ...], where: str) -> dict[str, str]:
    if any(cells[len(columns) :]):
        head = ", ".join(columns)
        what = f"this row has {len(cells)} cells, and the head has {len(columns)} ({head:.60})"
        raise UserError(what, where=where, hint="Put a cell that holds a comma or a semicolon in quotation marks")
    return dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=False))


def _writer(file: IO[str]) -> Any:
    return csv.writer(file, lineterminator="\n")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _cells(line: str) -> list[str]:
    """The cells of a line, none if it is spoilt."""
    try:
        return [] if "\0" in line or "\N{REPLACEMENT CHARACTER}" in line else next(csv.reader([line]), [])
    except csv.Error:
        return []


def _step(text: str) -> float:
    return int(text) if text.isdecimal() and len(text) < 20 else math.inf
