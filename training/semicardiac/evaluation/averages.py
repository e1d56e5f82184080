"""Means over many volumes: what metrics.json holds, and the table that a person reads in a terminal.

What is undefined or implausible counts in no mean and is counted. The `mean` over structures is taken within each
volume first, over those structures whose metric is defined there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .. import __version__
from ..base.errors import UserError
from ..base.statistics import average, mean_and_sd
from ..base.text import count, is_number, spelled
from ..images.labels import LabelSet
from .clinical import MEASURES, agreement, difference_unit
from .metrics import METRICS

MEAN = "mean"
"""Stands among the structures for the mean over all of them."""


_UNDEFINED = {
    "both_empty": "in neither segmentation nor reference of {}, which count in none of its means",
    "missed": "missed altogether in {}: Dice 0, no distance",
    "invented": "only in the segmentation of {}: Dice 0, no distance",
}


class _Stored(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False, extra="allow")


class _Mean(_Stored):
    mean: float | None
    sd: float | None
    n: int
    undefined: int


class _Means(_Stored):
    dice: _Mean
    jaccard: _Mean
    hd95_mm: _Mean
    asd_mm: _Mean
    hd95_voxels: _Mean
    asd_voxels: _Mean
    both_empty: int = 0
    missed: int = 0
    invented: int = 0


class _Worst(_Stored):
    case: str
    mean_dice: float


class _Agreement(_Stored):
    n: int
    bias: float | None
    sd: float | None
    lower: float | None
    upper: float | None
    implausible: int = 0


class _Overlay(_Stored):
    case: str
    mean_dice: float
    rank: int
    path: str


class _Summary(_Stored):
    labels: LabelSet
    volumes: int
    patients: int
    metrics: dict[str, _Means]
    by_phase: dict[str, dict[str, _Means]]
    worst: _Worst | None
    agreement: dict[str, _Agreement]
    overlays: list[_Overlay] = []


def parse_summary(data: Any, labels: LabelSet | None, *, where: object) -> dict[str, Any]:
    """What metrics.json holds, as `summarize` makes it but with None for NaN.

    Args:
        data: The content of the file.
        labels: The structures that it should tell of, where others are known than it names itself.
        where: The file.

    Raises:
        UserError: If anything that it should hold is missing or of another kind.
    """
    try:
        summary = _Summary.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"this is no summary of an evaluation ({field}: {first['msg']})", where=where) from None
    for block in (summary.metrics, *summary.by_phase.values()):
        if missing := [name for name in [*(labels or summary.labels).names, MEAN] if name not in block]:
            raise UserError(f"this summary does not tell of '{missing[0]}'", where=where)
    if unknown := sorted(summary.agreement.keys() - MEASURES):
        raise UserError(f"there is no measure '{unknown[0]}'", where=where)
    return summary.model_dump(mode="json")


def summarize(
    rows: Sequence[dict[str, Any]], clinical: Sequence[dict[str, Any]], label_set: LabelSet
) -> dict[str, Any]:
    """What metrics.json holds, from the rows of metrics.csv and clinical.csv."""
    phases = sorted({row["phase"] for row in rows if row["phase"]})
    means = {case: value for case, value in by_volume(rows, "dice").items() if is_number(value)}
    worst = min(means, key=lambda case: (means[case], case), default=None)
    return {
        "version": __version__,
        "labels": label_set.model_dump(mode="json"),
        "volumes": len({row["case"] for row in rows}),
        "patients": len({row["patient"] for row in rows}),
        "metrics": _aggregate(rows, label_set),
        "by_phase": {phase: _aggregate([row for row in rows if row["phase"] == phase], label_set) for phase in phases},
        "worst": None
        if worst is None
        else {
            "case": worst,
            "mean_dice": means[worst],
            "dice": {row["structure"]: row["dice"] for row in rows if row["case"] == worst},
        },
        "agreement": {
            measure: _agreement(found)
            for measure in MEASURES
            if (found := [row for row in clinical if row["measure"] == measure])
        },
    }


def _agreement(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Agreement on a measure without the patients in whom it is `implausible`, whose number is told."""
    kept = [row for row in rows if not row["implausible"]]
    found = agreement(*([row[side] for row in kept] for side in ("prediction", "reference")))
    return {**asdict(found), "implausible": len(rows) - len(kept)}


def by_volume(rows: Sequence[dict[str, Any]], metric: str) -> dict[str, float]:
    """Mean of a metric over the structures of each volume where it is defined."""
    by_case: dict[str, list[float]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row[metric])
    return {case: average(values) for case, values in by_case.items()}


def format_table(summary: dict[str, Any]) -> str:
    """The summary as text for a terminal."""
    heads = {"dice": "Dice", "jaccard": "Jaccard", "hd95_mm": "HD95 mm", "asd_mm": "ASD mm"}
    blocks = {"": summary["metrics"], **summary["by_phase"]}
    width = max(len(spelled(name)) for name in [*summary["metrics"], "structure"]) + 4
    measured = f"{count(summary['volumes'], 'volume')} of {count(summary['patients'], 'patient')}"
    lines = [f"{measured}; mean ± SD", ""]
    lines.append("structure".ljust(width) + "".join(head.rjust(16) for head in heads.values()))
    for phase, block in blocks.items():
        for name, found in block.items():
            cells = "".join(format_mean(found[metric], metric).rjust(16) for metric in heads)
            lines.append(spelled(f"{name}{' ' if phase else ''}{phase}").ljust(width) + cells)
        lines.append("")
    notes = []
    for name, found in summary["metrics"].items():
        if name == MEAN:
            continue
        notes += [f"{spelled(name)} is {note}" for note in undefined_notes(found)]
    if summary["worst"]:
        notes.append(
            f"worst volume: {spelled(summary['worst']['case'])}, mean Dice {summary['worst']['mean_dice']:.3f}"
        )
    notes += _agreement_notes(summary["agreement"])
    return "\n".join(lines + notes).rstrip() + "\n"


def _agreement_notes(agreements: dict[str, dict[str, Any]]) -> list[str]:
    notes, unmeasured = [], []
    for measure, found in agreements.items():
        name, unit = MEASURES[measure][0], difference_unit(measure)
        left_out = f"{found['implausible']} left out as implausible" if found["implausible"] else ""
        if found["n"]:
            limits = f", 95 % limits {found['lower']:+.1f} to {found['upper']:+.1f}" if found["n"] > 1 else ""
            patients = ", ".join(filter(None, (count(found["n"], "patient"), left_out)))
            notes.append(f"{name}: bias {found['bias']:+.1f} {unit}{limits} ({patients})")
        elif left_out:
            notes.append(f"{name}: measured in no patient ({left_out})")
        else:
            unmeasured.append(name)
    return [*notes, f"could be measured in no patient: {', '.join(unmeasured)}"] if unmeasured else notes


def undefined_notes(found: dict[str, Any]) -> list[str]:
    """What the empty masks of a structure mean for its means, to be read after "the structure is"."""
    return [text.format(count(found[key], "volume")) for key, text in _UNDEFINED.items() if found[key]]


def format_mean(found: dict[str, Any], metric: str) -> str:
    """`0.872 ± 0.051`, or a dash where nothing is defined."""
    digits = 3 if metric in ("dice", "jaccard") else 2
    if not is_number(found["mean"]):
        return "-"
    spread = f" ± {found['sd']:.{digits}f}" if is_number(found["sd"]) else ""
    return f"{found['mean']:.{digits}f}{spread}"


def _aggregate(rows: Sequence[dict[str, Any]], label_set: LabelSet) -> dict[str, Any]:
    aggregate: dict[str, Any] = {}
    for name in label_set.names:
        own = [row for row in rows if row["structure"] == name]
        aggregate[name] = {metric: _mean_sd([row[metric] for row in own]) for metric in METRICS}
        filled = [(row["prediction_ml"] > 0, row["reference_ml"] > 0) for row in own]
        aggregate[name] |= {
            "both_empty": filled.count((False, False)),
            "missed": filled.count((False, True)),
            "invented": filled.count((True, False)),
        }
    aggregate[MEAN] = {metric: _mean_sd(list(by_volume(rows, metric).values())) for metric in METRICS}
    return aggregate


def _mean_sd(values: list[float]) -> dict[str, float | int]:
    mean, sd = mean_and_sd(values)
    n = sum(map(is_number, values))
    return {"mean": mean, "sd": sd, "n": n, "undefined": len(values) - n}
