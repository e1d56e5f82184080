"""Small volumes to be checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from semicardiac.config import make_config
from semicardiac.images.labels import get_label_set
from semicardiac.images.volumes import Volume, write_volume

ACDC = get_label_set("acdc")
MATRIX = np.diag([2.0, 2.0, 8.0, 1.0])
SHAPE = (4, 40, 40)
SMALL_BATCHES = make_config(overrides={"optim": {"batch_labeled": 4, "batch_mixed": (2, 4)}})


def make_image(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(np.int16)


def make_labels(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[:, 10:14, 10:20], labels[:, 14:18, 10:20], labels[:, 18:22, 10:20] = 1, 2, 3
    return labels


def write(path: Path, array: np.ndarray, matrix: np.ndarray = MATRIX) -> Path:
    write_volume(path, Volume(array, matrix))
    return path
