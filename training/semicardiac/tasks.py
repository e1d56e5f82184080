"""What each kind of job does."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from . import files, trainer
from .checks import check_cases
from .compute import pick_device
from .errors import UserError
from .evaluation import evaluate_folder
from .events import AnyEvent, EventLog, Preview, Progress, Result
from .jobs import EVENTS, Job, SegmentJob, TrainJob
from .segmenting import run_segment

Summary = dict[str, Any]


def run(job: Job, folder: Path, events: EventLog, stop: Callable[[], bool]) -> Summary:
    """Does the work of a job in its folder, or what an earlier run left of it.

    Raises:
        Stopped: If `stop` asked for it; what is done is kept.
        UserError: For whatever the user can mend.
    """
    if isinstance(job, TrainJob):
        return run_train(job, folder, events, stop)
    if isinstance(job, SegmentJob):
        return run_segment(job, folder, events, stop)
    return {"table": evaluate_folder(job.predictions, job.reference, job.labels, folder, events)}


def run_train(job: TrainJob, folder: Path, events: EventLog, stop: Callable[[], bool]) -> Summary:
    """Trains once, or once for each seed in a subfolder of its own. The inputs are checked before the first begins."""
    seeds = [job.config.seed + number for number in range(job.seeds)]
    places = [folder] if job.seeds == 1 else [folder / f"seed{seed}" for seed in seeds]
    pick_device(job.device)
    if not (places[0] / trainer.WORK).exists():
        require_sound(job, events)
    if job.seeds == 1:
        return trainer.train(folder, job, events, stop)
    summaries = []
    for seed, place in zip(seeds, places, strict=True):
        place.mkdir(exist_ok=True)
        config = job.config.model_copy(update={"seed": seed})
        log = EventLog(place / EVENTS, partial(_pass_on, events=events, name=place.name))
        summaries.append(trainer.train(place, job.model_copy(update={"config": config}), log, stop))
    summary = over_seeds(summaries)
    files.write_json(folder / "summary.json", summary)
    return summary


def require_sound(job: TrainJob, events: EventLog) -> None:
    """Looks at every input; what is doubtful becomes a warning event.

    Raises:
        UserError: For the first error, saying how many more there are.
    """
    findings = check_cases(list(job.cases), job.labels, job.config)
    for finding in findings:
        if finding.level == "warning":
            events.warn(finding.what, where=finding.where, hint=finding.hint)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        first, others = errors[0], len(errors) - 1
        what = f"{first.what} (and {others} more errors, which semicardiac check lists)" if others else first.what
        raise UserError(what, where=first.where, hint=first.hint)


def over_seeds(summaries: list[Summary]) -> Summary:
    """Mean and standard deviation of every number in the summaries of trainings that differ in their seeds."""
    summary: Summary = {"seeds": len(summaries)}
    for key in summaries[0]:
        values = [each[key] for each in summaries if isinstance(each.get(key), int | float)]
        if len(values) == len(summaries):
            summary |= {f"{key}_mean": statistics.fmean(values), f"{key}_sd": statistics.stdev(values)}
    return summary


def _pass_on(event: AnyEvent, *, events: EventLog, name: str) -> None:
    """An event of one seed's training, with its stage and path as seen from the job folder."""
    if isinstance(event, Progress):
        event = event.model_copy(update={"stage": f"{name}: {event.stage}"})
    elif isinstance(event, Preview | Result):
        event = event.model_copy(update={"path": f"{name}/{event.path}"})
    events.emit(event)
