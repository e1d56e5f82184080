"""Text for a terminal: without what would steer it, and for streams that do not hold every character."""

from __future__ import annotations

import codecs
import unicodedata

from .text import spelled

LOOKALIKE = "semicardiac.lookalike"
"""How a stream that does not hold every character, such as that of an ASCII terminal, writes the others."""

_LOOKALIKES = {"±": "+/-", "•": "*", "·": "-", "×": "x", "\N{EN DASH}": "-", "\N{MINUS SIGN}": "-"}

_KEPT = {"\n", "\t", *map(chr, range(0xDC80, 0xDD00))}  # those at the end are bytes of file names


def printable(text: object) -> str:
    """A text in which what would steer a terminal, such as an escape in a file's name, or is not seen, is spelled."""
    text = str(text)
    return text if text.isprintable() else "".join(char if char in _KEPT else spelled(char) for char in text)


def on_one_line(text: object) -> str:
    """A printable text whose line ends and tabs are spelled out, too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _lookalike(error: UnicodeError) -> tuple[str | bytes, int]:
    """What looks like the first character that could not be written, else a question mark, and where to go on."""
    assert isinstance(error, UnicodeEncodeError)
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name, which goes out as it came in
        return bytes([ord(character) - 0xDC00]), error.start + 1
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _LOOKALIKES.get(character) or plain or "?", error.start + 1


codecs.register_error(LOOKALIKE, _lookalike)
