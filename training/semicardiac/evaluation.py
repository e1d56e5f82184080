"""Evaluation of many segmentations: against reference files, and of a model on its validation cases.

The tables that it leaves, in a folder that holds nothing else of these names:

- `metrics.csv`: a row for every volume and structure, with all metrics of metrics.py and both volumes in ml.
- `clinical.csv`: a row for every patient with ED and ES, and every measure of clinical.py.
- `metrics.json`: means and standard deviations (n - 1) over the volumes, by structure and phase; how many values were
  undefined; the worst volume; agreement of the clinical measures.
- `overlays/`: pictures of the worst, the best and the quartiles between them, where the images are at hand.

The `mean` over structures is taken within each volume first, over those structures whose metric is defined there.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .cases import Case, discover, load_image
from .clinical import MEASURES, agreement, patient_measures
from .errors import Stopped, UserError
from .events import EventLog, Progress, Result
from .files import write_json, write_text
from .labels import LabelSet
from .layouts import parse_name
from .metrics import METRICS, evaluate_pair
from .overlays import overlay_montage, write_png
from .volumes import is_volume_file, read_labels, read_volume, stem, write_labels

if TYPE_CHECKING:
    from .compute import ComputePlan
    from .model import Model

METRICS_CSV, METRICS_JSON, CLINICAL_CSV, OVERLAYS, VALIDATION = (
    "metrics.csv", "metrics.json", "clinical.csv", "overlays", "validation",
)  # fmt: skip
MEAN = "mean"
"""Stands among the structures for the mean over all of them."""

_ENDING = re.compile(r"([_-](gt|labels?|seg|segmentation|mask|image)|_0000)$", re.IGNORECASE)
_MAP = re.compile(r"_(confidence|entropy)$")  # what segmentation writes beside its labels


@dataclass(frozen=True)
class Pair:
    """A segmentation and what it is measured against."""

    case: str
    patient: str
    phase: str | None
    prediction: Path
    reference: Path
    image: Path | None = None
    frame: int | None = None
    """Which frame of `reference` and `image`, where these are time series."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        rows: As in metrics.csv.
        clinical: As in clinical.csv.
        summary: As in metrics.json, with NaN where that has null.
        table: For a person to read in a terminal.
    """

    rows: list[dict[str, Any]]
    clinical: list[dict[str, Any]]
    summary: dict[str, Any]
    table: str


def never() -> bool:
    """A stop request that does not come."""
    return False


def evaluate_folder(
    predictions: Path | Sequence[Path],
    reference: Path,
    label_set: LabelSet,
    out: Path,
    events: EventLog | None = None,
    stop: Callable[[], bool] = never,
) -> Evaluation:
    """Compares segmentations with the reference segmentations of the same names, and writes the tables.

    Args:
        predictions: A folder, searched at any depth, or label files; each is named after its image.
        reference: See `match`.
        label_set: What the labels mean, in both.
        out: Folder for the tables.
        events: Told of the progress and the results.
        stop: Asked before every volume.

    Raises:
        UserError: If nothing matches, or a file is unreadable, holds unknown labels or lies on another grid.
        Stopped: If asked to stop.
    """
    events = events or EventLog()
    pairs, strangers = match(predictions, reference)
    if strangers:
        listed = ", ".join(path.name for path in strangers[:5]) + (", ..." if len(strangers) > 5 else "")
        events.warn(f"{len(strangers)} segmentations have no reference: {listed}", where=reference)
    return evaluate_pairs(pairs, label_set, out, events, stop)


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
    from .inference import segment  # torch: who compares files does without

    events = events or EventLog()
    pairs = []
    for number, case in enumerate(cases):
        if stop():
            raise Stopped
        events.emit(Progress(stage="validate", step=number, total=len(cases), case=case.name))
        path = out / VALIDATION / f"{case.name}.nii.gz"
        write_labels(path, segment(model, load_image(case), plan, roi=case.roi).labels, model.labels)
        pairs.append(Pair(case.name, case.patient, case.phase, path, case.labels, case.image, case.frame))
    return evaluate_pairs(pairs, model.labels, out, events, stop)


def match(predictions: Path | Sequence[Path], reference: Path) -> tuple[list[Pair], list[Path]]:
    """Finds the reference of each segmentation by its name.

    Endings such as _gt, _label, _seg, and _image and _0000 of the image that the segmentation is named after, do not
    count. Patients and phases are read off the reference as `cases.discover` does.

    Args:
        predictions: A folder, searched at any depth, or label files.
        reference: A data set in any layout that `cases.discover` knows, or a label file or a folder of these without
            images, at any depth.

    Returns:
        Pairs sorted by case, and the segmentations that have no reference.

    Raises:
        UserError: If nothing matches, or a name stands for two files.
    """
    found = _files(predictions)
    by_name = _unique((_plain(path), path) for path in found if not _MAP.search(stem(path)))
    references = _references(Path(reference), found)
    pairs = [
        Pair(name, case.patient, case.phase, by_name[name], labels, image, case.frame)
        for name, (case, labels, image) in sorted(references.items())
        if name in by_name
    ]
    if not pairs:
        names = [f"such as '{next(iter(group))}'" if group else "none" for group in (by_name, references)]
        raise UserError(
            f"no segmentation has the name of a reference (segmentations: {names[0]}; references: {names[1]})",
            where=reference,
            hint="A segmentation is named after its image; see that both folders are of the same cases",
        )
    return pairs, [path for name, path in sorted(by_name.items()) if name not in references]


def evaluate_pairs(
    pairs: Sequence[Pair],
    label_set: LabelSet,
    out: Path,
    events: EventLog | None = None,
    stop: Callable[[], bool] = never,
) -> Evaluation:
    """Measures segmentations and writes the tables and pictures; see `evaluate_folder`."""
    events = events or EventLog()
    rows: list[dict[str, Any]] = []
    for number, pair in enumerate(pairs):
        if stop():
            raise Stopped
        events.emit(Progress(stage="evaluate", step=number, total=len(pairs), case=pair.case))
        prediction = read_labels(pair.prediction, label_set)
        reference = read_labels(pair.reference, label_set, frame=pair.frame)
        try:
            measured = evaluate_pair(prediction, reference, label_set)
        except UserError as error:
            raise UserError(error.what, where=pair.prediction, hint=error.hint) from None
        rows += [{"case": pair.case, "patient": pair.patient, "phase": pair.phase or "", **row} for row in measured]
    events.emit(Progress(stage="evaluate", step=len(pairs), total=len(pairs)))

    clinical = _measure_patients(rows, label_set, events)
    summary = summarize(rows, clinical, label_set)
    summary["overlays"] = _draw(pairs, rows, label_set, out)
    _write_csv(out / METRICS_CSV, list(rows[0]), rows)
    events.emit(Result(kind="metrics", path=METRICS_CSV))
    if clinical:
        _write_csv(out / CLINICAL_CSV, list(clinical[0]), clinical)
        events.emit(Result(kind="clinical", path=CLINICAL_CSV))
    write_json(out / METRICS_JSON, summary)
    events.emit(Result(kind="summary", path=METRICS_JSON))
    return Evaluation(rows, clinical, summary, format_table(summary))


def summarize(
    rows: Sequence[dict[str, Any]], clinical: Sequence[dict[str, Any]], label_set: LabelSet
) -> dict[str, Any]:
    """What metrics.json holds, from the rows of metrics.csv and clinical.csv."""
    phases = sorted({row["phase"] for row in rows if row["phase"]})
    means = {case: value for case, value in _by_volume(rows, "dice").items() if not math.isnan(value)}
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
            measure: asdict(agreement(*([row[side] for row in found] for side in ("prediction", "reference"))))
            for measure in MEASURES
            if (found := [row for row in clinical if row["measure"] == measure])
        },
    }


def format_table(summary: dict[str, Any]) -> str:
    """The summary as text for a terminal."""
    heads = {"dice": "Dice", "jaccard": "Jaccard", "hd95_mm": "HD95 mm", "asd_mm": "ASD mm"}
    blocks = {"": summary["metrics"], **summary["by_phase"]}
    width = max(len(name) for name in [*summary["metrics"], "structure"]) + 4
    lines = [f"{summary['volumes']} volumes of {summary['patients']} patients; mean ± SD", ""]
    lines.append("structure".ljust(width) + "".join(head.rjust(16) for head in heads.values()))
    for phase, block in blocks.items():
        for name, found in block.items():
            cells = "".join(format_mean(found[metric], metric).rjust(16) for metric in heads)
            lines.append(f"{name}{' ' if phase else ''}{phase}".ljust(width) + cells)
        lines.append("")
    notes = []
    for name, found in summary["metrics"].items():
        if name == MEAN:
            continue
        for key, text in (
            ("both_empty", "in neither segmentation nor reference of {} volumes, which count in no mean"),
            ("missed", "missed altogether in {} volumes (Dice 0, distances undefined)"),
            ("invented", "only in the segmentation of {} volumes (Dice 0, distances undefined)"),
        ):
            notes += [f"{name}: {text.format(found[key])}"] if found[key] else []
    if summary["worst"]:
        notes.append(f"worst volume: {summary['worst']['case']}, mean Dice {summary['worst']['mean_dice']:.3f}")
    for measure, found in summary["agreement"].items():
        name, unit = MEASURES[measure]
        limits = f", 95 % limits {found['lower']:+.1f} to {found['upper']:+.1f}" if found["n"] > 1 else ""
        notes.append(f"{name}: bias {found['bias']:+.1f} {unit}{limits} ({found['n']} patients)")
    return "\n".join(lines + notes).rstrip() + "\n"


def format_mean(found: dict[str, Any], metric: str) -> str:
    """`0.872 ± 0.051`, or a dash where nothing is defined."""
    digits = 3 if metric in ("dice", "jaccard") else 2
    mean, sd = (float("nan") if found[key] is None else found[key] for key in ("mean", "sd"))
    if math.isnan(mean):
        return "-"
    return f"{mean:.{digits}f}" if math.isnan(sd) else f"{mean:.{digits}f} ± {sd:.{digits}f}"


# Matching


def _files(paths: Path | Sequence[Path]) -> list[Path]:
    found = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(path)
        if not path.exists():
            raise UserError("there is no such file or folder", where=path)
        found += sorted(item for item in path.rglob("*") if is_volume_file(item)) if path.is_dir() else [path]
    if not found:
        hint = "Label files are .nii.gz, .nrrd, .seg.nrrd or .mha"
        raise UserError("this folder holds no label files", where=paths, hint=hint)
    return found


def _plain(path: Path) -> str:
    """A file's name without suffix and ending: the name of its case."""
    return _ENDING.sub("", stem(path))


def _references(path: Path, predictions: list[Path]) -> dict[str, tuple[Case, Path, Path | None]]:
    """Case, label file and image (where there is one) of each reference, by plain name."""
    if not path.exists():
        raise UserError("there is no such file or folder", where=path)
    cases = _discovered([path])
    labeled = [case for case in cases if case.labels is not None]
    if labeled:
        by_file = {_plain(case.image): case for case in labeled if case.frame is None}
        by_name = by_file | {case.name: case for case in labeled}
        return {name: (case, case.labels, case.image) for name, case in by_name.items()}
    known = {_ENDING.sub("", case.name): case for case in cases or _discovered(predictions)}
    label_files = _unique((_plain(file), file) for file in _files(path))
    return {name: (known.get(name) or _case_of(name, file), file, None) for name, file in label_files.items()}


def _case_of(name: str, file: Path) -> Case:
    parts = parse_name(name)
    return Case(name=name, patient=parts.patient, phase=parts.phase, image=file)


def _discovered(paths: list[Path]) -> list[Case]:
    """The cases there, or none where labels lie without images."""
    try:
        return discover(paths)
    except UserError:
        return []


def _unique(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, path in named:
        if name in found:
            hint = "Name one folder of segmentations at a time"
            raise UserError(f"this and {found[name]} are two files for one case", where=path, hint=hint)
        found[name] = path
    return found


# Measuring


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
    aggregate[MEAN] = {metric: _mean_sd(list(_by_volume(rows, metric).values())) for metric in METRICS}
    return aggregate


def _mean_sd(values: list[float]) -> dict[str, float | int]:
    defined = [value for value in values if not math.isnan(value)]
    return {
        "mean": float(np.mean(defined)) if defined else float("nan"),
        "sd": float(np.std(defined, ddof=1)) if len(defined) > 1 else float("nan"),
        "n": len(defined),
        "undefined": len(values) - len(defined),
    }


def _by_volume(rows: Sequence[dict[str, Any]], metric: str) -> dict[str, float]:
    """Mean of a metric over the structures of each volume where it is defined."""
    by_case: dict[str, list[float]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row[metric])
    return {case: _defined_mean(values) for case, values in by_case.items()}


def _defined_mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _measure_patients(rows: Sequence[dict[str, Any]], label_set: LabelSet, events: EventLog) -> list[dict[str, Any]]:
    """Clinical measures of each patient who has one volume at ED and one at ES."""
    by_patient: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = {}
    for row in rows:
        if row["phase"]:
            phases = by_patient.setdefault(row["patient"], {})
            phases.setdefault(row["phase"], {}).setdefault(row["case"], []).append(row)
    measured = []
    for patient, phases in sorted(by_patient.items()):
        if set(phases) != {"ED", "ES"}:
            continue
        if any(len(volumes) > 1 for volumes in phases.values()):
            events.warn("this patient has several volumes of one phase, and so no ejection fraction", where=patient)
            continue
        ed, es = (next(iter(phases[phase].values())) for phase in ("ED", "ES"))
        sides = {}
        for side in ("prediction", "reference"):
            volumes = [{row["structure"]: row[f"{side}_ml"] for row in phase} for phase in (ed, es)]
            sides[side] = patient_measures(*volumes, label_set)
        for measure, value in sides["prediction"].items():
            expected = sides["reference"][measure]
            measured.append(
                {
                    "patient": patient, "measure": measure, "unit": MEASURES[measure][1],
                    "prediction": value, "reference": expected, "difference": value - expected,
                }
            )  # fmt: skip
    return measured


def _draw(
    pairs: Sequence[Pair], rows: Sequence[dict[str, Any]], label_set: LabelSet, out: Path
) -> list[dict[str, Any]]:
    """Pictures from the worst volume to the best in five steps, as far as there are images."""
    means = {case: value for case, value in _by_volume(rows, "dice").items() if not math.isnan(value)}
    ranked = sorted(means, key=lambda case: (means[case], case))
    pictured = sorted(
        (pair for pair in pairs if pair.image and pair.case in means), key=lambda pair: ranked.index(pair.case)
    )
    chosen = dict.fromkeys(round(share * (len(pictured) - 1)) for share in (0, 0.25, 0.5, 0.75, 1)) if pictured else {}
    drawn = []
    for pair in (pictured[index] for index in chosen):
        image = read_volume(pair.image, frame=pair.frame)
        reference = read_labels(pair.reference, label_set, frame=pair.frame)
        picture = overlay_montage(image, read_labels(pair.prediction, label_set), label_set, reference)
        path = out / OVERLAYS / f"{pair.case}.png"
        write_png(path, picture)
        rank = ranked.index(pair.case) + 1
        drawn.append(
            {"case": pair.case, "mean_dice": means[pair.case], "rank": rank, "path": f"{OVERLAYS}/{path.name}"}
        )
    return drawn


def _write_csv(path: Path, columns: list[str], rows: Sequence[dict[str, Any]]) -> None:
    """Writes a table; NaN is an empty field, and numbers keep six significant digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _field(value) for key, value in row.items()})
    write_text(path, text.getvalue())


def _field(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
