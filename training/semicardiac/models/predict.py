"""From a volume to its segmentation, on the volume's own grid."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..base.errors import UserError
from ..base.settings import Roi
from ..data.slices import (
    Center,
    Stack,
    as_stack,
    centroid,
    restore_maps,
    restore_probabilities,
    sample_images,
    stack_fault,
    under_square,
)
from ..images.volumes import Volume
from .components import keep_largest
from .compute import ComputePlan
from .find_heart import find_heart, roi_center
from .forward import FLIPS, class_probabilities
from .model import Model
from .predict_blocks import find_place, predict_on_blocks
from .voxel_maps import PIXELS, blank_maps, map_of

#: The square is moved to the middle of what is seen in it, unless that is so near already.
NEAR_MM = 3.0


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of a volume, all on the volume's grid.

    Attributes:
        labels: Training labels, uint8.
        maps: Those that were asked for, see `segment`.
        center: Where the square around the heart had its middle, (row, col) in mm of the stack's plane.
        doubt: Empty, or why the heart may have been missed.
    """

    labels: Volume
    maps: dict[str, Volume]
    center: Center
    doubt: str


def cpu_plan() -> ComputePlan:
    """Full precision on the CPU, for predictions outside a job."""
    return ComputePlan(device="cpu", name="cpu", dtype="float32", channels_last=False, threads=torch.get_num_threads())


def segment(  # its options are those of a job, each with a default
    model: Model,
    volume: Volume,
    plan: ComputePlan | None = None,
    *,
    flips: bool = True,
    largest_component: bool = True,
    roi: Roi | None = None,
    maps: Collection[str] = (),
) -> Prediction:
    """Segments a volume.

    The heart is found, the square around it predicted, and predicted again around the middle of that prediction.
    What else can be told of each voxel is computed where it is asked for:

    - `confidence`: The largest class probability, float32.
    - `entropy`: The entropy of the class probabilities over its largest possible value, 0 to 1, float32.
    - `threshold`: What a pseudo-label of the voxel's class c had to exceed at the end of training, M_c (Eq. 9) or the
      least threshold of the configuration, 0 to 1, float32; 0 outside the square that the network sees.
    - `pseudo_labels`: Training labels, uint8, where the confidence passes that threshold (Eq. 10), else 0: what the
      student would be taught here.

    Args:
        model: The trained model, on the plan's device.
        volume: Intensities.
        plan: Where to compute; without it, full precision on the CPU.
        flips: Average over the four flips of each slice.
        largest_component: Keep of every structure only its largest connected part.
        roi: Where the heart is, instead of finding it.
        maps: Which of these to compute.

    Raises:
        UserError: If the ROI lies outside the volume, or as `slices.stack_fault` says.
    """
    plan = plan or cpu_plan()
    config = model.config
    stack = as_stack(volume, config.preprocess.plane)
    if fault := stack_fault(stack, config.network.dimensions):
        raise UserError(fault[0], where="volume", hint=fault[1])
    if config.volumetric:
        place, doubt = find_place(model, volume, stack, plan, roi)
        flips = flips and config.augment.flip > 0  # who was never shown mirrored hearts does not know them
        seen = predict_on_blocks(model, stack, place, plan, flips=flips, maps=maps)
        return _prediction(volume, stack, (seen.labels, seen.maps), (seen.middle[1:], doubt), largest_component)
    if roi is None:
        center, doubt, *_ = find_heart(model.locator, stack, config, plan, model.heart_area_mm2)
    else:
        center, doubt = roi_center(volume, stack, roi), ""
    square = _centered(model, stack, center, plan)
    probability, center = square.probability, square.center
    if flips:
        mirrored = class_probabilities(model.network, square.images, plan, FLIPS[1:])
        probability = (probability + len(FLIPS[1:]) * mirrored) / len(FLIPS)

    found = _on_stack(model, stack, center, probability.cpu().numpy(), maps)
    return _prediction(volume, stack, found, (center, doubt), largest_component)


def _prediction(
    volume: Volume,
    stack: Stack,
    found: tuple[np.ndarray, dict[str, np.ndarray]],
    where: tuple[Center, str],
    largest_component: bool,
) -> Prediction:
    """Labels and maps of a stack on the volume's grid; where the heart is, and why that may be wrong."""
    (labels, computed), (center, doubt) = found, where
    if largest_component:
        labels = keep_largest(labels)
    if not labels.any():
        doubt = doubt or "no structure was found"
    volumes = {kind: volume.with_array(stack.restore(array)) for kind, array in computed.items()}
    return Prediction(volume.with_array(stack.restore(labels)), volumes, center, doubt)


def _on_stack(
    model: Model, stack: Stack, center: Center, probability: np.ndarray, maps: Collection[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Labels and maps on the pixels of a stack, (slices, rows, cols), from class probabilities on a square."""
    spacing, shape = model.config.preprocess.spacing_mm, stack.array.shape
    labels = np.zeros(shape, np.uint8)
    computed = blank_maps(maps, shape)
    under, part, center = under_square(stack, center, spacing, probability.shape[-1])
    limits = _limits(model, part, center) if {"threshold", "pseudo_labels"} & set(maps) else None
    step = max(1, PIXELS // max(1, part.array[0].size))
    for at in range(0, len(probability), step):
        place = slice(at, at + step), *under
        restored = restore_probabilities(probability[at : at + step], part, center, spacing)
        labels[place] = found = restored.argmax(axis=1)
        limit = None if limits is None else np.take_along_axis(limits, found, axis=0)
        for kind, array in computed.items():
            array[place] = map_of(kind, restored, found, limit)
    return labels, computed


def _limits(model: Model, stack: Stack, center: Center) -> np.ndarray | None:
    """What the confidence had to exceed, (C, rows, cols) by class and place; 0 beyond the square."""
    limits = model.method.limits()
    if limits is None:
        return None
    spacing = model.config.preprocess.spacing_mm
    return np.stack([restore_maps(each, stack, center, spacing) for each in limits.cpu().numpy()])


class _Square(NamedTuple):
    """The square around a center, and what the network sees in it."""

    center: Center
    images: Tensor
    """(slices, 1, crop, crop) float32."""
    probability: Tensor
    """Of the classes, (slices, C, crop, crop) float32."""


def _centered(model: Model, stack: Stack, center: Center, plan: ComputePlan) -> _Square:
    """The square around the middle of what is predicted in it.

    Where the middle is, every other slice tells as well as all of them: on ACDC within 2 mm. They are predicted first,
    and the others with them only where the center that was given is good enough.
    """
    images = _images(model, stack, center)
    probability = class_probabilities(model.network, images[::2], plan)
    if (better := _better_center(model, probability, center)) is None:
        whole = probability.new_empty(len(images), *probability.shape[1:])
        whole[::2] = probability
        if len(images) > 1:
            whole[1::2] = class_probabilities(model.network, images[1::2], plan)
        return _Square(center, images, whole)
    for _ in range(2):
        center, images = better, _images(model, stack, better)
        probability = class_probabilities(model.network, images, plan)
        if (better := _better_center(model, probability, center)) is None:
            break
    return _Square(center, images, probability)


def _images(model: Model, stack: Stack, center: Center) -> Tensor:
    """The square around a center as the network sees it, (slices, 1, crop, crop) float32."""
    config = model.config.preprocess
    return torch.from_numpy(sample_images(stack, center, config.spacing_mm, config.side, config.clip)).unsqueeze(1)


def _better_center(model: Model, probability: Tensor, center: Center) -> Center | None:
    """The middle of what is predicted on the square around a center; None if that is near enough, or nothing is."""
    labels = probability.max(1).indices.to(torch.uint8).cpu().numpy()  # on a CPU, argmax takes seven times as long
    found = square_centroid(labels, center, model.config.preprocess.spacing_mm)
    return None if found is None or math.dist(found, center) < NEAR_MM else found


def square_centroid(labels: np.ndarray, center: Center, spacing: float) -> Center | None:
    """The middle of the heart predicted on a square around `center`, (row, col) in mm; None if there is none.

    Args:
        labels: (slices, crop, crop) training labels.
        center: Of the square, (row, col) in mm.
        spacing: Of the square, mm.
    """
    square = Stack(labels, (1.0, spacing, spacing), (0, 1, 2), (False, False, False))
    found = centroid(keep_largest(labels) > 0, square)
    if found is None:
        return None
    half = (labels.shape[-1] - 1) / 2 * spacing
    return center[0] + found[0] - half, center[1] + found[1] - half
