"""Sections of the report on how a training went, and on what it was made from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import cycle
from typing import Any

from ..base.events import Device, Done, Started
from ..base.text import DASH, count, duration, is_number
from ..config import TrainConfig
from ..evaluation.averages import MEAN
from ..jobs.record import Record
from . import charts, html
from .compare import flat
from .html import escape


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
            panels.append(html.panel(title, note, svg))

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
    return html.section("Training", f'<div class="two">{"".join(panels)}</div>' if panels else "")


def previews(main: Record) -> str:
    """The first and the last picture of student and teacher."""
    shown = []
    for path in dict.fromkeys([*main.previews[:1], *main.previews[-1:]]):
        step = path.stem.removeprefix("step")
        caption = f"<b>step {int(step):,}</b>" if step.isdecimal() else escape(path.stem)
        about = f"Student, teacher, threshold and confidence on unlabeled slices, {path.stem}"
        shown.append(html.picture(path.read_bytes(), about, caption))
    note = (
        "A few unlabeled slices, from left to right: the student, the teacher, the threshold that each pixel has to "
        "pass, and the confidence of the pixels that pass, with which they count."
    )
    return html.section("Student and teacher", f'<div class="two">{"".join(shown)}</div>' if shown else "", note=note)


def cases(record: Record) -> str:
    """How many patients and volumes played which part, and their names."""
    rows, names = [], []
    for role in ("labeled", "unlabeled", "validation"):
        found = [case for case in record.cases if case.get("role") == role]
        if not found:
            continue
        phases = Counter(case.get("phase") for case in found)
        phase = ", ".join(f"{phases[name]} {name}" for name in ("ED", "ES") if phases[name])
        patients = len({case.get("patient") for case in found})
        rows.append([role.capitalize(), f"{patients:,}", f"{len(found):,}", phase or DASH])
        listed = "".join(f"<li>{escape(str(case.get('name')))}</li>" for case in found)
        names.append(html.details(f"{role.capitalize()} cases", f'<ul class="names">{listed}</ul>'))
    if not rows:
        return ""
    return html.section("Cases", html.table(["Role", "patients", "volumes", "phases"], rows), *names)


def settings(record: Record, other: Record | None) -> str:
    """What differs from the default settings and from the baseline's, and all of them folded away."""
    values = flat(record.job.get("config") or {})
    if not values:
        return ""
    default = flat(TrainConfig().model_dump(mode="json"))
    changed = {key: value for key, value in values.items() if value != default.get(key)}
    parts = [_settings_table(changed, default, "default", "What differs from the default preset.")]
    settled = _settled(record)
    if other is not None and (theirs := _settled(other)):
        different = {key: value for key, value in settled.items() if value != theirs.get(key)}
        parts.append(_settings_table(different, theirs, "labeled only", "How the two trainings differ."))
    rows = [[f"<code>{escape(key)}</code>", _setting(value)] for key, value in settled.items()]
    every = html.table(["Setting", "value"], rows, numeric_from=2)
    return html.section("Settings", *parts, html.details("All settings", every))


def _settled(record: Record) -> dict[str, Any]:
    """All settings: those of the model, where what was left open is decided, or as long as there is none the job's."""
    return flat(record.model.get("config") or record.job.get("config") or {})


def provenance(record: Record, main: Record) -> str:
    """Where, with what and for how long the job ran."""
    rows: list[tuple[str, str]] = []
    device = main.last(Device) or record.last(Device)
    if device is not None:
        layout = "channels last" if device.channels_last else "contiguous"
        where = device.name if device.name == device.device else f"{device.name} ({device.device})"
        rows.append(("Computed on", escape(f"{where}, {count(device.threads, 'thread')}, {device.dtype}, {layout}")))
        tried = ", ".join(f"{name} {speed:g}" for name, speed in device.images_per_s.items())
        rows += [("Images a second, as tried", escape(tried))] if tried else []
    rates = sorted(row["images_per_s"] for row in main.history if is_number(row.get("images_per_s")))
    rows += [("Images a second, in training", f"{rates[len(rates) // 2]:.1f} (median)")] if rates else []
    if main.history:
        last = main.history[-1]
        # The last look at a training is some steps before its end.
        steps = main.steps if main.steps is not None else last["step"]
        spent = [count(round(steps), "step")]
        spent += [duration(last["seconds"])] if is_number(last.get("seconds")) else []
        spent += [_processor_time(last["cpu_seconds"])] if is_number(last.get("cpu_seconds")) else []
        rows.append(("Training took", ", ".join(spent)))
    started, done = record.all(Started), record.last(Done)
    if done is not None:
        took = f"{duration(done.seconds)}, {_processor_time(done.cpu_seconds)}"
        rows.append(("Its last run took" if len(started) > 1 else "The job took", took))
    if len(started) > 1:
        rows.append(("Runs", f"{len(started)}: interrupted and resumed"))
    versions = [f"semicardiac {started[-1].version}"] if started else []
    torch = main.model.get("about", {}).get("torch") if record.kind == "train" else None
    versions += [f"PyTorch {torch}"] if torch else []
    rows += [("Software", escape(", ".join(versions)))] if versions else []
    for key, name in (("model", "Model"), ("predictions", "Segmentations"), ("reference", "Reference")):
        rows += [(name, html.path(record.path(record.job[key])))] if key in record.job else []
    rows.append(("Job folder", html.path(record.folder)))
    return html.section("Provenance", html.facts(rows))


def _processor_time(seconds: float) -> str:
    return f"{duration(seconds)} of processor time over all cores"


def _settings_table(values: Mapping[str, Any], others: Mapping[str, Any], head: str, caption: str) -> str:
    if not values:
        return "<p>All settings are those of the default preset.</p>" if head == "default" else ""
    rows = [
        [f"<code>{escape(key)}</code>", _setting(value), _setting(others.get(key))] for key, value in values.items()
    ]
    return html.table(["Setting", "here", head], rows, caption=caption, numeric_from=3)


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return DASH if value is None else escape(str(value))
