"""Our Dice, Jaccard, HD95 and ASD of a volume over the usual ones, which look at the whole grid for each of them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from semicardiac.bench.timing import Measured, Setting, ratios, take_turns
from semicardiac.bench.trainee import LABELS
from semicardiac.bench.volumes import STUDY, unseen
from semicardiac.evaluation import metrics
from semicardiac.images.volumes import read_labels
from semicardiac.phantom.study import REFERENCE

Scores = dict[str, tuple[float, float, float, float]]
"""Dice, Jaccard, HD95 and ASD in mm, by structure."""


def measure(setting: Setting) -> dict[str, Measured]:
    """Of a phantom's exact labels and the same ones moved by two pixels."""
    exact = setting.folder / STUDY / REFERENCE / "test" / f"{unseen(setting).name}.nii.gz"
    truth = read_labels(exact, LABELS)
    found = np.roll(truth.array, (2, 1), axis=(1, 2))
    spacing = truth.spacing[::-1]
    ours, theirs = our_scores(found, truth.array, spacing), their_scores(found, truth.array, spacing)
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)
    works = {
        "ours": lambda: our_scores(found, truth.array, spacing),
        "theirs": lambda: their_scores(found, truth.array, spacing),
    }
    times = take_turns(setting, works)
    shape = " x ".join(map(str, found.shape))
    told = ", ".join(f"{name} {1000 * np.median(each):.0f}" for name, each in times.items())
    note = f"ms for {len(LABELS.names)} structures on {shape} voxels: {told}; both give the same numbers"
    return {"metrics_over_brute_force": Measured(ratios(times["ours"], times["theirs"]), note)}


def our_scores(found: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> Scores:
    scores = {}
    for value, name in enumerate(LABELS.names, start=1):
        one, other = found == value, truth == value
        distances = metrics.surface_distances(one, other, spacing)
        overlap = metrics.dice(one, other), metrics.jaccard(one, other)
        scores[name] = (*overlap, metrics.hd95(distances), metrics.asd(distances))
    return scores


def their_scores(found: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> Scores:
    """Each metric by itself, each distance from a transform of the whole grid, as libraries of single metrics do."""
    scores = {}
    for value, name in enumerate(LABELS.names, start=1):
        one, other = found == value, truth == value
        both, either = np.count_nonzero(one & other), np.count_nonzero(one | other)
        hd95 = np.percentile(_pooled(one, other, spacing), 95)
        asd = _pooled(one, other, spacing).mean()
        scores[name] = (2 * both / (np.count_nonzero(one) + np.count_nonzero(other)), both / either, hd95, asd)
    return scores


def _pooled(one: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    return np.concatenate([_distances(one, other, spacing), _distances(other, one, spacing)])


def _distances(one: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """From the surface of one to that of the other."""
    here, there = (each ^ ndimage.binary_erosion(each) for each in (one, other))
    return ndimage.distance_transform_edt(~there, sampling=spacing)[here]
