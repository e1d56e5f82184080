"""What a job folder tells of its job, however far the job came: files that are absent are empty here."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from .errors import UserError
from .evaluation import VALIDATION
from .events import AnyEvent, Event, read_events
from .files import read_json
from .jobs import full_path
from .labels import LabelSet
from .package import open_package
from .summary import MEAN
from .wording import average, is_number

Rows = list[dict[str, Any]]
E = TypeVar("E", bound=Event)

_TEXTS = {"case", "patient", "structure", "phase", "measure", "unit", "stage"}
"""Columns of tables that hold words, also where these look like numbers: patient 001."""


@dataclass(frozen=True)
class Record:
    """A job folder, read when asked."""

    folder: Path

    @cached_property
    def job(self) -> dict[str, Any]:
        """job.json."""
        return _object(self.folder / "job.json")

    @property
    def kind(self) -> str:
        """`train`, `segment` or `evaluate`."""
        return str(self.job.get("kind", "train"))

    @cached_property
    def events(self) -> list[AnyEvent]:
        path = self.folder / "events.jsonl"
        return read_events(path) if path.is_file() else []

    @property
    def cases(self) -> Rows:
        """The cases of a train job, as in job.json."""
        return self.job.get("cases", [])

    @property
    def uses_unlabeled(self) -> bool:
        """Whether a train job has unlabeled cases, and its settings let them take part."""
        warmup = self.job.get("config", {}).get("schedule", {}).get("warmup", 0)
        return warmup < 1 and any(case.get("role") == "unlabeled" for case in self.cases)

    def last(self, kind: type[E]) -> E | None:
        """The last event of a kind."""
        return next((event for event in reversed(self.events) if isinstance(event, kind)), None)

    def all(self, kind: type[E]) -> list[E]:
        """All events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @cached_property
    def history(self) -> Rows:
        """history.csv: a row for every look at the training."""
        return _table(self.folder / "history.csv")

    @cached_property
    def validation(self) -> Rows:
        """validation.csv: Dice by step, case and structure."""
        return _table(self.folder / "validation.csv")

    @cached_property
    def validation_lines(self) -> dict[str, tuple[list[float], list[float]]]:
        """Steps and mean Dice over the validation cases, of the mean over the structures and of each structure."""
        names = list(dict.fromkeys(row["structure"] for row in self.validation))
        steps = sorted({row["step"] for row in self.validation})
        values: dict[tuple[float, str], list[float]] = {}
        for row in self.validation:
            if is_number(row["dice"]):
                values.setdefault((row["step"], row["structure"]), []).append(row["dice"])
        lines = {name: (steps, [average(values.get((step, name), [])) for step in steps]) for name in names}
        means = [
            average(lines[name][1][at] for name in names if is_number(lines[name][1][at])) for at in range(len(steps))
        ]
        return {MEAN: (steps, means), **lines} if names else {}

    @cached_property
    def measured(self) -> Path:
        """Where the tables of an evaluation are: the job folder, or `evaluation` in it."""
        inside = self.folder / "evaluation"
        return inside if (inside / "metrics.json").is_file() else self.folder

    @cached_property
    def metrics(self) -> Rows:
        """metrics.csv, see evaluation.py."""
        return _table(self.measured / "metrics.csv")

    @cached_property
    def clinical(self) -> Rows:
        """clinical.csv, see evaluation.py."""
        return _table(self.measured / "clinical.csv")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """metrics.json, see evaluation.py."""
        return _object(self.measured / "metrics.json")

    @cached_property
    def model(self) -> dict[str, Any]:
        """Settings of the trained model, or of the one that a segment job used; see package.py."""
        try:
            return open_package(self.path(self.job.get("model", "."))).settings.model_dump(mode="json")
        except UserError:  # not trained to the end yet, or away
            return {}

    @cached_property
    def labels(self) -> LabelSet | None:
        """The structures, from wherever they are told."""
        for source in (self.job, self.model, self.summary):
            if "labels" in source:
                return LabelSet.model_validate(source["labels"])
        return None

    @cached_property
    def previews(self) -> list[Path]:
        """Pictures of the training, in the order of its steps."""
        return sorted((self.folder / "previews").glob("*.png"))

    @cached_property
    def seeds(self) -> list[Record]:
        """The trainings of a job with several seeds."""
        found = [path for path in self.folder.glob("seed*") if (path / "events.jsonl").is_file()]
        numbers = {int(path.name[4:]): path for path in found if path.name[4:].isdigit()}
        return [Record(path) for _, path in sorted(numbers.items())]

    @property
    def main(self) -> Record:
        """The training itself: this one, or that of the first seed."""
        return self.seeds[0] if self.seeds and not self.history else self

    def path(self, name: str) -> Path:
        """What a path in the job's files means."""
        return full_path(self.folder, name)


def read_record(folder: Path) -> Record:
    """The record of a job folder.

    Raises:
        UserError: If this is no job folder, or its job.json is damaged.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise UserError("there is no such folder", where=folder, hint="Name a job folder: one with a job.json")
    record = Record(folder)
    if not record.job and not record.events:
        inside = next((path.parent for path in sorted(folder.glob("*/job.json"))), None)
        hint = f"There is one in it: {inside}" if inside else "A job folder holds a file job.json"
        raise UserError("this is not a job folder", where=folder, hint=hint)
    return record


def labels_of_segmentations(folder: Path) -> LabelSet | None:
    """The label set of the segment job or the training that left a folder of segmentations, where one tells it."""
    folder = Path(folder).absolute()
    jobs = [folder, *sorted(folder.glob("segment-job*")), *(folder.parents[:2] if folder.name == VALIDATION else ())]
    records = (Record(job) for job in jobs if (job / "job.json").is_file())
    return next((record.labels for record in records if record.kind != "evaluate" and record.labels), None)


def _object(path: Path) -> dict[str, Any]:
    data = read_json(path) if path.is_file() else {}
    return data if isinstance(data, dict) else {}


def _table(path: Path) -> Rows:
    """Rows of a CSV file: words as they are, numbers as float, NaN where there is none.

    A last row that a kill cut short is left out.
    """
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        return [
            {column: text if column in _TEXTS else _number(text) for column, text in zip(header, row, strict=True)}
            for row in reader
            if len(row) == len(header)
        ]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
