"""What one process has of a batch that several share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Share:
    """The slices `rank`, `rank + ranks`, ... of a batch.

    Each process computes the loss of its own slices, weighted by how many of the batch's they are, and the gradients
    are added up. A value that is made of the whole batch, by `total` or `gather`, is the same in every process; only
    the gradient for a process's own slices is known there. As that value enters the process's loss with the weight of
    its slices alone, its gradient is made whole by the inverse of this weight, and nothing is sent on the way back.
    """

    slices: int
    """Of the batch, or of the part of it that is computed at once."""
    rank: int
    ranks: int
    add_up: Callable[[Tensor], None]
    """Puts the sum over all processes into a tensor; all of them call it in the same order."""

    @property
    def cut(self) -> slice:
        """The own slices among all."""
        return slice(self.rank, None, self.ranks)

    def part(self, cut: slice) -> Share:
        """Of the part that is left where each process takes these of its own slices."""
        everyone = (range(rank, self.slices, self.ranks)[cut] for rank in range(self.ranks))
        return replace(self, slices=sum(map(len, everyone)))

    def total(self, values: Tensor) -> Tensor:
        """The sum of all processes' values, of any shape; differentiable."""
        own = len(range(self.slices)[self.cut])
        return _Total.apply(values, self.add_up, self.slices / max(own, 1))

    def gather(self, values: Tensor) -> Tensor:
        """The values (slices, ...) of all slices in the order of the batch, given those of the own; differentiable."""
        everyone = values.new_zeros(self.slices, *values.shape[1:])
        everyone[self.cut] = values
        return self.total(everyone)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, add_up: Callable[[Tensor], None], inverse: float) -> Tensor:
        ctx.inverse = inverse
        total = values.detach().clone(memory_format=torch.contiguous_format)
        add_up(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return gradient * ctx.inverse, None, None
