"""The crops of the unlabeled volumes, moved onto what the teacher sees in them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..config import TrainConfig
from ..data.batches import DeviceBank
from ..data.blocks import Block, margin_of
from ..data.slice_bank import SliceBank
from ..models.compute import ComputePlan
from ..models.predict import square_centroid
from ..models.predict_blocks import Region, centroid_of

#: More are not looked at; with the default network that is two minutes of one core.
MOST_SLICES = 20_000


def recenter(bank: DeviceBank, slices: SliceBank, network: nn.Module, config: TrainConfig, plan: ComputePlan) -> None:
    """Moves the crops of the unlabeled volumes onto the network's prediction, by at most the margin.

    Of a pool with more than `MOST_SLICES` every second slice tells where, or every third, and so on: what it takes does
    not grow with the pool.

    Args:
        bank: Its offsets change in place.
        slices: The bank that it holds on the device, with the range of each volume.
        network: Gives (logits, features).
        config: Of the training.
        plan: Where to compute.
    """
    margin = torch.tensor(margin_of(config.preprocess) if config.volumetric else (config.preprocess.margin,) * 2)
    step = math.ceil((len(slices.images) - slices.labeled_slices) / MOST_SLICES)
    for first, last in slices.ranges.values():
        if first < slices.labeled_slices:
            continue
        index = torch.arange(first + min(step, last - first) // 2, last, step)
        labels = predict_slices(bank, network, config, plan, index)
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
    bank: DeviceBank, network: nn.Module, config: TrainConfig, plan: ComputePlan, index: Tensor
) -> np.ndarray:
    """Training labels that the network gives slices, or blocks, by their numbers, on their crops, (N, *crop) uint8."""
    parts = []
    for numbers in index.split(1 if config.volumetric else 8):
        with plan.autocast():
            logits, _ = network(plan.place(bank.clean_crops(numbers, config.shape)))
        parts.append(logits.max(1).indices.to(torch.uint8).cpu())
    return torch.cat(parts).numpy()
