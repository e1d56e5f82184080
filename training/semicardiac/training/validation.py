"""The teacher against the labels of the validation cases, on their original grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..base.errors import Stopped
from ..base.events import EventLog, Progress
from ..base.statistics import average
from ..base.tables import GrowingTable
from ..base.text import is_number
from ..data.cases import Case, label_file, load_image, load_labels
from ..evaluation.evaluate import VALIDATION, Evaluation, evaluate_pairs, never
from ..evaluation.matching import Pair
from ..evaluation.metrics import dice
from ..images.volumes import write_labels
from ..models.compute import ComputePlan
from ..models.model import Model
from ..models.predict import segment

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
    history = GrowingTable(table)
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


def evaluate_model(
    model: Model,
    cases: Sequence[Case],
    plan: ComputePlan,
    out: Path,
    events: EventLog | None = None,
    stop: Callable[[], bool] = never,
) -> Evaluation:
    """Segments cases that have labels, keeps the segmentations in `out`/validation, and evaluates these.

    Raises:
        UserError: If a case cannot be read.
        Stopped: If asked to stop.
    """
    events = events or EventLog()
    pairs = []
    for number, case in enumerate(cases):
        if stop():
            raise Stopped
        events.emit(Progress(stage="validate", step=number, total=len(cases), case=case.name))
        path = out / VALIDATION / f"{case.name}.nii.gz"
        write_labels(path, segment(model, load_image(case), plan, roi=case.roi).labels, model.labels)
        pairs.append(Pair(case.name, case.patient, case.phase, path, label_file(case), case.image, case.frame))
    return evaluate_pairs(pairs, model.labels, out, events, stop)
