"""The mean teacher: an exponential moving average of the student's weights (Mi et al., section 2; Tarvainen 2017)."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Teacher:
    """θ' ← β_t θ' + (1 - β_t) θ with β_t = min(β, 1 - 1/(t + 1)): early on the plain mean of the weights so far.

    Args:
        student: The network to follow; the teacher starts as its copy.
        beta: β.
    """

    def __init__(self, student: nn.Module, beta: float) -> None:
        self.network = copy.deepcopy(student).requires_grad_(False).eval()
        self._beta = beta

    @torch.no_grad()
    def update(self, student: nn.Module, step: int) -> None:
        """Follows the student after its `step`-th update, counted from 1. No host synchronisation."""
        beta = min(self._beta, 1 - 1 / (step + 1))
        own = list(self.network.parameters())
        torch._foreach_lerp_(own, [parameter.detach() for parameter in student.parameters()], 1 - beta)
        for kept, followed in zip(self.network.buffers(), student.buffers(), strict=True):
            kept.copy_(followed)
