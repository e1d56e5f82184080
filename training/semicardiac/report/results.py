"""Sections of the report on what was measured: accuracy, pictures, heart function, several seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

from ..base.statistics import average, mean_and_sd
from ..base.text import DASH, count, is_number, ordinal
from ..evaluation.averages import MEAN, format_mean, undefined_notes
from ..evaluation.clinical import MEASURES, Agreement, difference_unit
from ..evaluation.evaluate import OVERLAYS
from ..images.labels import LabelSet, Structure
from ..jobs.record import Record
from . import charts
from .compare import Comparison, dice_of, over_seeds
from .html import render

MARKED_MAX = 12
"""Doubts about patients' values that are shown at once."""
HOW_DRAWN = "Fill: the segmentation. Line: the reference. Slices are numbered as in the file."
PHASES = {"ED": "End-diastole", "ES": "End-systole"}
_HEADS = {
    "dice": "Dice", "jaccard": "Jaccard", "hd95_mm": "HD95, mm", "asd_mm": "ASD, mm", "hd95_voxels": "HD95, voxels",
    "asd_voxels": "ASD, voxels",
}  # fmt: skip


def accuracy(record: Record, other: Record | None, comparison: Comparison | None) -> str:
    """Dice of every volume, tables of all metrics, and the comparison with a baseline."""
    main = record.main
    labels, summary = main.labels, main.summary
    if not summary or labels is None:
        return ""
    groups = {"this": _dice_by_structure(main.metrics, labels)}
    note = "Each dot is a volume, each bar the mean; an arrow is a volume beyond the axis."
    compared = None
    if other is not None and other.main.summary:
        groups["labeled only"] = _dice_by_structure(other.main.metrics, labels)
        with_unlabeled = comparison is not None and comparison.used
        note += f" Filled: {'with the unlabeled volumes' if with_unlabeled else 'this training'}."
        note += " Hollow, gray: labeled volumes only."
        compared = _compared(record, other, labels, comparison)
    title = "Dice of every volume by structure"
    return render(
        "accuracy.html",
        note=note,
        strip=charts.dice_strip(groups, name="dice", title=title, colors=charts.structure_colors(labels)),
        compared=compared,
        heads=list(_HEADS.values()),
        blocks=_metrics(summary, labels),
        worst=summary["worst"],
        undefined=[(name, note) for name in labels.names for note in undefined_notes(summary["metrics"][name])],
        names=labels.names,
        volumes=_volumes(main.metrics, labels),
    )


def pictures(main: Record) -> str:
    """Overlays from the worst volume to the best, but for the one that the head of the page shows."""
    items = _drawn(main)
    shown = [_overlay(main, item) for item in items if item is not _typical(items)]
    return render("pictures.html", how_drawn=HOW_DRAWN, shown=shown) if shown else ""


def typical_picture(main: Record) -> dict[str, Any] | None:
    """The overlay of a volume that did neither well nor badly."""
    typical = _typical(_drawn(main))
    return _overlay(main, typical) if typical is not None and main.labels is not None else None


def heart_function(main: Record) -> str:
    """Agreement of volumes, ejection fraction and mass with the reference, and what cannot be of a heart."""
    agreements = main.summary.get("agreement", {})
    marked = [row for row in main.clinical if row["implausible"] and row["measure"] in MEASURES]
    if not any(found["n"] for found in agreements.values()) and not marked:
        return ""
    kept = [row for row in main.clinical if is_number(row["difference"]) and not row["implausible"]]
    panels, rows = [], []
    for measure, found in agreements.items():
        name, unit = MEASURES[measure]
        patients = [row for row in kept if row["measure"] == measure]
        if measure.endswith("ef_percent") and len(patients) > 1:
            panels.append(_bland_altman(measure, found, patients))
        means = {side: average(row[side] for row in patients) for side in ("prediction", "reference")}
        rows.append({**found, **means, "name": name, "unit": unit})
    marked_patients = count(len({row["patient"] for row in marked}), "patient")
    return render(
        "heart.html",
        patients=len({row["patient"] for row in main.clinical}),
        charts=panels,
        agreements=rows,
        marked=_implausible(marked),
        marked_caption=(
            f"Implausible, and left out of the means above: {count(len(marked), 'value')} of {marked_patients}."
        ),
        most=MARKED_MAX,
    )


def _bland_altman(
    measure: str, found: Mapping[str, Any], patients: Sequence[Mapping[str, Any]]
) -> tuple[str, str, str]:
    name, unit = MEASURES[measure]
    bias, sd, lower, upper = (
        math.nan if found[key] is None else found[key] for key in ("bias", "sd", "lower", "upper")
    )
    limits = Agreement(found["n"], bias, sd, lower, upper)
    measured, reference = ([row[side] for row in patients] for side in ("prediction", "reference"))
    identity, title = measure.replace("_", "-"), f"Bland-Altman plot: {name}"
    svg = charts.bland_altman(
        measured,
        reference,
        limits,
        name=identity,
        title=title,
        unit=unit,
        difference_unit=difference_unit(measure),
    )
    return name, "Bland-Altman: each dot is a patient.", svg


def _implausible(marked: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[tuple[Any, ...]]]]:
    """Patient, doubt, and the values that count in no mean: name, value, reference and unit of each."""
    grouped: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for row in marked:
        name, unit = MEASURES[row["measure"]]
        values = grouped.setdefault((row["patient"], row["implausible"]), [])
        values.append((name, row["prediction"], row["reference"], unit))
    return [(patient, why, values) for (patient, why), values in grouped.items()]


def seeds(record: Record) -> str:
    """Mean and standard deviation over trainings that differ in their seeds."""
    labels, trainings = record.labels, record.seeds
    if len(trainings) < 2 or labels is None:
        return ""
    rows = [(seed.folder.name, [dice_of(seed, name) for name in (MEAN, *labels.names)]) for seed in trainings]
    spread = [mean_and_sd(column) for column in zip(*(values for _, values in rows), strict=True)]
    return render("seeds.html", names=labels.names, rows=rows, spread=spread)


def _metrics(summary: Mapping[str, Any], labels: LabelSet) -> list[tuple[str, list[tuple[Structure | None, Any]]]]:
    """Cells by structure, without one those of the mean, of all volumes and of those of each phase."""
    blocks = []
    for phase, block in {"": summary["metrics"], **summary["by_phase"]}.items():
        rows: list[tuple[Structure | None, Any]] = [
            (structure, [_cell(block[structure.name][metric], metric) for metric in _HEADS])
            for structure in labels.structures
        ]
        if not phase:
            rows.append((None, [_cell(block[MEAN][metric], metric) for metric in _HEADS]))
        blocks.append((PHASES.get(phase, phase), rows))
    return blocks


def _cell(found: Mapping[str, Any], metric: str) -> dict[str, Any]:
    mean, _, sd = format_mean(dict(found), metric).partition(" ± ")
    return {"mean": DASH if mean == "-" else mean, "sd": sd, "n": found["n"] if found["undefined"] else None}


def _compared(record: Record, other: Record, labels: LabelSet, comparison: Comparison | None) -> dict[str, Any]:
    """The table of two trainings: Dice and HD95 of each structure, without and with unlabeled cases."""
    rows = []
    for name in [*labels.names, MEAN]:
        groups = []
        for metric, digits in (("dice", 3), ("hd95_mm", 2)):
            value = partial(_mean_of, name=name, metric=metric)
            theirs, ours = (over_seeds(side, value) for side in (other, record))
            groups.append((digits, theirs, ours, None if theirs is None or ours is None else ours - theirs))
        rows.append((name, groups))
    head = ["Structure"]
    used = comparison is not None and comparison.used
    for metric in ("Dice", "HD95 mm"):
        head += [f"{metric}, labeled only", "with unlabeled" if used else "this training", "change"]
    fair = comparison is not None and comparison.fair
    caption = f"{'What the unlabeled volumes changed' if fair else 'Both trainings'}: means over the same volumes"
    if record.seeds or other.seeds:
        own, others = (count(len(side.seeds) or 1, "training") for side in (record, other))
        caption += f", over {own} with and {others} without {'them' if fair else 'unlabeled cases'}"
    caption += "." if fair or comparison is None else ". The change is not that of the unlabeled cases alone."
    return {"head": head, "rows": rows, "caption": caption}


def _mean_of(record: Record, name: str, metric: str) -> float | None:
    return record.summary.get("metrics", {}).get(name, {}).get(metric, {}).get("mean")


def _volumes(metrics: Sequence[Mapping[str, Any]], labels: LabelSet) -> list[tuple[str, float, list[tuple[Any, Any]]]]:
    """Each volume, the worst first, with its mean Dice, and Dice and HD95 by structure."""
    by_case: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in metrics:
        by_case.setdefault(row["case"], {})[row["structure"]] = row
    means = {case: average(row["dice"] for row in rows.values()) for case, rows in by_case.items()}
    volumes = []
    for case in sorted(by_case, key=lambda case: (not is_number(means[case]), means[case])):
        found = [by_case[case].get(name, {}) for name in labels.names]
        volumes.append((case, means[case], [(row.get("dice"), row.get("hd95_mm")) for row in found]))
    return volumes


def _drawn(main: Record) -> list[dict[str, Any]]:
    """Pictures that lie where an evaluation leaves them: a path in metrics.json is none to follow."""
    folder = main.measured / OVERLAYS
    items = [{**item, "file": folder / PurePath(item["path"]).name} for item in main.summary.get("overlays", [])]
    return [item for item in items if item["file"].suffix == ".png" and item["file"].is_file()]


def _typical(items: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    return items[len(items) // 2] if items else None


def _overlay(main: Record, item: Mapping[str, Any]) -> dict[str, Any]:
    case, rank, total = item["case"], item["rank"], main.summary["volumes"]
    dice = {row["structure"]: row["dice"] for row in main.metrics if row["case"] == case}
    return {
        "png": item["file"].read_bytes(),
        "case": case,
        "place": {1: "the worst", total: "the best"}.get(rank, f"{ordinal(rank)} of {total}, counted from the worst"),
        "mean_dice": item["mean_dice"],
        "dice": {name: dice.get(name) for name in (main.labels.names if main.labels else [])},
    }


def _dice_by_structure(metrics: Sequence[Mapping[str, Any]], labels: LabelSet) -> dict[str, dict[str, float]]:
    return {name: {row["case"]: row["dice"] for row in metrics if row["structure"] == name} for name in labels.names}
