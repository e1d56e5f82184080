"""The work of a train job: sound inputs first, then one training, or one for each seed."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..base import files
from ..base.errors import Stopped, UserError
from ..base.events import AnyEvent, EventLog, Preview, Progress, Result
from ..base.swap import replaced_folder
from ..base.text import count
from ..data.case_reader import CaseReader
from ..data.checks import check_cases
from ..methods.registry import complete
from ..models.compute import pick_device
from ..training import train
from ..training.identity import IDENTITY, inherit
from ..training.prepare import FINDINGS
from ..training.ranks import ALONE, Ranks
from ..training.state import MODEL, WORK, learns_from_unlabeled
from .job import EVENTS, TrainJob

Summary = dict[str, Any]


def run_train(job: TrainJob, folder: Path, events: EventLog, stop: Callable[[], bool], ranks: Ranks = ALONE) -> Summary:
    """Trains, or continues with what an earlier run left; with several seeds, each in a subfolder of its own.

    Args:
        job: Cases, labels, configuration, device.
        folder: The job folder; with several seeds the model in it is that of the first.
        events: Told of everything.
        stop: Whether a stop was asked for.
        ranks: The processes that train together; each calls this, and the first one writes.

    Returns:
        The summary of the training, or means and standard deviations over the seeds.

    Raises:
        Stopped: If a stop was asked for; what is done is kept.
        UserError: If an input or the device cannot be used.
    """
    job = job.model_copy(update={"config": complete(job.config, where="job.json")})
    seeds = [job.config.seed + number for number in range(job.seeds)]
    places = [folder] if job.seeds == 1 else [folder / f"seed{seed}" for seed in seeds]
    reader = CaseReader()
    optim = job.config.optim
    mixed = optim.batch_mixed if learns_from_unlabeled(job.config) else ()
    ranks.by_first(lambda: ranks.require_slices(optim.batch_labeled, *mixed))
    ranks.own_device(ranks.by_first(lambda: pick_device(job.device)))
    ranks.by_first(lambda: _require_beginning(job, places[0], events, stop, reader))
    if job.seeds == 1:
        return train.train(folder, job, events, stop, reader, ranks)
    summaries = []
    for seed, place in zip(seeds, places, strict=True):
        own = job.model_copy(update={"config": job.config.model_copy(update={"seed": seed})})
        ranks.by_first(partial(_begin_seed, places[0], place, own))
        listener = partial(_pass_on, events=events, name=place.name, seed=seed)
        log = EventLog(place / EVENTS, listener) if ranks.rank.first else events
        summaries.append(train.train(place, own, log, stop, reader, ranks))
    return ranks.by_first(lambda: _conclude(summaries, folder, places[0], events))


def _require_beginning(
    job: TrainJob, place: Path, events: EventLog, stop: Callable[[], bool], reader: CaseReader
) -> None:
    """Raises what is wrong with a job before any long work."""
    if not any((place / WORK / name).exists() for name in (IDENTITY, FINDINGS)):  # it has not begun
        if job.start_from is not None:
            train.load_start(job.start_from, job)
        require_sound(job, events, stop, reader)


def _begin_seed(first: Path, place: Path, job: TrainJob) -> None:
    place.mkdir(exist_ok=True)
    inherit(first / WORK, place / WORK, job.config)  # all on the same inputs, though hours lie between


def _conclude(summaries: list[Summary], folder: Path, first: Path, events: EventLog) -> Summary:
    """The model of the first seed as that of the job, and the summary over all."""
    # The first, not the best: a model picked by its validation would look better than the mean that stands beside it.
    with replaced_folder(folder / MODEL) as model:
        shutil.copytree(first / MODEL, model, dirs_exist_ok=True)
    events.emit(Result(kind="model", path=MODEL))
    summary = over_seeds(summaries)
    files.write_json(folder / "summary.json", summary)
    return summary


def require_sound(job: TrainJob, events: EventLog, stop: Callable[[], bool], reader: CaseReader) -> None:
    """Looks at every input; what is doubtful becomes a warning event.

    Raises:
        Stopped: If a stop was asked for.
        UserError: For the first error, saying how many more there are.
    """

    def report(done: int, total: int, name: str) -> None:
        events.emit(Progress(stage="checking inputs", step=done, total=total, case=name))
        if stop():
            raise Stopped

    findings = check_cases(job.cases, job.labels, job.config, progress=report, reader=reader)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        first, others = errors[0], len(errors) - 1
        more = f" (and {count(others, 'more error')}, which semicardiac check lists)" if others else ""
        what = f"{first.what}{more}"
        raise UserError(what, where=first.where, hint=first.hint)
    for warning in findings:
        events.warn(warning.what, where=warning.where, hint=warning.hint)


def over_seeds(summaries: list[Summary]) -> Summary:
    """Mean and standard deviation of every number in the summaries of trainings that differ in their seeds."""
    summary: Summary = {"seeds": len(summaries)}
    for key in summaries[0]:
        values = [each[key] for each in summaries if isinstance(each.get(key), int | float)]
        if len(values) == len(summaries):
            summary |= {f"{key}_mean": statistics.fmean(values), f"{key}_sd": statistics.stdev(values)}
    if "validation_mean_dice_mean" in summary:
        mean, sd = summary["validation_mean_dice_mean"], summary["validation_mean_dice_sd"]
        summary["table"] = f"validation: mean Dice {mean:.3f} ± {sd:.3f} over {len(summaries)} seeds"
    return summary


def _pass_on(event: AnyEvent, *, events: EventLog, name: str, seed: int) -> None:
    """An event of one seed's training, with its seed, and its path as seen from the job folder."""
    if isinstance(event, Progress):
        event = event.model_copy(update={"seed": seed})
    elif isinstance(event, Preview | Result):
        event = event.model_copy(update={"path": f"{name}/{event.path}"})
    events.emit(event)
