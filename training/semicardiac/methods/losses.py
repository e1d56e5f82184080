"""The losses (Mi et al., Eqs. 1 to 4 and 11 to 14). All compute in float32.

Shapes are those of slices; blocks of slices have (D, H, W) in place of (H, W).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Total = Callable[[Tensor], Tensor]
"""Gives the sum over all processes that share a batch, see `method.Step`."""


def alone(values: Tensor) -> Tensor:
    """The total where there is one process."""
    return values


def supervised(logits: Tensor, label: Tensor, kind: str = "ce_dice", total: Total = alone) -> Tensor:
    """L_s: mean cross entropy (`ce`, the paper) or 0.5 (cross entropy + soft Dice loss) (`ce_dice`).

    Args:
        logits: (B, C, H, W) float.
        label: (B, H, W) int64 in 0..C-1.
        kind: Which of the two.
        total: Makes the Dice that of the whole batch.
    """
    cross_entropy = F.cross_entropy(logits.float(), label)
    return cross_entropy if kind == "ce" else 0.5 * (cross_entropy + soft_dice(logits, label, total))


def soft_dice(logits: Tensor, label: Tensor, total: Total = alone) -> Tensor:
    """1 - the mean soft Dice over the foreground classes, each over the whole batch (stable where slices lack one)."""
    probability = logits.float().softmax(dim=1)
    values = torch.arange(logits.shape[1], device=label.device)  # one_hot would read back
    target = (label.unsqueeze(1) == values.view(-1, *[1] * (label.dim() - 1))).to(probability.dtype)
    places = (0, *range(2, logits.dim()))
    sums = torch.stack(((probability * target).sum(dim=places), (probability + target).sum(dim=places)))
    overlap, size = total(sums).unbind()
    return 1 - ((2 * overlap + 1e-5) / (size + 1e-5))[1:].mean()


def robust_entropy(logits: Tensor, label: Tensor, gamma: Tensor, tau: float = 1.0) -> Tensor:
    """REM: -1/N Σ γ log q(ŷ) with q = softmax(logits / τ), averaged over the images (Eqs. 3, 11, 12).

    Args:
        logits: Student logits, (B, C, H, W).
        label: Pseudo-labels ŷ, (B, H, W) int64.
        gamma: γ, (B, H, W), 0 where the gate is closed. N counts all pixels, closed ones too.
        tau: Softmax temperature.
    """
    return (gamma * F.cross_entropy(logits.float() / tau, label, reduction="none")).mean()


def gated_consistency(logits: Tensor, target: Tensor, gamma: Tensor) -> Tensor:
    """What stands in for REM when it is off: the mean teacher's squared difference where the gate is open.

    Args:
        logits: Student logits, (B, C, H, W).
        target: Teacher softmax in the student's frame, (B, C, H, W).
        gamma: (B, H, W); only whether it is above 0 counts.
    """
    difference = (logits.float().softmax(dim=1) - target).square().sum(dim=1)
    return (difference * (gamma > 0)).mean()


def nt_xent(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Contrastive consistency NT-Xent between two views of the same images, symmetric (Eqs. 13, 14; Chen 2020).

    For each view the positive is the other view of the same image; the other images in both views are negatives.
    Chance is log(2B - 1).

    Args:
        query: (B, D) features of one view.
        key: (B, D) features of the other.
        temperature: Of the cosine similarity.

    Returns:
        The mean over all 2B views; 0 for a single image, which has no negatives.
    """
    batch = query.shape[0]
    if batch < 2:
        return query.float().sum() * 0.0
    features = F.normalize(torch.cat((query.float(), key.float())), dim=1)
    similarity = features @ features.T / temperature
    similarity = similarity.masked_fill(torch.eye(2 * batch, dtype=torch.bool, device=query.device), float("-inf"))
    positive = torch.arange(2 * batch, device=query.device).roll(batch)
    return F.cross_entropy(similarity, positive)


def pool_features(features: Tensor, grid: int) -> Tensor:
    """Bottleneck features (B, F, h, w) pooled to grid x grid cells, each image's cells in one row (B, F * grid²).

    Those of blocks (B, F, d, h, w) are pooled to grid³ cells. One cell would be blind: behind an instance norm the
    global mean of every channel is the same for all images.
    """
    pool = F.adaptive_avg_pool2d if features.dim() == 4 else F.adaptive_avg_pool3d
    return pool(features.float(), grid).flatten(1)
