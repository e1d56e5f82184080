"""The processes that torchrun starts for a segmentation: each segments its share of the inputs, as if it were alone.

They exchange no messages, only files in the job folder. A process holds the lock of its share and tells what it does
in a log of its own. The first one passes that on to the events of the job, and in the end does what others have left
undone: what was the share of a process that is gone, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..base import files
from ..base.errors import Stopped, UserError
from ..base.events import AnyEvent, EventLog, Result, Warned, Writing, parse_line
from ..base.locks import HeldError, exclusive
from ..base.ranks import Rank
from .job import RANKS
from .results import Results

BEGUN = "begun.json"
"""The file by which the others know that the first process has begun."""
LOOK_S, _BEGIN_S = 0.5, 1800.0
"""How often a process looks for what it waits for, and how long it waits for the first one to look at all inputs."""


def log_of(folder: Path, number: int) -> Path:
    """Where a process tells what it does, but for the first, whose events are those of the job."""
    return folder / RANKS / f"{number}.jsonl"


def begin(folder: Path, rank: Rank) -> None:
    """Lets the other processes begin, when the first one has seen that the job can be done."""
    (folder / RANKS).mkdir(exist_ok=True)
    files.write_json(folder / RANKS / BEGUN, _about(rank))


def wait_for_begin(folder: Path, rank: Rank, stop: Callable[[], bool]) -> None:
    """Waits until the first process of the same torchrun has begun.

    Raises:
        Stopped: If a stop was asked for.
        UserError: If it does not begin.
    """
    deadline = time.monotonic() + _BEGIN_S
    while True:
        with suppress(UserError):
            if files.read_json(folder / RANKS / BEGUN) == _about(rank):
                return
        if stop():
            raise Stopped
        if time.monotonic() > deadline:
            hint = "See that all processes are of one torchrun, and that all machines see the same job folder"
            raise UserError("the first process has not begun this job", where=folder, hint=hint)
        time.sleep(LOOK_S)


def _about(rank: Rank) -> dict[str, object]:
    """What the processes of one start have in common."""
    names = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
    return {"processes": rank.count, "start": [os.environ.get(name, "") for name in names]}


@contextmanager
def share_of(folder: Path, number: int) -> Iterator[bool]:
    """Holds the lock of a process's share while the block runs; gives whether it is free to be worked on."""
    (folder / RANKS).mkdir(exist_ok=True)
    lock = exclusive(folder / RANKS / f"{number}.lock")
    try:
        lock.__enter__()
    except HeldError:
        yield False
        return
    try:
        yield True
    finally:
        lock.__exit__(None, None, None)


class Others:
    """What the other processes tell in their logs from now on, passed on to the events of the job as it comes.

    Args:
        folder: The job folder.
        rank: The first process.
        results: Of the job.
        events: Of the job.
    """

    def __init__(self, folder: Path, rank: Rank, results: Results, events: EventLog) -> None:
        self._results, self._events = results, events
        logs = [log_of(folder, number) for number in range(1, rank.count)]
        self._read = {path: path.stat().st_size if path.exists() else 0 for path in logs}

    def pass_on(self) -> None:
        """What is new."""
        for path in self._read:
            for event in self._new(path):
                if isinstance(event, Writing | Result):
                    self._results.pass_on(event)
                elif isinstance(event, Warned):
                    self._events.emit(event)

    def _new(self, path: Path) -> Iterator[AnyEvent]:
        """The whole events that a log has got since it was looked at."""
        if not path.exists():
            return
        with open(path, "rb") as lines:
            lines.seek(self._read[path])
            for line in lines:
                if not line.endswith(b"\n"):  # it is being written
                    return
                self._read[path] += len(line)
                with suppress(ValueError):
                    yield parse_line(line.decode("ascii", "replace"))
