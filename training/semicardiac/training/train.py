"""A training as a job, from its cases to its model: preparing, the loop, and what comes after."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.events import EventLog, Result
from ..base.sealed import read_sealed, write_sealed
from ..base.settings import parse
from ..base.swap import present
from ..base.temporaries import remove_abandoned
from ..config import NetworkConfig, ScheduleConfig, TrainConfig
from ..data.case_reader import CaseReader
from ..data.cases import Case
from ..models.compute import make_deterministic
from ..models.model import Model, load_model, rehearse_saving, save_model
from .context import Context
from .locator import COARSE_FOLDER, coarse_bank, refine_share
from .loop import Loop, record_scores
from .prepare import BANK_FOLDER, prepare
from .ranks import ALONE, Ranks
from .refine_locator import refine_locator
from .schedule import Budget, shortfall
from .state import CHECKPOINT, MODEL, WORK, Training, TrainSpec, learns_from_unlabeled
from .validation import evaluate_model

FINISHED = "finished.json"
_OF_EARLIER_VERSIONS = re.compile(
    r"\.[0-9a-f]{8}\.(checkpoint\.pt|(history|validation)\.csv|(findings|finished|index|config)\.json"
    r"|(model|locator|locator_refined)\.safetensors|step\d{6}\.png|README\.md|LICENSE\.txt|SHA256SUMS)"
)
"""Temporary files as earlier versions named them, of the files that a training writes."""


def train(
    folder: Path,
    spec: TrainSpec,
    events: EventLog,
    stop: Callable[[], bool],
    reader: CaseReader | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Trains in a job folder, or continues with what an earlier run left there.

    Args:
        folder: The job folder: findings, bank, checkpoint, history, previews and at the end `model/` go there.
        spec: Cases, labels, configuration, device.
        events: Told of everything.
        stop: Asked at every step; a graceful stop saves a checkpoint.
        reader: That has checked the cases: it may hold some of them still.
        ranks: The processes that train together; each calls this, and the first one writes.

    Returns:
        A summary: steps, seconds, mean validation Dice if there are validation cases.

    Raises:
        Stopped: After a graceful stop.
        UserError: If an input or the checkpoint cannot be used.
    """
    config = spec.config
    if (summary := ranks.by_first(lambda: _take_stock(folder, spec, events))) is not None:
        return summary
    if config.deterministic:
        make_deterministic()
    context = _context(folder, spec, events, stop, reader or CaseReader(), ranks)
    if config.locate.method == "network" and context.unlabeled:
        context.budget.reserve = refine_share(config, context.patients)
    if context.unlabeled and config.schedule.steps and (told := shortfall(config.schedule, config.schedule.steps)):
        events.warn(told[0], where="schedule", hint=told[1])
    start = None
    if spec.start_from is not None and ranks.rank.first and not (folder / CHECKPOINT).exists():
        start = load_start(spec.start_from, spec)
    ready = prepare(context, spec.device, start)
    training = Training(folder, spec, ready, context)
    if start is not None:
        training.start_from(start)
    ranks.by_first(partial(_rehearse_end, training, context))
    training.resume()
    Loop(training, stop).run()
    summary = ranks.by_first(partial(_finish, training, context))
    del training, ready  # they hold the banks open, and what is open cannot be removed everywhere
    if ranks.rank.first:
        _remove_banks(folder / WORK)
    return summary


def _take_stock(folder: Path, spec: TrainSpec, events: EventLog) -> dict[str, Any] | None:
    """Tidies up what earlier runs have left; gives the summary if these have done everything."""
    _remove_leftovers(folder)
    if (summary := _finished(folder, spec.config)) is not None:
        _remove_banks(folder / WORK)  # a kill may have left them
        return summary
    if present(folder / MODEL).is_dir() and not (folder / CHECKPOINT).exists():
        what = "the checkpoint of the finished training is gone: it starts from the beginning"
        hint = "Stop it to keep the model, or to put the checkpoint back"
        events.warn(what, where=folder / CHECKPOINT, hint=hint)
    _require_validation(spec.cases)
    return None


def _context(
    folder: Path, spec: TrainSpec, events: EventLog, stop: Callable[[], bool], reader: CaseReader, ranks: Ranks
) -> Context:
    """What the stages of a training work with: the cases that its method learns from, and a fresh budget."""
    roles = ("labeled", "unlabeled") if learns_from_unlabeled(spec.config) else ("labeled",)
    cases = [case for case in spec.cases if case.role in roles]
    if not any(case.role == "labeled" for case in cases):
        raise UserError("there is no labeled case", where="cases", hint="Label at least one volume")
    validation = [case for case in spec.cases if case.role == "validation" and case.labels is not None]
    budget = Budget(spec.config.schedule)
    return Context(folder / WORK, cases, spec.labels, spec.config, budget, events, stop, validation, reader, ranks)


def _rehearse_end(training: Training, context: Context) -> None:
    """Raises now, not after an hour of training, what could not be read or saved at its end."""
    if context.budget.reserve:
        coarse_bank(context, training.ready.identity)
    rehearse_saving(training.folder / MODEL, training.model())


def _finish(training: Training, context: Context) -> dict[str, Any]:
    """All that follows the last step, and a note that it is done."""
    if context.budget.reserve:
        refine_locator(context, training.ready, training.bank, training.learner.teacher.network)
    summary = _write_model(training, context)
    schedule = training.config.schedule.model_dump(mode="json")
    write_sealed(context.folder / FINISHED, {"schedule": schedule, "summary": summary})
    return summary


def _write_model(training: Training, context: Context) -> dict[str, Any]:
    """Writes the model package, and evaluates the teacher on the validation cases in full."""
    model, folder = training.model(), training.folder
    save_model(folder / MODEL, model)
    if cases := training.validation_cases:  # whatever happens there, the model is safe
        evaluation = evaluate_model(model, cases, training.plan, folder, context.events, context.stop)
        scores = [(row["case"], row["structure"], row["dice"]) for row in evaluation.rows]
        model.about["validation_mean_dice"] = record_scores(training, scores)
        save_model(folder / MODEL, model)
    context.events.emit(Result(kind="model", path=MODEL))
    return {"steps": training.learner.step, "seconds": round(context.budget.used(), 1), **model.about}


def _finished(folder: Path, config: TrainConfig) -> dict[str, Any] | None:
    """The summary of a training that has come to the end of its schedule; None if it has not, or has lost its model.

    If what tells so is damaged, the end is repeated from the checkpoint.
    """
    try:
        kept = read_sealed(folder / WORK / FINISHED)
        schedule, summary = parse(ScheduleConfig, kept.get("schedule")), kept.get("summary")
    except UserError:
        return None
    done = schedule == config.schedule and isinstance(summary, dict) and present(folder / MODEL).is_dir()
    return summary if done else None


def _remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that kills have left; the job's lock is held, so that none is in use."""
    for place, _, names in os.walk(folder):
        remove_abandoned(Path(place))
        for name in filter(_OF_EARLIER_VERSIONS.fullmatch, names):
            (Path(place) / name).unlink(missing_ok=True)


def _remove_banks(work: Path) -> None:
    """Gigabytes for a large pool, and quickly built anew."""
    for name in (COARSE_FOLDER, BANK_FOLDER):
        shutil.rmtree(work / name, ignore_errors=True)


def _require_validation(cases: Iterable[Case]) -> None:
    """Raises UserError if a file that is only read at the end is missing."""
    for case in cases:
        if case.role == "validation" and case.labels is not None:
            for path in (case.image, case.labels):
                if not path.exists():
                    hint = "Put it back, or take the case out of job.json"
                    raise UserError("this file is missing", where=path, hint=hint)


def load_start(path: Path, spec: TrainSpec) -> Model:
    """The model that a training starts from.

    Raises:
        UserError: If it cannot be read, or segments other structures or with another network.
    """
    start = load_model(path)
    if start.labels.names != spec.labels.names:
        what = f"this model segments {', '.join(start.labels.names)}, not {', '.join(spec.labels.names)}"
        raise UserError(what, where=path, hint="Take a model of the same label set, or start without one")
    told = (start.config.network.dimensions, spec.config.network.dimensions)
    if told[0] != told[1]:
        kinds = {2: "slices (network.dimensions=2)", 3: "volumes (network.dimensions=3)"}
        what = f"this model is one for {kinds[told[0]]}, not for {kinds[told[1]]}"
        raise UserError(what, where=path, hint="Set it as that model has it, or start without a model")
    theirs, ours = (
        {"network": _as_asked(config), "locate.widths": config.locate.widths} for config in (start.config, spec.config)
    )
    for name, value in theirs.items():
        if value != ours[name]:
            what = f"this model has the {name} {value}, not {ours[name]}"
            raise UserError(what, where=path, hint="Set it as that model has it, or start without a model")
    return start


def _as_asked(config: TrainConfig) -> NetworkConfig:
    """The network but for its anisotropy, which a training takes from the model that it starts from."""
    return config.network.model_copy(update={"anisotropy": None})
