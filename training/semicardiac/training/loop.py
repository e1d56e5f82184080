"""The training loop and its state: steps, looks at what they do, and what it takes to go on after an interruption."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ..base.errors import Stopped, UserError
from ..base.events import Preview, Progress, Result, Validation
from ..base.tables import GrowingTable
from ..base.text import count
from ..config import TrainConfig
from ..data import augment
from ..data.batches import Batch, DeviceBank, Stream
from ..data.cases import Case
from ..images.labels import LabelSet
from ..methods import threshold_map
from ..methods.ema import Teacher
from ..models.compute import gpu_memory_mb
from ..models.model import Model, save_model
from ..models.networks import build_network
from .checkpoint import load_checkpoint, save_checkpoint
from .context import Context
from .prepare import BANK_FOLDER, Prepared
from .previews import preview_slices, write_preview
from .recenter import recenter
from .refine_locator import WEIGHTS as REFINED
from .schedule import passed, rate_factor, shortfall
from .step import Learner, train_step
from .validation import Score, evaluate_model, record, validate

CHECKPOINT, HISTORY, VALIDATION = "checkpoint.pt", "history.csv", "validation.csv"
WORK, MODEL, PREVIEWS = "work", "model", "previews"
#: Steps between two looks at the device: each waits for it.
LOOK_EVERY = 20


class TrainSpec(Protocol):
    """What a training is asked to do."""

    cases: tuple[Case, ...]
    labels: LabelSet
    config: TrainConfig
    device: str
    start_from: Path | None


@dataclass(eq=False)
class _Window:
    """Sums since the last look at the device."""

    sums: torch.Tensor
    since: float
    """What of the budget was used when it began."""
    steps: int = 0
    mixed: int = 0
    images: int = 0


class Training:
    """The state of a training and what moves it on."""

    def __init__(self, folder: Path, spec: TrainSpec, ready: Prepared, context: Context) -> None:
        self.folder, self.spec, self.stop = folder, spec, context.stop
        self.budget, self.events = context.budget, context.events
        self.config, self.plan, self.ready = ready.config, ready.plan, ready
        self.bank = DeviceBank(ready.bank, self.plan.device)
        labeled = ready.bank.labeled_slices
        self.labeled, self.unlabeled = Stream(0, labeled), Stream(labeled, len(ready.bank.images))
        self.semi = len(self.unlabeled) > 0
        if not self.semi and self.config.schedule.warmup < 1:
            self.events.warn("there are no unlabeled cases: this is plain supervised training", where="cases")
        self.foreseen = False
        torch.manual_seed(self.config.seed)
        classes = spec.labels.classes
        student = self.plan.place(build_network(self.config.network, classes)).train()
        optim = self.config.optim
        self.learner = Learner(
            student=student,
            teacher=Teacher(student, optim.ema),
            optimizer=torch.optim.SGD(
                student.parameters(), optim.learning_rate, momentum=optim.momentum, nesterov=optim.nesterov,
                weight_decay=optim.weight_decay, fused=self.plan.dtype == "float16",  # or its scaler would wait
            ),
            scaler=torch.amp.GradScaler(torch.device(self.plan.device).type, enabled=self.plan.dtype == "float16"),
            thresholds=threshold_map.initial_state(classes, self.config.preprocess.crop, self.plan.device),
        )  # fmt: skip
        self.generator = torch.Generator().manual_seed(self.config.seed)
        self.mixed_since: tuple[int, float] | None = None
        """Step and share of the training at which the unlabeled slices came into play."""
        self.alpha = 0.0
        self.ramped = 0.0
        """How far λ1 has come on its ramp, 0 to 1."""
        self.began = self.budget.share(0), self.budget.used()
        """Share and seconds of the budget that were spent before the first step."""
        self.cpu_before = 0.0
        self.window = _Window(torch.zeros(5 + 2 * classes, device=self.plan.device), self.budget.used())
        self.closed_looks = 0
        self.history = GrowingTable(folder / HISTORY)

    def start_from(self, model: Model) -> None:
        """Takes up what an earlier training has learned; its threshold map only for DPTM, and in the same crop."""
        learner = self.learner
        for network in (learner.student, learner.teacher.network):
            network.load_state_dict(model.network.state_dict())
        if self.config.loss.dptm and model.threshold.shape == learner.thresholds.threshold.shape:
            device = self.plan.device
            learner.thresholds = threshold_map.MapState(model.threshold.to(device), model.ratio.to(device))

    # ----- the loop

    def run(self) -> None:
        """Steps until the budget is used up. Raises Stopped after a graceful stop."""
        schedule = self.config.schedule
        saved = time.monotonic()
        share = self.budget.share(self.learner.step)
        while share < 1:
            if self.stop():
                self.save()
                raise Stopped
            self._one_step(share)
            before, share = share, self.budget.share(self.learner.step)
            if self.learner.step % LOOK_EVERY == 0 or share >= 1:
                self._look(share)
            if passed(before, share, schedule.preview_every):
                self._preview()
            if schedule.validate_every is not None and passed(before, share, schedule.validate_every) and share < 1:
                self.validate()
            if time.monotonic() - saved >= schedule.checkpoint_s or share >= 1:
                self.save()
                saved = time.monotonic()
        if not self.learner.step:
            what = f"the time was used up before the first step: preparing alone took {self.budget.used():.0f} s"
            raise UserError(what, where="schedule.minutes", hint="Give the training more minutes, or fewer cases")
        if self.semi and self.mixed_since is None:
            steps = count(self.learner.step, "step")
            what = f"the training ended after {steps}, before the unlabeled cases came into play"
            hint = "Train for longer, or lower schedule.warmup and schedule.warmup_steps"
            self.events.warn(what, where="schedule", hint=hint)

    def _one_step(self, share: float) -> None:
        optim, schedule = self.config.optim, self.config.schedule
        warm = share >= schedule.warmup and self.learner.step >= schedule.warmup_steps
        if self.semi and warm and self.mixed_since is None:
            self._begin_mixed(share)
        mixed = self.mixed_since is not None  # for good, also where a prolonged training is back at a smaller share
        for group in self.learner.optimizer.param_groups:
            group["lr"] = optim.learning_rate * rate_factor(share, optim.hold)
        counts = optim.batch_mixed if mixed else (optim.batch_labeled, 0)
        labeled = self._batch(self.labeled, counts[0])
        unlabeled = self._batch(self.unlabeled, counts[1]) if mixed else None
        lambda_u = self._lambda_u(share) if mixed else 0.0
        while (sums := self._try_step(labeled, unlabeled, lambda_u)) is None:
            self._halve(max(counts))
        window = self.window
        window.sums += sums
        window.steps += 1
        window.mixed += mixed
        window.images += sum(counts)

    def _begin_mixed(self, share: float) -> None:
        """The unlabeled slices come into play: α for the steps that are left, and better crops of the pool."""
        self.mixed_since = (self.learner.step, share)
        alpha = self.config.loss.alpha
        left = self._steps_in_all(share) - self.learner.step
        self.alpha = threshold_map.settle_alpha(left) if alpha is None else alpha
        if self.config.locate.recenter and self.learner.step:
            recenter(self.bank, self.ready.bank, self.learner.teacher.network, self.config, self.plan)

    def _lambda_u(self, share: float) -> float:
        """λ1 on its sigmoid ramp exp(-5 (1 - x)²), which a training that is prolonged does not climb again."""
        ramp = self.config.schedule.ramp
        climbed = min(1.0, (share - self.mixed_since[1]) / ramp) if ramp else 1.0
        self.ramped = max(self.ramped, climbed)
        return self.config.loss.lambda_u * math.exp(-5 * (1 - self.ramped) ** 2)

    def _steps_in_all(self, share: float) -> int:
        """Planned steps, or where time counts those that the speed so far allows; 1000 as long as there is none."""
        if self.budget.steps is not None:
            return self.budget.steps
        step, stepping = self.learner.step, share - self.began[0]
        return step + round(step * (1 - share) / stepping) if step and stepping > 0 else 1000

    def _seconds_left(self, share: float) -> float:
        if self.budget.seconds is not None:
            return max(0.0, self.budget.seconds - self.budget.used())
        return (self.budget.used() - self.began[1]) * (1 - share) / max(share - self.began[0], 1e-9)

    def _batch(self, stream: Stream, count: int) -> Batch:
        index = stream.take(count, self.generator)
        view = augment.draw(self.config.augment, count, self.generator).to(torch.device(self.plan.device))
        return self.bank.batch(index, view, labeled=stream is self.labeled)

    def _try_step(self, labeled: Batch, unlabeled: Batch | None, lambda_u: float) -> torch.Tensor | None:
        """A step's sums, or None if the memory did not suffice; what the step held is freed on return."""
        try:
            return train_step(self.learner, self.config, self.plan, labeled, unlabeled, lambda_u, self.alpha)
        except torch.OutOfMemoryError:
            return None

    def _halve(self, largest: int) -> None:
        """Out of memory: the same batch in twice as many parts."""
        if self.learner.chunks >= largest:
            hint = "Use a smaller crop (preprocess.crop=96), or compute on the CPU (device cpu)"
            raise UserError("the memory does not even suffice for one slice at a time", where=self.plan.name, hint=hint)
        self.learner.optimizer.zero_grad(set_to_none=True)
        self.learner.chunks *= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        what = f"out of memory: batches are computed in {self.learner.chunks} parts from here on, which is slower"
        self.events.warn(what, where=self.plan.name)

    # ----- looks at the state

    def _look(self, share: float) -> None:
        """Reads the sums from the device, which waits for it, and tells."""
        window, classes = self.window, self.spec.labels.classes
        values = window.sums.tolist()
        used = self.budget.used()
        steps = window.steps
        losses = [value / steps for value in values[:4]]
        if not math.isfinite(losses[0]):
            self._diverged()
        step = self.learner.step
        row: dict[str, Any] = {
            "step": step, "total": max(step, self._steps_in_all(share)),
            "stage": "semi-supervised" if window.mixed else "supervised",
            "seconds": round(used, 2), "cpu_seconds": round(self.cpu_before + time.process_time(), 2),
            "loss": losses[0], "loss_supervised": losses[1], "loss_unsupervised": None, "loss_contrast": None,
            "lambda_u": None, "learning_rate": self.learner.optimizer.param_groups[0]["lr"], "threshold_mean": None,
            "images_per_s": round(window.images / max(used - window.since, 1e-9), 2),
        }  # fmt: skip
        rates: dict[str, float] = {}
        names = ["background", *self.spec.labels.names]
        if window.mixed:
            sure, own = values[5 : 5 + classes], values[5 + classes :]
            rates = {name: round(a / b, 4) for name, a, b in zip(names, sure, own, strict=True) if b}
            row |= {
                "loss_unsupervised": values[2] / window.mixed, "loss_contrast": values[3] / window.mixed,
                "lambda_u": self._lambda_u(share), "threshold_mean": float(self.learner.thresholds.threshold.mean()),
            }  # fmt: skip
            self._watch_gate(values[4] == window.mixed)
        fields = {key: value for key, value in row.items() if key not in ("seconds", "cpu_seconds")}
        memory = gpu_memory_mb(self.plan.device)
        left = self._seconds_left(share)
        self.events.emit(Progress(**fields, pass_rate=rates, eta_s=left, gpu_memory_mb=memory))
        self.history.add(row | {f"pass_rate/{name}": rates.get(name) for name in names})
        self.window = _Window(torch.zeros_like(window.sums), used)
        if self.budget.steps is None and share >= 0.1:  # by then the speed is known
            self._foresee(self._steps_in_all(share))

    def _foresee(self, steps: int) -> None:
        """Tells once if a timed training will end before the unlabeled slices come into play."""
        if self.semi and self.mixed_since is None and not self.foreseen:
            if told := shortfall(self.config.schedule, steps):
                self.events.warn(told[0], where="schedule", hint=told[1])
            self.foreseen = told is not None

    def _watch_gate(self, closed: bool) -> None:
        self.closed_looks = self.closed_looks + 1 if closed else 0
        if self.closed_looks == 5:
            hint = (
                "The teacher is sure of no structure in the unlabeled cases: either they are of another kind than the "
                "labeled ones, or it needs a longer training"
            )
            self.events.warn(
                "no foreground pseudo-label has passed its threshold for 100 steps", where="unlabeled cases", hint=hint
            )

    def _diverged(self) -> None:
        if broken := self.ready.bank.broken():
            hint = f"Look at the image, then remove {WORK}/{BANK_FOLDER} in the job folder and resume"
            raise UserError("the prepared slices hold values that are not numbers", where=broken[0], hint=hint)
        hint = "Lower the learning rate (optim.learning_rate=0.02) and start again"
        raise UserError("the loss is no longer a number", where=f"step {self.learner.step}", hint=hint)

    def _preview(self) -> None:
        paused = self.budget.used()
        path = self.folder / PREVIEWS / f"step{self.learner.step:06d}.png"
        first = len(self.labeled) if len(self.unlabeled) else 0
        index = preview_slices(first, first + (len(self.unlabeled) or len(self.labeled)))
        view = augment.draw(self.config.augment, len(index), torch.Generator()).to(torch.device(self.plan.device))
        shown = self.bank.batch(index, view, labeled=False)
        write_preview(path, self.learner, self.config, self.plan, shown, self.spec.labels)
        self.events.emit(Preview(step=self.learner.step, path=path.relative_to(self.folder).as_posix()))
        self.budget.pause(paused)

    def validate(self) -> None:
        """Dice of the teacher on the validation cases; not counted as training time."""
        if not (cases := self._validation_cases()):
            return
        paused = self.budget.used()
        self._tell_scores(validate(self.model(), cases, self.plan))
        self.budget.pause(paused)

    def _validation_cases(self) -> list[Case]:
        return [case for case in self.spec.cases if case.role == "validation" and case.labels is not None]

    def _tell_scores(self, scores: list[Score]) -> float | None:
        result = record(scores, self.folder / VALIDATION, self.learner.step)
        self.events.emit(Validation(step=self.learner.step, **result))
        return result["mean_dice"]

    def model(self) -> Model:
        """The teacher as a model that predicts."""
        ready, state = self.ready, self.learner.thresholds
        return Model(
            self.learner.teacher.network, ready.locator, self.config, self.spec.labels, state.threshold, state.ratio,
            ready.heart_area_mm2, self._about(),
        )  # fmt: skip

    def finish(self) -> dict[str, Any]:
        """Writes the model package, and evaluates the teacher on the validation cases in full."""
        model = self.model()
        save_model(self.folder / MODEL, model)
        if cases := self._validation_cases():  # whatever happens there, the model is safe
            evaluation = evaluate_model(model, cases, self.plan, self.folder, self.events, self.stop)
            scores = [(row["case"], row["structure"], row["dice"]) for row in evaluation.rows]
            model.about["validation_mean_dice"] = self._tell_scores(scores)
            save_model(self.folder / MODEL, model)
        self.events.emit(Result(kind="model", path=MODEL))
        return {"steps": self.learner.step, "seconds": round(self.budget.used(), 1), **model.about}

    def _about(self) -> dict[str, Any]:
        roles = [case.role for case in self.spec.cases]
        return {
            "labeled_volumes": roles.count("labeled"),
            "unlabeled_volumes": roles.count("unlabeled") if self.mixed_since is not None else 0,
            "validation_volumes": roles.count("validation"),
            "labeled_patients": len({case.patient for case in self.spec.cases if case.role == "labeled"}),
            "training_steps": self.learner.step, "training_seconds": round(self.budget.used(), 1),
            "device": self.plan.name, "precision": self.plan.dtype, "torch": torch.__version__,
        }  # fmt: skip

    # ----- interruption

    def save(self) -> None:
        """Writes all that the next step depends on; never a state that is no longer a number."""
        learner = self.learner
        if not math.isfinite(float(self.window.sums[0])):
            self._diverged()
        save_checkpoint(
            self.folder / CHECKPOINT,
            {
                "labels": self.spec.labels.names, "job": self.ready.identity.job,
                "student": learner.student.state_dict(), "teacher": learner.teacher.network.state_dict(),
                "optimizer": learner.optimizer.state_dict(), "scaler": learner.scaler.state_dict(),
                "threshold": learner.thresholds.threshold, "ratio": learner.thresholds.ratio,
                "step": learner.step, "chunks": learner.chunks, "used": self.budget.used(), "alpha": self.alpha,
                "mixed_since": list(self.mixed_since) if self.mixed_since else None,
                "generator": self.generator.get_state(), "labeled": self.labeled.state(),
                "unlabeled": self.unlabeled.state(), "offsets": self.bank.offsets.cpu(),
                "sums": self.window.sums, "window": [self.window.steps, self.window.mixed, self.window.images],
                "window_s": self.budget.used() - self.window.since, "closed_looks": self.closed_looks,
                "ramped": self.ramped, "began": list(self.began), "cpu": self.cpu_before + time.process_time(),
            },
        )  # fmt: skip

    def resume(self) -> None:
        """Takes up the checkpoint, if there is one."""
        path = self.folder / CHECKPOINT
        scores = GrowingTable(self.folder / VALIDATION)
        if not path.exists():
            self.history.cut(0)
            scores.cut(0)
            return
        state = load_checkpoint(path, self.spec.labels.names, self.ready.identity.job)
        try:
            self._restore(state)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "Keep the settings and cases that the training began with, or use a new folder"
            raise UserError(f"the checkpoint does not fit the configuration ({error})", where=path, hint=hint) from None
        self.history.cut(self.learner.step)
        scores.cut(self.learner.step)
        if self.budget.share(self.learner.step) < 1:  # prolonged: by then the teacher will know better where hearts are
            (self.folder / WORK / REFINED).unlink(missing_ok=True)

    def _restore(self, state: dict[str, Any]) -> None:
        learner, device = self.learner, self.plan.device
        if state["offsets"].shape != self.bank.offsets.shape:
            raise ValueError(f"it is of {len(state['offsets'])} slices, not of {len(self.bank.offsets)}")
        learner.student.load_state_dict(state["student"])
        learner.teacher.network.load_state_dict(state["teacher"])
        learner.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            learner.scaler.load_state_dict(state["scaler"])
        learner.thresholds = threshold_map.MapState(state["threshold"].to(device), state["ratio"].to(device))
        learner.step, learner.chunks, self.alpha = state["step"], state["chunks"], state["alpha"]
        self.mixed_since = tuple(state["mixed_since"]) if state["mixed_since"] else None
        self.generator.set_state(state["generator"])
        self.labeled.restore(state["labeled"])
        self.unlabeled.restore(state["unlabeled"])
        self.bank.offsets = state["offsets"].to(self.bank.offsets.device)
        self.budget.used_before = max(self.budget.used_before, state["used"])
        self.window = _Window(state["sums"].to(device), self.budget.used() - state["window_s"], *state["window"])
        self.closed_looks, self.ramped, self.cpu_before = state["closed_looks"], state["ramped"], state["cpu"]
        self.began = tuple(state["began"])
