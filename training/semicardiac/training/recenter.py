"""The crops of the unlabeled volumes, moved onto what the teacher sees in them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..config import TrainConfig
from ..data.batches import DeviceBank
from ..data.slice_bank import SliceBank
from ..models.compute import ComputePlan
from ..models.predict import square_centroid


def recenter(bank: DeviceBank, slices: SliceBank, network: nn.Module, config: TrainConfig, plan: ComputePlan) -> None:
    """Moves the crops of the unlabeled volumes onto the network's prediction, by at most the margin.

    Args:
        bank: Its offsets change in place.
        slices: The bank that it holds on the device, with the range of each volume.
        network: Gives (logits, features).
        config: Of the training.
        plan: Where to compute.
    """
    margin = config.preprocess.margin
    for first, last in slices.ranges.values():
        if first < slices.labeled_slices:
            continue
        middle = square_centroid(predict_slices(bank, network, config, plan, first, last), (0.0, 0.0), 1.0)
        if middle is not None:
            moved = torch.tensor(middle) + bank.offsets[first].cpu()
            bank.offsets[first:last] = moved.round().clamp(-margin, margin).to(bank.device)


@torch.no_grad()
def predict_slices(
    bank: DeviceBank, network: nn.Module, config: TrainConfig, plan: ComputePlan, first: int, last: int
) -> np.ndarray:
    """Training labels that the network gives slices on their crops, (last - first, crop, crop) uint8."""
    parts = []
    for index in torch.arange(first, last).split(8):
        with plan.autocast():
            logits, _ = network(plan.place(bank.clean_crops(index, config.preprocess.side)))
        parts.append(logits.argmax(1).to(torch.uint8).cpu())
    return torch.cat(parts).numpy()
