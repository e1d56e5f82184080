"""Sections of the report on what was measured: accuracy, pictures, heart function, several seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

from . import figures, page
from .clinical import MEASURES, Agreement
from .labels import LabelSet
from .record import Record
from .summary import MEAN, format_mean, undefined_notes
from .wording import DASH, average, count, is_number, mean_and_sd, number, ordinal, signed

HOW_DRAWN = "Fill: the segmentation. Line: the reference. Slices are numbered as in the file."
PHASES = {"ED": "End-diastole", "ES": "End-systole"}
_HEADS = {
    "dice": "Dice", "jaccard": "Jaccard", "hd95_mm": "HD95, mm", "asd_mm": "ASD, mm", "hd95_voxels": "HD95, voxels",
    "asd_voxels": "ASD, voxels",
}  # fmt: skip


def dice_of(record: Record, name: str) -> float | None:
    """Mean Dice of a structure, or of all, in the evaluation, or else in the last validation; mean over the seeds."""
    if record.seeds:
        return _over_seeds(record, lambda seed: dice_of(seed, name))
    if record.summary:
        return record.summary["metrics"].get(name, {}).get("dice", {}).get("mean")
    if not record.validation:
        return None
    last = record.validation_lines.get(name, ((), (math.nan,)))[1][-1]
    return last if is_number(last) else None


def _over_seeds(record: Record, value: Callable[[Record], float | None]) -> float | None:
    """The mean of a value over the seeds of a training; None where no training has it."""
    mean = average(value(training) for training in record.seeds or [record])
    return mean if is_number(mean) else None


def accuracy(record: Record, other: Record | None) -> str:
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
        note += " Filled: with the unlabeled volumes. Hollow, gray: labeled volumes only."
        compared = _compared(record, other, labels)
    title = "Dice of every volume by structure"
    strip = figures.dice_strip(groups, name="dice", title=title, colors=figures.structure_colors(labels))
    chart = page.panel("Dice of every volume", note, f'<div class="scroll wide">{strip}</div>')
    every = page.details("Every volume", _volumes_table(main.metrics, labels))
    return page.section("Accuracy", chart, compared, _metrics_table(summary, labels), every)


def pictures(main: Record) -> str:
    """Overlays from the worst volume to the best, but for the one that the head of the page shows."""
    items = _drawn(main)
    shown = "".join(_overlay(main, item) for item in items if item is not _typical(items))
    content = f'<div class="pictures">{shown}</div>' if shown else ""
    return page.section("From the worst to the best", content, note=HOW_DRAWN)


def typical_picture(main: Record) -> str:
    """The overlay of a volume that did neither well nor badly."""
    typical = _typical(_drawn(main))
    if typical is None or main.labels is None:
        return ""
    return _overlay(main, typical) + page.legend([*main.labels.structures], HOW_DRAWN)


def heart_function(main: Record) -> str:
    """Agreement of volumes, ejection fraction and mass with the reference."""
    agreements = main.summary.get("agreement", {})
    total = len({row["patient"] for row in main.clinical})
    panels, rows = [], []
    for measure, found in agreements.items():
        name, unit = MEASURES[measure]
        patients = [row for row in main.clinical if row["measure"] == measure and is_number(row["difference"])]
        if measure.endswith("ef_percent") and len(patients) > 1:
            limits = Agreement(**{key: math.nan if value is None else value for key, value in found.items()})
            sides = ([row[side] for row in patients] for side in ("prediction", "reference"))
            identity = measure.replace("_", "-")
            svg = figures.bland_altman(*sides, limits, name=identity, title=f"Bland-Altman plot: {name}", unit=unit)
            panels.append(page.panel(name, "Bland-Altman: each dot is a patient.", svg))
        means = [average(row[side] for row in patients) for side in ("prediction", "reference")]
        limits = f"{signed(found['lower'], 1)} to {signed(found['upper'], 1)}" if found["n"] > 1 else DASH
        cells = [*(number(mean, 1) for mean in means), signed(found["bias"], 1), limits]
        fewer = f" <small>n = {found['n']}</small>" if found["n"] < total else ""
        rows.append([f"{escape(name)} <small>{unit}</small>{fewer}", *cells])
    if not any(found["n"] for found in agreements.values()):
        return ""
    caption = (
        f"Means over {count(total, 'patient')} with both phases; n where fewer have a value in both. "
        "Bias: segmentation minus reference. LV mass is that of the myocardium at end-diastole, 1.05 g/ml."
    )
    head = ["Measure", "segmentation", "reference", "bias", "95 % limits of agreement"]
    side_by_side = f'<div class="two">{"".join(panels)}</div>' if panels else ""
    return page.section("Heart function", side_by_side, page.table(head, rows, caption=caption))


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
    return page.section("Seeds", page.table(head, rows, strong=len(rows) - 1), note=note)


def _metrics_table(summary: Mapping[str, Any], labels: LabelSet) -> str:
    rows: list[list[str] | str] = []
    for phase, block in {"": summary["metrics"], **summary["by_phase"]}.items():
        rows += [PHASES.get(phase, escape(phase))] if phase else []
        for structure in labels.structures:
            cells = [_mean_cell(block[structure.name][metric], metric) for metric in _HEADS]
            rows.append([page.chip(structure.color, structure.name), *cells])
        if not phase:
            rows.append([MEAN, *(_mean_cell(block[MEAN][metric], metric) for metric in _HEADS)])
    notes = ["Mean ± standard deviation over the volumes, on their original grid."]
    if summary["worst"]:
        worst, dice = summary["worst"]["case"], summary["worst"]["mean_dice"]
        notes.append(f"The worst volume is <b>{escape(worst)}</b>, mean Dice {dice:.3f}.")
    for name in labels.names:
        notes += [f"{escape(name)} is {note}." for note in undefined_notes(summary["metrics"][name])]
    head = ["Structure", *_HEADS.values()]
    return page.table(head, rows, caption=" ".join(notes), strong=len(labels.structures))


def _compared(record: Record, other: Record, labels: LabelSet) -> str:
    rows = []
    for name in [*labels.names, MEAN]:
        cells = []
        for metric, digits in (("dice", 3), ("hd95_mm", 2)):
            value = partial(_mean_of, name=name, metric=metric)
            theirs, ours = (_over_seeds(side, value) for side in (other, record))
            change = DASH if theirs is None or ours is None else signed(ours - theirs, digits)
            cells += [number(theirs, digits), number(ours, digits), f"<b>{change}</b>"]
        rows.append([escape(name), *cells])
    head = ["Structure"]
    for metric in ("Dice", "HD95 mm"):
        head += [f"{metric}, labeled only", "with unlabeled", "change"]
    caption = "What the unlabeled volumes changed: means over the same volumes."
    if record.seeds or other.seeds:
        ours, theirs = (count(len(side.seeds) or 1, "training") for side in (record, other))
        caption = f"{caption[:-1]}, over {ours} with and {theirs} without them."
    return page.table(head, rows, caption=caption, strong=len(rows) - 1)


def _mean_of(record: Record, name: str, metric: str) -> float | None:
    return record.summary["metrics"][name][metric]["mean"] if record.summary else None


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
    return page.table(head, lines, caption="Dice and HD95, the worst volume first.")


def _drawn(main: Record) -> list[dict[str, Any]]:
    return [item for item in main.summary.get("overlays", []) if (main.measured / item["path"]).is_file()]


def _typical(items: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    return items[len(items) // 2] if items else None


def _overlay(main: Record, item: Mapping[str, Any]) -> str:
    case, rank, total = item["case"], item["rank"], main.summary["volumes"]
    place = {1: "the worst", total: "the best"}.get(rank, f"{ordinal(rank)} of {total}, counted from the worst")
    dice = {row["structure"]: row["dice"] for row in main.metrics if row["case"] == case}
    names = main.labels.names if main.labels else []
    by_structure = ", ".join(f"{escape(name)} {number(dice.get(name), 3)}" for name in names)
    caption = f"<b>{escape(case)}</b>, {place}: mean Dice {item['mean_dice']:.3f} ({by_structure})"
    data = (main.measured / item["path"]).read_bytes()
    return page.picture(data, f"Slices of {case}: reference contours and segmentation", caption)


def _dice_by_structure(metrics: Sequence[Mapping[str, Any]], labels: LabelSet) -> dict[str, dict[str, float]]:
    return {name: {row["case"]: row["dice"] for row in metrics if row["structure"] == name} for name in labels.names}


def _mean_cell(found: Mapping[str, Any], metric: str) -> str:
    mean, _, sd = format_mean(dict(found), metric).partition(" ± ")
    spread = f" <small>± {sd}</small>" if sd else ""
    left_out = f" <small>n = {found['n']}</small>" if found["undefined"] else ""
    return f"{DASH if mean == '-' else mean}{spread}{left_out}"
