"""Which slices make up the batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Stream:
    """Slices in random order, each as often as any other.

    Args:
        first: First slice of the range to draw from.
        last: The one behind the last.
    """

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._order = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return self._last - self._first

    def take(self, count: int, generator: torch.Generator) -> Tensor:
        """The next `count` slices, (count,) int64; a new order begins when one has run out."""
        while len(self._order) < count:
            shuffled = self._first + torch.randperm(len(self), generator=generator)
            self._order = torch.cat((self._order, shuffled))
        taken, self._order = self._order[:count], self._order[count:].clone()
        return taken

    def state(self) -> Tensor:
        return self._order

    def restore(self, state: Any) -> None:
        self._order = state
