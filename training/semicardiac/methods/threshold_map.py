"""The dynamic pseudo-label threshold map, DPTM (Mi et al., Eqs. 5 to 10).

The map M lives in one canonical frame, the clean crop with the heart in its middle. It is carried over from batch to
batch and from epoch to epoch. All of it is float32: in bfloat16 an average with α near 1 would not move. Shapes are
those of slices; blocks of slices have (D, H, W) in place of (H, W).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..config import Shape
from . import losses


class MapState(NamedTuple):
    """What is carried from step to step."""

    threshold: Tensor
    """M, (H, W): running mean confidence at each place (Eq. 6)."""
    ratio: Tensor
    """k, (C,): confidence of each class over that of the surest class (Eq. 8)."""


class Gated(NamedTuple):
    """What the gate makes of a batch of teacher outputs."""

    label: Tensor
    """Pseudo-label ŷ = argmax p, (B, H, W) int64."""
    gamma: Tensor
    """γ, (B, H, W): the confidence where it passes the threshold of its class and place, else 0 (Eq. 10)."""


def initial_state(classes: int, shape: Shape, device: torch.device | str = "cpu") -> MapState:
    """M = 1/C everywhere, which no confidence can be below, and k = 1."""
    return MapState(torch.full(shape, 1 / classes, device=device), torch.ones(classes, device=device))


def settle_alpha(steps: int) -> float:
    """The α with which the map comes within 5 % of a constant confidence in a tenth of `steps`.

    The distance shrinks as α^n, so that α = 0.05^(10 / steps); bounded to [0.5, 0.999].
    """
    return min(0.999, max(0.5, 0.05 ** (10 / max(steps, 1))))


@torch.no_grad()
def update(
    state: MapState, probability: Tensor, alpha: float, class_floor: int = 1, total: losses.Total = losses.alone
) -> MapState:
    """M and k after one more batch of clean teacher outputs.

    Args:
        state: The state before.
        probability: Teacher softmax p, (B, C, H, W) float32, in the canonical frame.
        alpha: α of Eq. 6.
        class_floor: A class that is the argmax of fewer pixels than this keeps its k.
        total: Makes the sums and counts those of the whole batch.

    Returns:
        The new state. Pixels that are not finite leave it as it was.
    """
    classes = probability.shape[1]
    confidence, label = probability.float().max(dim=1)
    finite = torch.isfinite(confidence)
    confidence = torch.where(finite, confidence, 0.0)
    mean_sum = confidence.sum(dim=0)
    mean_count = finite.sum(dim=0).to(confidence.dtype)
    values = torch.arange(classes, device=label.device)  # one_hot would read the labels back
    own = label.unsqueeze(1) == values.view(-1, *[1] * (label.dim() - 1))
    weight = (own & finite.unsqueeze(1)).to(confidence.dtype)
    places = (0, *range(2, weight.dim()))
    class_count = weight.sum(dim=places)
    class_sum = (weight * confidence.unsqueeze(1)).sum(dim=places)
    sums = (mean_sum, mean_count, class_sum, class_count)
    flat = total(torch.cat([each.flatten() for each in sums])).split([each.numel() for each in sums])
    mean_sum, mean_count, class_sum, class_count = (part.view_as(each) for part, each in zip(flat, sums, strict=True))
    mean = torch.where(mean_count > 0, mean_sum / mean_count.clamp(min=1), state.threshold)  # Eq. 5
    threshold = alpha * state.threshold + (1 - alpha) * mean  # Eq. 6
    class_mean = class_sum / (class_count + 1e-6)  # Eq. 7
    enough = class_count >= class_floor
    surest = torch.where(enough, class_mean, 0.0).max()
    ratio = torch.where(enough & (surest > 0), class_mean / surest.clamp(min=1e-6), state.ratio)  # Eq. 8
    return MapState(threshold, ratio)


def limits(state: MapState, label: Tensor, floor: float) -> Tensor:
    """What a pixel's confidence has to exceed: M_c = k_c M (Eq. 9) of its class c, and not less than the floor.

    Where the teacher is unsure M is low, and M alone would let half of its guesses pass.

    Args:
        state: M and k, M of any shape that fits the label's.
        label: Classes, int64.
        floor: 0 is Eq. 9 as published. Over an initial state it is the only threshold, which is the gate without DPTM.
    """
    return (state.ratio[label] * state.threshold).clamp(min=floor)


@torch.no_grad()
def gate(state: MapState, probability: Tensor, floor: float, kind: str = "confidence") -> Gated:
    """Pseudo-labels and γ of a batch (Eq. 10).

    Args:
        state: M and k.
        probability: Teacher softmax, (B, C, H, W) float32.
        floor: The least threshold, see `limits`.
        kind: `confidence` or `binary`, the value of γ where the gate is open.
    """
    confidence, label = probability.float().max(dim=1)
    value = confidence if kind == "confidence" else torch.ones_like(confidence)
    return Gated(label, torch.where(confidence > limits(state, label, floor), value, 0.0))


def counts(gated: Gated, classes: int) -> dict[str, Tensor]:
    """Pixels of each class among the pseudo-labels that pass the gate, `passed`, and among all, `own`; (C,) float32."""
    values = torch.arange(classes, device=gated.label.device).view(-1, 1)
    own = gated.label.flatten() == values
    passed = own & (gated.gamma.flatten() > 0)
    return {"passed": passed.sum(dim=1).float(), "own": own.sum(dim=1).float()}
