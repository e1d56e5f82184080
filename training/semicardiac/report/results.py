"""Sections of the report on what was measured: accuracy, pictures, heart function, several seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

from ..base.text import DASH, average, count, is_number, mean_and_sd, number, ordinal, signed
from ..evaluation.averages import MEAN, format_mean, undefined_notes
from ..evaluation.clinical import MEASURES, Agreement, difference_unit
from ..evaluation.evaluate import OVERLAYS
from ..images.labels import LabelSet
from ..jobs.record import Record
from . import charts, html
from .compare import Comparison, dice_of, over_seeds
from .html import escape

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
    compared = ""
    if other is not None and other.main.summary:
        groups["labeled only"] = _dice_by_structure(other.main.metrics, labels)
        with_unlabeled = comparison is not None and comparison.used
        note += f" Filled: {'with the unlabeled volumes' if with_unlabeled else 'this training'}."
        note += " Hollow, gray: labeled volumes only."
        compared = _compared(record, other, labels, comparison)
    title = "Dice of every volume by structure"
    strip = charts.dice_strip(groups, name="dice", title=title, colors=charts.structure_colors(labels))
    chart = html.panel("Dice of every volume", note, f'<div class="scroll wide">{strip}</div>')
    every = html.details("Every volume", _volumes_table(main.metrics, labels))
    return html.section("Accuracy", chart, compared, _metrics_table(summary, labels), every)


def pictures(main: Record) -> str:
    """Overlays from the worst volume to the best, but for the one that the head of the page shows."""
    items = _drawn(main)
    shown = "".join(_overlay(main, item) for item in items if item is not _typical(items))
    content = f'<div class="pictures">{shown}</div>' if shown else ""
    return html.section("From the worst to the best", content, note=HOW_DRAWN)


def typical_picture(main: Record) -> str:
    """The overlay of a volume that did neither well nor badly."""
    typical = _typical(_drawn(main))
    if typical is None or main.labels is None:
        return ""
    return _overlay(main, typical) + html.legend([*main.labels.structures], HOW_DRAWN)


def heart_function(main: Record) -> str:
    """Agreement of volumes, ejection fraction and mass with the reference, and what cannot be of a heart."""
    agreements = main.summary.get("agreement", {})
    total = len({row["patient"] for row in main.clinical})
    kept = [row for row in main.clinical if is_number(row["difference"]) and not row["implausible"]]
    panels, rows = [], []
    for measure, found in agreements.items():
        name, unit = MEASURES[measure]
        patients = [row for row in kept if row["measure"] == measure]
        if measure.endswith("ef_percent") and len(patients) > 1:
            panels.append(_bland_altman(measure, found, patients))
        means = [average(row[side] for row in patients) for side in ("prediction", "reference")]
        limits = f"{signed(found['lower'], 1)} to {signed(found['upper'], 1)}" if found["n"] > 1 else DASH
        cells = [*(number(mean, 1) for mean in means), signed(found["bias"], 1), limits]
        fewer = f" <small>n = {found['n']}</small>" if found["n"] < total else ""
        rows.append([f"{escape(name)} <small>{unit}</small>{fewer}", *cells])
    marked = [row for row in main.clinical if row["implausible"] and row["measure"] in MEASURES]
    if not any(found["n"] for found in agreements.values()) and not marked:
        return ""
    caption = (
        f"Means over {count(total, 'patient')} with both phases; n where fewer have a value in both that can be of a "
        "heart. Bias: segmentation minus reference, of ejection fractions in points. "
        "LV mass is that of the myocardium at end-diastole, 1.05 g/ml."
    )
    head = ["Measure", "segmentation", "reference", "bias", "95 % limits of agreement"]
    side_by_side = f'<div class="two">{"".join(panels)}</div>' if panels else ""
    agreed = html.table(head, rows, caption=caption) if rows else ""
    return html.section("Heart function", side_by_side, agreed, _implausible_table(marked))


def _bland_altman(measure: str, found: Mapping[str, Any], patients: Sequence[Mapping[str, Any]]) -> str:
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
    return html.panel(name, "Bland-Altman: each dot is a patient.", svg)


def _implausible_table(marked: Sequence[Mapping[str, Any]]) -> str:
    """The values that count in no mean, and why."""
    if not marked:
        return ""
    grouped: dict[tuple[str, str], list[str]] = {}
    for row in marked:
        name, unit = MEASURES[row["measure"]]
        values = f'<span class="odd">{number(row["prediction"], 1)}</span>, reference {number(row["reference"], 1)}'
        grouped.setdefault((row["patient"], row["implausible"]), []).append(f"{name} {values} {unit}")
    rows = [[escape(patient), escape(why), "<br>".join(values)] for (patient, why), values in grouped.items()]
    patients = count(len({row["patient"] for row in marked}), "patient")
    caption = f"Implausible, and left out of the means above: {count(len(marked), 'value')} of {patients}."
    head = ["Patient", "why", "values"]
    shown, more = rows[:MARKED_MAX], rows[MARKED_MAX:]
    folded = html.details(f"{len(more)} more", html.table(head, more, numeric_from=3)) if more else ""
    return html.table(head, shown, caption=caption, numeric_from=3) + folded


def seeds(record: Record) -> str:
    """Mean and standard deviation over trainings that differ in their seeds."""
    labels, trainings = record.labels, record.seeds
    if len(trainings) < 2 or labels is None:
        return ""
    names = [MEAN, *labels.names]
    values = [[dice_of(seed, name) for name in names] for seed in trainings]
    rows = [
        [escape(seed.folder.name), *(number(value, 3) for value in found)]
        for seed, found in zip(trainings, values, strict=True)
    ]
    spread = (mean_and_sd(column) for column in zip(*values, strict=True))
    rows.append(["mean ± SD", *(f"{number(mean, 3)} <small>± {number(sd, 3)}</small>" for mean, sd in spread)])
    head = ["Training", "mean Dice", *map(escape, labels.names)]
    note = f"Figures and tables behind this one are of the first training, {escape(trainings[0].folder.name)}."
    return html.section("Seeds", html.table(head, rows, strong=len(rows) - 1), note=note)


def _metrics_table(summary: Mapping[str, Any], labels: LabelSet) -> str:
    rows: list[list[str] | str] = []
    for phase, block in {"": summary["metrics"], **summary["by_phase"]}.items():
        rows += [PHASES.get(phase, escape(phase))] if phase else []
        for structure in labels.structures:
            cells = [_mean_cell(block[structure.name][metric], metric) for metric in _HEADS]
            rows.append([html.chip(structure.color, structure.name), *cells])
        if not phase:
            rows.append([MEAN, *(_mean_cell(block[MEAN][metric], metric) for metric in _HEADS)])
    notes = ["Mean ± standard deviation over the volumes, on their original grid."]
    if summary["worst"]:
        worst, dice = summary["worst"]["case"], summary["worst"]["mean_dice"]
        notes.append(f"The worst volume is <b>{escape(worst)}</b>, mean Dice {dice:.3f}.")
    for name in labels.names:
        notes += [f"{escape(name)} is {note}." for note in undefined_notes(summary["metrics"][name])]
    head = ["Structure", *_HEADS.values()]
    return html.table(head, rows, caption=" ".join(notes), strong=len(labels.structures))


def _compared(record: Record, other: Record, labels: LabelSet, comparison: Comparison | None) -> str:
    rows = []
    for name in [*labels.names, MEAN]:
        cells = []
        for metric, digits in (("dice", 3), ("hd95_mm", 2)):
            value = partial(_mean_of, name=name, metric=metric)
            theirs, ours = (over_seeds(side, value) for side in (other, record))
            change = DASH if theirs is None or ours is None else signed(ours - theirs, digits)
            cells += [number(theirs, digits), number(ours, digits), f"<b>{change}</b>"]
        rows.append([escape(name), *cells])
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
    return html.table(head, rows, caption=caption, strong=len(rows) - 1)


def _mean_of(record: Record, name: str, metric: str) -> float | None:
    return record.summary.get("metrics", {}).get(name, {}).get(metric, {}).get("mean")


def _volumes_table(metrics: Sequence[Mapping[str, Any]], labels: LabelSet) -> str:
    by_case: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in metrics:
        by_case.setdefault(row["case"], {})[row["structure"]] = row
    means = {
        case: average(row["dice"] for row in rows.values() if is_number(row["dice"])) for case, rows in by_case.items()
    }
    lines = []
    for case in sorted(by_case, key=lambda case: (not is_number(means[case]), means[case])):
        found = [by_case[case].get(name, {}) for name in labels.names]
        cells = [f"{number(row.get('dice'), 3)} <small>{number(row.get('hd95_mm'), 1)} mm</small>" for row in found]
        lines.append([escape(case), number(means[case], 3), *cells])
    head = ["Volume", "mean Dice", *map(escape, labels.names)]
    return html.table(head, lines, caption="Dice and HD95, the worst volume first.")


def _drawn(main: Record) -> list[dict[str, Any]]:
    """Pictures that lie where an evaluation leaves them: a path in metrics.json is none to follow."""
    folder = main.measured / OVERLAYS
    items = [{**item, "file": folder / PurePath(item["path"]).name} for item in main.summary.get("overlays", [])]
    return [item for item in items if item["file"].suffix == ".png" and item["file"].is_file()]


def _typical(items: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    return items[len(items) // 2] if items else None


def _overlay(main: Record, item: Mapping[str, Any]) -> str:
    case, rank, total = item["case"], item["rank"], main.summary["volumes"]
    place = {1: "the worst", total: "the best"}.get(rank, f"{ordinal(rank)} of {total}, counted from the worst")
    dice = {row["structure"]: row["dice"] for row in main.metrics if row["case"] == case}
    names = main.labels.names if main.labels else []
    by_structure = ", ".join(f"{escape(name)} {number(dice.get(name), 3)}" for name in names)
    caption = f"<b>{escape(case)}</b>, {place}: mean Dice {item['mean_dice']:.3f} ({by_structure})"
    return html.picture(item["file"].read_bytes(), f"Slices of {case}: reference contours and segmentation", caption)


def _dice_by_structure(metrics: Sequence[Mapping[str, Any]], labels: LabelSet) -> dict[str, dict[str, float]]:
    return {name: {row["case"]: row["dice"] for row in metrics if row["structure"] == name} for name in labels.names}


def _mean_cell(found: Mapping[str, Any], metric: str) -> str:
    mean, _, sd = format_mean(dict(found), metric).partition(" ± ")
    spread = f" <small>± {sd}</small>" if sd else ""
    left_out = f" <small>n = {found['n']}</small>" if found["undefined"] else ""
    return f"{DASH if mean == '-' else mean}{spread}{left_out}"
