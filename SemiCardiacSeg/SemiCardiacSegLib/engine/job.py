"""A job folder that the engine works on in a process of its own: start it, follow it, stop it, continue with it.

Everything is learnt from the files of the folder, so a job that was started by an earlier Slicer, by another program
or before the scene was closed is followed like one's own. Nothing here waits: `poll` is called by a timer or a loop.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..i18n import tr as _
from . import process

JOB, EVENTS, LOCK, STOP, OUTPUT = "job.json", "events.jsonl", "lock", "STOP", "engine-output.txt"
"""Files of a job folder; the first four as the engine names them."""

ENDED = ("stopped", "interrupted", "done", "failed")
"""States that a job stays in until it is started again."""

_STATE_AFTER = {"done": "done", "stopped": "stopped", "error": "failed"}
"""By the event that ends a run."""

_started: dict[Path, tuple[subprocess.Popen[bytes], int]] = {}
"""The processes that this one started, with the size that their events.jsonl had then."""


class Job:
    """A job folder and what is known of its latest run. A new object finds a job that runs, and its whole past.

    Attributes:
        folder: The job folder, absolute.
        state: `waiting` (no run has begun to work), `running`, `stopping`, `stopped` (on request), `interrupted`
            (no process and no last word), `done` or `failed`. The last four only once the process has ended.
        progress: The last `progress` event.
        end: The event that ended the run.
        failure: `what`, `where` and `hint` of a job that failed or was interrupted.
    """

    def __init__(self, folder: Path | str, graceSeconds: float = 30.0) -> None:
        """Attaches to a job.

        Args:
            folder: The job folder.
            graceSeconds: How long the engine may take to stop, with a checkpoint, before its processes are killed.
        """
        self.folder = Path(folder).absolute()
        self.graceSeconds = graceSeconds
        self._process, self._runStart = _started.get(self.folder, (None, 0))
        self._offset = 0
        self._deadline: float | None = None
        self._stopAsked = self._alive = False
        self._exitStatus: int | None = None
        self._freeLock: int | None = None
        self._newRun()

    @classmethod
    def start(cls, folder: Path | str, graceSeconds: float = 30.0) -> Job:
        """Starts the engine on a job folder; it goes on where an earlier run was stopped or interrupted.

        Raises:
            ValueError: If the folder holds no job, is not writable, or the job runs already.
        """
        job = cls(folder, graceSeconds)
        if not (job.folder / JOB).is_file():
            text = _("{folder} is not a job folder: it holds no file {name}. Choose the folder of a job.")
            raise ValueError(text.format(folder=job.folder, name=JOB))
        if job.isAlive():
            raise ValueError(_("This job runs already: {folder}. Stop it first.").format(folder=job.folder))
        process.addToPath()
        from semicardiac.base.files import output_folder

        output_folder(job.folder, empty=False)  # or it says why nothing can be written there
        job._runStart = job._eventsSize()
        with open(job.folder / OUTPUT, "wb") as output:
            try:
                job._process = process.startProcess(process.command("run", job.folder), output)
                _started[job.folder] = (job._process, job._runStart)
            except OSError as error:
                output.write(str(error).encode())
        return job

    def poll(self) -> list[dict[str, Any]]:
        """Looks at the job, without waiting.

        Returns:
            The events that were not returned before, in order; those of runs before the latest have `earlier`: True.
        """
        self._alive = self.isAlive()  # before reading: what a process wrote until its end is then read for sure
        events = self._readEvents()
        if self._alive:
            self._press()
            self.state = "stopping" if self._stopAsked else "running" if self._begun else "waiting"
        else:
            self._settle()
        return events

    def isAlive(self) -> bool:
        """Whether a process works on the job: one started here, or any that holds the engine's lock."""
        if self._process is not None:
            if self._process.poll() is None:
                return True
            process.killTree(self._process)  # what it may have left behind
            self._exitStatus = self._process.returncode
            if _started.get(self.folder, (None,))[0] is self._process:  # else the job was started anew
                del _started[self.folder]
            self._process = None
        return self._lockIsHeld()

    def stop(self) -> None:
        """Asks the engine to stop with a checkpoint; `poll` kills its processes if it has not after `graceSeconds`.

        Raises:
            ValueError: If another program's job cannot be asked.
        """
        if not self.isAlive():
            return
        self._stopAsked, self.state = True, "stopping"
        self._deadline = time.monotonic() + self.graceSeconds
        try:
            (self.folder / STOP).touch()
        except OSError as error:
            if self._process is None:
                text = _("The job in {folder} cannot be stopped from here: its folder is not writable.")
                raise ValueError(text.format(folder=self.folder)) from error

    def kill(self) -> None:
        """Ends the job's processes at once; what was done since the last checkpoint is lost.

        Raises:
            ValueError: If another program started the job.
        """
        if self._process is None:
            if self.isAlive():
                text = _("Another program runs the job in {folder}. Stop it, or end it in that program.")
                raise ValueError(text.format(folder=self.folder))
            return
        process.killTree(self._process)

    def wait(
        self, onEvent: Callable[[dict[str, Any]], None] | None = None, tick: Callable[[], None] | None = None
    ) -> str:
        """Follows the job to its end.

        Args:
            onEvent: Called with each event.
            tick: Called every 20 ms, for example `slicer.app.processEvents`.

        Returns:
            The state: one of `ENDED`, or `waiting` for a job that nobody started.
        """
        while True:
            for event in self.poll():
                if onEvent is not None:
                    onEvent(event)
            if not self._alive:
                return self.state
            if tick is not None:
                tick()
            time.sleep(0.02)  # so that a window whose events `tick` handles stays smooth

    def _newRun(self) -> None:
        """Forgets what was known of an earlier run."""
        self.state = "waiting"
        self._begun = False
        self.progress: dict[str, Any] | None = None
        self.end: dict[str, Any] | None = None
        self.failure: dict[str, str] | None = None

    def _press(self) -> None:
        """Sees to it that an engine that should end does."""
        if self._stopAsked:
            with suppress(OSError):
                (self.folder / STOP).touch()  # an engine that begins to work removes one that it finds
        elif self.end is not None and self._deadline is None:  # it has said its last word
            self._deadline = time.monotonic() + self.graceSeconds
        if self._process is not None and self._deadline is not None and time.monotonic() > self._deadline:
            self.kill()

    def _settle(self) -> None:
        """The state of a job that no process works on."""
        if self._stopAsked:
            with suppress(OSError):
                (self.folder / STOP).unlink(missing_ok=True)
        stopped, self._stopAsked = self._stopAsked, False
        if self.end is None and self.state not in ENDED:
            self.end = self._printedFailure()
        if self.end is not None:
            self.state = _STATE_AFTER[self.end["event"]]
            if self.state == "failed":
                self.failure = {key: str(self.end.get(key, "")) for key in ("what", "where", "hint")}
        elif self.state not in ENDED:
            reason = self._lastLine()
            if self._begun or stopped:
                self._fail("interrupted", *self._interruption(reason))
            elif reason:
                self._fail("failed", *self._failureToStart(reason))

    def _fail(self, state: str, what: str, hint: str) -> None:
        self.state = state
        self.failure = {"what": what, "where": str(self.folder), "hint": hint}

    @staticmethod
    def _interruption(reason: str) -> tuple[str, str]:
        what = _("The job was interrupted ({reason})").format(reason=reason) if reason else _("The job was interrupted")
        return what, _("Resume it: it continues from where it last saved its work")

    @staticmethod
    def _failureToStart(reason: str) -> tuple[str, str]:
        what = _("The engine did not start: {reason}").format(reason=reason)
        if "ModuleNotFoundError" in reason or "ImportError" in reason:
            return what, _("Set up the module: it installs what is missing")
        return what, _("The file {name} in the job folder says more").format(name=OUTPUT)

    def _printedFailure(self) -> dict[str, Any] | None:
        """The last event of an engine that could not write it into the folder, for example onto a full disk."""
        for line in reversed(self._printed()):
            if line.startswith("{"):
                with suppress(ValueError):
                    event = json.loads(line)
                    return event if event.get("event") == "error" else None
        return None

    def _lastLine(self) -> str:
        """Why the process ended, as far as is known: the last line that it printed besides events."""
        lines = [line for line in self._printed() if not line.startswith("{")]
        if lines:
            return lines[-1]
        return "" if self._exitStatus is None else _("exit status {number}").format(number=self._exitStatus)

    def _printed(self) -> list[str]:
        """The last lines that the engine printed, without empty ones."""
        try:
            with open(self.folder / OUTPUT, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        return [line.strip() for line in lines if line.strip()]

    def _eventsSize(self) -> int:
        try:
            return (self.folder / EVENTS).stat().st_size
        except OSError:
            return 0

    def _readEvents(self) -> list[dict[str, Any]]:
        """The new whole lines of events.jsonl that are events; takes note of them."""
        if self._eventsSize() < self._offset:  # the job was made anew
            self._offset = self._runStart = 0
            self._newRun()
        try:
            with open(self.folder / EVENTS, "rb") as file:
                file.seek(self._offset)
                block = file.read()
        except OSError:  # there is none yet
            return []
        events = []
        for line in block[: block.rfind(b"\n") + 1].splitlines(keepends=True):
            with suppress(ValueError):  # cut by a kill
                event = json.loads(line)
                if isinstance(event, dict) and isinstance(event.get("event"), str):
                    events.append((self._offset, event))
                    self._takeNote(event)
            self._offset += len(line)
        return [{**event, "earlier": True} if place < self._runStart else event for place, event in events]

    def _takeNote(self, event: dict[str, Any]) -> None:
        if self._offset < self._runStart:  # of a run before the one that was started here
            return
        if event["event"] == "started":
            self._newRun()
            self._begun = True
            self._runStart = self._offset
        elif event["event"] == "progress":
            self.progress = event
        elif event["event"] in _STATE_AFTER:
            self.end = event

    def _lockIsHeld(self) -> bool:
        """Whether an engine holds the lock of the folder.

        To find out, the lock is taken for a moment, in which no engine could start. So one that was found free is left
        alone until somebody writes into it, as each engine does.
        """
        process.addToPath()
        from semicardiac.base.locks import is_held

        try:
            written = (self.folder / LOCK).stat().st_mtime_ns
        except OSError:  # none has run here
            return False
        if written == self._freeLock:
            return False
        held = is_held(self.folder / LOCK)
        self._freeLock = None if held else written
        return held
