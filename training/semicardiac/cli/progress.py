"""What a person at a terminal sees of a job's events: progress bars, and a line for what matters."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from ..base.errors import UserError
from ..base.events import (
    AnyEvent,
    Device,
    Done,
    Failed,
    Progress,
    Result,
    Stage,
    Started,
    StoppedEvent,
    Validation,
    Warned,
    to_line,
)
from ..base.printable import printable
from ..base.streams import quiet
from ..base.text import count

QUIET_S = 10.0
"""Where progress cannot be drawn as a bar, a line of it appears this often."""


class Console:
    """Listens to jobs and writes to a terminal, or plain lines where there is none.

    Args:
        stream: Where to; standard error by default.
        brief: Only progress, warnings and errors: for one of several jobs, whose results are told together.
        folder: The job folder, which the paths of results are relative to.
    """

    def __init__(self, stream: TextIO | None = None, *, brief: bool = False, folder: Path = Path()) -> None:
        self._stream = quiet(stream or sys.stderr)
        self._brief = brief
        self._folder = folder
        self._idle = False
        self._bar: tqdm | None = None
        self._stage = ""
        self._line_at = 0.0

    def __call__(self, event: AnyEvent) -> None:
        idle, self._idle = self._idle, isinstance(event, Started)
        if isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Failed):
            self._close()
            self.say(f"error: {UserError(event.what, where=event.where, hint=event.hint)}")
        elif isinstance(event, Warned):
            self.say(f"warning: {UserError(event.warning, where=event.where, hint=event.hint)}")
        elif isinstance(event, StoppedEvent):
            self._close()
            self.say(f"stopped; to continue:   semicardiac run {shlex.quote(str(self._folder))}")
        elif self._brief:
            return
        elif isinstance(event, Device):
            device = [event.device] if event.device != event.name else []
            layout = "channels last" if event.channels_last else "contiguous"
            each = [f"in each of {event.processes} processes"] if event.processes > 1 else []
            how = ", ".join([*device, event.dtype, layout, count(event.threads, "thread"), *each])
            self.say(f"computing on {event.name} ({how})")
        elif isinstance(event, Validation):
            dice = ", ".join(f"{name} {_number(value)}" for name, value in event.dice.items())
            self.say(f"validation at step {event.step}: Dice {_number(event.mean_dice)} ({dice})")
        elif isinstance(event, Result):
            self.say(f"wrote {os.path.normpath(self._folder / event.path)}")
        elif isinstance(event, Done):
            self._close()
            if "table" in event.summary:
                self.say(event.summary["table"])
            self.say("nothing was left to do" if idle else f"done in {_duration(event.seconds)}")

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def progress_of(self, stage: Stage) -> Callable[[int, int, str], None]:
        """A function that shows a stage's progress, given what is done, the total and a case's name."""
        return lambda done, total, name: self(Progress(stage=stage, step=done, total=total, case=name))

    def say(self, text: str) -> None:
        """Writes a line above the progress bar."""
        tqdm.write(printable(text), file=self._stream)

    def _progress(self, event: Progress) -> None:
        stage = event.stage if event.seed is None else f"seed {event.seed}: {event.stage}"
        details = [] if event.eta_s is None else [f"{_duration(event.eta_s)} left"]
        details += [f"loss {event.loss:.3f}"] if event.loss is not None else []
        details += [printable(event.case)] if event.case else []
        if not self._stream.isatty():
            if stage != self._stage or time.monotonic() >= self._line_at:
                self.say(f"{stage}: {event.step} of {event.total}" + "".join(f", {text}" for text in details))
                self._line_at = time.monotonic() + QUIET_S
            self._stage = stage
            return
        if self._bar is None or stage != self._stage:
            self._close()
            layout = "{desc} |{bar:30}| {percentage:3.0f} %{postfix}"
            columns = shutil.get_terminal_size().columns - 1
            self._bar = tqdm(total=1, desc=stage, bar_format=layout, file=self._stream, ncols=columns)
            self._stage = stage
        self._bar.total = max(event.total, 1)  # it changes as the schedule fits itself to the measured speed
        self._bar.n = event.step
        self._bar.set_postfix_str(", ".join(details))

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Lines:
    """Writes each event as a line of JSON to standard output, for programs; goes quiet when nobody reads any more."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = quiet(stream or sys.stdout)

    def __call__(self, event: AnyEvent) -> None:
        self._stream.write(to_line(event) + "\n")
        self._stream.flush()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
