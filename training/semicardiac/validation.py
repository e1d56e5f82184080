"""The teacher against the labels of the validation cases, on their original grid."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Case, load_image, load_labels
from .compute import ComputePlan
from .inference import segment
from .metrics import dice
from .model import Model


def validate(model: Model, cases: list[Case], plan: ComputePlan, table: Path, step: int) -> dict[str, Any]:
    """Segments the validation cases as a user would and appends one row a case and structure to a table.

    Args:
        model: The model so far, on the plan's device.
        cases: Validation cases with labels.
        plan: Where to compute.
        table: validation.csv; columns step, case, structure, dice.
        step: Of the training.

    Returns:
        `dice`, the mean by structure (None where no case has it), and `mean_dice` over the structures.
    """
    values: dict[str, list[float]] = {name: [] for name in model.labels.names}
    new = not table.exists()
    with open(table, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "case", "structure", "dice"])
        for case in cases:
            found = segment(model, load_image(case), plan, roi=case.roi).labels.array
            truth = load_labels(case, model.labels).array
            for value, name in enumerate(model.labels.names, start=1):
                score = dice(found == value, truth == value)
                values[name].append(score)
                writer.writerow([step, case.name, name, "" if np.isnan(score) else round(score, 5)])
    means = {name: _mean(scores) for name, scores in values.items()}
    known = [mean for mean in means.values() if mean is not None]
    return {"dice": means, "mean_dice": round(float(np.mean(known)), 5) if known else None}


def _mean(scores: list[float]) -> float | None:
    finite = [score for score in scores if not np.isnan(score)]
    return round(float(np.mean(finite)), 5) if finite else None
