"""Random views of blocks of slices: a view of a slice, the same for all slices of a block, and what moves them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import AugmentConfig, TrainConfig
from . import augment
from .augment import View
from .blocks import NEAR, block_of

TILT_DEGREES = 15.0
"""The most that a block is turned out of its plane, where its slices are as near to each other as its pixels."""


def draw_view(config: TrainConfig, batch: int, generator: torch.Generator) -> View:
    """Draws the parameters of `batch` views, of slices or of blocks, on the CPU."""
    if not config.volumetric:
        return augment.draw(config.augment, batch, generator)
    block = block_of(config.preprocess)
    tilt = min(TILT_DEGREES, config.augment.rotation) if block.spacing[0] <= NEAR * block.spacing[1] else 0.0
    sides_mm = block.shape[0] * block.spacing[0], block.shape[2] * block.spacing[1]
    return draw_blocks(config.augment, sides_mm, tilt, batch, generator)


def draw_blocks(
    config: AugmentConfig, sides_mm: tuple[float, float], tilt: float, batch: int, generator: torch.Generator
) -> View:
    """Draws views of blocks.

    Args:
        config: What is drawn within slices. Through them a block is scaled like its slices, and shifted and flipped as
            they are.
        sides_mm: How thick a block is and how wide.
        tilt: Degrees by which it may be turned about its rows and about its columns.
        batch: How many.
        generator: Decides on everything.
    """
    flat = augment.draw(config, batch, generator)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    flip = torch.rand(batch, generator=generator) < config.flip
    about_x, about_y = torch.deg2rad(uniform(-tilt, tilt)), torch.deg2rad(uniform(-tilt, tilt))
    shift = uniform(-2 * config.shift, 2 * config.shift)
    matrix = torch.zeros(batch, 3, 3)
    matrix[:, :2, :2] = flat.matrix
    matrix[:, 2, 2] = torch.where(flip, -1.0, 1.0) * flat.matrix.det().abs().sqrt()
    if tilt:
        matrix = _turned(about_x, about_y, sides_mm) @ matrix
    return flat._replace(
        matrix=matrix,
        shift=torch.cat((flat.shift, shift.unsqueeze(1)), dim=1),
        flip=torch.cat((flat.flip, flip.unsqueeze(1)), dim=1),
    )


def _turned(about_x: Tensor, about_y: Tensor, sides_mm: tuple[float, float]) -> Tensor:
    """Rotations about the directions of columns and rows, (B, 3, 3), of places in crop units of unequal lengths."""
    turn = torch.eye(3).repeat(2, len(about_x), 1, 1)
    for number, (angle, axis) in enumerate(((about_x, 1), (about_y, 0))):
        turn[number, :, axis, axis] = turn[number, :, 2, 2] = angle.cos()
        turn[number, :, axis, 2], turn[number, :, 2, axis] = -angle.sin(), angle.sin()
    unit = torch.tensor([1.0, 1.0, sides_mm[0] / sides_mm[1]])
    return (turn[0] @ turn[1]) * unit / unit.unsqueeze(1)
