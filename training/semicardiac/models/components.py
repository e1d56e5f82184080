"""Connected parts of a segmentation."""

from __future__ import annotations

import numpy as np
from skimage.measure import label as connected_components


def keep_largest(labels: np.ndarray) -> np.ndarray:
    """The heart alone: of each structure its largest part, in the one place where the structures lie together.

    With few labels a network may take chest wall fat for a cavity, in a part larger than the cavity itself. So the
    connected part of the whole foreground with the most structures in it comes first (the largest of several), and of
    each structure the largest part within it; a structure that has no part there keeps its largest elsewhere.

    Args:
        labels: Training labels [slice,row,col]; voxels that touch at a corner are connected.
    """
    kept = np.zeros_like(labels)
    if labels.any():
        box = _box(labels > 0)
        kept[box] = _largest_in(labels[box])
    return kept


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds all of a mask."""
    seen = (np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    return tuple(slice(int(places[0]), int(places[-1]) + 1) for places in seen)


def _largest_in(labels: np.ndarray) -> np.ndarray:
    """As `keep_largest`, of labels that are not all background."""
    values = np.unique(labels[labels > 0])
    places = connected_components(labels > 0, connectivity=3)
    together = np.zeros(places.max() + 1)
    for value in values:
        together[np.unique(places[labels == value])] += 1
    sizes = np.bincount(places.ravel())
    together[0] = sizes[0] = 0
    heart = places == np.lexsort((sizes, together))[-1]
    kept = np.zeros_like(labels)
    for value in values:
        own = labels == value
        inside = own & heart
        kept[_largest_part(inside if inside.any() else own)] = value
    return kept


def _largest_part(mask: np.ndarray) -> np.ndarray:
    parts = connected_components(mask, connectivity=3)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()
