"""The crops of the unlabeled volumes, moved onto what the teacher sees in them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..config import TrainConfig
from ..data.batches import DeviceBank
from ..data.blocks import Block, margin_of
from ..data.slice_bank import SliceBank
from ..models.compute import ComputePlan
from ..models.predict import square_centroid
from ..models.predict_blocks import Region, centroid_of


def recenter(bank: DeviceBank, slices: SliceBank, network: nn.Module, config: TrainConfig, plan: ComputePlan) -> None:
    """Moves the crops of the unlabeled volumes onto the network's prediction, by at most the margin.

    Args:
        bank: Its offsets change in place.
        slices: The bank that it holds on the device, with the range of each volume.
        network: Gives (logits, features).
        config: Of the training.
        plan: Where to compute.
    """
    margin = torch.tensor(margin_of(config.preprocess) if config.volumetric else (config.preprocess.margin,) * 2)
    for first, last in slices.ranges.values():
        if first < slices.labeled_slices:
            continue
        labels = predict_slices(bank, network, config, plan, first, last)
        middle: tuple[float, ...] | None
        if config.volumetric:
            middle = centroid_of(labels[0], Region(Block(config.shape, (1.0, 1.0)), (0.0, 0.0, 0.0)))
        else:
            middle = square_centroid(labels, (0.0, 0.0), 1.0)
        if middle is not None:
            moved = torch.tensor(middle) + bank.offsets[first].cpu()
            bank.offsets[first:last] = moved.round().clamp(-margin, margin).to(bank.device)


@torch.no_grad()
def predict_slices(
    bank: DeviceBank, network: nn.Module, config: TrainConfig, plan: ComputePlan, first: int, last: int
) -> np.ndarray:
    """Training labels that the network gives slices, or blocks, on their crops, (last - first, *crop) uint8."""
    parts = []
    for index in torch.arange(first, last).split(1 if config.volumetric else 8):
        with plan.autocast():
            logits, _ = network(plan.place(bank.clean_crops(index, config.shape)))
        parts.append(logits.argmax(1).to(torch.uint8).cpu())
    return torch.cat(parts).numpy()
