"""A training as a job, from its cases to its model: preparing, the loop, and what comes after."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .budget import Budget
from .compute import make_deterministic
from .context import Context
from .errors import UserError
from .events import EventLog
from .files import read_json, write_json
from .loop import CHECKPOINT, MODEL, WORK, Training, TrainSpec
from .model import Model, load_model, rehearse_saving
from .prepare import BANK_FOLDER, COARSE_FOLDER, prepare, refine_share
from .refine import refine_locator

FINISHED = "finished.json"


def train(folder: Path, spec: TrainSpec, events: EventLog, stop: Callable[[], bool]) -> dict[str, Any]:
    """Trains in a job folder, or goes on with what an earlier run left there.

    Args:
        folder: The job folder: findings, bank, checkpoint, history, previews and at the end `model/` go there.
        spec: Cases, labels, configuration, device.
        events: Told of everything.
        stop: Asked at every step; a graceful stop saves a checkpoint.

    Returns:
        A summary: steps, seconds, mean validation Dice if there are validation cases.

    Raises:
        Stopped: After a graceful stop.
        UserError: If an input or the checkpoint cannot be used.
    """
    config = spec.config
    roles = ("labeled", "unlabeled") if config.schedule.warmup < 1 else ("labeled",)
    cases = [case for case in spec.cases if case.role in roles]
    finished = folder / WORK / FINISHED
    if finished.exists() and (kept := read_json(finished))["schedule"] == config.schedule.model_dump(mode="json"):
        return kept["summary"]
    if not any(case.role == "labeled" for case in cases):
        raise UserError("there is no labeled case", where="cases", hint="Label at least one volume")
    if config.deterministic:
        make_deterministic()
    context = Context(folder / WORK, cases, spec.labels, config, Budget(config.schedule), events, stop)
    if config.locate.method == "network" and context.unlabeled:
        context.budget.reserve = refine_share(config, context.patients)
    fresh = spec.start_from is not None and not (folder / CHECKPOINT).exists()
    start = load_start(spec.start_from, spec) if fresh else None
    ready = prepare(context, spec.device, start and start.locator)
    training = Training(folder, spec, ready, context)
    if start is not None:
        training.start_from(start)
    rehearse_saving(folder / MODEL, training.model())  # what cannot be saved is not trained for an hour
    training.resume()
    training.run()
    if context.budget.reserve:
        refine_locator(context, ready, training.bank, training.learner.teacher.network)
    summary = training.finish()
    write_json(finished, {"schedule": config.schedule.model_dump(mode="json"), "summary": summary})
    del training, ready  # they hold the banks open, and what is open cannot be removed everywhere
    for name in (COARSE_FOLDER, BANK_FOLDER):  # gigabytes for a large pool, and quickly built anew
        shutil.rmtree(context.folder / name, ignore_errors=True)
    return summary


def load_start(path: Path, spec: TrainSpec) -> Model:
    """The model that a training goes on from.

    Raises:
        UserError: If it cannot be read, or segments other structures or with another network.
    """
    start = load_model(path)
    if start.labels.names != spec.labels.names:
        what = f"this model segments {', '.join(start.labels.names)}, not {', '.join(spec.labels.names)}"
        raise UserError(what, where=path, hint="Take a model of the same label set, or start without one")
    if (start.config.network, start.config.locate.widths) != (spec.config.network, spec.config.locate.widths):
        what = f"this model has the network {start.config.network}, not {spec.config.network}"
        raise UserError(what, where=path, hint="Set the network as that model has it, or start without a model")
    return start
