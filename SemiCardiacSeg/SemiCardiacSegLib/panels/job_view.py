"""A button, a progress bar and a line that show a job."""

from __future__ import annotations

from ..engine.job import ENDED
from ..i18n import tr as _
from . import words
from .panel import showLine

LEVELS = {
    "waiting": "running",
    "running": "running",
    "stopping": "running",
    "stopped": "stopped",
    "interrupted": "warning",
    "done": "ready",
    "failed": "error",
}


class JobView:
    """Follows a job and shows how it goes.

    Args:
        status: The widget that holds the others; hidden while there is no job.
        bar: The progress bar.
        line: The label that tells the state.
        resumable: Whether the panel can continue with a job that was stopped.
    """

    def __init__(self, status, bar, line, *, resumable: bool = False) -> None:
        self._resumable = resumable
        self._status, self._bar, self._line = status, bar, line
        self.job = None
        self._running = False
        self._released = False
        self._took: float | None = None
        self.show()

    @property
    def running(self) -> bool:
        """Whether the job goes on, as of the last poll."""
        return self._running

    def follow(self, job) -> list[dict]:
        """Takes up a job, new or old; returns the events of its past."""
        self.job, self._took, self._released = job, None, False
        return self.poll()

    def poll(self) -> list[dict]:
        """Looks at the job; returns its new events."""
        if self.job is None or self._released:
            self._running = False
            return []
        events = self.job.poll()
        self._running = self.job.state not in ENDED and self.job.isAlive()
        for event in events:
            if event["event"] == "done":
                self._took = event["seconds"]
        if self._running or events:
            self.show()
        return events

    def stop(self) -> None:
        self.job.stop()
        self.show()

    def release(self):
        """Ends the job if it runs, and looks at it no more, so that its folder can go; what came of it stays shown.

        Returns:
            The job; None if there is none, or it was released before.
        """
        if self.job is None or self._released:
            return None
        if self._running:
            self.job.kill()
        self._running, self._released = False, True
        return self.job

    def drop(self) -> None:
        """Shows no job any more."""
        self.job, self._running = None, False
        self.show()

    def show(self) -> None:
        self._status.setVisible(self.job is not None)
        if self.job is None:
            return
        progress = self.job.progress
        measured = bool(progress and progress["total"])
        self._bar.setVisible(self._running)
        self._bar.setRange(0, progress["total"] if measured and self.job.state == "running" else 0)  # 0, 0: busy
        self._bar.setValue(min(progress["step"], progress["total"]) if measured else 0)
        left = words.timeLeft(progress) if measured else ""
        self._bar.setFormat(f"%p %, {left}" if left else "%p %")
        state = self.job.state if self._running or self.job.state in ENDED else "stopped"
        showLine(self._line, self._text(state), LEVELS[state])

    def _text(self, state: str) -> str:
        if state == "waiting":
            return _("Starting the engine")
        if state == "running":
            return words.progress(self.job.progress) if self.job.progress else _("Starting the engine")
        if state == "stopping":
            return _("Stopping: what was done is being saved")
        if state == "stopped":
            if self._resumable:
                return _("Stopped; nothing is lost. It can be resumed.")
            return _("Stopped. Started again, it begins from the first case.")
        if state == "done":
            steps = (self.job.end or {}).get("summary", {}).get("steps")
            text = _("Finished in {time}, after {steps} steps") if steps else _("Finished in {time}")
            return text.format(time=words.duration(self._took or 0), steps=words.number(steps))
        return words.failure(self.job.failure or {"what": _("The job ended without a word")})
