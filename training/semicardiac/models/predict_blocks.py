"""What a network of three dimensions says of a volume, on the volume's own grid.

The block around the heart is predicted as a training sees it. Where what is found there reaches the faces of the block,
what continues beyond is predicted by blocks that overlap by half; a voxel counts most in the middle of a block.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import reduce
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from skimage.measure import label as connected_components
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
from .voxel_maps import PIXELS, blank_maps, map_of

#: How often the predicted region grows at most, by half a block on each side.
GROWTHS = 4

#: The standard deviation of the weights of a block's voxels, as a share of its side.
SIGMA = 1 / 8

#: A place that is nearer to the one before does not move the block.
STILL_MM = 3.0


class Region(NamedTuple):
    """A part of a volume that is predicted."""

    grid: Block
    middle: Place


class OnBlocks(NamedTuple):
    """What was found, in the order of the stack."""

    labels: np.ndarray
    """Training labels [slice,row,col] uint8."""
    maps: dict[str, np.ndarray]
    """Those that were asked for, see `predict.segment`."""
    middle: Place
    """Of the block around the heart."""


def find_place(model: Model, volume: Volume, stack: Stack, plan: ComputePlan, roi: Roi | None) -> tuple[Place, str]:
    """Where the middle of the heart is, and why that may be wrong.

    Raises:
        UserError: If the ROI lies outside the volume.
    """
    if roi is not None:
        return roi_place(volume, stack, roi), ""
    found = find_heart(model.locator, stack, model.config, plan, model.heart_area_mm2)
    level = (len(stack.array) - 1) / 2 if found.level is None else found.level
    return (level * stack.spacing[0], *found.center), found.doubt


def predict_on_blocks(
    model: Model, stack: Stack, place: Place, plan: ComputePlan, *, flips: bool, maps: Collection[str]
) -> OnBlocks:
    """Segments a stack.

    The block is predicted, and predicted again around the middle of that prediction; then what lies beyond it.

    Args:
        model: The trained model, on the plan's device.
        stack: Intensities.
        place: Where the heart is.
        plan: Where to compute.
        flips: Average over the four flips of the slices.
        maps: Which to compute, see `predict.segment`.
    """
    block = block_of(model.config.preprocess)
    home = Region(block, on_slices(place, block, stack))
    probability = predict_region(model, stack, home, plan, flips=False)
    for _ in range(2):
        found = centroid_of(probability.argmax(axis=0), home)
        better = None if found is None else on_slices(found, block, stack)
        if better is None or np.linalg.norm(np.subtract(better, home.middle)) < STILL_MM:
            break
        home = Region(block, better)
        probability = predict_region(model, stack, home, plan, flips=False)
    if flips:
        probability = predict_region(model, stack, home, plan, flips=True)
    seen, region = probability, home
    for _ in range(GROWTHS):
        larger = grown(probability.argmax(axis=0) > 0, region, block, stack)
        if larger == region:
            break
        region = larger
        probability = predict_region(model, stack, region, plan, flips=flips)
        probability[(slice(None), *place_of(home, region))] = seen  # as trained: the heart in the middle of the block
        keep_continuations(probability, place_of(home, region))
    labels, computed = _on_stack(model, stack, probability, (region, home), maps)
    return OnBlocks(labels, computed, home.middle)


def centroid_of(labels: np.ndarray, region: Region) -> Place | None:
    """The middle of the heart predicted on a region, (slice, row, col) in mm of the stack; None if there is none.

    Args:
        labels: Training labels on the region's grid.
        region: Where that lies.
    """
    slice_mm, pixel_mm = region.grid.spacing
    grid = Stack(labels, (slice_mm, pixel_mm, pixel_mm), (0, 1, 2), (False, False, False))
    found = middle_of(keep_largest(labels) > 0, grid)
    if found is None:
        return None
    level, row, col = np.asarray(region.middle) + found - region.grid.extent_mm / 2
    return float(level), float(row), float(col)


def place_of(home: Region, region: Region) -> tuple[slice, ...]:
    """Where a block lies in a region that has grown from it."""
    slice_mm, pixel_mm = region.grid.spacing
    corners = (np.array(each.middle) - each.grid.extent_mm / 2 for each in (home, region))
    first, start = corners
    at = np.rint((first - start) / (slice_mm, pixel_mm, pixel_mm)).astype(int)
    return tuple(slice(int(each), int(each) + side) for each, side in zip(at, home.grid.shape, strict=True))


def keep_continuations(probability: np.ndarray, home: tuple[slice, ...]) -> None:
    """Makes background, in place, of what lies beyond the block and continues none of its structures.

    Blocks beside the heart show what no training has shown; a network that knows places sees structures in them, too.
    """
    labels = probability.argmax(axis=0)
    kept = labels == 0
    for value in range(1, len(probability)):
        parts = connected_components(labels == value, connectivity=3)
        inside = np.unique(parts[home])
        kept |= np.isin(parts, inside[inside > 0])
    probability[:, ~kept] = 0
    probability[0, ~kept] = 1


def grown(heart: np.ndarray, region: Region, block: Block, stack: Stack) -> Region:
    """The region with half a block more on each side where the heart reaches its face and the volume goes on.

    Args:
        heart: Where there is foreground in the region.
        region: That was predicted.
        block: What the network sees at once.
        stack: Of the volume.
    """
    grid, middle = region
    shape, place = list(grid.shape), list(middle)
    spacing = (grid.spacing[0], grid.spacing[1], grid.spacing[1])
    for axis in range(3):
        more = block.shape[axis] // 2
        half, last = grid.extent_mm[axis] / 2, (stack.array.shape[axis] - 1) * stack.spacing[axis]
        ends = ((0, -1, middle[axis] - half > 0), (-1, 1, middle[axis] + half < last))
        for face, side, goes_on in ends:
            if goes_on and heart.take(face, axis).any():
                shape[axis] += more
                place[axis] += side * more / 2 * spacing[axis]
    level, row, col = place
    return Region(Block(tuple(shape), grid.spacing), (level, row, col))


@torch.no_grad()
def predict_region(model: Model, stack: Stack, region: Region, plan: ComputePlan, *, flips: bool) -> np.ndarray:
    """Class probabilities on a region that is not smaller than the model's block, (C, *shape) float32."""
    grid, block = region.grid, block_of(model.config.preprocess).shape
    image = torch.from_numpy(sample_block(stack, region.middle, grid, model.config.preprocess.clip))
    axes: list[list[int]] = [[], [4], [3], [3, 4]] if flips else [[]]
    weight = weights_of(block)
    total = torch.zeros(model.labels.classes, *grid.shape)
    weights = torch.zeros(grid.shape)
    for part in tiles(grid.shape, block):
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
    model: Model, stack: Stack, probability: np.ndarray, regions: tuple[Region, Region], maps: Collection[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Labels and maps on the voxels of a stack, from class probabilities on a region; `regions`: it, and its block."""
    region, home = regions
    shape = stack.array.shape
    labels = np.zeros(shape, np.uint8)
    computed = blank_maps(maps, shape)
    limits = model.method.limits() if {"threshold", "pseudo_labels"} & set(maps) else None
    step = max(1, PIXELS // (shape[1] * shape[2]))
    for first in range(0, shape[0], step):
        rows = slice(first, first + step)
        restored = restore_block(probability, stack, region.middle, region.grid, rows)
        restored[:, 0] += 1 - restored.sum(axis=1)  # outside of the region it is background
        labels[rows] = restored.argmax(axis=1)
        limit = None
        if limits is not None:
            each = restore_block(limits.cpu().numpy(), stack, home.middle, home.grid, rows)
            limit = np.take_along_axis(each, labels[rows, None].astype(np.intp), axis=1)[:, 0]
        for kind, array in computed.items():
            array[rows] = map_of(kind, restored, labels[rows], limit)
    return labels, computed
