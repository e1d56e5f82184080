"""Text for a terminal: without what would steer it, and for streams that do not hold every character."""

from __future__ import annotations

import codecs
import unicodedata

LOOKALIKE = "semicardiac.lookalike"
"""How a stream that does not hold every character, such as that of an ASCII terminal, writes the others."""

_LOOKALIKES = {"±": "+/-", "•": "*", "·": "-", "×": "x", "\N{EN DASH}": "-", "\N{MINUS SIGN}": "-"}

_STEERING = {*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029}
_STEERING |= {*range(0xD800, 0xDC80), *range(0xDD00, 0xE000)}  # no characters; those between are bytes of file names
_VISIBLE = {code: ascii(chr(code))[1:-1] for code in _STEERING - {ord("\n"), ord("\t")}}


def printable(text: object) -> str:
    """A text in which what would steer a terminal, such as an escape in a file's name, is spelled out."""
    return str(text).translate(_VISIBLE)


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
