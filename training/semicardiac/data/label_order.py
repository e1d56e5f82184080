"""Whether labels are those of a heart: its wall encloses the left ventricle, and nothing else does so."""

from __future__ import annotations

import itertools

import numpy as np

from ..images.labels import LabelSet
from ..images.volumes import Volume
from .slices import as_stack

ENCLOSED = 0.6
"""A structure is enclosed by another that at least this share of its outline touches, in slices. In 160 volumes of ACDC
the LV cavity touches the myocardium along 0.99 to 1 of its outline, the RV cavity along 0.17 to 0.44."""

CLEARLY = 0.3
"""By so much more than the LV cavity another structure has to be enclosed, before anything is said."""

_SMALLEST = 0.02
"""A structure with a smaller share of the voxels of the one around it is a fleck, not a cavity."""


def mixed_up(labels: Volume, label_set: LabelSet) -> str | None:
    """What is wrong with the order of labels if not the myocardium encloses the LV cavity, but one another.

    Args:
        labels: Training labels.
        label_set: Says by its roles, or else by its names, which structures are the cavities and the myocardium.

    Returns:
        A sentence; None if the labels are sound, or too few to tell.
    """
    roles = _roles(label_set)
    if not {"lv", "myo"} <= roles.keys():
        return None
    outlines = _outlines(as_stack(labels, label_set.plane).array, label_set.classes)
    voxels = np.bincount(labels.array.ravel(), minlength=label_set.classes)
    shares = {
        (inner, outer): outlines[inner, outer] / max(outlines[inner].sum(), 1)
        for inner, outer in itertools.permutations(roles.values(), 2)
        if voxels[inner] > _SMALLEST * voxels[outer] > 0
    }
    right = (roles["lv"], roles["myo"])
    found = max(shares, key=shares.__getitem__, default=right)
    if found == right or shares[found] < max(ENCLOSED, shares.get(right, 0) + CLEARLY):
        return None
    (inner, outer), (lv, myo) = ([label_set.names[label - 1] for label in pair] for pair in (found, right))
    what = f"'{outer}' encloses '{inner}', where '{myo}' should enclose '{lv}'"
    return f"{what}: the values of these labels probably mean other structures"


def _roles(label_set: LabelSet) -> dict[str, int]:
    """The training labels of `lv`, `myo` and `rv`, as far as the set has one of each."""
    meanings = [structure.meaning for structure in label_set.structures]
    return {role: meanings.index(role) + 1 for role in ("lv", "myo", "rv") if meanings.count(role) == 1}


def _outlines(stack: np.ndarray, classes: int) -> np.ndarray:
    """How often voxels of one label lie beside those of another one in slices, [label,label].

    Args:
        stack: Labels [slice,row,col].
        classes: How many labels there are.
    """
    pairs = np.zeros((classes, classes), dtype=np.int64)
    for near, far in ((stack[:, 1:], stack[:, :-1]), (stack[:, :, 1:], stack[:, :, :-1])):
        apart = near != far
        beside = near[apart].astype(np.intp) * classes + far[apart]
        pairs += np.bincount(beside, minlength=classes**2).reshape(classes, classes)
    return pairs + pairs.T
