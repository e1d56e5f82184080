"""The training step on a GPU, recorded once and then repeated.

A step is some hundred small kernels: launched one by one, they keep a GPU waiting for Python. A CUDA graph launches all
of them at once, with the memory that they had when they were recorded. So what differs from step to step is copied to
fixed places before each: the batch, the numbers of the moment, and the seeds of the noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..base.events import EventLog
from ..config import TrainConfig
from ..data.augment import View
from ..data.batches import Batch
from ..models.compute import ComputePlan, record, tuned_kernels
from .step import Learner, Moment, change, train_step

#: Steps before one is recorded: until then libraries choose their kernels and allocate what they keep.
WARM = 3

#: A recording has to change the weights as the step does, but for so much of the change: rounding differs.
TOLERANCE = 0.02


class RecordedStep:
    """`train_step` for one training: recorded where that can be done, launched piece by piece elsewhere.

    Args:
        learner: Changed by each step.
        config: The training's.
        plan: Where to compute.
        events: Told if a GPU has to go without.
    """

    def __init__(self, learner: Learner, config: TrainConfig, plan: ComputePlan, events: EventLog) -> None:
        self._learner, self._config, self._plan, self._events = learner, config, plan, events
        # Not where processes share a step: one whose recording fails would leave the others waiting.
        self._possible = torch.device(plan.device).type == "cuda" and learner.method.recordable and learner.ranks.alone
        self._kind: tuple[int, ...] = ()
        self._recording: Recording | None = None
        self._warm = 0

    def __call__(self, labeled: Batch, unlabeled: Batch | None, moment: Moment) -> dict[str, Tensor | float]:
        """A step, as `train_step`; its numbers are overwritten by the next one."""
        learner = self._learner
        kind = len(labeled.image), 0 if unlabeled is None else len(unlabeled.image), learner.chunks
        if kind != self._kind:
            self._kind, self._recording, self._warm = kind, None, 0
        if self._recording is not None:
            log = self._recording.repeat(labeled, unlabeled, moment)
            learner.step += 1
            return log
        with tuned_kernels(self._plan):
            if self._possible and self._warm >= WARM:
                return self._record(labeled, unlabeled, moment)
            self._warm += 1
            return train_step(learner, self._config, self._plan, labeled, unlabeled, moment)

    def _record(self, labeled: Batch, unlabeled: Batch | None, moment: Moment) -> dict[str, Tensor | float]:
        """A step that is also recorded; the recording is kept if it does the same."""
        learner, before = self._learner, _State(self._learner)
        log = change(learner, self._config, self._plan, labeled, unlabeled, moment)
        after, why = _State(learner), ""
        before.restore(learner)
        try:
            recording = Recording(learner, self._config, self._plan, labeled, unlabeled)
            repeated = recording.repeat(labeled, unlabeled, moment)
            if (error := _State(learner).distance(after, before)) <= TOLERANCE:
                self._recording, log = recording, repeated
            else:
                why = f"a recorded step differs from the step by {error:.1%} of its change"
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # something in the step waits for the device, or draws numbers of its own
            why = str(error).splitlines()[0]
        if self._recording is None:
            self._possible = False
            after.restore(learner)
            self._events.warn(f"steps cannot be recorded on this device, and take longer: {why}", where=self._plan.name)
        learner.step += 1
        return log


class Recording:
    """A recorded step for batches of one size.

    Args:
        learner: What the step changes.
        config: The training's.
        plan: Where to compute.
        labeled: Such slices as it will be repeated with.
        unlabeled: Likewise, or None during the warm-up.

    Raises:
        RuntimeError: If something in the step cannot be recorded.
    """

    def __init__(
        self, learner: Learner, config: TrainConfig, plan: ComputePlan, labeled: Batch, unlabeled: Batch | None
    ) -> None:
        self._learner = learner
        first, second = _fixed(labeled), None if unlabeled is None else _fixed(unlabeled)
        self._places = _tensors(first, second)
        self._noise = [view.noise for view in _views(first, second) if view.noise is not None]
        self._numbers = torch.zeros(4, device=plan.device)
        ramp, progress, weight, rate = self._numbers.unbind()
        self._log: dict[str, Tensor | float] = {}
        groups = learner.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        try:
            for group in groups:
                group["lr"] = rate
            self._graph = record(
                lambda: self._log.update(change(learner, config, plan, first, second, Moment(ramp, progress, weight))),
                self._noise,
            )
        finally:
            for group, number in zip(groups, rates, strict=True):  # a checkpoint holds numbers
                group["lr"] = number

    def repeat(self, labeled: Batch, unlabeled: Batch | None, moment: Moment) -> dict[str, Tensor | float]:
        """What `change` does, with another batch at another moment."""
        learner = self._learner
        torch._foreach_copy_(self._places, _tensors(labeled, unlabeled))
        for generator, view in zip(self._noise, _views(labeled, unlabeled), strict=True):
            generator.manual_seed(view.noise_seed)
        rate, weight = learner.optimizer.param_groups[0]["lr"], learner.teacher.weight(learner.step + 1)
        numbers = torch.tensor([moment.ramp, moment.progress, weight, rate], dtype=torch.float32)
        if self._numbers.is_cuda:
            numbers = numbers.pin_memory()
        self._numbers.copy_(numbers, non_blocking=True)
        self._graph.replay()
        return self._log


class _State:
    """What a step changes, as it was."""

    def __init__(self, learner: Learner) -> None:
        self._kept = [tensor.detach().clone() for tensor in _changing(learner)]
        self._scaler = learner.scaler.state_dict()

    @torch.no_grad()
    def restore(self, learner: Learner) -> None:
        for tensor, kept in zip(_changing(learner), self._kept, strict=True):
            tensor.copy_(kept)
        if self._scaler:
            learner.scaler.load_state_dict(self._scaler)

    def distance(self, other: _State, before: _State) -> float:
        """How far from another state, over how far that is from the one before; this waits for the device."""

        def apart(one: _State, two: _State) -> float:
            squares = [(a.double() - b.double()).square().sum() for a, b in zip(one._kept, two._kept, strict=True)]
            return float(torch.stack(squares).sum().sqrt())

        return apart(self, other) / max(apart(other, before), 1e-12)


def _changing(learner: Learner) -> list[Tensor]:
    modules = learner.student, learner.teacher.network, learner.method
    tensors = [each for module in modules for each in (*module.parameters(), *module.buffers())]
    return tensors + [state["momentum_buffer"] for state in learner.optimizer.state.values()]


def _fixed(batch: Batch) -> Batch:
    """A batch in places that stay, with generators of its own for the noise."""
    device = batch.image.device
    views = tuple(View._make((*map(torch.clone, view.tensors), 0, torch.Generator(device))) for view in batch.views)
    label = None if batch.label is None else batch.label.clone()
    return Batch(batch.image.clone(), label, batch.offset.clone(), views)


def _tensors(*batches: Batch | None) -> list[Tensor]:
    return [tensor for batch in batches if batch is not None for tensor in batch.tensors]


def _views(*batches: Batch | None) -> list[View]:
    return [view for batch in batches if batch is not None for view in batch.views]
