"""What a network of three dimensions says of a volume, on the volume's own grid.

The block around the heart is predicted as a training sees it. Where what is found there reaches the faces of the block,
the rest is predicted, too, by blocks that overlap by half, in whose middle a voxel counts more than at their rim.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import reduce
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..base.settings import Roi
from ..config import Shape
from ..data.blocks import Block, Place, block_of, middle_of, on_slices, restore_block, sample_block
from ..data.slices import Stack
from ..images.volumes import Volume
from .components import keep_largest
from .compute import ComputePlan
from .find_heart import find_heart, roi_place
from .model import Model

#: In slices of so many pixels together the classes come back onto the volume's grid: those of a whole CT would not fit.
PIXELS = 2**21

#: How often the predicted region grows at most, by half a block on each side.
GROWTHS = 4

#: The standard deviation of the weights of a block's voxels, as a share of its side.
SIGMA = 1 / 8

#: A place that is nearer to the one before does not move the block.
STILL_MM = 3.0


class OnBlocks(NamedTuple):
    """What was found, in the order of the stack."""

    labels: np.ndarray
    """Training labels [slice,row,col] uint8."""
    maps: dict[str, np.ndarray]
    """Those that were asked for, see `predict.segment`."""
    middle: Place
    """Of the block around the heart."""
    doubt: str
    """Empty, or why the heart may have been missed."""


def predict_on_blocks(
    model: Model,
    volume: Volume,
    stack: Stack,
    plan: ComputePlan,
    roi: Roi | None,
    *,
    flips: bool,
    maps: Collection[str],
) -> OnBlocks:  # the options are those of `predict.segment`
    """Segments a stack.

    Args:
        model: The trained model, on the plan's device.
        volume: Intensities.
        stack: The same as a stack.
        plan: Where to compute.
        roi: Where the heart is, instead of finding it.
        flips: Average over the four flips of the slices.
        maps: Which to compute, see `predict.segment`.

    Raises:
        UserError: If the ROI lies outside the volume.
    """
    block = block_of(model.config.preprocess)
    middle, doubt = find_place(model, volume, stack, plan, roi)
    middle = on_slices(middle, block, stack)
    probability = predict_region(model, stack, middle, block, plan, flips=False)
    for _ in range(2):
        found = centroid_of(probability.argmax(axis=0), middle, block)
        better = None if found is None else on_slices(found, block, stack)
        if better is None or np.linalg.norm(np.subtract(better, middle)) < STILL_MM:
            break
        middle = better
        probability = predict_region(model, stack, middle, block, plan, flips=False)
    region, at = block, middle
    for _ in range(GROWTHS):
        larger, moved = grown(probability.argmax(axis=0) > 0, region, at, block, stack)
        if larger == region:
            break
        region, at = larger, moved
        probability = predict_region(model, stack, at, block, plan, flips=False, region=region)
    if flips:
        probability = predict_region(model, stack, at, block, plan, flips=True, region=region)
    labels, computed = _on_stack(model, stack, (probability, region, at), middle, maps)
    return OnBlocks(labels, computed, middle, doubt)


def find_place(model: Model, volume: Volume, stack: Stack, plan: ComputePlan, roi: Roi | None) -> tuple[Place, str]:
    """Where the middle of the heart is, and why that may be wrong."""
    if roi is not None:
        return roi_place(volume, stack, roi), ""
    found = find_heart(model.locator, stack, model.config, plan, model.heart_area_mm2)
    level = (len(stack.array) - 1) / 2 if found.level is None else found.level
    return (level * stack.spacing[0], *found.center), found.doubt


def centroid_of(labels: np.ndarray, middle: Place, block: Block) -> Place | None:
    """The middle of the heart predicted on a block, (slice, row, col) in mm of the stack; None if there is none.

    Args:
        labels: Training labels on the block.
        middle: Of the block.
        block: Its grid.
    """
    slice_mm, pixel_mm = block.spacing
    grid = Stack(labels, (slice_mm, pixel_mm, pixel_mm), (0, 1, 2), (False, False, False))
    found = middle_of(keep_largest(labels) > 0, grid)
    if found is None:
        return None
    level, row, col = (at + of - half for at, of, half in zip(middle, found, block.extent_mm / 2, strict=True))
    return float(level), float(row), float(col)


def grown(heart: np.ndarray, region: Block, middle: Place, block: Block, stack: Stack) -> tuple[Block, Place]:
    """The region with half a block more on each side where the heart reaches its face and the volume goes on.

    Args:
        heart: Where there is foreground in the region.
        region: That was predicted.
        middle: Of it.
        block: What the network sees at once.
        stack: Of the volume.
    """
    shape, place = list(region.shape), list(middle)
    spacing = (region.spacing[0], region.spacing[1], region.spacing[1])
    for axis in range(3):
        more = block.shape[axis] // 2
        half, last = region.extent_mm[axis] / 2, (stack.array.shape[axis] - 1) * stack.spacing[axis]
        ends = ((0, -1, middle[axis] - half > 0), (-1, 1, middle[axis] + half < last))
        for face, side, goes_on in ends:
            if goes_on and heart.take(face, axis).any():
                shape[axis] += more
                place[axis] += side * more / 2 * spacing[axis]
    level, row, col = place
    return Block(tuple(shape), region.spacing), (level, row, col)


@torch.no_grad()
def predict_region(
    model: Model,
    stack: Stack,
    middle: Place,
    block: Block,
    plan: ComputePlan,
    *,
    flips: bool,
    region: Block | None = None,
) -> np.ndarray:  # one call predicts the whole region
    """Class probabilities on a region around `middle`, (C, *region.shape) float32.

    Args:
        model: The trained model.
        stack: Intensities.
        middle: Of the region.
        block: What the network sees at once.
        plan: Where to compute.
        flips: Average over the four flips of the slices.
        region: Not smaller than the block; without it, the block itself.
    """
    region = region or block
    image = torch.from_numpy(sample_block(stack, middle, region, model.config.preprocess.clip))
    axes: list[list[int]] = [[], [4], [3], [3, 4]] if flips else [[]]
    weight = weights_of(block.shape)
    total = torch.zeros(model.labels.classes, *region.shape)
    weights = torch.zeros(region.shape)
    for part in tiles(region.shape, block.shape):
        seen = image[part][None, None]
        mean = torch.zeros((), device=plan.device)
        for flip in axes:
            with plan.autocast():
                logits, _ = model.network(plan.place(seen.flip(flip)))
            mean = mean + logits.float().softmax(1).flip(flip) / len(axes)
        total[(slice(None), *part)] += mean[0].cpu() * weight
        weights[part] += weight
    return (total / weights).numpy()


def tiles(shape: Shape, block: Shape) -> Iterator[tuple[slice, ...]]:
    """Blocks that cover a region and overlap by half; the last along each axis ends where the region ends."""
    starts = []
    for side, part in zip(shape, block, strict=True):
        along = range(0, side - part + 1, max(1, part // 2))
        starts.append(sorted({*along, side - part}))
    for start in product(*starts):
        yield tuple(slice(at, at + part) for at, part in zip(start, block, strict=True))


def weights_of(shape: Shape) -> Tensor:
    """A Gaussian around the middle of a block, of its shape, 1 at most and nowhere 0."""
    axes = []
    for side in shape:
        away = (torch.arange(side) - (side - 1) / 2) / (side * SIGMA)
        axes.append(torch.exp(-away.square() / 2))
    weight = reduce(lambda all_before, axis: all_before[..., None] * axis, axes)
    return (weight / weight.max()).clamp(min=1e-3)


def _on_stack(
    model: Model, stack: Stack, found: tuple[np.ndarray, Block, Place], middle: Place, maps: Collection[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Labels and maps on the voxels of a stack, from class probabilities on a region and where that lies."""
    probability, region, at = found
    shape = stack.array.shape
    labels = np.zeros(shape, np.uint8)
    computed = {kind: np.zeros(shape, np.uint8 if kind == "pseudo_labels" else np.float32) for kind in maps}
    limits = model.method.limits() if {"threshold", "pseudo_labels"} & set(maps) else None
    step = max(1, PIXELS // (shape[1] * shape[2]))
    for first in range(0, shape[0], step):
        rows = slice(first, first + step)
        restored = restore_block(probability, stack, at, region, rows)
        restored[:, 0] += 1 - restored.sum(axis=1)  # outside of the region it is background
        labels[rows] = restored.argmax(axis=1)
        limit = np.zeros(labels[rows].shape, np.float32)
        if limits is not None:
            block = block_of(model.config.preprocess)
            each = restore_block(limits.cpu().numpy(), stack, middle, block, rows)
            limit = np.take_along_axis(each, labels[rows, None].astype(np.intp), axis=1)[:, 0]
        for kind, array in computed.items():
            array[rows] = _told(kind, restored, labels[rows], limit)
    return labels, computed


def _told(kind: str, probability: np.ndarray, labels: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """A map of some slices, see `predict.segment`."""
    confidence = probability.max(axis=1)
    if kind == "confidence":
        return confidence
    if kind == "entropy":
        safe = probability.clip(1e-12, 1)
        return (-(safe * np.log(safe)).sum(axis=1) / np.log(probability.shape[1])).clip(0, 1)
    return limit if kind == "threshold" else np.where(confidence > limit, labels, 0)
