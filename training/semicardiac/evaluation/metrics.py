"""How well a segmentation agrees with a reference: overlap and surface distances, per structure.

What is undefined is NaN, never 0, and whoever averages says how many were left out:

========== ============ ================ ===========
            both empty   one is empty     both filled
========== ============ ================ ===========
Dice        NaN          0                0 to 1
Jaccard     NaN          0                0 to 1
HD95, ASD   NaN          NaN              0 or more
========== ============ ================ ===========
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from ..base.errors import UserError
from ..images.labels import LabelSet
from ..images.volumes import Volume, same_geometry

METRICS = ("dice", "jaccard", "hd95_mm", "asd_mm", "hd95_voxels", "asd_voxels")


def dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Dice coefficient of two boolean masks of one shape; NaN where both are empty."""
    total = np.count_nonzero(prediction) + np.count_nonzero(reference)
    return 2 * np.count_nonzero(prediction & reference) / total if total else float("nan")


def jaccard(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Intersection over union of two boolean masks of one shape; NaN where both are empty."""
    union = np.count_nonzero(prediction | reference)
    return np.count_nonzero(prediction & reference) / union if union else float("nan")


def surface_distances(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Distance from each surface voxel of either mask to the nearest surface voxel of the other.

    A surface voxel is one of the mask with a face neighbour outside it; outside the array counts as outside.
    An axis of length one has no faces of its own, so that a single slice is measured in its plane.

    Args:
        prediction: Boolean mask, [slice,row,col].
        reference: Boolean mask of the same shape.
        spacing: Distance of neighbouring voxel centres along (slice, row, col), in mm; ones for voxels.

    Returns:
        Both directions pooled, in the unit of `spacing`; empty where either mask is.

    Raises:
        ValueError: If the shapes differ.
    """
    if prediction.shape != reference.shape:
        msg = f"masks to compare must have one shape, got {prediction.shape} and {reference.shape}"
        raise ValueError(msg)
    if not (prediction.any() and reference.any()):
        return np.empty(0)
    axes = [axis for axis, length in enumerate(prediction.shape) if length > 1] or [0]
    thin = tuple(set(range(prediction.ndim)) - set(axes))
    prediction, reference = prediction.squeeze(thin), reference.squeeze(thin)
    box = ndimage.find_objects((prediction | reference).astype(np.uint8))[0]  # nothing outside it matters
    surfaces = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (prediction, reference)]
    sampling = [spacing[axis] for axis in axes]
    return np.concatenate(
        [ndimage.distance_transform_edt(~there, sampling=sampling)[here] for here, there in (surfaces, surfaces[::-1])]
    )


def hd95(distances: np.ndarray) -> float:
    """95th percentile of pooled `surface_distances` (not the larger of the two directed ones); NaN of none."""
    return float(np.percentile(distances, 95)) if distances.size else float("nan")


def asd(distances: np.ndarray) -> float:
    """Mean of pooled `surface_distances`; NaN of none."""
    return float(distances.mean()) if distances.size else float("nan")


def evaluate_pair(prediction: Volume, reference: Volume, label_set: LabelSet) -> list[dict[str, Any]]:
    """All metrics of one segmentation, a row per structure.

    Args:
        prediction: Training labels.
        reference: Training labels on the same grid.
        label_set: The structures; label i + 1 is structure i.

    Returns:
        Rows with `structure`, every name of `METRICS`, `prediction_ml` and `reference_ml`.

    Raises:
        UserError: If the two do not lie on one grid.
    """
    difference = same_geometry(prediction, reference)
    if difference:
        raise UserError(
            f"prediction and reference lie on different grids ({difference})",
            hint="Compare segmentations of one image; resample the prediction onto the reference first",
        )
    spacing_mm = reference.spacing[::-1]
    rows = []
    for label, name in enumerate(label_set.names, start=1):
        predicted, expected = prediction.array == label, reference.array == label
        in_mm = surface_distances(predicted, expected, spacing_mm)
        in_voxels = surface_distances(predicted, expected, (1.0, 1.0, 1.0))
        rows.append(
            {
                "structure": name,
                "dice": dice(predicted, expected),
                "jaccard": jaccard(predicted, expected),
                "hd95_mm": hd95(in_mm),
                "asd_mm": asd(in_mm),
                "hd95_voxels": hd95(in_voxels),
                "asd_voxels": asd(in_voxels),
                "prediction_ml": float(np.count_nonzero(predicted) * prediction.voxel_ml),
                "reference_ml": float(np.count_nonzero(expected) * reference.voxel_ml),
            }
        )
    return rows
