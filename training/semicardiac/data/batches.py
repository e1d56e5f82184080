"""The slice bank where the batches are made: on the device, or read in place."""

from __future__ import annotations

import numpy as np
import torch

from ..config import TrainConfig
from ..models.compute import ComputePlan
from ..models.predict import square_centroid
from ..training.step import Batch
from . import augment
from .slice_bank import SliceBank


class DeviceBank:
    """The bank where the batches are made: on a GPU if it fits into a third of the free memory, else read in place."""

    def __init__(self, bank: SliceBank, device: str) -> None:
        self.device = torch.device(device)
        self.images, self.labels = torch.from_numpy(bank.images), torch.from_numpy(bank.labels)
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if bank.images.nbytes + bank.labels.nbytes < free / 3:
                self.images, self.labels = self.images.to(self.device), self.labels.to(self.device)
        self.offsets = torch.zeros(len(bank.images), 2, device=self.device)

    def batch(self, index: torch.Tensor, view: augment.View, *, labeled: bool) -> Batch:
        """Slices by their numbers, as float32 on the device."""
        label = self._take(self.labels, index) if labeled else None
        return Batch(self._take(self.images, index), label, self.offsets[self._moved(index, self.device)], view)

    def _take(self, squares: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        taken = squares[self._moved(index, squares.device)]
        return self._moved(taken, self.device).float().unsqueeze(1)

    @staticmethod
    def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        # Without waiting only on CUDA: elsewhere the copy may be read before it is there.
        return tensor.to(device, non_blocking=device.type == "cuda")

    @torch.no_grad()
    def recenter(self, network: torch.nn.Module, config: TrainConfig, plan: ComputePlan, bank: SliceBank) -> None:
        """Moves the crops of the unlabeled volumes onto the teacher's own prediction, by at most the margin."""
        margin = config.preprocess.margin
        for first, last in bank.ranges.values():
            if first < bank.labeled_slices:
                continue
            labels = self.predict(network, config, plan, first, last)
            middle = square_centroid(labels, (0.0, 0.0), 1.0)
            if middle is not None:
                middle = torch.tensor(middle) + self.offsets[first].cpu()
                self.offsets[first:last] = middle.round().clamp(-margin, margin).to(self.device)

    @torch.no_grad()
    def predict(
        self, network: torch.nn.Module, config: TrainConfig, plan: ComputePlan, first: int, last: int
    ) -> np.ndarray:
        """Training labels that the network gives slices on their crops, (last - first, crop, crop) uint8."""
        crop, parts = config.preprocess.crop, []
        for index in torch.arange(first, last).split(8):
            clean = augment.clean_crops(self._take(self.images, index), self.offsets[index.to(self.device)], crop)
            with plan.autocast():
                logits, _ = network(plan.place(clean))
            parts.append(logits.argmax(1).to(torch.uint8).cpu())
        return torch.cat(parts).numpy()
