"""One training step, top to bottom. Nothing in it waits for the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import Shape, TrainConfig
from ..data import augment
from ..data.batches import Batch
from ..methods.ema import Teacher
from ..methods.method import Answer, Labeled, Method, Step, Taught, Unlabeled
from ..models.compute import ComputePlan
from .ranks import ALONE, Ranks


@dataclass(eq=False)
class Learner:
    """All that a step changes."""

    student: nn.Module
    teacher: Teacher
    method: Method
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generator: torch.Generator
    """Of everything random, on the CPU."""
    step: int = 0
    chunks: int = 1
    """Into how many parts a batch is cut for the student's pass, for lack of memory; the gradients are added."""
    ranks: Ranks = ALONE
    """The processes that share the batch."""


@dataclass(frozen=True)
class Moment:
    """Where in the training a step is."""

    ramp: float | Tensor = 0.0
    """How far the weight of the unlabeled loss has come, 0 to 1."""
    progress: float | Tensor = 0.0
    """The share of the training that is done, 0 to 1."""
    weight: Tensor | None = None
    """How far the teacher goes towards the student, where that is on the device, see `Teacher.update`."""


def train_step(
    learner: Learner,
    config: TrainConfig,
    plan: ComputePlan,
    labeled: Batch,
    unlabeled: Batch | None,
    moment: Moment,
) -> dict[str, Tensor | float]:
    """One update of student, method and teacher.

    Args:
        learner: Changed in place, at the end: an out-of-memory error on the way leaves it as it was.
        config: The training's.
        plan: Where to compute.
        labeled: Labeled slices, where several processes train those of this one.
        unlabeled: Unlabeled slices, or None during the warm-up.
        moment: Of the training.

    Returns:
        Numbers for the log, on the device: `loss`, each of its terms without its weight as `loss_NAME`, and what the
        method logs.
    """
    log = change(learner, config, plan, labeled, unlabeled, moment)
    learner.step += 1
    return log


def change(
    learner: Learner,
    config: TrainConfig,
    plan: ComputePlan,
    labeled: Batch,
    unlabeled: Batch | None,
    moment: Moment,
) -> dict[str, Tensor | float]:
    """All of `train_step` that happens on the device."""
    method, step = learner.method, see(learner, config, plan, labeled, unlabeled, moment)
    taught = Taught({})
    if unlabeled is not None:
        with torch.no_grad():
            taught = method.teach(step)

    learner.optimizer.zero_grad(set_to_none=True)
    log: dict[str, Tensor] = {}
    parts = min(learner.chunks, max(step.labeled.fewest, step.unlabeled.fewest))  # in each of them something to compute
    for number in range(parts):
        cut = slice(number, None, parts)
        part = step.part(cut) if parts > 1 else step
        target = {name: each[cut] for name, each in taught.target.items()}
        terms = method.losses(part, target) if unlabeled is not None else method.warm_up(part)
        loss = torch.zeros((), device=plan.device)
        for name, term in terms.items():
            there, of = len(getattr(part, term.over)), getattr(step, term.over).whole
            if there:  # the mean of no slices is no number
                value = there / of * term.value
                loss = loss + term.weight * value
                log[f"loss_{name}"] = log.get(f"loss_{name}", 0.0) + value.detach()
        log["loss"] = log.get("loss", 0.0) + loss.detach()
        learner.scaler.scale(loss).backward()

    parameters = [each for group in learner.optimizer.param_groups for each in group["params"]]
    sums = learner.ranks.add_up_step(parameters, log | taught.counts)
    learner.scaler.unscale_(learner.optimizer)
    if config.optim.clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, config.optim.clip_norm)
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    method.after_step(taught.state)
    learner.teacher.update(learner.student, learner.step + 1, moment.weight)
    return sums | taught.log


@torch.no_grad()
def see(
    learner: Learner,
    config: TrainConfig,
    plan: ComputePlan,
    labeled: Batch,
    unlabeled: Batch | None,
    moment: Moment,
) -> Step:
    """What a method sees of a step: the student's views, the canonical crops, and the networks."""
    size, clip = config.shape, config.preprocess.clip

    def answer(network: nn.Module, image: Tensor) -> Answer:
        with plan.autocast():
            return network(plan.place(image))

    def teacher(image: Tensor) -> Answer:
        with torch.no_grad():
            return answer(learner.teacher.network, image)

    (image,), (grid,), _ = views_of(labeled, size, clip)
    assert labeled.label is not None
    label = augment.warp(labeled.label, grid, crop=size, offset=labeled.offset, mode="nearest").squeeze(1).long()
    if unlabeled is None:
        pool = Unlabeled(image[:0], (image[:0],), (grid[:0],), (labeled.views[0].flip[:0],))
    else:
        clean = augment.clean_crops(unlabeled.image, unlabeled.offset, size)
        pool = Unlabeled(clean, *views_of(unlabeled, size, clip), unlabeled.share)
    return Step(
        Labeled(image, label, labeled.share), pool,
        student=lambda image: answer(learner.student, image), teacher=teacher, run=answer,
        ramp=moment.ramp, progress=moment.progress, number=learner.step, generator=learner.generator,
    )  # fmt: skip


def views_of(
    batch: Batch, size: Shape, clip: tuple[float, float]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The views of a batch, each (B, 1, *size); the grids that made them; and which of them are flipped."""
    grids = tuple(augment.grid_of(view, size) for view in batch.views)
    images = tuple(
        augment.recolor(
            augment.warp(batch.image, grid, crop=size, offset=batch.offset, outside="border"), view, clip, batch.share
        )
        for view, grid in zip(batch.views, grids, strict=True)
    )
    return images, grids, tuple(view.flip for view in batch.views)
