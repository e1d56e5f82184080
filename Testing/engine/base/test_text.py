"""Words and numbers as people read them: durations, ordinals, texts of others."""

from __future__ import annotations

import io
import math

import pytest
from semicardiac.base.errors import UserError
from semicardiac.base.printable import printable
from semicardiac.base.text import DASH, duration, escaped, listed, ordinal, spelled, unescaped
from semicardiac.cli.progress import Console

HOSTILE = "a\x1b[2J\u202egpj\u200b\ud800\udce9\r\n\x9bÄ±"
SHOWN = r"a\x1b[2J\u202egpj\u200b\ud800\udce9\x0d\x0a\x9bÄ±"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (12, "12 s"), (89.6, "90 s"), (588, "9.8 min"), (600, "10 min"), (7500, "2 h 5 min"), (7199, "2 h 0 min"),
        (math.nan, DASH), (math.inf, DASH),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_ordinals():
    assert [ordinal(place) for place in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th",
    ]  # fmt: skip


class TestTextsOfOthers:
    def test_nothing_is_left_that_a_terminal_obeys_or_a_reader_cannot_see(self):
        assert spelled(HOSTILE) == SHOWN
        on_terminal = SHOWN.replace(r"\x0a", "\n").replace(r"\udce9", "\udce9")  # the latter: a byte of a file's name
        assert printable(HOSTILE) == on_terminal
        for text in ("Müller, 心臓 [±2 σ]", ""):
            assert spelled(text) == printable(text) == text

    @pytest.mark.parametrize("text", [HOSTILE, SHOWN, r"C:\new\x41", r"\x5cx41", "\x00", "\U000e0041", "x", ""])
    def test_escapes_give_the_text_back(self, text):
        assert escaped(text).isprintable()
        assert unescaped(escaped(text)) == text

    def test_errors_and_the_console_write_them_so(self):
        error = UserError("no structure '\x1b[2J'", where="\u202egpj", hint="See\x07")
        assert str(error) == r"\u202egpj: no structure '\x1b[2J'. See\x07."
        stream = io.StringIO()
        Console(stream).say("a table\nof two lines\x1b[2J ±")
        assert stream.getvalue() == "a table\nof two lines\\x1b[2J ±\n"

    def test_many_names_are_five_and_a_number(self):
        lists = [listed("abcdefg"[:length]) for length in (0, 1, 2, 5, 7)]
        assert lists == ["", "a", "a and b", "a, b, c, d and e", "a, b, c, d, e and 2 more"]
        assert listed(["a\x1b"]) == r"a\x1b"
