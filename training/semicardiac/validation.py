"""The teacher against the labels of the validation cases, on their original grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .cases import Case, load_image, load_labels
from .compute import ComputePlan
from .history import History
from .inference import segment
from .metrics import dice
from .model import Model

#: Case, structure, Dice.
Score = tuple[str, str, float]


def validate(model: Model, cases: list[Case], plan: ComputePlan) -> list[Score]:
    """Segments the validation cases as a user would and compares.

    Args:
        model: The model so far, on the plan's device.
        cases: Validation cases with labels.
        plan: Where to compute.

    Returns:
        A score for each case and structure, NaN where neither has it.
    """
    scores = []
    for case in cases:
        found = segment(model, load_image(case), plan, roi=case.roi).labels.array
        truth = load_labels(case, model.labels).array
        named = enumerate(model.labels.names, start=1)
        scores += [(case.name, name, dice(found == value, truth == value)) for value, name in named]
    return scores


def record(scores: list[Score], table: Path, step: int) -> dict[str, Any]:
    """Appends scores to validation.csv (columns step, case, structure, dice).

    Returns:
        `dice`, the mean by structure (None where no case has it), and `mean_dice` over the structures.
    """
    history = History(table)
    history.cut(step - 1)  # a run that was interrupted may have come this far before
    history.add(
        *(
            {"step": step, "case": case, "structure": name, "dice": None if np.isnan(score) else round(score, 5)}
            for case, name, score in scores
        )
    )
    values: dict[str, list[float]] = {}
    for _, name, score in scores:
        values.setdefault(name, []).append(score)
    means = {name: _mean(own) for name, own in values.items()}
    known = [mean for mean in means.values() if mean is not None]
    return {"dice": means, "mean_dice": round(float(np.mean(known)), 5) if known else None}


def _mean(scores: list[float]) -> float | None:
    finite = [score for score in scores if not np.isnan(score)]
    return round(float(np.mean(finite)), 5) if finite else None
