"""What asks a running job to stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.processes import gone_check
from ..base.ranks import current_rank
from .job import STOP

STARTER = "SEMICARDIAC_PARENT_PID"
"""Environment variable: the number of the process, one with a window, whose end also ends the job, gracefully."""


@contextmanager
def stop_requests(folder: Path) -> Iterator[StopRequest]:
    """Ctrl+C, a termination signal, a file STOP or the end of the starter ask for a graceful stop."""
    (folder / STOP).unlink(missing_ok=True)  # it stopped an earlier run
    stop = StopRequest(folder)
    with _heeding_signals(stop.on_signal):
        yield stop


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """The same for a process that is not the first of its job, where signals alone ask."""
    asked: list[int] = []
    with _heeding_signals(lambda number, _: asked.append(number)):
        yield lambda: bool(asked)


@contextmanager
def _heeding_signals(handler: Callable[[int, object], object]) -> Iterator[None]:
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _starter() -> int | None:
    """The number of the process whose end also ends the job, if there is one.

    Raises:
        UserError: If it is none that a process can have.
    """
    text = os.environ.get(STARTER, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:20]) < 1 << 32):
        hint = "Set this environment variable to the number of a process, or not at all"
        raise UserError(f"{text[:20]!r} is not the number of a process", where=STARTER, hint=hint)
    return int(text)


class StopRequest:
    """Called at every step: whether the job was asked to stop. It looks at files and processes twice a second."""

    def __init__(self, folder: Path) -> None:
        starter = _starter()
        self._starter_gone = gone_check(starter) if starter is not None else lambda: False
        self._started_by_torchrun = current_rank().count > 1
        self._file = folder / STOP
        self._asked = False
        self._look_again = 0.0

    def __call__(self) -> bool:
        if not self._asked and time.monotonic() >= self._look_again:
            self._asked = self._file.exists() or self._starter_gone()
            self._look_again = time.monotonic() + 0.5
        return self._asked

    def on_signal(self, number: int, frame: object) -> None:
        if self._asked and not self._started_by_torchrun:  # asked twice: at once; torchrun repeats what it is told
            raise KeyboardInterrupt
        self._asked = True
