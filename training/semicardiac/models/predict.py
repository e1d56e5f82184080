"""From a volume to its segmentation, on the volume's own grid."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch

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
)
from ..images.volumes import Volume
from .components import keep_largest
from .compute import ComputePlan
from .find_heart import find_heart, roi_center
from .model import Model
from .predict_blocks import find_place, predict_on_blocks

#: Slices a network call: more do not pay on a CPU.
CPU_BATCH, GPU_BATCH = 4, 64

#: In slices of so many pixels together the classes come back onto the volume's grid: those of a whole CT would not fit.
PIXELS = 2**21


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
    probability = predict_square(model, stack, center, plan, flips=False)
    for _ in range(2):
        better = square_centroid(probability.argmax(axis=1), center, config.preprocess.spacing_mm)
        if better is None or np.hypot(better[0] - center[0], better[1] - center[1]) < 3:
            break
        center = better
        probability = predict_square(model, stack, center, plan, flips=False)
    if flips:
        probability = predict_square(model, stack, center, plan, flips=True)

    found = _on_stack(model, stack, center, probability, maps)
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
    computed = {kind: np.zeros(shape, np.uint8 if kind == "pseudo_labels" else np.float32) for kind in maps}
    limits = _limits(model, stack, center) if {"threshold", "pseudo_labels"} & set(maps) else None
    step = max(1, PIXELS // (shape[1] * shape[2]))
    for at in range(0, len(probability), step):
        rows = slice(at, at + step)
        restored = restore_probabilities(probability[rows], stack, center, spacing)
        labels[rows] = restored.argmax(axis=1)
        for kind, array in computed.items():
            if kind == "confidence":
                array[rows] = restored.max(axis=1)
            elif kind == "entropy":
                array[rows] = _entropy(restored)
            else:
                assert limits is not None
                limit = np.take_along_axis(limits, labels[rows].astype(np.intp), axis=0)
                passes = restored.max(axis=1) > limit
                array[rows] = limit if kind == "threshold" else np.where(passes, labels[rows], 0)
    return labels, computed


def _entropy(probability: np.ndarray) -> np.ndarray:
    """The entropy over its largest possible value, 0 to 1, of class probabilities (slices, C, rows, cols)."""
    safe = probability.clip(1e-12, 1)
    return (-(safe * np.log(safe)).sum(axis=1) / np.log(probability.shape[1])).clip(0, 1)


def _limits(model: Model, stack: Stack, center: Center) -> np.ndarray:
    """What the confidence had to exceed, (C, rows, cols) by class and place; 0 beyond the square, or without limits."""
    limits = model.method.limits()
    if limits is None:
        return np.zeros((model.labels.classes, *stack.array.shape[1:]), np.float32)
    spacing = model.config.preprocess.spacing_mm
    return np.stack([restore_maps(each, stack, center, spacing) for each in limits.cpu().numpy()])


@torch.no_grad()
def predict_square(model: Model, stack: Stack, center: Center, plan: ComputePlan, *, flips: bool) -> np.ndarray:
    """Class probabilities on the square around `center`, (slices, C, crop, crop) float32."""
    config = model.config.preprocess
    images = torch.from_numpy(sample_images(stack, center, config.spacing_mm, config.side, config.clip)).unsqueeze(1)
    size = CPU_BATCH if plan.device == "cpu" else GPU_BATCH
    axes: list[list[int]] = [[], [3], [2], [2, 3]] if flips else [[]]
    parts = []
    for batch in images.split(size):
        total = torch.zeros((), device=plan.device)
        for flip in axes:
            with plan.autocast():
                logits, _ = model.network(plan.place(batch.flip(flip)))
            total = total + logits.float().softmax(1).flip(flip)
        parts.append((total / len(axes)).cpu().numpy())
    return np.concatenate(parts)


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
