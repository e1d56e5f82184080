"""Sections of the report on how a training went, and on what it was made from."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from itertools import cycle
from typing import Any

from ..base.events import Device, Done, Started
from ..base.text import DASH, count, duration, is_number
from ..config import TrainConfig
from ..evaluation.averages import MEAN
from ..jobs.record import Record
from . import charts
from .compare import flat
from .html import render


def curves(main: Record, other: Record | None) -> str:
    """Losses, validation Dice, threshold, pass rates, weight and learning rate over the steps."""
    labels, history = main.labels, main.history
    names = labels.names if labels else []
    colors = charts.structure_colors(labels) if labels else {}
    steps = [row["step"] for row in history]
    join = next((row["step"] for row in history if row.get("stage") == "semi-supervised"), None)
    mark = None if join is None else (join, "unlabeled volumes join")
    panels = []

    def draw(
        title: str, note: str, lines: Mapping[str, charts.Points], colors: Mapping[str, str], **options: Any
    ) -> None:
        lines = {label: points for label, points in lines.items() if any(map(is_number, points[1]))}
        if lines:
            name, about = title.lower().replace(" ", "-"), f"{title} over the training steps"
            svg = charts.curves(lines, name=name, title=about, colors=colors, mark=mark, **options)
            panels.append((title, note, svg))

    terms = list(dict.fromkeys(key.removeprefix("loss_") for row in history for key in row if key.startswith("loss_")))

    def column(key: str) -> charts.Points:
        return steps, [row[key] if is_number(row.get(key)) else math.nan for row in history]

    dice = dict(main.validation_lines)
    if other is not None and other.validation:
        dice["labeled only"] = other.validation_lines[MEAN]
    draw("Validation Dice", "Mean over the validation volumes.", dice, colors | {MEAN: "ink"}, bounds=(None, 1.0))
    draw(
        "Loss", "The parts without their weights; logarithmic.",
        {"total": column("loss"), **{name: column(f"loss_{name}") for name in terms}},
        {"total": "ink"} | dict(zip(terms, cycle(("c1", "accent", "c2", "s0")), strict=False)), log=True,
    )  # fmt: skip
    draw(
        "Confidence threshold", "Mean of the threshold map M, which starts at one over the number of classes.",
        {"mean of M": column("threshold_mean")}, {"mean of M": "accent"},
        bounds=(1 / labels.classes if labels else 0, 1.0),
    )  # fmt: skip
    draw(
        "Pixels that pass", "Share of the teacher's pixels above their threshold.",
        {name: column(f"pass_rate/{name}") for name in ["background", *names]}, colors | {"background": "s0"},
        bounds=(None, 1.0),
    )  # fmt: skip
    draw(
        "Weight of the unlabeled loss",
        "λ1 on its ramp.",
        {"λ1": column("lambda_u")},
        {"λ1": "accent"},
        bounds=(0.0, None),
    )
    draw("Learning rate", "Of the optimizer.", {"rate": column("learning_rate")}, {"rate": "c1"}, bounds=(0.0, None))
    return render("curves.html", charts=panels) if panels else ""


def previews(main: Record) -> str:
    """The first and the last picture of student and teacher."""
    shown = []
    for path in dict.fromkeys([*main.previews[:1], *main.previews[-1:]]):
        step = path.stem.removeprefix("step")
        shown.append((path.stem, int(step) if step.isdecimal() else None, path.read_bytes()))
    return render("previews.html", shown=shown) if shown else ""


def cases(record: Record) -> str:
    """How many patients and volumes played which part, and their names."""
    roles = []
    for role in ("labeled", "unlabeled", "validation"):
        found = [case for case in record.cases if case.get("role") == role]
        if found:
            phases = Counter(case.get("phase") for case in found)
            about = {
                "name": role.capitalize(),
                "patients": len({case.get("patient") for case in found}),
                "phases": ", ".join(f"{phases[name]} {name}" for name in ("ED", "ES") if phases[name]),
                "cases": [str(case.get("name")) for case in found],
            }
            roles.append(about)
    return render("cases.html", roles=roles) if roles else ""


def settings(record: Record, other: Record | None) -> str:
    """What differs from the default settings and from the baseline's, and all of them folded away."""
    values = flat(record.job.get("config") or {})
    if not values:
        return ""
    settled, theirs = _settled(record), _settled(other) if other is not None else {}
    return render(
        "settings.html",
        changed=_differing(values, flat(TrainConfig().model_dump(mode="json"))),
        different=_differing(settled, theirs) if theirs else [],
        every=[(key, _setting(value)) for key, value in settled.items()],
    )


def _differing(values: Mapping[str, Any], others: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Settings that others do not share: the name, the value, and the others' value."""
    return [
        (key, _setting(value), _setting(others.get(key))) for key, value in values.items() if value != others.get(key)
    ]


def _settled(record: Record) -> dict[str, Any]:
    """All settings: those of the model, where what was left open is decided, or as long as there is none the job's."""
    return flat(record.model.get("config") or record.job.get("config") or {})


def provenance(record: Record, main: Record) -> str:
    """Where, with what and for how long the job ran."""
    facts = _computed_on(main.last(Device) or record.last(Device)) | _took(main)
    started, done = record.all(Started), record.last(Done)
    if done is not None:
        took = f"{duration(done.seconds)}, {_processor_time(done.cpu_seconds)}"
        facts["Its last run took" if len(started) > 1 else "The job took"] = took
    if len(started) > 1:
        facts["Runs"] = f"{len(started)}: interrupted and resumed"
    versions = [f"semicardiac {started[-1].version}"] if started else []
    torch = main.model.get("about", {}).get("torch") if record.kind == "train" else None
    versions += [f"PyTorch {torch}"] if torch else []
    if versions:
        facts["Software"] = ", ".join(versions)
    named = {"Model": "model", "Segmentations": "predictions", "Reference": "reference"}
    places = {name: record.path(record.job[key]) for name, key in named.items() if key in record.job}
    return render("provenance.html", facts=facts, places=places | {"Job folder": record.folder})


def _computed_on(device: Device | None) -> dict[str, str]:
    if device is None:
        return {}
    layout = "channels last" if device.channels_last else "contiguous"
    where = device.name if device.name == device.device else f"{device.name} ({device.device})"
    facts = {"Computed on": f"{where}, {count(device.threads, 'thread')}, {device.dtype}, {layout}"}
    if device.images_per_s:
        tried = ", ".join(f"{name} {speed:g}" for name, speed in device.images_per_s.items())
        facts["Images a second, as tried"] = tried
    return facts


def _took(main: Record) -> dict[str, str]:
    """How fast a training was, and how long."""
    if not main.history:
        return {}
    facts = {}
    if rates := [row["images_per_s"] for row in main.history if is_number(row.get("images_per_s"))]:
        facts["Images a second, in training"] = f"{statistics.median(rates):.1f} (median)"
    last = main.history[-1]
    # The last entry of history.csv is some steps before the end of the training.
    spent = [count(round(main.steps if main.steps is not None else last["step"]), "step")]
    spent += [duration(last["seconds"])] if is_number(last.get("seconds")) else []
    spent += [_processor_time(last["cpu_seconds"])] if is_number(last.get("cpu_seconds")) else []
    return facts | {"Training took": ", ".join(spent)}


def _processor_time(seconds: float) -> str:
    return f"{duration(seconds)} of processor time over all cores"


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return DASH if value is None else str(value)
