"""The stream of events in which a job tells what it does: events.jsonl in the job folder, and on stdout.

One JSON object a line, ASCII, flushed at once. Every event has `event` (its kind) and `time` (seconds since
the epoch). The classes below are the whole vocabulary; `json_schema()` gives it to other programs.
"""

from __future__ import annotations

import json
import os
import time as clock
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from .files import without_nan

Listener = Callable[["AnyEvent"], None]

_EARLIER = {
    "loss_supervised": ("losses", "supervised"), "loss_unsupervised": ("losses", "unsupervised"),
    "loss_contrast": ("losses", "contrast"), "lambda_u": ("figures", "lambda_u"),
    "threshold_mean": ("figures", "threshold_mean"),
}  # fmt: skip
"""Fields of a progress event in earlier versions, and where their values are now."""

Stage = Literal[
    "checking inputs",
    "reading volumes",
    "finding the heart",
    "preparing slices",
    "supervised",
    "semi-supervised",
    "finding the heart better",
    "validate",
    "segmenting",
    "evaluate",
]
"""What a job can be doing, in the order of a training, then the other jobs."""


class Event(BaseModel):
    """What every event holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    time: float = Field(default_factory=clock.time)


class Started(Event):
    """The engine runs this job."""

    event: Literal["started"] = "started"
    kind: str
    version: str
    pid: int
    resumed: bool = False


class Device(Event):
    """Where and how the job computes, and what was tried to choose it (images a second)."""

    event: Literal["device"] = "device"
    device: str
    name: str
    dtype: str
    channels_last: bool
    threads: int
    """Of each process."""
    processes: int = 1
    images_per_s: dict[str, float] = {}
    batch_times: int = 1
    """How many times larger than the settings say the batches are."""


class Progress(Event):
    """How far a stage has come. Losses and rates are means since the last such event."""

    event: Literal["progress"] = "progress"
    stage: Stage
    seed: int | None = None
    """Whose training this is, in a job with several seeds."""
    step: int
    total: int
    eta_s: float | None = None
    loss: float | None = None
    losses: dict[str, float] = {}
    """The terms of the loss, without their weights."""
    figures: dict[str, float] = {}
    """What else the method logs: the weight λ1, the mean of the threshold map, ..."""
    pass_rate: dict[str, float] = {}
    """By structure: which share of the pseudo-labels passed."""
    learning_rate: float | None = None
    images_per_s: float | None = None
    gpu_memory_mb: float | None = None
    case: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, data: Any) -> Any:
        return of_this_version(data) if isinstance(data, dict) else data


def of_this_version(progress: dict[str, Any]) -> dict[str, Any]:
    """A progress event; in earlier versions each loss and figure of the one method that there was had its own field."""
    if not progress.keys() & _EARLIER:
        return progress
    fields = {key: value for key, value in progress.items() if key not in _EARLIER}
    for key, (place, name) in _EARLIER.items():
        if progress.get(key) is not None:
            fields[place] = {**fields.get(place, {}), name: progress[key]}
    return fields


class Validation(Event):
    """Dice of the teacher on the validation cases, on their original grid."""

    event: Literal["validation"] = "validation"
    step: int
    dice: dict[str, float | None]
    mean_dice: float | None


class Preview(Event):
    """A picture was written; the path is relative to the job folder."""

    event: Literal["preview"] = "preview"
    step: int
    path: str


class Writing(Event):
    """The next file gets this path, as `Result` gives it, in place of the file name that was planned for it.

    Who continues a job that was cut off before the result's own event knows the file by its content.
    """

    event: Literal["writing"] = "writing"
    planned: str
    path: str
    sha256: str
    model: str = ""
    """A hash of the model that made it."""


class Result(Event):
    """A result file or node is ready; the path is relative to the job folder, or absolute if it lies elsewhere."""

    event: Literal["result"] = "result"
    kind: str
    path: str
    case: str | None = None


class Warned(Event):
    """Something that a person should know and that did not stop the job."""

    event: Literal["warning"] = "warning"
    warning: str
    where: str = ""
    hint: str = ""


class Failed(Event):
    """The job ended without doing its work. `fault` says who can fix it."""

    event: Literal["error"] = "error"
    what: str
    where: str = ""
    hint: str = ""
    fault: Literal["user", "engine"] = "user"


class StoppedEvent(Event):
    """The job stopped on request; it can be resumed."""

    event: Literal["stopped"] = "stopped"


class Done(Event):
    """The job has done its work."""

    event: Literal["done"] = "done"
    seconds: float
    cpu_seconds: float
    summary: dict[str, Any] = {}


AnyEvent = Annotated[
    Started | Device | Progress | Validation | Preview | Writing | Result | Warned | Failed | StoppedEvent | Done,
    Field(discriminator="event"),
]
_adapter: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


class EventLog:
    """Where a job's events go: a file that is only ever appended to, and any number of listeners.

    Args:
        path: The events.jsonl to append to, or None.
        listeners: Called with each event, in order.
    """

    def __init__(self, path: Path | None = None, *listeners: Listener) -> None:
        self._path = path
        self._listeners = listeners

    def emit(self, event: AnyEvent) -> None:
        if self._path is not None:
            _append(self._path, to_line(event).encode("ascii") + b"\n", sync=isinstance(event, Writing))
        for listener in self._listeners:
            listener(event)

    def warn(self, warning: str, *, where: object = "", hint: str = "") -> None:
        self.emit(Warned(warning=warning, where=str(where), hint=hint))


def _append(path: Path, line: bytes, *, sync: bool) -> None:
    with open(path, "ab+") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # cut by a kill or a full disk: the next starts on a line of its own
                line = b"\n" + line
        file.write(line)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def to_line(event: AnyEvent) -> str:
    """An event as one line of ASCII JSON without what is unset; NaN becomes null.

    Python's own JSON, since pydantic's cannot hold the name of a file that is not UTF-8.
    """
    return json.dumps(without_nan(event.model_dump(exclude_none=True)), default=str, ensure_ascii=True)


def parse_line(line: str) -> AnyEvent:
    """The event of one line.

    Raises:
        ValueError: If the line is not an event.
    """
    try:
        return _adapter.validate_python(json.loads(line))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def each_event(path: Path) -> Iterator[AnyEvent]:
    """The whole events of a file, in order, one at a time; a line cut short by a kill is left out."""
    with open(path, encoding="ascii", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError):
                yield parse_line(line)


def read_events(path: Path) -> list[AnyEvent]:
    """All of `each_event`."""
    return list(each_event(path))


def json_schema() -> dict[str, Any]:
    """The JSON schema of an event line."""
    return _adapter.json_schema()
