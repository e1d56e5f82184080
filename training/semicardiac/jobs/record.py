"""What a job folder tells of its job, however far the job came: files that are absent or damaged are empty here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ..base.errors import UserError
from ..base.events import AnyEvent, Event, Progress, Result, read_events
from ..base.files import read_json
from ..base.statistics import average
from ..base.tables import read_csv
from ..base.text import is_number
from ..config import upgrade
from ..evaluation.averages import MEAN, parse_summary
from ..evaluation.evaluate import VALIDATION
from ..evaluation.metrics import METRICS
from ..images.labels import LabelSet
from ..methods.registry import DEFAULT, METHODS
from ..models.package import open_package
from .job import VOLUMES, full_path

Rows = list[dict[str, Any]]
E = TypeVar("E", bound=Event)
T = TypeVar("T")

_TEXTS = {"case", "patient", "structure", "phase", "measure", "unit", "stage", "implausible"}
"""Columns of tables that hold words, also where these look like numbers: patient 001."""
_JOB = {
    "kind": str, "cases": list, "labels": dict, "config": dict, "seeds": int, "start_from": str | None,
    "model": str, "inputs": list, "out": str, "predictions": str, "reference": str,
}  # fmt: skip
"""What of job.json is told here, and its kind."""
_PACKAGE = {"config": dict, "labels": dict, "about": dict}
"""The same of a model's settings."""


@dataclass(frozen=True)
class Record:
    """A job folder, read when asked.

    Attributes:
        folder: Where it is.
        damage: What could not be read, in the files that were asked for so far.
    """

    folder: Path
    damage: list[UserError] = field(default_factory=list, compare=False)

    @cached_property
    def job(self) -> dict[str, Any]:
        """job.json, without what is not of its kind."""
        found = self._fitting(_object(self.folder / "job.json"), _JOB, self.folder / "job.json")
        return {**found, "config": upgrade(found["config"])} if "config" in found else found

    @property
    def kind(self) -> str:
        """`train`, `segment` or `evaluate`."""
        return self.job.get("kind", "train")

    @cached_property
    def events(self) -> list[AnyEvent]:
        path = self.folder / "events.jsonl"
        return read_events(path) if path.is_file() else []

    @cached_property
    def cases(self) -> list[dict[str, str]]:
        """The cases of a train job, as in job.json; what is null is left out."""
        found = (case for case in self.job.get("cases", []) if isinstance(case, dict))
        return [{key: str(value) for key, value in case.items() if value is not None} for case in found]

    @property
    def uses_unlabeled(self) -> bool:
        """Whether a train job has unlabeled cases, and its method and settings let them take part."""
        if self.method in METHODS and not METHODS[self.method].unlabeled:
            return False
        schedule = self.job.get("config", {}).get("schedule")
        warmup = schedule.get("warmup") if isinstance(schedule, dict) else None
        return not (is_number(warmup) and warmup >= 1) and any(case.get("role") == "unlabeled" for case in self.cases)

    @cached_property
    def used_unlabeled(self) -> bool | None:
        """Whether a step of the training has used unlabeled cases, in each of several seeds; None if nothing tells."""
        if self.seeds:
            used = [seed.used_unlabeled for seed in self.seeds]
            return None if None in used else all(used)
        stages = [row.get("stage") for row in self.history]
        stages += [event.stage for event in self.all(Progress) if event.losses]
        return "semi-supervised" in stages if stages else None

    @property
    def method(self) -> str:
        """The name of a train job's method."""
        method = self.job.get("config", {}).get("method")
        return str(method.get("name", DEFAULT)) if isinstance(method, dict) else DEFAULT

    @property
    def steps(self) -> float | None:
        """How many steps the model was trained for, or the training has come to; None if nothing tells."""
        about = self.model.get("about", {}) if self.kind == "train" else {}
        steps = about.get("training_steps", self.history[-1]["step"] if self.history else None)
        return steps if is_number(steps) else None

    def last(self, kind: type[E]) -> E | None:
        """The last event of a kind."""
        return next((event for event in reversed(self.events) if isinstance(event, kind)), None)

    def all(self, kind: type[E]) -> list[E]:
        """All events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @cached_property
    def history(self) -> Rows:
        """history.csv: a row for every look at the training."""
        return [row for row in self._table(self.folder / "history.csv", "step") if is_number(row["step"])]

    @cached_property
    def validation(self) -> Rows:
        """validation.csv: Dice by step, case and structure."""
        rows = self._table(self.folder / "validation.csv", "step", "case", "structure", "dice")
        return [row for row in rows if is_number(row["step"])]

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
        return self._table(self.measured / "metrics.csv", "case", "patient", "structure", *METRICS)

    @cached_property
    def clinical(self) -> Rows:
        """clinical.csv, see evaluation.py; one of an earlier version marks nothing as implausible."""
        columns = ("patient", "measure", "prediction", "reference", "difference")
        return [{"implausible": "", **row} for row in self._table(self.measured / "clinical.csv", *columns)]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """metrics.json, see evaluation.py."""
        path = self.measured / "metrics.json"
        if not path.is_file():
            return {}
        known = _labels(self.job) or _labels(self.model)
        return self._whole(lambda: parse_summary(read_json(path), known, where=path), {})

    @property
    def volumes_table(self) -> Path | None:
        """volumes.csv of a segment job, see heart_function.py, where it still is."""
        last = next((event for event in reversed(self.all(Result)) if event.kind == VOLUMES), None)
        path = None if last is None else self.path(last.path)
        return path if path is not None and path.is_file() else None

    @cached_property
    def model(self) -> dict[str, Any]:
        """Settings of the trained model, or of the one that a segment job used; see package.py."""
        place = self.path(self.job.get("model", "."))
        try:
            settings = open_package(place).settings.model_dump(mode="json")
        except UserError:  # not trained to the end yet, away, or no package
            return {}
        return self._fitting(settings, _PACKAGE, place)

    @cached_property
    def labels(self) -> LabelSet | None:
        """The structures, from wherever they are told."""
        return _labels(self.job) or _labels(self.model) or _labels(self.summary)

    @cached_property
    def previews(self) -> list[Path]:
        """Pictures of the training, in the order of its steps."""
        return sorted(path for path in (self.folder / "previews").glob("*.png") if path.is_file())

    @cached_property
    def seeds(self) -> list[Record]:
        """The trainings of a job with several seeds."""
        found = [path for path in self.folder.glob("seed*") if (path / "events.jsonl").is_file()]
        numbers = {int(path.name[4:]): path for path in found if path.name[4:].isdecimal()}
        return [Record(path) for _, path in sorted(numbers.items())]

    @property
    def main(self) -> Record:
        """The training itself: this one, or that of the first seed."""
        return self.seeds[0] if self.seeds and not self.history else self

    def path(self, name: str) -> Path:
        """What a path in the job's files means."""
        return full_path(self.folder, name)

    def _table(self, path: Path, *needed: str) -> Rows:
        return self._whole(lambda: read_csv(path, _TEXTS, needed), []) if path.is_file() else []

    def _whole(self, read: Callable[[], T], otherwise: T) -> T:
        """What `read` gives; where that is damaged, something else and a note."""
        try:
            return read()
        except UserError as error:
            self.damage.append(UserError(error.what, where=error.where, hint="The report does without it"))
        except RecursionError:
            self.damage.append(UserError("a file is nested too deeply", where=self.folder))
        return otherwise

    def _fitting(self, values: Mapping[str, Any], kinds: Mapping[str, Any], where: Path) -> dict[str, Any]:
        """The values that are of their kind; a note for each other one."""
        for key in (odd := [key for key, value in values.items() if not isinstance(value, kinds.get(key, object))]):
            what = f"'{key}' is not of the kind that it should be"
            self.damage.append(UserError(what, where=where, hint="The report does without it"))
        return {key: value for key, value in values.items() if key not in odd}


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
    try:
        data = read_json(path) if path.is_file() else {}
    except RecursionError:
        raise UserError("this file is nested too deeply to be a job's", where=path) from None
    return data if isinstance(data, dict) else {}


def _labels(source: Mapping[str, Any]) -> LabelSet | None:
    """The label set among the values of a file, if there is one and it is valid."""
    try:
        return LabelSet.model_validate(source["labels"]) if "labels" in source else None
    except (ValidationError, UserError):
        return None
