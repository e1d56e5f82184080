"""One training step of the method, top to bottom. Nothing in it waits for the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from . import augment, losses, thresholds
from .compute import ComputePlan
from .config import TrainConfig
from .teacher import Teacher


class Batch(NamedTuple):
    """Squares from the bank and the views in which the student sees them, on the device."""

    image: Tensor
    """(B, 1, S, S) float32."""
    label: Tensor | None
    """(B, 1, S, S) float32 training labels; None for unlabeled slices."""
    offset: Tensor
    """(B, 2): where the canonical crop's middle lies in the square, (row, col) in pixels from its own."""
    view: augment.View


@dataclass(eq=False)
class Learner:
    """All that a step changes."""

    student: nn.Module
    teacher: Teacher
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    thresholds: thresholds.MapState
    step: int = 0
    chunks: int = 1
    """Into how many parts a batch is cut for the student's pass, for lack of memory; the gradients are added."""


class Target(NamedTuple):
    """What the teacher tells the student of a batch of unlabeled slices, in the canonical frame."""

    gated: thresholds.Gated
    probability: Tensor
    """Softmax, (B, C, H, W)."""
    features: Tensor
    """Bottleneck of the clean pass, (B, F, h, w)."""


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

    learner.optimizer.zero_grad(set_to_none=True)
    sums = torch.zeros(4, device=plan.device)
    for part in range(learner.chunks):
        cut = slice(part, None, learner.chunks)
        loss, parts = _student_loss(
            learner, config, plan, _cut(labeled, cut), _cut(unlabeled, cut), _cut_target(target, cut), lambda_u
        )
        learner.scaler.scale(loss / learner.chunks).backward()
        sums += torch.stack([loss.detach(), *parts]) / learner.chunks

    _share_gradients(learner.student)
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
) -> tuple[Target, thresholds.MapState]:
    """The teacher's clean pass: pseudo-labels and γ in the canonical frame, and the map after this batch."""
    size = config.preprocess.crop
    grid = augment.plain_grid(len(batch.image), size, batch.image.device)
    clean = augment.warp(batch.image, grid, crop=size, offset=batch.offset, outside="border")
    with plan.autocast():
        logits, features = learner.teacher.network(plan.place(clean))
    probability = logits.float().softmax(1)
    state, kind = learner.thresholds, config.loss.gamma
    if config.loss.dptm:
        state = thresholds.update(state, probability, alpha, config.loss.class_floor)
        gated = thresholds.gate(state, probability, kind)
    else:
        gated = thresholds.fixed_gate(probability, config.loss.fixed_threshold, kind)
    return Target(gated, probability, features), state


def _student_loss(
    learner: Learner,
    config: TrainConfig,
    plan: ComputePlan,
    labeled: Batch,
    unlabeled: Batch | None,
    target: Target | None,
    lambda_u: float,
) -> tuple[Tensor, list[Tensor]]:
    """L = L_s + λ1 L_u + λ2 L_c and its three parts (Eq. 4)."""
    size, clip, settings = config.preprocess.crop, config.preprocess.clip, config.loss
    image, grid = see(labeled, size, clip)
    label = augment.warp(labeled.label, grid, crop=size, offset=labeled.offset, mode="nearest").squeeze(1).long()
    if unlabeled is not None:
        other, other_grid = see(unlabeled, size, clip)
        image = torch.cat((image, other))
    with plan.autocast():
        logits, features = learner.student(plan.place(image))
    count = len(label)
    supervised = losses.supervised(logits[:count], label, settings.supervised)
    unsupervised = contrast = torch.zeros_like(supervised)
    if unlabeled is not None:
        gamma = augment.warp(target.gated.gamma.unsqueeze(1), other_grid, crop=size).squeeze(1)
        if settings.rem:
            pseudo = target.gated.label.unsqueeze(1).to(gamma.dtype)
            pseudo = augment.warp(pseudo, other_grid, crop=size, mode="nearest").squeeze(1).long()
            unsupervised = losses.robust_entropy(logits[count:], pseudo, gamma, settings.tau)
        else:
            moved = augment.warp(target.probability, other_grid, crop=size)
            unsupervised = losses.gated_consistency(logits[count:], moved, gamma)
        if settings.contrast:
            key = target.features
            if settings.contrast_key == "student":
                plain = augment.plain_grid(len(other), size, other.device)
                clean = augment.warp(unlabeled.image, plain, crop=size, offset=unlabeled.offset, outside="border")
                with plan.autocast():
                    _, key = learner.student(plan.place(clean))
            contrast = losses.nt_xent(
                losses.pool_features(features[count:], settings.contrast_grid),
                losses.pool_features(augment.flip_like(key, unlabeled.view), settings.contrast_grid),
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


def _cut(batch: Batch | None, cut: slice) -> Batch | None:
    if batch is None or cut == slice(0, None, 1):
        return batch
    view = augment.View(*(part[cut] for part in batch.view[:-1]), batch.view.noise_seed)
    return Batch(batch.image[cut], None if batch.label is None else batch.label[cut], batch.offset[cut], view)


def _cut_target(target: Target | None, cut: slice) -> Target | None:
    if target is None or cut == slice(0, None, 1):
        return target
    gated = thresholds.Gated(*(part[cut] for part in target.gated))
    return Target(gated, target.probability[cut], target.features[cut])


def _share_gradients(network: nn.Module) -> None:
    """Averages the gradients over the ranks of a distributed run, in one message."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    at = 0
    for gradient in gradients:
        gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
        at += gradient.numel()
