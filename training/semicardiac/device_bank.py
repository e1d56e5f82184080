"""The slice bank where the batches are made: on the device, or read in place."""

from __future__ import annotations

import numpy as np
import torch

from . import augment
from .compute import ComputePlan
from .config import TrainConfig
from .dataset import SliceBank
from .inference import square_centroid
from .step import Batch


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
        at = index.to(self.images.device, non_blocking=True)
        image = self.images[at].to(self.device, non_blocking=True).float().unsqueeze(1)
        label = None
        if labeled:
            label = self.labels[at].to(self.device, non_blocking=True).float().unsqueeze(1)
        return Batch(image, label, self.offsets[index.to(self.device, non_blocking=True)], view)

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
            image = self.images[index.to(self.images.device)].to(self.device).float().unsqueeze(1)
            offset = self.offsets[index.to(self.device)]
            grid = augment.plain_grid(len(index), crop, self.device)
            with plan.autocast():
                logits, _ = network(plan.place(augment.warp(image, grid, crop=crop, offset=offset, outside="border")))
            parts.append(logits.argmax(1).to(torch.uint8).cpu())
        return torch.cat(parts).numpy()

    def close(self) -> None:
        del self.images, self.labels
