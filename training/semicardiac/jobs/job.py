"""A job: a folder whose job.json says what to do. GUI, console and command line all go through it.

Paths are absolute in memory. In the files of a job those inside the job folder are relative to it, so that a job can
be moved to another machine and run there; so is the folder that holds it, where `semicardiac segment` puts results.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_core import to_jsonable_python

from ..base import files
from ..base.errors import UserError, nearest
from ..base.events import Failed, Progress, Started, StoppedEvent, Warned, read_events
from ..base.locks import exclusive, holder_of, is_lock
from ..base.settings import Roi, Section, parse
from ..base.temporaries import is_temporary
from ..config import ScheduleConfig, TrainConfig, upgrade
from ..data.cases import Case
from ..data.discover import images_in
from ..images.labels import LabelSet
from ..images.volumes import stem

FORMAT = 2
"""Version of job.json. It rises when an older engine could not run a newer job."""

RANKS = "ranks"
"""The folder in a job's folder where each process of several, but for the first, tells what it does: see shares.py."""

JOB, EVENTS, LOCK, STOP, CRASH_REPORT = "job.json", "events.jsonl", "lock", "STOP", "crash-report.txt"
HOLDER = holder_of(Path(LOCK)).name
OUTPUT = "engine-output.txt"  # what a starter such as Slicer keeps of what the engine prints
"""Files of a job folder that hold no results: a job that ended before its work began leaves nothing else."""

VOLUMES = "volumes"
"""The kind of result that a segment job leaves once: volumes.csv, a table of what it measured, in its output folder."""


class TrainJob(Section):
    """Train a model on labeled and unlabeled cases; with several seeds, one model in a subfolder for each."""

    format: int = FORMAT
    kind: Literal["train"] = "train"
    cases: tuple[Case, ...] = Field(min_length=1)
    labels: LabelSet
    config: TrainConfig = TrainConfig()
    device: str = "auto"
    seeds: int = Field(1, ge=1, le=100)
    start_from: Path | None = None
    """A model to continue from, such as that of an earlier training with fewer labels."""


class SegmentJob(Section):
    """Segment volumes and time series with a trained model."""

    format: int = FORMAT
    kind: Literal["segment"] = "segment"
    model: Path
    inputs: tuple[Path, ...] = Field(min_length=1)
    out: Path
    suffix: Literal[".nii.gz", ".nrrd", ".seg.nrrd"] = ".nii.gz"
    confidence: bool = False
    entropy: bool = False
    threshold: bool = False
    pseudo_labels: bool = False
    flips: bool = False
    largest_component: bool = True
    roi: Roi | None = None
    device: str = "auto"


class EvaluateJob(Section):
    """Compare a folder of segmentations with reference segmentations; the tables are written into the job folder."""

    format: int = FORMAT
    kind: Literal["evaluate"] = "evaluate"
    predictions: Path
    reference: Path
    labels: LabelSet


Job = TrainJob | SegmentJob | EvaluateJob
KINDS: dict[str, type[Job]] = {"train": TrainJob, "segment": SegmentJob, "evaluate": EvaluateJob}


def create_job(folder: Path, job: Job) -> Path:
    """Writes job.json into a new or empty folder, or over a job of its kind that ended before its work began.

    Raises:
        UserError: If the folder holds anything else, is in use, or is not writable.
    """
    folder = Path(folder).absolute()
    files.output_folder(folder, empty=False)
    if not _holds_only_a_job(folder):
        files.output_folder(folder, empty=True)  # says so
    _require_kind(folder, job)
    with exclusive(folder / LOCK):
        _require_kind(folder, job)
        _require_same_beginning(folder, job)
        write_job(folder, job)
        (folder / EVENTS).unlink(missing_ok=True)
    return folder


def _holds_only_a_job(folder: Path) -> bool:
    """Whether there is nothing in a folder but the files of a job, without results."""
    names = {path.name for path in folder.iterdir() if not is_temporary(path)}
    if names - {JOB, EVENTS, LOCK, HOLDER, STOP, CRASH_REPORT, OUTPUT}:
        return False
    if LOCK in names and not ((folder / LOCK).is_file() and is_lock(folder / LOCK)):
        return False
    return JOB in names or not names - {LOCK, HOLDER}


def _require_kind(folder: Path, job: Job) -> None:
    """Raises a UserError if there is a job.json that is not ours or of another kind."""
    if not (folder / JOB).exists():
        return
    hint = "Name a new folder, so that nothing of yours is overwritten"
    try:
        kind = load_job(folder).kind
    except UserError as error:
        raise UserError(f"the output folder is not empty: {error.what}", where=error.where, hint=hint) from None
    if kind != job.kind:
        raise UserError(f"the output folder is not empty: it holds a {kind} job", where=folder, hint=hint)


def _require_same_beginning(folder: Path, job: Job) -> None:
    """Raises a UserError if the folder holds a job that has begun to work, or another that has yet to run."""
    if not (folder / JOB).exists():
        return
    events = read_events(folder / EVENTS) if (folder / EVENTS).exists() else []
    if events and all(isinstance(event, Started | Progress | Warned | Failed | StoppedEvent) for event in events):
        return
    if events or files.read_json(folder / JOB) != _as_json(folder, job):
        what = "this folder holds a job that has begun to work" if events else "this folder holds another job"
        hint = f"Name a new folder, or run that job: semicardiac run {shlex.quote(str(folder))}"
        raise UserError(what, where=folder, hint=hint)


def subfolder(folder: Path, name: str) -> Path:
    """Makes a folder of this name, numbered where there are others: job, job-2, job-3.

    Raises:
        UserError: If the place is not writable.
    """
    files.output_folder(folder, empty=False)
    for number in count(1):
        path = folder / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError


def prolong(folder: Path, *, minutes: float | None = None, steps: int | None = None) -> ScheduleConfig:
    """Gives a training more time or steps than it had; returns the new schedule.

    Raises:
        UserError: If the job is no training, or it is measured in the other unit.
    """
    _load_training(folder)  # what is none is not locked, which would write into it
    with exclusive(Path(folder) / LOCK):
        job = _load_training(folder)
        schedule = job.config.schedule
        unit, more = ("minutes", minutes) if minutes is not None else ("steps", steps)
        before = getattr(schedule, unit)
        if before is None:
            other = "steps" if unit == "minutes" else "minutes"
            raise UserError(f"this training is measured in {other}", where=folder, hint=f"Use --{other}")
        longer = parse(ScheduleConfig, {**schedule.model_dump(), unit: before + more}, where=f"--{unit}")
        write_job(folder, job.model_copy(update={"config": job.config.model_copy(update={"schedule": longer})}))
    return longer


def _load_training(folder: Path) -> TrainJob:
    job = load_job(folder)
    if not isinstance(job, TrainJob):
        raise UserError("this job is no training", where=folder, hint="Only a training can be given more time")
    return job


def write_job(folder: Path, job: Job) -> None:
    """Writes job.json; paths inside the folder become relative."""
    files.write_json(Path(folder) / JOB, _as_json(folder, job))


def _as_json(folder: Path, job: Job) -> Any:
    folder = Path(folder).absolute()
    data = _map_paths(job.model_dump(), lambda path: short_path(folder, path).as_posix())
    return files.without_nan(to_jsonable_python(data))


def load_job(folder: Path) -> Job:
    """Reads job.json; paths become absolute.

    Raises:
        UserError: If it is missing, damaged, from a newer version, or holds anything unknown.
    """
    folder = Path(folder).absolute()
    path = folder / JOB
    data = files.read_json(path)
    if not isinstance(data, dict):
        raise UserError("this is not a job", where=path, hint="Make a job with semicardiac train, segment or evaluate")
    version = data.get("format")
    if not isinstance(version, int):
        raise UserError("the job does not tell its format", where=path, hint=f'Write "format": {FORMAT} into it')
    if version > FORMAT:
        what = f"this job is of format {version}, and this version of semicardiac knows formats up to {FORMAT}"
        raise UserError(what, where=path, hint="Update semicardiac: pip install --upgrade semicardiac")
    if (kind := str(data.get("kind"))) not in KINDS:
        raise UserError(f"there is no kind of job '{kind}'", where=f"{path}: kind", hint=nearest(kind, KINDS))
    model = KINDS[kind]
    if "config" in data:
        data = {**data, "config": upgrade(data["config"])}
    job = parse(model, data, where=path)
    _map_paths(job.model_dump(), lambda each: _require_possible(each, path))
    return model.model_validate(_map_paths(job.model_dump(), lambda each: full_path(folder, each)))


def _require_possible(path: Path, where: Path) -> None:
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a character
        possible = False
    if not possible:
        raise UserError(f"no file can have the path {str(path)!r}", where=where, hint="Correct it")


def short_path(folder: Path, path: Path) -> Path:
    """A path as the files of a job hold it: relative inside the job folder and for its parent, else absolute."""
    path = path.absolute()
    if path == folder.parent:
        return Path("..")
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def full_path(folder: Path, path: Path | str) -> Path:
    """The absolute path that the files of a job mean."""
    return Path(os.path.normpath(folder / path))


def named_inputs(paths: Sequence[Path]) -> dict[str, Path]:
    """The volumes to segment by the names of their results; a folder stands for the volumes in it.

    Raises:
        UserError: If there are none, or two would have the same name.
    """
    inputs: dict[str, Path] = {}
    for path in paths:
        for name, image in (images_in(path) if path.is_dir() else {stem(path): path}).items():
            if inputs.get(name, image) != image:
                hint = "Results are named after their inputs: segment these two into different folders"
                raise UserError(f"this and {inputs[name]} have the same name", where=image, hint=hint)
            inputs[name] = image
    return inputs


def _map_paths(value: Any, change: Callable[[Path], Any]) -> Any:
    if isinstance(value, Path):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_paths(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_paths(item, change) for item in value]
    return value
