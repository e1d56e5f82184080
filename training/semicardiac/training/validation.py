"""The teacher against the labels of the validation cases, on their original grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..base.text import average, is_number
from ..data.cases import Case, load_image, load_labels
from ..evaluation.metrics import dice
from ..models.compute import ComputePlan
from ..models.model import Model
from ..models.predict import segment
from .history import History

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
        *({"step": step, "case": case, "structure": name, "dice": _rounded(score)} for case, name, score in scores)
    )
    values: dict[str, list[float]] = {}
    for _, name, score in scores:
        values.setdefault(name, []).append(score)
    means = {name: average(own) for name, own in values.items()}
    dice_by_structure = {name: _rounded(mean) for name, mean in means.items()}
    return {"dice": dice_by_structure, "mean_dice": _rounded(average(means.values()))}


def _rounded(score: float) -> float | None:
    return round(score, 5) if is_number(score) else None
