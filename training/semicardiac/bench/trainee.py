"""A training that only steps: the real loop on a bank of noise, whose content costs what any other does."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..base.events import AnyEvent, EventLog, Listener, Warned
from ..config import TrainConfig, make_config
from ..data import augment
from ..data.batches import Batch
from ..data.cases import Case
from ..data.slice_bank import SliceBank
from ..images.labels import get_label_set
from ..jobs.job import TrainJob
from ..methods.ema import Teacher
from ..models.compute import ComputePlan, choose_plan
from ..models.networks import build_network
from ..training.context import Context
from ..training.identity import Identity
from ..training.loop import Loop
from ..training.prepare import Prepared
from ..training.schedule import Budget
from ..training.state import Training
from .timing import Setting

LABELS = get_label_set("acdc")
CROP = 112
"""Of the default, where the hearts are not larger."""
STEPS = 10_000
"""Of the training that is measured in its middle."""
LABELED, UNLABELED = 32, 96
"""Slices in the bank."""


class Trainee:
    """Steps of a training in which the unlabeled slices take part, as the loop does them, drawing included.

    Args:
        setting: Where to compute.
        overrides: Settings over those of the default.
        network: In place of the one that the configuration names.
        plan: In place of the one that is measured for it.
    """

    def __init__(
        self,
        setting: Setting,
        overrides: Mapping[str, Any],
        *,
        network: nn.Module | None = None,
        plan: ComputePlan | None = None,
    ) -> None:
        schedule = {"steps": STEPS, "warmup": 0.0, "warmup_steps": 0, "checkpoint_s": 1e9}
        preprocess = {"crop": CROP, **overrides.get("preprocess", {})}
        config = make_config("default", {**overrides, "schedule": schedule, "preprocess": preprocess})
        self.plan = plan or _plan(setting, network or build_network(config.network, LABELS.classes), config)
        config = config.model_copy(update={"optim": config.optim.enlarged(self.plan.batch_times)})
        self.warnings: list[str] = []
        """What the training has warned of."""
        self.training = _training(Path(tempfile.mkdtemp(dir=setting.folder)), config, self.plan, self._hear)
        if network is not None:
            _exchange(self.training, network)
        self._loop = Loop(self.training, lambda: False)

    def step(self) -> None:
        """One step at half of the training; raises OutOfMemoryError where the batch had to be cut into parts."""
        self._loop.one_step(0.5)
        if self.training.learner.chunks > 1:
            raise torch.OutOfMemoryError("the memory does not hold the batch")

    def _hear(self, event: AnyEvent) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event.warning)

    def images_of_a_step(self) -> int:
        """Slices that the student sees in a step; this does one."""
        before = self.training.log.window.images
        self.step()
        return self.training.log.window.images - before

    def batches(self) -> tuple[Batch, Batch]:
        """Labeled and unlabeled slices of a step, with the views of them."""
        training, generator = self.training, self.training.learner.generator
        streams, counts = (training.labeled, training.unlabeled), training.config.optim.batch_mixed
        drawn = []
        for stream, count in zip(streams, counts, strict=True):
            view = augment.draw(training.config.augment, count, generator).to(training.bank.device)
            index, labeled = stream.take(count, generator), stream is training.labeled
            drawn.append(training.bank.batch(index, (view,), labeled=labeled))
        return drawn[0], drawn[1]


def _plan(setting: Setting, network: nn.Module, config: TrainConfig) -> ComputePlan:
    """How a training computes; on a CPU by small crops, as one without bfloat16 would take minutes for larger ones."""
    side = config.preprocess.side
    slices = sum(config.optim.batch_mixed)
    return choose_plan(network, side if setting.gpu else min(side, CROP), setting.device, slices=slices)


def _training(folder: Path, config: TrainConfig, plan: ComputePlan, listener: Listener) -> Training:
    """A training in a folder, as it is when its first stage is done."""
    side = config.preprocess.side + 2 * config.preprocess.margin
    rng = np.random.default_rng(0)
    images = rng.normal(size=(LABELED + UNLABELED, side, side)).clip(*config.preprocess.clip).astype(np.float16)
    labels = rng.integers(LABELS.classes, size=(LABELED, side, side), dtype=np.uint8)
    cases = [Case(name=role, patient=role, image=folder / role, role=role) for role in ("labeled", "unlabeled")]
    bank = SliceBank(images, labels, {"labeled": (0, LABELED), "unlabeled": (LABELED, len(images))}, {}, side)
    identity = Identity(job="", config=config, labels=LABELS, inputs={})
    context = Context(folder, cases, LABELS, config, Budget(config.schedule), EventLog(None, listener), lambda: False)
    spec = TrainJob(cases=tuple(cases), labels=LABELS, config=config, device=plan.device)
    return Training(folder, spec, Prepared(config, plan, None, (0.0, 0.0), bank, identity), context)


def _exchange(training: Training, network: nn.Module) -> None:
    """Has a training learn with another network than its configuration names."""
    learner = training.learner
    learner.student = training.plan.place(network).train()
    learner.teacher = Teacher(learner.student, training.config.optim.ema)
    kind = type(learner.optimizer)
    learner.optimizer = kind(learner.student.parameters(), **learner.optimizer.defaults)
