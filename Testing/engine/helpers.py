"""Small studies of drawn hearts that tests train on, and the environment that the engine runs in."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

REPOSITORY = Path(__file__).parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

QUICK = (
    "network.widths=[4,8,8]", "preprocess.crop=32", "preprocess.margin=8", "preprocess.spacing_mm=2",
    "locate.widths=[4,8]", "locate.size=32", "locate.spacing_mm=4", "locate.steps_max=20", "locate.batch=4",
    "optim.batch_labeled=4", "optim.batch_mixed=[2,2]", "loss.contrast_grid=2", "loss.class_floor=4",
    "schedule.preview_every=1",
    "schedule.warmup_steps=0",
)  # fmt: skip
"""Settings with which a training of a few steps takes a second."""


def draw_heart(seed: int, *, size: int = 40, slices: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A crescent and a ring on noise: image float32 and ACDC labels uint8, both [slice,row,col]."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    labels = np.zeros((slices, size, size), np.uint8)
    row, col = size / 2 + rng.uniform(-3, 3, 2)
    for index in range(slices):
        radius = size / 8 * (1 - 0.08 * index)
        distance = np.hypot(rows - row, cols - col)
        right = np.hypot(rows - row, cols - (col - 1.9 * radius))
        labels[index][right < 1.4 * radius] = 1
        labels[index][distance < 1.7 * radius] = 2
        labels[index][distance < radius] = 3
    image = np.choose(labels, [40, 180, 80, 200]) + rng.normal(0, 12, labels.shape)
    return image.astype(np.float32), labels


def write_itk(path: Path, array: np.ndarray, *, spacing=(2.0, 2.0, 8.0), is_vector: bool = False) -> Path:
    """Writes [slice,row,col] as a file, by SimpleITK alone: what tests read must not come from our own writers."""
    image = sitk.GetImageFromArray(array, isVector=is_vector)
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def write_study(folder: Path, *, labeled: int = 2, unlabeled: int = 2) -> Path:
    """Patients in ACDC layout, one volume each: the first ones with labels."""
    for number in range(1, labeled + unlabeled + 1):
        image, labels = draw_heart(number)
        name = f"patient{number:03d}"
        write_itk(folder / name / f"{name}_frame01.nii.gz", image)
        if number <= labeled:
            write_itk(folder / name / f"{name}_frame01_gt.nii.gz", labels)
    return folder


def engine_environment(**more: str) -> dict[str, str]:
    """The environment of a process that runs the engine of this repository on one thread."""
    path = os.pathsep.join([str(REPOSITORY / "training"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", **more}


def quick_settings() -> list[str]:
    """The options that make `semicardiac train` quick."""
    return [text for setting in QUICK for text in ("--set", setting)]
