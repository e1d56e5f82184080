"""Finding the heart: a small network on coarse slices of the whole field of view, and what makes its answer plausible.

Everything behind it gains, since the segmenting network then sees a square around the heart and nothing else.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from ..base.errors import UserError
from ..base.settings import Roi
from ..config import TrainConfig
from ..data.blocks import Place
from ..data.cases import Case
from ..data.slices import Center, Stack, sample_images
from ..images.volumes import Volume
from .compute import ComputePlan
from .forward import class_probabilities

#: The heart is where the blurred evidence of all slices peaks, within this reach, and rather near the middle of the
#: field than far from it. Of 158 ACDC volumes, with a locator trained on 1 patient, 10 are off by more than 30 mm;
#: the largest connected part, without blur and prior, is off in 31.
BLUR_MM, PRIOR_MM, REACH_MM = 18.0, 60.0, 60.0


class Found(NamedTuple):
    """Where the heart is, and why that may be wrong."""

    center: Center
    """(row, col) in mm."""
    doubt: str
    """Empty, or why `center` is not what the locator said: the middle of the image, or another volume's heart."""
    mass: float = 0.0
    """Heart probability summed over the stack, in pixels a slice: how much there is to go by."""
    level: float | None = None
    """The slice in the heart's middle, counted from 0; None where nothing tells: then take the middle of the stack."""


def heart_area(labels: Stack) -> float:
    """The area that the heart covers when all slices are looked through, mm²."""
    return float((labels.array > 0).any(axis=0).sum() * labels.spacing[1] * labels.spacing[2])


def area_bounds(areas: list[float]) -> tuple[float, float]:
    """What heart areas are plausible, mm²: far wider than the few labeled hearts, since they are few."""
    return min(areas) / 3, max(areas) * 3


def find_heart(
    locator: nn.Module | None, stack: Stack, config: TrainConfig, plan: ComputePlan, area_mm2: tuple[float, float]
) -> Found:
    """The middle of the heart in a stack of slices.

    Args:
        locator: The trained network, or None for the middle of the image.
        stack: Intensities.
        config: Of the training that the locator is from.
        plan: Where to compute.
        area_mm2: Plausible areas of the heart.
    """
    if locator is None:
        return Found(stack.middle, "")
    size, spacing = config.locate.size, config.locate.spacing_mm
    images = sample_images(stack, stack.middle, spacing, size, config.preprocess.clip)
    return find_in_coarse(locator, images, stack.middle, config, plan, area_mm2)


def find_in_coarse(
    locator: nn.Module,
    images: np.ndarray,
    middle: Center,
    config: TrainConfig,
    plan: ComputePlan,
    area_mm2: tuple[float, float],
) -> Found:
    """`find_heart` for slices that are sampled already.

    Args:
        locator: The trained network.
        images: (slices, size, size), around `middle` at the locator's spacing.
        middle: (row, col) in mm.
        config: Of the training that the locator is from.
        plan: Where to compute.
        area_mm2: Plausible areas of the heart.
    """
    spacing = config.locate.spacing_mm
    slices = torch.from_numpy(np.asarray(images, np.float32)).unsqueeze(1)
    heart = class_probabilities(locator, slices, plan)[:, 1].cpu().numpy()
    axis = (np.arange(heart.shape[1]) - (heart.shape[1] - 1) / 2) * spacing
    prior = np.exp(-0.5 * (np.hypot(axis[:, None], axis[None]) / PRIOR_MM) ** 2)
    likely = prior * gaussian_filter((heart**2).sum(axis=0), BLUR_MM / spacing, mode="constant")
    row, col = np.unravel_index(likely.argmax(), likely.shape)
    near = np.hypot(axis[:, None] - axis[row], axis[None] - axis[col]) < REACH_MM
    area = float(((heart > 0.5).any(axis=0) & near).sum() * spacing**2)
    if area == 0:
        return Found(middle, "no heart was found")
    if not area_mm2[0] <= area <= area_mm2[1]:
        return Found(middle, f"what looks like the heart covers {area / 100:.0f} cm²")
    where = heart.sum(axis=0) * near
    mass = float(where.sum())
    through = ((heart > 0.5) & near).sum(axis=(1, 2))
    center = (middle[0] + float(where.sum(axis=1) @ axis) / mass, middle[1] + float(where.sum(axis=0) @ axis) / mass)
    return Found(center, "", mass / len(images), float(through @ np.arange(len(images)) / through.sum()))


def roi_center(volume: Volume, stack: Stack, roi: Roi) -> Center:
    """The middle of an ROI in the plane of the stack, (row, col) in mm."""
    return roi_place(volume, stack, roi)[1:]


def roi_place(volume: Volume, stack: Stack, roi: Roi) -> Place:
    """The middle of an ROI, (slice, row, col) in mm of the stack.

    Raises:
        UserError: If it lies outside the volume.
    """
    middle = np.array([(roi[0] + roi[1]) / 2, (roi[2] + roi[3]) / 2, (roi[4] + roi[5]) / 2, 1.0])
    index = (np.linalg.inv(volume.ijk_to_ras) @ middle)[:3][::-1]
    if not all(-0.5 <= place <= count - 0.5 for place, count in zip(index, volume.array.shape, strict=True)):
        raise UserError(
            "the middle of the ROI lies outside the volume", where="roi", hint="Give the bounds in RAS and mm"
        )
    along = [
        volume.array.shape[axis] - 1 - index[axis] if flip else index[axis]
        for axis, flip in zip(stack.axes, stack.flipped, strict=True)
    ]
    level, row, col = (float(place * step) for place, step in zip(along, stack.spacing, strict=True))
    return level, row, col


def reconcile(
    found: dict[str, Found], cases: list[Case], middles: dict[str, Center], limit_mm: float = 25.0
) -> dict[str, Found]:
    """Settles where volumes of one patient disagree: all take the position of the one with most to go by.

    ED and ES are acquired in one session on one grid, so that their hearts lie within millimetres of each other.

    Args:
        found: By case name.
        cases: Those to look at.
        middles: Middle of each image, (row, col) in mm: volumes with different ones are on different grids.
        limit_mm: Hearts this far apart are not the same.

    Returns:
        New entries for the volumes that were moved, with the doubt that says so.
    """
    moved = {}
    groups: dict[tuple[str, Center], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.patient, middles[case.name]), []).append(case)
    for group in groups.values():
        surest = max((found[case.name] for case in group), key=lambda each: each.mass)
        for case in group:
            apart = math.dist(found[case.name].center, surest.center)
            if apart > limit_mm:
                doubt = f"{apart:.0f} mm from the heart in another volume of the patient, whose place was taken"
                moved[case.name] = surest._replace(doubt=doubt)
    return moved
