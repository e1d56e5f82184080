"""The errors that a person can do something about."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from .printable import printable


class UserError(ValueError):
    """Something that the user can fix: what was wrong, where, and how to go on.

    Args:
        what: What was found and what was expected, as one sentence without a full stop.
        where: The file, folder, field or option concerned.
        hint: What to do about it, as one sentence without a full stop.
    """

    def __init__(self, what: str, *, where: object = "", hint: str = "") -> None:
        self.what = what
        self.where = str(where)
        self.hint = hint
        super().__init__(what, self.where, hint)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return printable(f"{text}. {self.hint}." if self.hint else f"{text}.")


class Stopped(Exception):  # noqa: N818 - it is no error
    """The run was asked to stop and has saved what it needs to go on later."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word nearest to a mistyped one, or lists the known ones."""
    known = sorted(known)
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean '{match[0]}'" if match else f"Choose one of: {', '.join(known)}"
