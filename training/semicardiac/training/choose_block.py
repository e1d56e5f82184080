"""The block that a training on volumes works on: as the labeled hearts need it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..base.errors import UserError
from ..config import MOST_VOXELS, TrainConfig
from ..data.blocks import fitting_sides, middle_of, reach_of, slice_distance
from ..data.slices import Center, as_stack
from ..models.find_heart import heart_area
from ..models.networks import misfit, shapes_of, strides_of
from .context import Context


class Chosen(NamedTuple):
    """A block, and where the labeled hearts are."""

    config: TrainConfig
    """With the sides, the distance of slices and the anisotropy chosen."""
    centers: dict[str, Center]
    """By case name, (row, col) in mm."""
    levels: dict[str, float]
    """By case name, the number of the slice in the heart's middle."""
    areas: list[float]
    """That each heart covers when all slices are looked through, mm²."""


def choose_block(context: Context, anisotropy: float | None) -> Chosen:
    """Looks at the labels, before any long work.

    Args:
        context: Of the training.
        anisotropy: Of the model that the training starts from: its kernels stay.

    Raises:
        UserError: If the given sides do not suit the network, or so large a block does not fit into memory.
    """
    config, preprocess = context.config, context.config.preprocess
    centers, levels, areas, reaches, distances = {}, {}, [], [], []
    for case in context.labeled:
        stack = as_stack(context.reader.labels(case, context.labels), preprocess.plane)
        middle = middle_of(stack.array > 0, stack) or ((len(stack.array) - 1) / 2 * stack.spacing[0], *stack.middle)
        reaches.append(reach_of(stack.array > 0, stack, middle))
        centers[case.name], levels[case.name] = middle[1:], middle[0] / stack.spacing[0]
        areas.append(heart_area(stack))
        distances.append(stack.spacing[0])
    slice_mm = preprocess.slice_mm or slice_distance(distances, preprocess.spacing_mm)
    own = config.network.anisotropy or anisotropy or slice_mm / preprocess.spacing_mm
    network = config.network.model_copy(update={"anisotropy": own})
    built = shapes_of(network, context.labels.classes)
    if fault := misfit(built, preprocess):
        raise UserError(fault[1], where=fault[0], hint="Leave it out, or take the next multiple")
    depth, side = fitting_sides(np.array(reaches), (slice_mm, preprocess.spacing_mm), strides_of(built))
    sides = {"depth": preprocess.depth or depth, "crop": preprocess.crop or side, "slice_mm": slice_mm}
    voxels = sides["depth"] * sides["crop"] ** 2
    if voxels > MOST_VOXELS:
        what = (
            f"a block around the heart has {sides['depth']} x {sides['crop']} x {sides['crop']} voxels at this spacing"
        )
        coarser = preprocess.spacing_mm * (voxels / MOST_VOXELS) ** (1 / 3)
        hint = f"Take a spacing above {coarser:.1f} mm, or learn from a part of it (preprocess.crop, preprocess.depth)"
        raise UserError(what, where="preprocess.spacing_mm", hint=hint)
    config = config.model_copy(update={"preprocess": preprocess.model_copy(update=sides), "network": network})
    return Chosen(config, centers, levels, areas)
