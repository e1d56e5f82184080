"""A page that shows how a job went: report.html in the job folder, whole in one file, without a network."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from .. import __version__
from ..base.errors import UserError
from ..base.events import Done, Failed, Result, Started, StoppedEvent, Warned
from ..base.files import write_text
from ..base.text import count, duration, is_number
from ..evaluation.averages import MEAN
from ..jobs.record import Record, Rows, read_record
from . import results, training
from .compare import Comparison, compare, dice_of
from .html import document, render
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
    sections = [
        _header(name, record, other, comparison),
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
    sections.insert(1, _messages(record, other))  # by now all has been read
    title = f"{name} \N{MIDDLE DOT} SemiCardiacSeg"
    write_text(path, document(title, sections, record.labels or main.labels))
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


def _header(name: str, record: Record, other: Record | None, comparison: Comparison | None) -> str:
    """Head of the page: what was done, the most important numbers, and a typical picture."""
    started = next(iter(record.all(Started)), None)
    main = record.main
    return render(
        "header.html",
        kind="Comparison" if other else TITLES.get(record.kind, "Job"),
        eyebrow=list(filter(None, ("SemiCardiacSeg", _day(started.time if started else None), _status(record)))),
        name=name,
        done=_done(record, main),
        sentence=comparison.sentence if comparison else _unused(record),
        seeds=len(record.seeds),
        numbers=_numbers(record, comparison),
        typical=results.typical_picture(main),
        structures=list(main.labels.structures) if main.labels else [],
        how_drawn=results.HOW_DRAWN,
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


def _done(record: Record, main: Record) -> dict[str, Any]:
    """What was done, for one sentence."""
    roles = [case.get("role") for case in record.cases]
    measured, patients = "", None
    if main.summary:
        measured, patients = count(main.summary["volumes"], "volume"), main.summary["patients"]
    elif main.validation:
        measured = count(len({row["case"] for row in main.validation}), "validation volume")
    segmented = {event.case for event in record.all(Result) if event.kind == "segmentation"}
    seconds = main.history[-1].get("seconds") if main.history else None
    return {
        "inputs": len(segmented) if record.kind == "segment" else 0,
        "training": record.kind == "train",
        "seconds": seconds if is_number(seconds) else None,
        "patients": len({case.get("patient") for case in record.cases if case.get("role") == "labeled"}),
        "unlabeled": roles.count("unlabeled") if record.uses_unlabeled and record.used_unlabeled else 0,
        "measured": measured,
        "measured_patients": patients,
    }


def _unused(record: Record) -> str:
    """Says so where a finished training has never used its unlabeled cases."""
    is_over = record.kind == "train" and record.last(Done) is not None
    unused = is_over and record.uses_unlabeled and record.used_unlabeled is False
    return "The unlabeled cases never came into play." if unused else ""


def _numbers(record: Record, comparison: Comparison | None) -> dict[str, Any]:
    """The numbers that stand in large type; `dice` is None where nothing is measured."""
    if record.labels is None:
        return {"dice": None}
    structures = record.labels.structures if len(record.labels.structures) <= 4 else ()
    dice = [(structure, dice_of(record, structure.name)) for structure in structures]
    bias = record.summary["agreement"].get("lv_ef_percent", {}) if record.summary else {}
    return {
        "dice": dice_of(record, MEAN),
        "gain": comparison.ours - comparison.theirs if comparison is not None and comparison.fair else None,
        "structures": [(structure, value) for structure, value in dice if value is not None],
        "hd95_mm": record.summary["metrics"][MEAN]["hd95_mm"]["mean"] if record.summary else None,
        "bias": bias.get("bias"),
        "bias_patients": bias.get("n"),
    }


def _messages(record: Record, other: Record | None) -> str:
    """What ended the job, its warnings, each once, and what of its files is damaged."""
    items: list[dict[str, str]] = []

    def add(what: str, where: str, hint: str, kind: str = "warning") -> None:
        items.append({"what": what, "where": where, "hint": hint, "kind": kind})

    ends = [event for event in record.events if isinstance(event, Done | Failed | StoppedEvent | Started)]
    if ends and isinstance(ends[-1], Failed):
        add(ends[-1].what, ends[-1].where, ends[-1].hint, kind="error")
    counted = Counter((event.warning, event.where, event.hint) for event in record.all(Warned))
    for (what, where, hint), times in counted.items():
        add(f"{what} ({times} times)" if times > 1 else what, where, hint)
    places = [each for side in (record, other) if side is not None for each in (side, *side.seeds)]
    for error in {str(error): error for each in places for error in each.damage}.values():
        add(error.what, error.where, error.hint)
    return render("messages.html", shown=items[:WARNINGS_MAX], more=items[WARNINGS_MAX:]) if items else ""


def _footer() -> str:
    written = time.strftime("%Y-%m-%d %H:%M")
    return render("footer.html", version=__version__, written=written, method=METHOD, purpose=PURPOSE)
