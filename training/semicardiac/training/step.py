"""One training step of the method, top to bottom. Nothing in it waits for the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config import TrainConfig
from ..data import augment
from ..data.batches import Batch
from ..methods import losses, threshold_map
from ..methods.ema import Teacher
from ..models.compute import ComputePlan


@dataclass(eq=False)
class Learner:
    """All that a step changes."""

    student: nn.Module
    teacher: Teacher
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    thresholds: threshold_map.MapState
    step: int = 0
    chunks: int = 1
    """Into how many parts a batch is cut for the student's pass, for lack of memory; the gradients are added."""


class Target(NamedTuple):
    """What the teacher tells the student of a batch of unlabeled slices, in the canonical frame."""

    gated: threshold_map.Gated
    probability: Tensor
    """Softmax, (B, C, H, W)."""
    features: Tensor
    """Bottleneck of the clean pass, (B, F, h, w)."""


class Lesson(NamedTuple):
    """What the student sees in a step and should answer: views of the labeled slices, then of the others."""

    image: Tensor
    """(L, 1, H, W)."""
    label: Tensor
    """(L, H, W) int64."""
    other: Tensor | None = None
    """(B, 1, H, W)."""
    pseudo: Tensor | None = None
    """ŷ, (B, H, W) int64."""
    gamma: Tensor | None = None
    """γ, (B, H, W)."""
    probability: Tensor | None = None
    """The teacher's softmax, (B, C, H, W), where REM is off."""
    key: Tensor | None = None
    """The teacher's features, flipped as the views are, (B, F, h, w)."""
    clean: Tensor | None = None
    """The canonical crops, (B, 1, H, W), where the student makes the key."""
    flip: Tensor | None = None
    """(B, 2) bool."""


def train_step(
    learner: Learner,
    config: TrainConfig,
    plan: ComputePlan,
    labeled: Batch,
    unlabeled: Batch | None,
    lambda_u: float = 0.0,
    alpha: float = 0.0,
) -> Tensor:
    """One update of student, threshold map and teacher.

    Args:
        learner: Changed in place, at the end: an out-of-memory error on the way leaves it as it was.
        config: The training's.
        plan: Where to compute.
        labeled: Labeled slices.
        unlabeled: Unlabeled slices, or None during the warm-up.
        lambda_u: λ1 at this step.
        alpha: α at this step.

    Returns:
        (5 + 2 C,) sums for the log, on the device: loss, L_s, L_u, L_c, whether γ held no foreground; then by class
        the passed pixels, and all pixels of the teacher's argmax.
    """
    target, state = None, learner.thresholds
    if unlabeled is not None:
        target, state = teach(learner, config, plan, unlabeled, alpha)
    lesson = show(config, labeled, unlabeled, target)

    learner.optimizer.zero_grad(set_to_none=True)
    sums = torch.zeros(4, device=plan.device)
    for part in range(learner.chunks):
        loss, parts = _student_loss(learner, config, plan, lesson, slice(part, None, learner.chunks), lambda_u)
        learner.scaler.scale(loss).backward()
        sums += torch.stack([loss.detach(), *parts])

    learner.scaler.unscale_(learner.optimizer)
    if config.optim.clip_norm is not None:
        nn.utils.clip_grad_norm_(learner.student.parameters(), config.optim.clip_norm)
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    learner.thresholds = state
    learner.step += 1
    learner.teacher.update(learner.student, learner.step)
    return torch.cat((sums, _gate_sums(target, state.ratio.numel(), sums)))


@torch.no_grad()
def teach(
    learner: Learner, config: TrainConfig, plan: ComputePlan, batch: Batch, alpha: float
) -> tuple[Target, threshold_map.MapState]:
    """The teacher's clean pass: pseudo-labels and γ in the canonical frame, and the map after this batch."""
    with plan.autocast():
        logits, features = learner.teacher.network(
            plan.place(augment.clean_crops(batch.image, batch.offset, config.preprocess.crop))
        )
    probability = logits.float().softmax(1)
    state, settings = learner.thresholds, config.loss
    if settings.dptm:
        state = threshold_map.update(state, probability, alpha, settings.class_floor)
    gated = threshold_map.gate(state, probability, settings.least_threshold, settings.gamma)
    return Target(gated, probability, features), state


@torch.no_grad()
def show(config: TrainConfig, labeled: Batch, unlabeled: Batch | None, target: Target | None) -> Lesson:
    """The student's views, and with the same grids what it should answer."""
    size, clip, settings = config.preprocess.crop, config.preprocess.clip, config.loss
    image, grid = see(labeled, size, clip)
    label = augment.warp(labeled.label, grid, crop=size, offset=labeled.offset, mode="nearest").squeeze(1).long()
    if unlabeled is None:
        return Lesson(image, label)
    other, grid = see(unlabeled, size, clip)
    pseudo = augment.warp(target.gated.label.unsqueeze(1).float(), grid, crop=size, mode="nearest").squeeze(1).long()
    gamma = augment.warp(target.gated.gamma.unsqueeze(1), grid, crop=size).squeeze(1)
    probability = clean = key = None
    if not settings.rem:
        probability = augment.warp(target.probability, grid, crop=size)
    if settings.contrast and settings.contrast_key == "teacher":
        key = augment.flip_like(target.features, unlabeled.view.flip)
    elif settings.contrast:
        clean = augment.clean_crops(unlabeled.image, unlabeled.offset, size)
    return Lesson(image, label, other, pseudo, gamma, probability, key, clean, unlabeled.view.flip)


def _student_loss(
    learner: Learner, config: TrainConfig, plan: ComputePlan, lesson: Lesson, cut: slice, lambda_u: float
) -> tuple[Tensor, list[Tensor]]:
    """L = L_s + λ1 L_u + λ2 L_c and its three parts (Eq. 4), of a part of the batch, weighted by its share."""
    settings = config.loss
    part = Lesson(*(None if each is None else each[cut] for each in lesson))
    count = len(part.image)
    image = part.image if part.other is None else torch.cat((part.image, part.other))
    with plan.autocast():
        logits, features = learner.student(plan.place(image))
    supervised = unsupervised = contrast = logits.new_zeros(())
    if count:
        share = count / len(lesson.image)
        supervised = share * losses.supervised(logits[:count], part.label, settings.supervised)
    if part.other is not None and len(part.other):
        share = len(part.other) / len(lesson.other)
        if settings.rem:
            unsupervised = share * losses.robust_entropy(logits[count:], part.pseudo, part.gamma, settings.tau)
        else:
            unsupervised = share * losses.gated_consistency(logits[count:], part.probability, part.gamma)
        if settings.contrast:
            key = part.key
            if key is None:
                with plan.autocast():
                    key = augment.flip_like(learner.student(plan.place(part.clean))[1], part.flip)
            contrast = share * losses.nt_xent(
                losses.pool_features(features[count:], settings.contrast_grid),
                losses.pool_features(key, settings.contrast_grid),
                settings.contrast_temperature,
            )
    loss = supervised + lambda_u * unsupervised + settings.lambda_c * contrast
    return loss, [supervised.detach(), unsupervised.detach(), contrast.detach()]


def see(batch: Batch, size: int, clip: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """The student's views of a batch, (B, 1, size, size), and the grids that made them."""
    grid = augment.grid_of(batch.view, size)
    image = augment.warp(batch.image, grid, crop=size, offset=batch.offset, outside="border")
    return augment.recolor(image, batch.view, clip), grid


def _gate_sums(target: Target | None, classes: int, like: Tensor) -> Tensor:
    if target is None:
        return like.new_zeros(1 + 2 * classes)
    values = torch.arange(classes, device=like.device).view(-1, 1)
    own = target.gated.label.flatten() == values
    passed = own & (target.gated.gamma.flatten() > 0)
    passed_sum, own_sum = passed.sum(dim=1).float(), own.sum(dim=1).float()
    return torch.cat(((passed_sum[1:].sum() == 0).float().unsqueeze(0), passed_sum, own_sum))
