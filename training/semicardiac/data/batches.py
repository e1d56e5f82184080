"""Batches: which slices are drawn, and their squares and views on the device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import augment
from .share import Share
from .slice_bank import SliceBank


class Batch(NamedTuple):
    """Squares from the bank and the views in which the student sees them, on the device.

    Of a training on volumes these are blocks, with (T, S, S) in place of (S, S).
    """

    image: Tensor
    """(B, 1, S, S) float32."""
    label: Tensor | None
    """(B, 1, S, S) float32 training labels; None for unlabeled slices."""
    offset: Tensor
    """(B, 2): where the canonical crop's middle lies in the square, (row, col) in pixels from its own; (B, 3) of
    blocks."""
    views: tuple[augment.View, ...]
    """One, or for unlabeled slices as many as the method asks for."""
    share: Share | None = None
    """Which slices of the batch these are, where processes share it."""

    @property
    def tensors(self) -> list[Tensor]:
        """All its tensors, always in the same order."""
        own = [self.image, self.offset] if self.label is None else [self.image, self.offset, self.label]
        return own + [each for view in self.views for each in view.tensors]


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
        taken, self._order = self._order[:count], self._order[count:]  # views: a large pool costs a step nothing
        return taken

    def state(self) -> Tensor:
        return self._order.clone()  # what is left of it alone would be saved with all that it was a part of

    def restore(self, state: Any) -> None:
        self._order = state


class DeviceBank:
    """The bank where the batches are made: on a GPU if it fits into a third of the free memory, else read in place."""

    def __init__(self, bank: SliceBank, device: str) -> None:
        self.device = torch.device(device)
        self.images, self.labels = torch.from_numpy(bank.images), torch.from_numpy(bank.labels)
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if bank.images.nbytes + bank.labels.nbytes < free / 3:
                self.images, self.labels = self.images.to(self.device), self.labels.to(self.device)
        self.offsets = torch.zeros(len(bank.images), bank.images.ndim - 1, device=self.device)

    def batch(self, index: Tensor, views: tuple[augment.View, ...], *, labeled: bool) -> Batch:
        """Slices by their numbers, as float32 on the device."""
        index = self._moved(index, self.images.device)
        label = self._take(self.labels, index) if labeled else None
        return Batch(self._take(self.images, index), label, self.offsets[self._moved(index, self.device)], views)

    def clean_crops(self, index: Tensor, crop: augment.Size) -> Tensor:
        """The canonical crops of slices by their numbers, (len(index), 1, *crop) float32 on the device."""
        return augment.clean_crops(self._take(self.images, index), self.offsets[index.to(self.device)], crop)

    def _take(self, squares: Tensor, index: Tensor) -> Tensor:
        taken = squares[self._moved(index, squares.device)]
        return self._moved(taken, self.device).float().unsqueeze(1)

    @staticmethod
    def _moved(tensor: Tensor, device: torch.device) -> Tensor:
        if device.type == "cuda" and not tensor.is_cuda:  # a copy from pinned memory is the only one not waited for
            return tensor.pin_memory().to(device, non_blocking=True)
        return tensor.to(device)
