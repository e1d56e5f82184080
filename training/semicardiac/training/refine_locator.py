"""The locator trained again, with what the teacher sees in the unlabeled volumes, where labeled patients are few.

Few patients show the locator few hearts and few surroundings: trained on one ACDC patient it misses one heart in ten.
By the end of a training the teacher segments most of the pool well, and so tells the locator where those hearts are.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from ..base.errors import UserError
from ..base.files import sha256
from ..base.sealed import read_sealed, write_sealed
from ..data.batches import DeviceBank
from ..data.cases import Case
from ..data.slice_bank import SliceBank
from ..data.slices import Stack, sample_labels
from ..images.labels import LabelSet
from ..models.components import keep_largest
from ..models.find_heart import heart_area
from ..models.weights import write_tensors
from .context import Context
from .identity import Identity
from .locator import Course, coarse_bank, fewness, load_locator, locator_steps, train_locator
from .prepare import Prepared
from .recenter import predict_slices

WEIGHTS, RECORD = "locator_refined.safetensors", "locator_refined.json"


#: Unlabeled volumes that are learned from at the most: their coarse slices are held in memory.
VOLUMES_MAX = 200


def refine_locator(context: Context, ready: Prepared, bank: DeviceBank, teacher: nn.Module) -> None:
    """Trains `ready.locator` in place, or takes up the weights of an earlier run of the job.

    Args:
        context: Of the training; the reserve of its budget is used.
        ready: Locator, banks and plan.
        bank: The bank of the training, with its crops where they are now.
        teacher: Segments the pool.

    Raises:
        Stopped: If a stop was asked for; this stage then begins anew.
    """
    config, weights, locator = ready.config, context.folder / WEIGHTS, ready.locator
    assert locator is not None  # without one, nothing of the budget is kept for this
    if _take_up(context, ready.identity, locator):
        return
    coarse = coarse_bank(context, ready.identity)
    pool = list(context.unlabeled)
    random.Random(config.seed).shuffle(pool)
    images, masks = [coarse.images[: coarse.labeled_slices]], [coarse.labels]
    for case in pool[:VOLUMES_MAX]:
        context.raise_if_stopped()
        mask = _coarse_heart(case, ready, coarse, bank, teacher, context.labels)
        if mask is not None:
            first, last = coarse.ranges[case.name]
            images.append(coarse.images[first:last])
            masks.append(mask)
    if len(masks) == 1:
        return
    seen = SliceBank(np.concatenate(images), np.concatenate(masks), {}, {}, coarse.size)
    most = max(1, round(locator_steps(config, context.patients) * (fewness(context.patients) - 1)))
    done = context.budget.stage(context.budget.reserve, most)
    train_locator(locator, seen, ready.plan, context, Course("finding the heart better", config.seed + 2, done))
    write_tensors(weights, locator.state_dict())
    write_sealed(context.folder / RECORD, {"job": ready.identity.job, "sha256": sha256(weights)})


def _take_up(context: Context, identity: Identity, locator: nn.Module) -> bool:
    """Whether an earlier run has done this; what is damaged or of another training is done again."""
    try:
        record = read_sealed(context.folder / RECORD)
        if record.get("job") == identity.job:
            load_locator(context.folder / WEIGHTS, locator, str(record.get("sha256")))
            return True
    except UserError:
        pass
    return False


def _coarse_heart(
    case: Case, ready: Prepared, coarse: SliceBank, bank: DeviceBank, teacher: nn.Module, labels: LabelSet
) -> np.ndarray | None:
    """The teacher's heart on the coarse slices of a case, (slices, size, size) uint8; None if it is not plausible."""
    settings, fine = ready.config.preprocess, ready.bank
    first, last = fine.ranges[case.name]
    found = keep_largest(predict_slices(bank, teacher, ready.config, ready.plan, torch.arange(first, last)))
    spacing = settings.spacing_mm
    square = Stack((found > 0).astype(np.uint8), (1.0, spacing, spacing), (0, 1, 2), (False, False, False))
    low, high = ready.heart_area_mm2
    if len(np.unique(found)) < labels.classes or not low <= heart_area(square) <= high:
        return None
    half = (settings.side - 1) / 2 * spacing
    offset = bank.offsets[first].cpu().numpy() * spacing
    corner = np.asarray(fine.centers[case.name]) + offset - half
    middle = tuple((np.asarray(coarse.centers[case.name]) - corner).tolist())
    return sample_labels(square, middle, ready.config.locate.spacing_mm, coarse.size, 2)
