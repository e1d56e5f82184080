"""The training loop: which step comes when, and what is shown meanwhile."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from ..base.errors import Stopped, UserError
from ..base.events import Preview, Validation
from ..base.text import count
from ..data.batches import Batch, Stream
from ..data.block_views import draw_view
from ..models.compute import gpu_memory_mb
from .log import EVERY
from .previews import preview_slices, write_preview
from .ranks import ALONE
from .recenter import recenter
from .recorded import RecordedStep
from .schedule import passed, rate_factor, shortfall
from .state import PREVIEWS, VALIDATION_TABLE, Training
from .step import Moment, train_step
from .validation import Score, record, validate

Log = dict[str, torch.Tensor | float]
TrainStep = Callable[[Batch, Batch | None, Moment], Log]


class Loop:
    """Moves a training on, to the end of its budget.

    Args:
        training: Changed in place.
        stop: Asked at every step.
    """

    def __init__(self, training: Training, stop: Callable[[], bool]) -> None:
        self.training, self.learner, self.stop = training, training.learner, stop
        self.config, self.plan = training.config, training.plan
        self.budget, self.events, self.ramp = training.budget, training.events, training.ramp
        self.ranks = training.ranks
        self._step = RecordedStep(self.learner, self.config, self.plan, self.events)
        self._logged = time.monotonic()
        self._foreseen = False
        self._rehearsed: set[tuple[bool, int]] = set()

    def run(self) -> None:
        """Steps until the budget is used up. Raises Stopped after a graceful stop."""
        schedule, by_first = self.config.schedule, self.ranks.by_first
        saved = time.monotonic()
        (share, *_), stop = self._agree(saved)
        while share < 1:
            if stop:
                by_first(self.training.save)
                raise Stopped
            self.one_step(share)
            before = share
            (share, shown, due), stop = self._agree(saved)
            if shown or share >= 1:
                by_first(partial(self._log, share))
            if passed(before, share, schedule.preview_every):
                by_first(self._preview)
            if schedule.validate_every is not None and passed(before, share, schedule.validate_every) and share < 1:
                by_first(self._validate)
            if due or share >= 1:
                by_first(self.training.save)
                saved = time.monotonic()
        by_first(self._require_enough)

    def _agree(self, saved: float) -> tuple[list[float], bool]:
        """The share of the training that is done, whether a log entry and a checkpoint are due, and whether to stop."""
        due = time.monotonic() - saved >= self.config.schedule.checkpoint_s
        return self.ranks.agree(self.budget.share(self.learner.step), self._is_shown(), due, asked=self.stop())

    def _require_enough(self) -> None:
        """Raises UserError if there was no time for a step; warns if unlabeled slices never came into play."""
        if not self.learner.step:
            what = f"the time was used up before the first step: preparing alone took {self.budget.used():.0f} s"
            raise UserError(what, where="schedule.minutes", hint="Give the training more minutes, or fewer cases")
        if self.training.semi and self.ramp.since is None:
            steps = count(self.learner.step, "step")
            what = f"the training ended after {steps}, before the unlabeled cases came into play"
            hint = "Train for longer, or lower schedule.warmup and schedule.warmup_steps"
            self.events.warn(what, where="schedule", hint=hint)

    def one_step(self, share: float) -> None:
        """A step at this share of the training, with the batches that it draws."""
        optim, schedule = self.config.optim, self.config.schedule
        warm = share >= schedule.warmup and self.learner.step >= schedule.warmup_steps
        if self.training.semi and warm and self.ramp.since is None:
            self._begin_mixed(share)
        mixed = self.ramp.since is not None  # for good, also where a prolonged training is back at a smaller share
        for group in self.learner.optimizer.param_groups:
            group["lr"] = optim.learning_rate * rate_factor(share, optim.hold)
        counts = optim.batch_mixed if mixed else (optim.batch_labeled, 0)
        labeled = self._batch(self.training.labeled, counts[0])
        unlabeled = self._batch(self.training.unlabeled, counts[1]) if mixed else None
        moment = Moment(self.ramp.at(share) if mixed else 0.0, share)
        self._rehearse(labeled, unlabeled, moment, counts)
        while (log := self._try_step(self._step, labeled, unlabeled, moment)) is None:
            if not self.ranks.alone:
                hint = "Run the job again: it continues from its last checkpoint, in smaller parts if it must"
                raise UserError("the memory no longer suffices", where=self.plan.name, hint=hint)
            self._halve(max(counts))
        self.training.log.window.add(log, sum(counts), mixed=mixed)

    def _begin_mixed(self, share: float) -> None:
        """The unlabeled slices come into play: the method learns how long, and the pool gets better crops."""
        self.ramp.since = (self.learner.step, share)
        self.learner.method.begin(self._steps_in_all(share) - self.learner.step)
        if self.config.locate.recenter and self.learner.step:
            bank, slices, teacher = self.training.bank, self.training.ready.bank, self.learner.teacher.network
            self.ranks.by_first(lambda: recenter(bank, slices, teacher, self.config, self.plan))
            self.ranks.copy_first([bank.offsets])

    def _steps_in_all(self, share: float) -> int:
        """Planned steps, or where time counts those that the speed so far allows; 1000 as long as there is none."""
        if self.budget.steps is not None:
            return self.budget.steps
        step, stepping = self.learner.step, share - self.training.began[0]
        return step + round(step * (1 - share) / stepping) if step and stepping > 0 else 1000

    def _seconds_left(self, share: float) -> float:
        if self.budget.seconds is not None:
            return max(0.0, self.budget.seconds - self.budget.used())
        return (self.budget.used() - self.training.began[1]) * (1 - share) / max(share - self.training.began[0], 1e-9)

    def _batch(self, stream: Stream, count: int) -> Batch:
        generator, device = self.learner.generator, torch.device(self.plan.device)
        index, labeled = stream.take(count, generator), stream is self.training.labeled
        drawn = 1 if labeled else self.learner.method.views
        views = [draw_view(self.config, count, generator) for _ in range(drawn)]
        share = self.ranks.share(count)
        if share is not None:
            index, views = index[share.cut], [view.part(share.cut) for view in views]
        own = tuple(view.to(device) for view in views)
        return self.training.bank.batch(index, own, labeled=labeled)._replace(share=share)

    def _try_step(self, step: TrainStep, labeled: Batch, unlabeled: Batch | None, moment: Moment) -> Log | None:
        """A step's log, or None if the memory did not suffice; what the step held is freed on return."""
        try:
            return step(labeled, unlabeled, moment)
        except torch.OutOfMemoryError:
            return None

    def _rehearse(self, labeled: Batch, unlabeled: Batch | None, moment: Moment, counts: tuple[int, int]) -> None:
        """Finds where several processes train how many parts each of them has the memory for.

        Within a step that they share none can turn back, as the others wait for its part. So before the first of a kind
        each tries one for itself, on a copy that is thrown away.
        """
        while not self.ranks.alone and (kind := (unlabeled is None, self.learner.chunks)) not in self._rehearsed:
            mine = partial(train_step, copy.deepcopy(replace(self.learner, ranks=ALONE)), self.config, self.plan)
            batches = labeled._replace(share=None), unlabeled and unlabeled._replace(share=None)
            failed = self._try_step(mine, *batches, moment) is None
            del mine
            if self.ranks.agree(asked=failed)[1]:
                self._halve(max(counts) // self.ranks.rank.count)
            else:
                self._rehearsed.add(kind)

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

    # ----- what is shown of it

    def _is_shown(self) -> bool:
        """Whether to write a log entry: on a GPU, which steps far faster, not more than two a second."""
        if self.learner.step % EVERY:
            return False
        return torch.device(self.plan.device).type != "cuda" or time.monotonic() - self._logged >= 0.5

    def _log(self, share: float) -> None:
        self._logged = time.monotonic()
        self.training.require_finite()
        total = self._steps_in_all(share)
        self.training.log.write(
            self.learner.step, max(self.learner.step, total), eta_s=self._seconds_left(share),
            learning_rate=self.learner.optimizer.param_groups[0]["lr"], gpu_memory_mb=gpu_memory_mb(self.plan.device),
        )  # fmt: skip
        if self.budget.steps is None and share >= 0.1:  # by then the speed is known
            self._foresee(total)

    def _foresee(self, steps: int) -> None:
        """Warns once if a timed training will end before the unlabeled slices come into play."""
        if self.training.semi and self.ramp.since is None and not self._foreseen:
            if short := shortfall(self.config.schedule, steps):
                self.events.warn(short[0], where="schedule", hint=short[1])
            self._foreseen = short is not None

    def _preview(self) -> None:
        paused = self.budget.used()
        training = self.training
        path = training.folder / PREVIEWS / f"step{self.learner.step:06d}.png"
        first = len(training.labeled) if len(training.unlabeled) else 0
        index = preview_slices(first, first + (len(training.unlabeled) or len(training.labeled)))
        clean = training.bank.clean_crops(index, self.config.shape)
        write_preview(path, self.learner, self.config, self.plan, clean, training.spec.labels)
        self.events.emit(Preview(step=self.learner.step, path=path.relative_to(training.folder).as_posix()))
        self.budget.pause(paused)

    def _validate(self) -> None:
        """Dice of the teacher on the validation cases; not counted as training time."""
        if not (cases := self.training.validation_cases):
            return
        paused = self.budget.used()
        record_scores(self.training, validate(self.training.model(), cases, self.plan))
        self.budget.pause(paused)


def record_scores(training: Training, scores: list[Score]) -> float | None:
    """Writes validation scores into their table and an event; returns the mean Dice."""
    result = record(scores, training.folder / VALIDATION_TABLE, training.learner.step)
    training.events.emit(Validation(step=training.learner.step, **result))
    return result["mean_dice"]
