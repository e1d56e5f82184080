"""Tables of text: with commas, semicolons or tabs, as spreadsheets write them in different countries."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from .errors import UserError

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
