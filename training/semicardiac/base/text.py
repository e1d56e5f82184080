"""Numbers and foreign names as a person reads them, for terminals, tables and captions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, TypeGuard

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def spelled(text: str) -> str:
    r"""A text of others, such as a file's name, in which a reader sees everything.

    Control characters, line ends, marks of direction, zero-width characters and halves of surrogate pairs become
    escapes such as `\x1b` and `\u202e`; spaces of other widths do, too.
    """
    return text if text.isprintable() else "".join(char if char.isprintable() else _escape(char) for char in text)


def escaped(text: str) -> str:
    """`spelled` so that `unescaped` gives the text back: what looks like an escape is one, too."""
    return spelled(_ESCAPE.sub(lambda match: _escape("\\") + match[0][1:], text))


def unescaped(text: str) -> str:
    """What `escaped` was given."""
    return _ESCAPE.sub(lambda match: _unescape(match[0]), text)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _unescape(escape: str) -> str:
    code = int(escape[2:], 16)
    return chr(code) if code <= 0x10FFFF else escape


def duration(seconds: float) -> str:
    """`45 s`, `9.8 min` or `2 h 5 min`; a dash for what is no time."""
    if not is_number(seconds):
        return DASH
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min".replace(".0 ", " ")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def number(value: Any, digits: int) -> str:
    """A number, or a dash where there is none."""
    return f"{value:.{digits}f}" if is_number(value) else DASH


def signed(value: float | None, digits: int) -> str:
    """A difference: always with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS) if is_number(value) else DASH


def count(amount: int, noun: str) -> str:
    """`1 volume`, `20 volumes`."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def listed(names: Iterable[object], most: int = 5) -> str:
    """`a, b and c`, or of many `a, b, c, d, e and 7 more`; line ends and the like in the names are escaped."""
    texts = [spelled(str(name)) for name in names]
    if len(texts) > most:
        texts = [*texts[:most], f"{len(texts) - most} more"]
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1]))) if texts else ""


def ordinal(place: int) -> str:
    """`1st`, `22nd`, `113th`."""
    ending = "th" if 10 < place % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is there and finite."""
    return isinstance(value, int | float) and math.isfinite(value)
