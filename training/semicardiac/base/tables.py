"""CSV tables that name cases and structures: safe to open in a spreadsheet, and the names read back are the same.

A spreadsheet takes a cell for a formula that begins with one of = + - @ or with white space before these. Such texts
get an apostrophe before them; what a terminal would obey or a reader could not see is escaped (`wording.escaped`).
Numbers stay as they are.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import write_text
from .text import escaped, unescaped

_FORMULA = re.compile("'*[\\s=+@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH COMMERCIAL AT}-]")


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
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([to_cell(value, digits) for value in row] for row in (columns, *rows))
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


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
