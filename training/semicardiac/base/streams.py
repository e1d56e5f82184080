"""Standard output and error that may be closed or vanish: whoever stops reading makes a program quiet, not dead."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from .printable import LOOKALIKE

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class QuietStream:
    """A stream that takes whatever is written: what it cannot pass on is lost, and all that follows.

    Attributes:
        lost: Why it went quiet, if it did.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = io.StringIO() if stream is None else stream
        self.lost: Exception | None = None if stream is not None else OSError(errno.EBADF, os.strerror(errno.EBADF))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._pass_on(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._pass_on(self._stream.flush)

    def isatty(self) -> bool:
        return self.lost is None and self._stream.isatty()

    def _pass_on(self, act: Callable[[], Any]) -> None:
        if self.lost is not None:
            return
        try:
            act()
        except UnicodeError:
            raise
        except (OSError, ValueError) as error:  # a ValueError where it was closed from within
            self.lost = error
            with suppress(OSError, ValueError, AttributeError):  # what it still holds would fail again at the exit
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)


def quiet(stream: TextIO | None) -> QuietStream:
    """The stream as one that never fails."""
    return stream if isinstance(stream, QuietStream) else QuietStream(stream)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Standard output and error that never fail and hold every character, for as long as the block runs."""
    _open_the_closed()
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=LOOKALIKE)
    out, err = sys.stdout, sys.stderr = quiet(before[0]), quiet(before[1])
    try:
        yield
    finally:
        out.flush()
        if isinstance(out.lost, OSError) and out.lost.errno in _FULL:
            err.write(f"warning: not all that was printed could be written ({out.lost.strerror})\n")
        err.flush()
        sys.stdout, sys.stderr = before


def _open_the_closed() -> None:
    """Files opened later must not get the numbers of standard streams, which libraries write to."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
