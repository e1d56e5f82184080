"""A picture of what the training does on a few unlabeled slices: student, teacher, threshold map, γ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..config import TrainConfig
from ..images.labels import LabelSet
from ..images.overlays import paint_slice, write_png
from ..models.compute import ComputePlan
from .step import Learner

TILE, BAR = 224, 22


@torch.no_grad()
def write_preview(
    path: Path, learner: Learner, config: TrainConfig, plan: ComputePlan, image: Tensor, labels: LabelSet
) -> None:
    """Writes a PNG with a row for each slice: student and teacher, and if the method has thresholds, what passed them.

    Args:
        path: Of the picture.
        learner: Student, teacher and method as they are.
        config: The training's.
        plan: Where to compute.
        image: A few canonical crops, (B, 1, H, W), on the device; of blocks (B, 1, D, H, W), the middle slice is shown.
        labels: Give the colors.
    """
    clip = config.preprocess.clip
    with plan.autocast():
        student = _flat(learner.student(plan.place(image))[0]).argmax(1)
        teacher = _flat(learner.teacher.network(plan.place(image))[0].float().softmax(1))
    confidence, own = teacher.max(1)
    colors = np.array([structure.color for structure in labels.structures])
    gray = ((_flat(image).squeeze(1) - clip[0]) / (clip[1] - clip[0])).clamp(0, 1).cpu().numpy()
    columns = [f"student (step {learner.step})", "teacher"]
    tiles = [
        [paint_slice(slices, found, colors, size=(TILE, TILE)) for slices, found in zip(gray, each, strict=True)]
        for each in (student.cpu().numpy(), own.cpu().numpy())
    ]
    if (limits := learner.method.limits()) is not None:
        limit = _flat(limits.to(own.device)[None]).expand(len(own), -1, -1, -1).gather(1, own.unsqueeze(1)).squeeze(1)
        # Thresholds lie near 1: on a scale from 0 they would all look the same.
        darkest = min(max(2 * float(limits.min()) - 1, 0.0), 0.9)
        columns += [f"threshold, {darkest:.1f} to 1", "confidence that passed"]
        tiles.append([_heat((each - darkest) / (1 - darkest)) for each in limit])
        tiles.append([_heat(each) for each in torch.where(confidence > limit, confidence, 0.0)])
    rows = [np.concatenate(row, axis=1) for row in zip(*tiles, strict=True)]
    write_png(path, np.concatenate([_header(tuple(columns)), *rows]))


def _flat(maps: torch.Tensor) -> torch.Tensor:
    """Maps of slices (B, K, H, W) as they are, of blocks (B, K, D, H, W) those of the middle slice."""
    return maps if maps.dim() == 4 else maps[:, :, maps.shape[2] // 2]


def preview_slices(first: int, last: int, count: int = 4) -> torch.Tensor:
    """Slices spread evenly over the unlabeled part of the bank; each once, where there are few."""
    spread = np.linspace(first, last - 1, min(count, last - first) + 2)[1:-1]
    return torch.from_numpy(np.unique(spread.astype(np.int64)))


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
