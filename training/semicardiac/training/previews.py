"""A picture of what the training does on a few unlabeled slices: student, teacher, threshold map, γ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..config import TrainConfig
from ..data.augment import clean_crops
from ..data.batches import Batch
from ..images.labels import LabelSet
from ..images.overlays import paint_slice, write_png
from ..methods import threshold_map
from ..models.compute import ComputePlan
from .step import Learner

TILE, BAR = 224, 22


@torch.no_grad()
def write_preview(
    path: Path, learner: Learner, config: TrainConfig, plan: ComputePlan, batch: Batch, labels: LabelSet
) -> None:
    """Writes a PNG with a row for each slice.

    Args:
        path: Of the picture.
        learner: Student, teacher and threshold map as they are.
        config: The training's.
        plan: Where to compute.
        batch: A few slices of the bank; their views are not used.
        labels: Give the colors.
    """
    size, clip = config.preprocess.side, config.preprocess.clip
    image = clean_crops(batch.image, batch.offset, size)
    with plan.autocast():
        student = learner.student(plan.place(image))[0].float().softmax(1)
        teacher = learner.teacher.network(plan.place(image))[0].float().softmax(1)
    own, floor = teacher.argmax(1), config.loss.least_threshold
    gamma = threshold_map.gate(learner.thresholds, teacher, floor).gamma
    limit = threshold_map.limits(learner.thresholds, own, floor)
    darkest = min(max(2 * floor - 1, 0.0), 0.9)  # thresholds lie near 1: on a scale from 0 they would all look the same
    columns = f"student (step {learner.step})", "teacher", f"threshold, {darkest:.1f} to 1", "confidence that passed"
    colors = np.array([structure.color for structure in labels.structures])
    gray = ((image.squeeze(1) - clip[0]) / (clip[1] - clip[0])).clamp(0, 1).cpu().numpy()
    rows = []
    for at in range(len(gray)):
        tiles = [
            paint_slice(gray[at], student[at].argmax(0).cpu().numpy(), colors, size=(TILE, TILE)),
            paint_slice(gray[at], own[at].cpu().numpy(), colors, size=(TILE, TILE)),
            _heat((limit[at] - darkest) / (1 - darkest)), _heat(gamma[at]),
        ]  # fmt: skip
        rows.append(np.concatenate(tiles, axis=1))
    write_png(path, np.concatenate([_header(columns), *rows]))


def preview_slices(first: int, last: int, count: int = 4) -> torch.Tensor:
    """Slices spread evenly over the unlabeled part of the bank."""
    return torch.from_numpy(np.linspace(first, last - 1, min(count, last - first) + 2)[1:-1].astype(np.int64))


def _heat(values: torch.Tensor) -> np.ndarray:
    """Values of 0 to 1 as a picture from black over orange to white."""
    unit = Image.fromarray((values.clamp(0, 1).cpu().numpy() * 255).astype(np.uint8)).resize((TILE, TILE))
    x = np.asarray(unit, np.float32) / 255
    return (
        np.stack((np.clip(2.2 * x, 0, 1), np.clip(1.6 * x - 0.4, 0, 1), np.clip(3 * x - 2, 0, 1)), -1) * 255
    ).astype(np.uint8)


def _header(columns: tuple[str, ...]) -> np.ndarray:
    picture = Image.new("RGB", (TILE * len(columns), BAR), "black")
    draw = ImageDraw.Draw(picture)
    for at, text in enumerate(columns):
        draw.text((TILE * at + 6, 5), text, fill="white")
    return np.asarray(picture)
