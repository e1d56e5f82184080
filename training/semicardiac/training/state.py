"""What a training is at a moment: what it learns with, where it stands, and how that is saved and taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from ..base.errors import UserError
from ..base.tables import GrowingTable
from ..config import TrainConfig
from ..data.batches import DeviceBank, Stream
from ..data.cases import Case
from ..images.labels import LabelSet
from ..methods import registry
from ..methods.ema import Teacher
from ..methods.method import Facts
from ..models.model import Model
from ..models.networks import build_network
from .checkpoint import State, load_checkpoint, save_checkpoint
from .context import Context
from .log import TrainingLog, Window
from .prepare import BANK_FOLDER, Prepared
from .refine_locator import WEIGHTS as REFINED
from .schedule import Ramp
from .step import Learner

CHECKPOINT, HISTORY, VALIDATION_TABLE = "checkpoint.pt", "history.csv", "validation.csv"
WORK, MODEL, PREVIEWS = "work", "model", "previews"


class TrainSpec(Protocol):
    """What a training is asked to do."""

    @property
    def cases(self) -> tuple[Case, ...]: ...
    @property
    def labels(self) -> LabelSet: ...
    @property
    def config(self) -> TrainConfig: ...
    @property
    def device(self) -> str: ...
    @property
    def start_from(self) -> Path | None:
        """A model to continue from."""


class Training:
    """A training between two steps.

    Args:
        folder: Of the job.
        spec: What was asked for.
        ready: What it starts from.
        context: Of its stages.
    """

    def __init__(self, folder: Path, spec: TrainSpec, ready: Prepared, context: Context) -> None:
        self.folder, self.spec, self.ready = folder, spec, ready
        self.budget, self.events, self.ranks = context.budget, context.events, context.ranks
        self.config, self.plan = ready.config, ready.plan
        self.bank = DeviceBank(ready.bank, self.plan.device)
        labeled = ready.bank.labeled_slices
        self.labeled, self.unlabeled = Stream(0, labeled), Stream(labeled, len(ready.bank.images))
        learns = learns_from_unlabeled(self.config)
        self.semi = learns and len(self.unlabeled) > 0
        """Whether unlabeled slices will come into play."""
        if learns and not self.semi:
            self.events.warn("there are no unlabeled cases: this is plain supervised training", where="cases")
        self.learner = self._new_learner()
        self.ramp = Ramp(self.config.schedule.ramp)
        (share, used), _ = self.ranks.agree(self.budget.share(0), self.budget.used())
        self.began = share, used
        """Share and seconds of the budget that were spent before the first step."""
        self.log = TrainingLog(folder / HISTORY, spec.labels, self.budget, self.events)

    def _new_learner(self) -> Learner:
        config, plan, classes = self.config, self.plan, self.spec.labels.classes
        torch.manual_seed(config.seed)
        student = plan.place(build_network(config.network, classes)).train()
        facts = Facts(classes, config.shape, lambda: plan.place(build_network(config.network, classes)))
        method, optim = registry.build(config, facts).to(plan.device), config.optim
        optimizer = torch.optim.SGD(
            [*student.parameters(), *method.parameters()], optim.learning_rate, momentum=optim.momentum,
            nesterov=optim.nesterov, weight_decay=optim.weight_decay,
            fused=torch.device(plan.device).type == "cuda",  # takes its rate, and what a scaler found, on the device
        )  # fmt: skip
        scaler = torch.amp.GradScaler(torch.device(plan.device).type, enabled=plan.dtype == "float16")
        generator = torch.Generator().manual_seed(config.seed)
        return Learner(student, Teacher(student, optim.ema), method, optimizer, scaler, generator, ranks=self.ranks)

    def start_from(self, model: Model) -> None:
        """Takes up what an earlier training has learned."""
        for network in (self.learner.student, self.learner.teacher.network):
            network.load_state_dict(model.network.state_dict())
        self.learner.method.start_from(model.method.to(self.plan.device))

    @property
    def validation_cases(self) -> list[Case]:
        """Those that measure the training."""
        return [case for case in self.spec.cases if case.role == "validation" and case.labels is not None]

    def model(self) -> Model:
        """The teacher as a model that predicts."""
        ready, learner = self.ready, self.learner
        return Model(
            learner.teacher.network, ready.locator, learner.method, self.config, self.spec.labels,
            ready.heart_area_mm2, self._about(),
        )  # fmt: skip

    def _about(self) -> dict[str, Any]:
        roles = [case.role for case in self.spec.cases]
        return {
            "labeled_volumes": roles.count("labeled"),
            "unlabeled_volumes": roles.count("unlabeled") if self.ramp.since is not None else 0,
            "validation_volumes": roles.count("validation"),
            "labeled_patients": len({case.patient for case in self.spec.cases if case.role == "labeled"}),
            "training_steps": self.learner.step, "training_seconds": round(self.budget.used(), 1),
            "device": self.plan.name, "precision": self.plan.dtype, "torch": torch.__version__,
        }  # fmt: skip

    def require_finite(self) -> None:
        """Raises UserError if the loss is no longer a number."""
        if self.log.is_finite():
            return
        if broken := self.ready.bank.broken():
            hint = f"Look at the image, then remove {WORK}/{BANK_FOLDER} in the job folder and resume"
            raise UserError("the prepared slices hold values that are not numbers", where=broken[0], hint=hint)
        hint = "Lower the learning rate (optim.learning_rate=0.02) and start again"
        raise UserError("the loss is no longer a number", where=f"step {self.learner.step}", hint=hint)

    def save(self) -> None:
        """Writes all that the next step depends on; never a state that is no longer a number."""
        self.require_finite()
        learner, used = self.learner, self.budget.used()
        state = State(
            labels=self.spec.labels.names, job=self.ready.identity.job,
            student=learner.student.state_dict(), teacher=learner.teacher.network.state_dict(),
            method=learner.method.state_dict(), optimizer=learner.optimizer.state_dict(),
            scaler=learner.scaler.state_dict(), generator=learner.generator.get_state(),
            step=learner.step, chunks=learner.chunks, used=used, cpu=self.log.cpu, began=self.began,
            mixed_since=self.ramp.since, ramped=self.ramp.climbed, labeled=self.labeled.state(),
            unlabeled=self.unlabeled.state(), offsets=self.bank.offsets.cpu(), window=self.log.window.state(used),
            closed=self.log.closed,
        )  # fmt: skip
        save_checkpoint(self.folder / CHECKPOINT, state)

    def resume(self) -> None:
        """Takes up the checkpoint, if there is one; all processes begin with what the first one has."""
        path = self.folder / CHECKPOINT
        state = self.ranks.by_first(self._checkpoint)
        if state is None:
            self.ranks.by_first(self._forget_later)
            for network in (self.learner.student, self.learner.teacher.network, self.learner.method):
                self.ranks.copy_first([*network.parameters(), *network.buffers()])
            return
        try:
            self._restore(state)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "Keep the settings and cases that the training began with, or use a new folder"
            raise UserError(f"the checkpoint does not fit the configuration ({error})", where=path, hint=hint) from None
        self.ranks.by_first(self._forget_later)

    def _checkpoint(self) -> State | None:
        path = self.folder / CHECKPOINT
        return load_checkpoint(path, self.spec.labels.names, self.ready.identity.job) if path.exists() else None

    def _forget_later(self) -> None:
        """Removes what earlier runs have left of steps that are yet to come."""
        step = self.learner.step
        self.log.history.cut(step)
        GrowingTable(self.folder / VALIDATION_TABLE).cut(step)
        if step and self.budget.share(step) < 1:  # prolonged: by then the teacher will know better where hearts are
            (self.folder / WORK / REFINED).unlink(missing_ok=True)

    def _restore(self, state: State) -> None:
        learner = self.learner
        if state.offsets.shape != self.bank.offsets.shape:
            raise ValueError(f"it is of {len(state.offsets)} slices, not of {len(self.bank.offsets)}")
        learner.student.load_state_dict(state.student)
        learner.teacher.network.load_state_dict(state.teacher)
        learner.method.load_state_dict(state.method)
        learner.optimizer.load_state_dict(state.optimizer)
        if state.scaler:
            learner.scaler.load_state_dict(state.scaler)
        learner.generator.set_state(state.generator)
        learner.step, learner.chunks = state.step, state.chunks
        self.ramp.since, self.ramp.climbed, self.began = state.mixed_since, state.ramped, state.began
        self.labeled.restore(state.labeled)
        self.unlabeled.restore(state.unlabeled)
        self.bank.offsets = state.offsets.to(self.bank.offsets.device)
        self.budget.used_before = max(self.budget.used_before, state.used)
        self.log.window = Window.restored(state.window, self.budget.used(), self.plan.device)
        self.log.closed, self.log.cpu_before = state.closed, state.cpu


def learns_from_unlabeled(config: TrainConfig) -> bool:
    """Whether the method, and the schedule, have unlabeled cases take part."""
    return registry.require_method(config.method.name).unlabeled and config.schedule.warmup < 1
