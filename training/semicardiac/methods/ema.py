"""The mean teacher: an exponential moving average of the student's weights (Mi et al., section 2; Tarvainen 2017)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Teacher:
    """θ' ← β_t θ' + (1 - β_t) θ with β_t = min(β, (t + 1)/(t + 10)): early on about the last tenth of the steps so far.

    In a short training a teacher that averages over all of it would hold what the student has long unlearned.

    Args:
        student: The network to follow; the teacher starts as its copy.
        beta: β.
    """

    def __init__(self, student: nn.Module, beta: float) -> None:
        self.network = copy.deepcopy(student).requires_grad_(False).eval()
        self._beta = beta

    def weight(self, step: int) -> float:
        """1 - β_t: how far to go towards the student after its `step`-th update, counted from 1."""
        return 1 - min(self._beta, (step + 1) / (step + 10))

    @torch.no_grad()
    def update(self, student: nn.Module, step: int, weight: Tensor | None = None) -> None:
        """Follows the student after its `step`-th update. No host synchronisation.

        Args:
            student: The network to follow.
            step: Counted from 1.
            weight: `weight(step)` on the device, where a recorded step finds it.
        """
        own: list[Tensor] = list(self.network.parameters())
        followed = [parameter.detach() for parameter in student.parameters()]
        if weight is not None:
            way = torch._foreach_sub(followed, own)
            torch._foreach_mul_(way, weight)
            torch._foreach_add_(own, way)
        else:
            torch._foreach_lerp_(own, followed, self.weight(step))
        for kept, new in zip(self.network.buffers(), student.buffers(), strict=True):
            kept.copy_(new)
