"""What can be told of each voxel beside its label, see `predict.segment`."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ..config import Shape

#: In slices of so many pixels together the classes come back onto the volume's grid: those of a whole CT would not fit.
PIXELS = 2**21


def blank_maps(kinds: Collection[str], shape: Shape) -> dict[str, np.ndarray]:
    """The maps of a volume in which nothing is but background, of which the model is sure."""
    maps = {kind: np.zeros(shape, np.uint8 if kind == "pseudo_labels" else np.float32) for kind in kinds}
    if "confidence" in maps:
        maps["confidence"].fill(1)
    return maps


def map_of(kind: str, probability: np.ndarray, labels: np.ndarray, limit: np.ndarray | None) -> np.ndarray:
    """A map of some slices, (slices, rows, cols).

    Args:
        kind: `confidence`, `entropy`, `threshold` or `pseudo_labels`.
        probability: Of the classes, (slices, C, rows, cols) float32.
        labels: Their argmax.
        limit: What the confidence of each voxel's class had to exceed there; None where nothing had to be exceeded.
    """
    if kind == "entropy":  # over its largest possible value
        safe = probability.clip(1e-12, 1)
        return (-(safe * np.log(safe)).sum(axis=1) / np.log(probability.shape[1])).clip(0, 1)
    limit = np.zeros(labels.shape, np.float32) if limit is None else limit
    if kind == "threshold":
        return limit
    confidence = probability.max(axis=1)
    return confidence if kind == "confidence" else np.where(confidence > limit, labels, 0)
