"""A page that shows how a job went: report.html in the job folder, whole in one file, without a network."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from .. import __version__
from ..base.errors import UserError
from ..base.events import Done, Failed, Result, Started, StoppedEvent, Warned
from ..base.files import write_text
from ..base.text import count, duration, is_number, signed
from ..evaluation.averages import MEAN
from ..jobs.record import Record, Rows, read_record
from . import html, results, training
from .compare import Comparison, compare, dice_of
from .html import escape
from .plotting import require_matplotlib
from .segmented import segmented

REPORT = "report.html"
WARNINGS_MAX = 12
TITLES = {"train": "Training", "segment": "Segmentation", "evaluate": "Evaluation"}
METHOD = "Method: Mi et al., PLOS ONE 2026, doi:10.1371/journal.pone.0342567."
PURPOSE = "For research. Not a medical device; not for clinical use."


def write_report(job: Path, *, baseline: Path | None = None, out: Path | None = None) -> Path:
    """Writes the report of a train, segment or evaluate job, as far as the job has come.

    Args:
        job: The job folder. The tables of an evaluation may lie in it or in a folder `evaluation` within it.
        baseline: The job folder of a training on the labeled cases alone, to compare this one with.
        out: The page to write; `report.html` in the job folder by default. The page is named after its folder.

    Returns:
        The path of the page.

    Raises:
        UserError: If a folder is no job folder, matplotlib is missing, or the baseline cannot tell what the unlabeled
            cases brought.
    """
    require_matplotlib()
    record = read_record(job)
    other = read_record(baseline) if baseline is not None else None
    if other is not None:
        _require_comparable(record, other)
    main = record.main
    comparison = compare(record, other)
    path = Path(out).absolute() if out is not None else record.folder / REPORT
    name = path.parent.name
    head = _header(name, record, main, other, comparison)
    parts = [
        results.seeds(record),
        results.accuracy(record, other, comparison),
        results.pictures(main),
        results.heart_function(main),
        segmented(record),
        training.curves(main, other and other.main),
        training.previews(main),
        training.cases(record),
        training.settings(record, other),
        training.provenance(record, main),
        _footer(),
    ]
    messages = _messages(record, other)  # by now all has been read
    title = f"{name} \N{MIDDLE DOT} SemiCardiacSeg"
    write_text(path, html.document(title, "".join([head, messages, *parts]), record.labels or main.labels))
    return path


def _require_comparable(record: Record, other: Record) -> None:
    """Raises a UserError unless these are trainings with and without unlabeled cases, measured on the same volumes."""
    if record.kind != "train" or not record.uses_unlabeled:
        what = "this is no training with unlabeled cases, so that a baseline tells nothing about them"
        raise UserError(what, where=record.folder, hint="Leave out --baseline, or name the job of such a training")
    if other.job.get("kind") != "train" or other.uses_unlabeled:
        hint = "Name the job folder of one: semicardiac train with --preset supervised, else as the job was trained"
        raise UserError("the baseline is no training on the labeled cases alone", where=other.folder, hint=hint)
    ours, theirs = record.main, other.main
    odd = _differing(ours.metrics or ours.validation, theirs.metrics or theirs.validation)
    odd = odd or _differing(ours.validation, theirs.validation)
    if odd:
        what = f"the baseline was not measured on the same volumes: '{odd}' is in one of the two only, or differs"
        hint = f"Evaluate both against the same references; the other one is {record.folder}"
        raise UserError(what, where=other.folder, hint=hint)


def _differing(ours: Rows, theirs: Rows) -> str | None:
    """A case that two tables of measurements do not share, or not with the same reference; None where one is empty."""
    if not (ours and theirs):
        return None
    columns = [column for column in ("case", "structure", "reference_ml") if column in ours[0] and column in theirs[0]]
    one, two = ({tuple(row[column] for column in columns) for row in rows} for rows in (ours, theirs))
    return min(one ^ two)[0] if one != two else None


def _header(name: str, record: Record, main: Record, other: Record | None, comparison: Comparison | None) -> str:
    started = next(iter(record.all(Started)), None)
    kind = "Comparison" if other else TITLES.get(record.kind, "Job")
    eyebrow = " \N{MIDDLE DOT} ".join(
        filter(None, (f"<b>{kind}</b>", "SemiCardiacSeg", _day(started.time if started else None), _status(record)))
    )
    sentences = (_lede(record, main), escape(comparison.sentence) if comparison else _unused(record))
    lede = "".join(f'<p class="lede">{text}</p>' for text in sentences if text)
    return (
        f'<header><p class="eyebrow">{eyebrow}</p><h1>{escape(name)}</h1>{lede}'
        f"{_numbers(record, comparison)}{results.typical_picture(main)}</header>\n"
    )


def _day(seconds: float | None) -> str:
    try:
        return time.strftime("%d %B %Y, %H:%M", time.localtime(seconds)).lstrip("0") if seconds is not None else ""
    except (OverflowError, OSError, ValueError):  # no time that a calendar knows
        return ""


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
    """What was done, in one sentence."""
    parts = []
    if record.kind == "segment":
        inputs = {event.case for event in record.all(Result) if event.kind == "segmentation"}
        parts += [f"<b>{count(len(inputs), 'input')}</b> segmented"] if inputs else []
    if record.kind == "train":
        roles = [case.get("role") for case in record.cases]
        patients = len({case.get("patient") for case in record.cases if case.get("role") == "labeled"})
        seconds = main.history[-1].get("seconds") if main.history else None
        length = f"<b>{duration(seconds)}</b> of training" if is_number(seconds) else "Training"
        length = f"<b>{len(record.seeds)} seeds</b>, each {length}" if record.seeds else length
        unlabeled = count(roles.count("unlabeled"), "unlabeled volume")
        together = f" and <b>{unlabeled}</b>" if record.uses_unlabeled and record.used_unlabeled else ""
        parts.append(f"{length} on <b>{count(patients, 'labeled patient')}</b>{together}")
    if main.summary:
        volumes, patients = main.summary["volumes"], main.summary["patients"]
        parts.append(f"measured on <b>{count(volumes, 'volume')}</b> of {count(patients, 'patient')}")
    elif main.validation:
        volumes = len({row["case"] for row in main.validation})
        parts.append(f"measured on <b>{count(volumes, 'validation volume')}</b>")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""


def _unused(record: Record) -> str:
    """Says so where a finished training has never used its unlabeled cases."""
    is_over = record.kind == "train" and record.last(Done) is not None
    unused = is_over and record.uses_unlabeled and record.used_unlabeled is False
    return "The unlabeled cases never came into play." if unused else ""


def _numbers(record: Record, comparison: Comparison | None) -> str:
    overall = dice_of(record, MEAN)
    if overall is None or record.labels is None:
        return ""
    gain = ""
    if comparison is not None and comparison.fair:
        change = "gain" if comparison.ours >= comparison.theirs else "loss"
        gain = f' <small class="{change}">{signed(comparison.ours - comparison.theirs, 3)}</small>'
    items = [(f"{overall:.3f}{gain}", f"mean Dice over {len(record.seeds)} seeds" if record.seeds else "mean Dice")]
    structures = record.labels.structures if len(record.labels.structures) <= 4 else ()
    for structure in structures:
        value = dice_of(record, structure.name)
        items += [(f"{value:.3f}", html.chip(structure.color, structure.name))] if value is not None else []
    if record.summary:
        distance = record.summary["metrics"][MEAN]["hd95_mm"]["mean"]
        items += [(f"{distance:.1f}<small> mm</small>", "mean HD95")] if distance is not None else []
        found = record.summary["agreement"].get("lv_ef_percent", {})
        if found.get("bias") is not None:
            what = f"bias of LV ejection fraction, {count(found['n'], 'patient')}"
            items.append((f"{signed(found['bias'], 1)}<small> points</small>", what))
    return html.numbers(items)


def _messages(record: Record, other: Record | None) -> str:
    """What ended the job, its warnings, each once, and what of its files is damaged."""
    lines = []
    ends = [event for event in record.events if isinstance(event, Done | Failed | StoppedEvent | Started)]
    if ends and isinstance(ends[-1], Failed):
        lines.append(html.message(ends[-1].what, ends[-1].where, ends[-1].hint, kind="error"))
    counted = Counter((event.warning, event.where, event.hint) for event in record.all(Warned))
    for (what, where, hint), times in counted.items():
        lines.append(html.message(f"{what} ({times} times)" if times > 1 else what, where, hint))
    places = [each for side in (record, other) if side is not None for each in (side, *side.seeds)]
    damage = {str(error): error for each in places for error in each.damage}
    lines += [html.message(error.what, error.where, error.hint) for error in damage.values()]
    shown, more = lines[:WARNINGS_MAX], lines[WARNINGS_MAX:]
    folded = html.details(f"{len(more)} more", html.messages(more)) if more else ""
    return html.messages(shown) + folded


def _footer() -> str:
    written = time.strftime("%Y-%m-%d %H:%M")
    lines = (f"Written by SemiCardiacSeg {__version__} on {written}. {METHOD}", PURPOSE)
    return "<footer>" + "".join(f"<p>{escape(line)}</p>" for line in lines) + "</footer>"
