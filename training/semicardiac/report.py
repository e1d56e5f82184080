"""A page that shows how a job went: report.html in the job folder, whole in one file, without a network."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from . import __version__, figures
from . import page as html
from .clinical import MEASURES, Agreement
from .config import TrainConfig
from .evaluation import MEAN, format_mean
from .events import Device, Done, Failed, Started, StoppedEvent, Warned
from .files import write_text
from .labels import LabelSet
from .record import Record, read_record

REPORT = "report.html"
PREVIEWS_MAX = 3
WARNINGS_MAX = 12
TITLES = {"train": "Training", "segment": "Segmentation", "evaluate": "Evaluation"}
METHOD = "Method: Mi et al., PLOS ONE 2026, doi:10.1371/journal.pone.0342567."
_HEADS = {"dice": "Dice", "jaccard": "Jaccard", "hd95_mm": "HD95, mm", "asd_mm": "ASD, mm", "hd95_voxels": "HD95, voxels"}
_MINUS, _DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def write_report(job: Path, *, baseline: Path | None = None, out: Path | None = None) -> Path:
    """Writes the report of a train, segment or evaluate job, as far as the job has come.

    Args:
        job: The job folder. Its tables may also lie in a folder `evaluation` within it.
        baseline: The job folder of a training on the labeled cases alone, to compare this one with.
        out: The page to write; `report.html` in the job folder by default.

    Returns:
        The path of the page.

    Raises:
        UserError: If a folder is no job folder, or matplotlib is missing.
    """
    figures.require_matplotlib()
    record = read_record(job)
    other = read_record(baseline) if baseline is not None else None
    path = Path(out) if out is not None else record.folder / REPORT
    main = record.seeds[0] if record.seeds and not record.history else record
    parts = [
        _header(record, main, other),
        _messages(record),
        _seeds(record),
        _accuracy(main, other),
        _pictures(main),
        _heart_function(main),
        _segmented(record),
        _training(main, other),
        _previews(main),
        _cases(record),
        _settings(record, other),
        _provenance(record, main),
        _footer(),
    ]
    title = f"{record.folder.name} \N{MIDDLE DOT} SemiCardiacSeg"
    write_text(path, html.page(title, "".join(parts), record.labels or main.labels))
    return path


# The head of the page


def _header(record: Record, main: Record, other: Record | None) -> str:
    kind = "Comparison" if other else TITLES.get(record.kind, "Job")
    started = record.last(Started)
    day = time.strftime("%-d %B %Y, %H:%M" if time.strftime("%-d").isdigit() else "%d %B %Y, %H:%M", time.localtime(started.time)) if started else ""
    eyebrow = " \N{MIDDLE DOT} ".join(filter(None, (f"<b>{kind}</b>", "SemiCardiacSeg", escape(day), _status(record))))
    lede = "".join(f'<p class="lede">{text}</p>' for text in (_lede(record, main), _gain(main, other)) if text)
    return f'<header><p class="eyebrow">{eyebrow}</p><h1>{escape(record.folder.name)}</h1>{lede}{_numbers(main, other)}</header>\n'


def _status(record: Record) -> str:
    for event in reversed(record.events):
        if isinstance(event, Done):
            return f"finished after {duration(event.seconds)}"
        if isinstance(event, StoppedEvent):
            return "stopped, can be resumed"
        if isinstance(event, Failed):
            return "ended with an error"
        if isinstance(event, Started):
            break
    return "not finished" if record.events else "not started"


def _lede(record: Record, main: Record) -> str:
    measured = ""
    if main.summary:
        volumes, patients = main.summary["volumes"], main.summary["patients"]
        measured = f"measured on <b>{_count(volumes, 'volume')}</b> of {_count(patients, 'patient')}"
    if record.kind == "evaluate":
        return measured[:1].upper() + measured[1:] + "." if measured else ""
    if record.kind == "segment":
        done = {event.case for event in record.events if getattr(event, "kind", "") == "segmentation"}
        return f"<b>{_count(len(done), 'input')}</b> segmented." if done else ""
    cases = record.job.get("cases", [])
    volumes = Counter(case.get("role") for case in cases)
    patients = {role: len({case.get("patient") for case in cases if case.get("role") == role}) for role in volumes}
    seconds = main.history[-1].get("seconds", math.nan) if main.history else math.nan
    parts = []
    if volumes["labeled"]:
        labeled = f"<b>{_count(patients['labeled'], 'labeled patient')}</b>"
        unlabeled = f" and <b>{volumes['unlabeled']:,} unlabeled volumes</b>" if _uses_unlabeled(record) and volumes["unlabeled"] else ""
        length = f"<b>{duration(seconds)}</b> of training" if not math.isnan(seconds) else "Training"
        parts.append(f"{length} on {labeled}{unlabeled}")
    if measured:
        parts.append(measured)
    text = ", ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""


def _gain(main: Record, other: Record | None) -> str:
    """One sentence on what the unlabeled cases brought, whatever it is."""
    if other is None:
        return ""
    ours, theirs = _mean_dice(main), _mean_dice(other)
    if ours is None or theirs is None:
        return ""
    verb = "raised" if ours > theirs else "lowered" if ours < theirs else "left"
    ways = f"from {theirs:.3f} to <b>{ours:.3f}</b>" if ours != theirs else f"at {ours:.3f}"
    return f"The unlabeled volumes {verb} the mean Dice {ways}, within the same budget."


def _numbers(main: Record, other: Record | None) -> str:
    items: list[tuple[str, str]] = []
    labels = main.labels
    overall = _mean_dice(main)
    if overall is None or labels is None:
        return ""
    gain = ""
    if other is not None and (theirs := _mean_dice(other)) is not None:
        gain = f' <small class="{"gain" if overall >= theirs else "loss"}">{_signed(overall - theirs, 3)}</small>'
    items.append((f"{overall:.3f}{gain}", "mean Dice"))
    for structure in labels.structures:
        value = _structure_dice(main, structure.name)
        if value is not None and len(labels.structures) <= 4:
            items.append((f"{value:.3f}", html.chip(structure.color, structure.name)))
    if main.summary:
        distance = main.summary["metrics"][MEAN]["hd95_mm"]["mean"]
        if distance is not None:
            items.append((f"{distance:.1f}<small> mm</small>", "mean HD95"))
        found = main.summary["agreement"].get("lv_ef_percent")
        if found:
            items.append((f"{_signed(found['bias'], 1)}<small> %</small>", "bias of LV ejection fraction"))
    return html.numbers(items)


def _messages(record: Record) -> str:
    lines = []
    ended = next((event for event in reversed(record.events) if isinstance(event, Done | Failed | StoppedEvent | Started)), None)
    if isinstance(ended, Failed):
        lines.append(_message(ended.what, ended.where, ended.hint, "error"))
    counted = Counter((event.warning, event.where, event.hint) for event in record.all(Warned))
    shown = [_message(f"{what} ({times} times)" if times > 1 else what, where, hint, "") for (what, where, hint), times in counted.items()]
    lines += shown[:WARNINGS_MAX]
    more = html.details(f"{len(shown) - WARNINGS_MAX} more warnings", f'<ul class="messages">{"".join(shown[WARNINGS_MAX:])}</ul>')
    return f'<ul class="messages">{"".join(lines)}</ul>{more if len(shown) > WARNINGS_MAX else ""}\n' if lines else ""


def _message(what: str, where: str, hint: str, kind: str) -> str:
    place = f"<b>{escape(where)}:</b> " if where else ""
    cure = f"<small>{escape(hint)}.</small>" if hint else ""
    return f'<li{f" class={kind}" if kind else ""}>{place}{escape(what)}.{cure}</li>'


# What was measured


def _seeds(record: Record) -> str:
    rows = []
    for seed in record.seeds:
        overall = _mean_dice(seed)
        structures = [_structure_dice(seed, name) for name in (record.labels.names if record.labels else [])]
        rows.append([escape(seed.folder.name), *(_number(value, 3) for value in (overall, *structures))])
    if len(rows) < 2 or record.labels is None:
        return ""
    head = ["Training", "mean Dice", *map(escape, record.labels.names)]
    columns = [[seed_value for seed_value in column if seed_value is not None] for column in zip(
        *([_mean_dice(seed), *(_structure_dice(seed, name) for name in record.labels.names)] for seed in record.seeds), strict=True
    )]  # fmt: skip
    rows.append(["mean ± SD", *(_mean_sd(column) for column in columns)])
    note = f"What follows is of the first, {escape(record.seeds[0].folder.name)}."
    return html.section("Seeds", html.table(head, rows, strong=len(rows) - 1), note=note)


def _accuracy(main: Record, other: Record | None) -> str:
    labels, summary = main.labels, main.summary
    if not summary or labels is None:
        return ""
    colors = _structure_colors(labels)
    groups = {"this": _dice_by_structure(main.metrics, labels)}
    if other is not None and other.metrics:
        groups["labeled only"] = _dice_by_structure(other.metrics, labels)
    legend = ["each dot is a volume, each bar the mean over the volumes"]
    if len(groups) > 1:
        legend.append("filled: with the unlabeled volumes; hollow, gray: labeled volumes only")
    strip = figures.dice_strip(groups, name="dice", title="Dice of every volume by structure", colors=colors)
    chart = html.panel("Dice of every volume", "; ".join(legend) + ".", strip)
    parts = [chart]
    if other is not None and other.summary:
        parts.append(_compared(main, other, labels))
    parts.append(_metrics_table(summary, labels))
    parts.append(html.details("Every volume", _volumes_table(main.metrics, labels)))
    return html.section("Accuracy", *parts)


def _metrics_table(summary: Mapping[str, Any], labels: LabelSet) -> str:
    rows: list[list[str] | str] = []
    blocks = {"": summary["metrics"], **summary["by_phase"]}
    for phase, block in blocks.items():
        if phase:
            rows.append({"ED": "End-diastole", "ES": "End-systole"}.get(phase, escape(phase)))
        for structure in labels.structures:
            cells = [_mean_cell(block[structure.name][metric], metric) for metric in _HEADS]
            rows.append([html.chip(structure.color, structure.name), *cells])
        if not phase:
            rows.append(["mean", *(_mean_cell(block[MEAN][metric], metric) for metric in _HEADS)])
    worst = summary["worst"]
    notes = ["Mean ± standard deviation over the volumes, at the original grid."]
    if worst:
        notes.append(f"The worst volume is <b>{escape(worst['case'])}</b>, mean Dice {worst['mean_dice']:.3f}.")
    for name in labels.names:
        found = summary["metrics"][name]
        for key, text in (
            ("both_empty", "in neither segmentation nor reference of {}, which count in none of its means"),
            ("missed", "missed altogether in {}: Dice 0, no distance"),
            ("invented", "only in the segmentation of {}: Dice 0, no distance"),
        ):
            if found[key]:
                notes.append(f"{escape(name)} is {text.format(_count(found[key], 'volume'))}.")
    return html.table(["Structure", *_HEADS.values()], rows, caption=" ".join(notes), strong=len(labels.structures))


def _compared(main: Record, other: Record, labels: LabelSet) -> str:
    rows = []
    for name in [*labels.names, MEAN]:
        ours, theirs = main.summary["metrics"][name], other.summary["metrics"][name]
        cells = []
        for metric, digits in (("dice", 3), ("hd95_mm", 2)):
            pair = [side[metric]["mean"] for side in (theirs, ours)]
            cells += [_number(value, digits) for value in pair]
            cells.append(_DASH if None in pair else f"<b>{_signed(pair[1] - pair[0], digits)}</b>")
        rows.append([escape(name), *cells])
    head = ["Structure", "Dice, labeled only", "with unlabeled", "change", "HD95 mm, labeled only", "with unlabeled", "change"]
    return html.table(head, rows, caption="What the unlabeled volumes changed: means over the same volumes.", strong=len(rows) - 1)


def _volumes_table(metrics: Sequence[Mapping[str, Any]], labels: LabelSet) -> str:
    by_case: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in metrics:
        by_case.setdefault(str(row["case"]), {})[str(row["structure"])] = row

    def mean(case: str) -> float:
        values = [row["dice"] for row in by_case[case].values() if not math.isnan(row["dice"])]
        return sum(values) / len(values) if values else math.inf

    rows = []
    for case in sorted(by_case, key=mean):
        found = [by_case[case].get(name, {}) for name in labels.names]
        cells = [f"{_number(row.get('dice'), 3)} <small>{_number(row.get('hd95_mm'), 1)} mm</small>" for row in found]
        rows.append([escape(case), _number(mean(case), 3), *cells])
    return html.table(["Volume", "mean Dice", *map(escape, labels.names)], rows, caption="Dice and HD95, the worst volume first.")


def _pictures(main: Record) -> str:
    drawn = [item for item in main.summary.get("overlays", []) if (main.measured / item["path"]).is_file()]
    if not drawn or main.labels is None:
        return ""
    total = main.summary["volumes"]
    dice = {(row["case"], row["structure"]): row["dice"] for row in main.metrics}
    shown = []
    for item in drawn:
        case = item["case"]
        place = {1: "the worst", total: "the best"}.get(item["rank"], f"{item['rank']} of {total} from the worst")
        by_structure = ", ".join(f"{escape(name)} {_number(dice.get((case, name)), 3)}" for name in main.labels.names)
        caption = f"<b>{escape(case)}</b>, {place}: mean Dice {item['mean_dice']:.3f} ({by_structure})"
        alt = f"Slices of {case} with the contours of the reference and the segmentation as a fill"
        shown.append(html.picture(main.measured / item["path"], alt, caption))
    note = "Fill: the segmentation. Line: the reference. Slices are numbered as in the file."
    return html.section("Pictures", _legend(main.labels), f'<div class="pictures">{"".join(shown)}</div>', note=note)


def _heart_function(main: Record) -> str:
    agreements = main.summary.get("agreement", {})
    if not agreements:
        return ""
    panels = []
    for measure in ("lv_ef_percent", "rv_ef_percent"):
        found = [row for row in main.clinical if row["measure"] == measure]
        if len(found) > 1:
            limits = Agreement(**{key: math.nan if value is None else value for key, value in agreements[measure].items()})
            name, unit = MEASURES[measure]
            sides = ([row[side] for row in found] for side in ("prediction", "reference"))
            svg = figures.bland_altman(*sides, limits, name=measure.replace("_", "-"), title=f"Bland-Altman plot: {name}", unit=unit)
            panels.append(html.panel(name, "Bland-Altman: each dot is a patient.", svg))
    rows = []
    for measure, found in agreements.items():
        name, unit = MEASURES[measure]
        values = [row for row in main.clinical if row["measure"] == measure]
        means = [_average(row[side] for row in values) for side in ("prediction", "reference")]
        limits = f"{_signed(found['lower'], 1)} to {_signed(found['upper'], 1)}" if found["n"] > 1 else _DASH
        rows.append([f"{escape(name)} <small>{unit}</small>", *(_number(mean, 1) for mean in means), _signed(found["bias"], 1), limits])
    patients = max(found["n"] for found in agreements.values())
    caption = f"Means over {_count(patients, 'patient')} with both phases. Bias: segmentation minus reference. Mass at end-diastole, 1.05 g/ml."
    table = html.table(["Measure", "segmentation", "reference", "bias", "95 % limits of agreement"], rows, caption=caption)
    return html.section("Heart function", f'<div class="two">{"".join(panels)}</div>' if panels else "", table)


def _segmented(record: Record) -> str:
    rows = [
        [escape(event.case or ""), escape(event.kind), f'<span class="path">{escape(event.path)}</span>']
        for event in record.events
        if record.kind == "segment" and getattr(event, "event", "") == "result"
    ]
    return html.section("Results", html.table(["Input", "Kind", "File"], rows, numeric_from=9)) if rows else ""


# How the training went


def _training(main: Record, other: Record | None) -> str:
    history, labels = main.history, main.labels
    panels = []
    mark = next(((row["step"], "unlabeled volumes join") for row in history if _filled(row.get("lambda_u"))), None)
    structures = _structure_colors(labels) if labels else {}

    def draw(title: str, note: str, lines: Mapping[str, figures.Points], colors: Mapping[str, str], **options: Any) -> None:
        lines = {label: points for label, points in lines.items() if any(map(_filled, points[1]))}
        if lines:
            name = "".join(character if character.isalnum() else "-" for character in title.lower())
            svg = figures.curves(lines, name=name, title=f"{title} over the training steps", colors=colors, mark=mark, **options)
            panels.append(html.panel(title, note, svg))

    if main.validation:
        lines = _validation_lines(main.validation)
        colors = structures | {MEAN: "ink"}
        if other is not None and other.validation:
            lines |= {"labeled only": _validation_lines(other.validation)[MEAN]}
        draw("Validation Dice", "Mean over the validation volumes.", lines, colors, bounds=(None, 1.0))
    column = _columns(history)
    losses = {"total": "loss", "supervised": "loss_supervised", "unlabeled": "loss_unsupervised", "contrast": "loss_contrast"}
    colors = {"total": "ink", "supervised": "c1", "unlabeled": "accent", "contrast": "c2"}
    draw("Loss", "Logarithmic; before their weights.", {name: column(key) for name, key in losses.items()}, colors, log=True)
    low = 1 / labels.classes if labels else 0.0
    threshold = {"mean of the map": column("threshold_mean")}
    draw("Confidence threshold", "Mean of the threshold map M; it starts at one over the number of classes.", threshold, {"mean of the map": "accent"}, bounds=(low, 1.0))
    rates = {name: column(f"pass_rate/{name}") for name in ["background", *(labels.names if labels else [])]}
    draw("Pixels that pass", "Share of the teacher's pixels above their threshold.", rates, structures | {"background": "s0"}, bounds=(None, 1.0))
    draw("Weight of the unlabeled loss", "λ1 on its ramp.", {"λ1": column("lambda_u")}, {"λ1": "accent"}, bounds=(0.0, None))
    draw("Learning rate", "", {"rate": column("learning_rate")}, {"rate": "c1"}, bounds=(0.0, None))
    return html.section("Training", f'<div class="two">{"".join(panels)}</div>' if panels else "")


def _columns(history: Sequence[Mapping[str, Any]]) -> Any:
    steps = [row["step"] for row in history]
    return lambda key: (steps, [row.get(key, math.nan) if _filled(row.get(key)) else math.nan for row in history])


def _validation_lines(rows: Sequence[Mapping[str, Any]]) -> dict[str, figures.Points]:
    """Dice over steps by structure, and their mean."""
    structures = list(dict.fromkeys(str(row["structure"]) for row in rows))
    values: dict[tuple[float, str], list[float]] = {}
    for row in rows:
        if _filled(row["dice"]):
            values.setdefault((row["step"], str(row["structure"])), []).append(row["dice"])
    steps = sorted({row["step"] for row in rows})
    lines = {name: (steps, [_average(values.get((step, name), [])) for step in steps]) for name in structures}
    means = [_average(value for name in structures if _filled(value := lines[name][1][at])) for at in range(len(steps))]
    return {MEAN: (steps, means), **lines}


def _previews(main: Record) -> str:
    paths = main.previews
    if len(paths) > PREVIEWS_MAX:
        paths = [paths[round(at * (len(paths) - 1) / (PREVIEWS_MAX - 1))] for at in range(PREVIEWS_MAX)]
    shown = []
    for path in paths:
        step = path.stem.removeprefix("step").lstrip("0")
        caption = f"<b>step {int(step):,}</b>" if step.isdigit() else escape(path.stem)
        shown.append(html.picture(path, f"Student, teacher, threshold and confidence on unlabeled slices, {path.stem}", caption))
    note = (
        "A few unlabeled slices as training went on, from left to right: the student, the teacher, the threshold "
        "that each pixel had to pass, and the confidence of the pixels that passed, with which they count."
    )
    return html.section("Student and teacher", f'<div class="pictures">{"".join(shown)}</div>' if shown else "", note=note)


# What it was made from


def _cases(record: Record) -> str:
    cases = record.job.get("cases", [])
    rows, names = [], []
    for role in ("labeled", "unlabeled", "validation"):
        found = [case for case in cases if case.get("role") == role]
        if not found:
            continue
        phases = Counter(case.get("phase") for case in found)
        phase = ", ".join(f"{phases[name]} {name}" for name in ("ED", "ES") if phases[name])
        rows.append([role.capitalize(), f"{len({case.get('patient') for case in found}):,}", f"{len(found):,}", phase or _DASH])
        listed = "".join(f"<li>{escape(str(case.get('name')))}</li>" for case in found)
        names.append(html.details(f"{role.capitalize()} cases", f'<ul class="names">{listed}</ul>'))
    if not rows:
        return ""
    return html.section("Cases", html.table(["Role", "patients", "volumes", "phases"], rows), *names)


def _settings(record: Record, other: Record | None) -> str:
    settings = record.job.get("config") or {}
    if not settings:
        return ""
    default = _flat(TrainConfig().model_dump(mode="json"))
    values = _flat(settings)
    changed = [(key, value) for key, value in values.items() if value != default.get(key)]
    rows = [[f"<code>{escape(key)}</code>", _setting(value), _setting(default.get(key))] for key, value in changed]
    parts = [html.table(["Setting", "here", "default"], rows, caption="What differs from the default preset.")] if rows else ["<p>All as in the default preset.</p>"]
    if other is not None and (theirs := _flat(other.job.get("config") or {})):
        different = [[f"<code>{escape(key)}</code>", _setting(value), _setting(theirs.get(key))] for key, value in values.items() if theirs.get(key) != value]
        parts.append(html.table(["Setting", "here", "labeled only"], different, caption="How the two trainings differ."))
    every = html.table(["Setting", "value"], [[f"<code>{escape(key)}</code>", _setting(value)] for key, value in values.items()])
    return html.section("Settings", *parts, html.details("All settings", every))


def _provenance(record: Record, main: Record) -> str:
    device, about = main.last(Device) or record.last(Device), main.model.get("about", {})
    started, done = record.all(Started), record.last(Done)
    rows: list[tuple[str, str]] = []
    if device is not None:
        layout = "channels last" if device.channels_last else "contiguous"
        where = f"{device.name} ({device.device})" if device.name != device.device else device.name
        rows.append(("Computed on", escape(f"{where}, {device.threads} threads, {device.dtype}, {layout}")))
        if device.images_per_s:
            tried = ", ".join(f"{name} {speed:g}" for name, speed in device.images_per_s.items())
            rows.append(("Images a second, as tried", escape(tried)))
    rates = [row["images_per_s"] for row in main.history if _filled(row.get("images_per_s"))]
    if rates:
        rows.append(("Images a second, in training", f"{sorted(rates)[len(rates) // 2]:.1f} (median)"))
    if main.history:
        last = main.history[-1]
        spent = [f"{duration(last['seconds'])}" if _filled(last.get("seconds")) else "", f"{last['cpu_seconds']:,.0f} CPU-seconds" if _filled(last.get("cpu_seconds")) else ""]
        rows.append(("Training took", ", ".join(filter(None, [f"{last['step']:,.0f} steps", *spent]))))
    if done is not None:
        rows.append(("The job took", f"{duration(done.seconds)}, {done.cpu_seconds:,.0f} CPU-seconds (last run)"))
    if len(started) > 1:
        rows.append(("Runs", f"{len(started)}, interrupted and resumed"))
    versions = [f"semicardiac {started[-1].version}"] if started else []
    versions += [f"PyTorch {about['torch']}"] if "torch" in about else []
    if versions:
        rows.append(("Software", escape(", ".join(versions))))
    for key, name in (("model", "Model"), ("predictions", "Segmentations"), ("reference", "Reference")):
        if key in record.job:
            rows.append((name, f'<span class="path">{escape(str(record.job[key]))}</span>'))
    rows.append(("Job folder", f'<span class="path">{escape(str(record.folder))}</span>'))
    return html.section("Provenance", html.facts(rows))


def _footer() -> str:
    written = time.strftime("%Y-%m-%d %H:%M")
    lines = (f"Written by SemiCardiacSeg {__version__} on {written}. {METHOD}", "For research. Not a medical device; not for clinical use.")
    return "<footer>" + "".join(f"<p>{escape(line)}</p>" for line in lines) + "</footer>"


# Words and numbers


def duration(seconds: float) -> str:
    """`45 s`, `9.8 min` or `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min".replace(".0 ", " ")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def _mean_dice(record: Record) -> float | None:
    """Mean Dice of the evaluation, or else of the last validation."""
    if record.summary:
        return record.summary["metrics"][MEAN]["dice"]["mean"]
    return _last(record, MEAN)


def _structure_dice(record: Record, name: str) -> float | None:
    if record.summary:
        return record.summary["metrics"].get(name, {}).get("dice", {}).get("mean")
    return _last(record, name)


def _last(record: Record, name: str) -> float | None:
    values = _validation_lines(record.validation).get(name, ((), (math.nan,)))[1] if record.validation else [math.nan]
    return values[-1] if _filled(values[-1]) else None


def _uses_unlabeled(record: Record) -> bool:
    return record.job.get("config", {}).get("preset") != "supervised"


def _dice_by_structure(metrics: Sequence[Mapping[str, Any]], labels: LabelSet) -> dict[str, dict[str, float]]:
    return {name: {str(row["case"]): row["dice"] for row in metrics if row["structure"] == name} for name in labels.names}


def _structure_colors(labels: LabelSet) -> dict[str, str]:
    return {name: f"s{number}" for number, name in enumerate(labels.names, start=1)}


def _legend(labels: LabelSet) -> str:
    return f'<ul class="legend">{"".join(f"<li>{html.chip(item.color, item.name)}</li>" for item in labels.structures)}</ul>'


def _mean_cell(found: Mapping[str, Any], metric: str) -> str:
    mean, _, sd = format_mean(dict(found), metric).partition(" ± ")
    left_out = f" <small>n = {found['n']}</small>" if found["undefined"] else ""
    return f"{_DASH if mean == '-' else mean}{f' <small>± {sd}</small>' if sd else ''}{left_out}"


def _mean_sd(values: Sequence[float]) -> str:
    if len(values) < 2:
        return _number(values[0] if values else None, 3)
    mean = sum(values) / len(values)
    return f"{mean:.3f} <small>± {math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1)):.3f}</small>"


def _filled(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _average(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values) if values else math.nan


def _number(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if _filled(value) else _DASH


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", _MINUS)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return escape(", ".join(map(str, value)))
    return _DASH if value is None else escape(str(value))
