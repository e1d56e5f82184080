"""Evaluation of many segmentations: against reference files, and of a model on its validation cases.

The tables that it leaves, in a folder that holds nothing else of these names:

- `metrics.csv`: a row for every volume and structure, with all metrics of metrics.py and both volumes in ml.
- `clinical.csv`: a row for every patient with ED and ES, and every measure of clinical.py; `implausible` says what is
  wrong with a value that cannot be that of a heart, and which then counts in no mean.
- `metrics.json`: see summary.py.
- `overlays/`: pictures of the worst, the best and the quartiles between them, where the images are at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import Stopped, UserError
from ..base.events import EventLog, Progress, Result
from ..base.files import write_json
from ..base.tables import write_csv
from ..base.text import count, listed
from ..data.names import visit_of
from ..images.labels import LabelSet
from ..images.overlays import overlay_montage, write_png
from ..images.seg_nrrd import SUFFIX as SEGMENTATION_SUFFIX
from ..images.volumes import Volume, read_labels, read_volume, same_geometry
from .averages import by_volume, format_table, summarize
from .clinical import MEASURES, implausible, patient_measures
from .matching import Pair, match
from .metrics import evaluate_pair

METRICS_CSV, METRICS_JSON, CLINICAL_CSV, OVERLAYS, VALIDATION = (
    "metrics.csv", "metrics.json", "clinical.csv", "overlays", "validation",
)  # fmt: skip
_SIDES = {"prediction": "segmentation", "reference": "reference"}
"""What is compared, as the tables and as we call it."""


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
    predictions: Path,
    reference: Path,
    label_set: LabelSet,
    out: Path,
    events: EventLog | None = None,
    stop: Callable[[], bool] = never,
) -> Evaluation:
    """Compares segmentations with the reference segmentations of the same names, and writes the tables.

    Args:
        predictions: A folder, searched at any depth, or a label file; each is named after its image.
        reference: See `matching.match`.
        label_set: What the labels mean, in both.
        out: Folder for the tables.
        events: Told of the progress and the results.
        stop: Asked before every volume.

    Raises:
        UserError: If nothing matches, or a file is unreadable, holds unknown labels or lies on another grid.
        Stopped: If asked to stop.
    """
    events = events or EventLog()
    pairs, unmatched, missing = match(predictions, reference)
    if unmatched:
        events.warn(_lacking("segmentation", "reference", [path.name for path in unmatched]), where=reference)
    if missing:
        hint = "They count in no mean; see that no segmentation was lost"
        events.warn(
            _lacking("reference", "segmentation", [case.name for case in missing]), where=predictions, hint=hint
        )
    measured, lost = ({(each.patient, each.phase) for each in side if each.phase} for side in (pairs, missing))
    if halves := sorted({patient for patient, _ in measured} & {patient for patient, _ in lost - measured}):
        what = _lacking("patient", "ejection fraction", halves)
        events.warn(what, where=predictions, hint="It takes the segmentations of ED and of ES")
    return evaluate_pairs(pairs, label_set, out, events, stop)


def _lacking(noun: str, what: str, names: Sequence[str]) -> str:
    """`2 references have no segmentation: a, b`."""
    return f"{count(len(names), noun)} {'has' if len(names) == 1 else 'have'} no {what}: {listed(names)}"


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
        try:
            measured = evaluate_pair(*_read(pair, label_set), label_set)
        except UserError as error:
            raise UserError(error.what, where=error.where or pair.prediction, hint=error.hint) from None
        rows += [{"case": pair.case, "patient": pair.patient, "phase": pair.phase or "", **row} for row in measured]
    events.emit(Progress(stage="evaluate", step=len(pairs), total=len(pairs)))

    clinical = _measure_patients(rows, label_set, events)
    summary = summarize(rows, clinical, label_set)
    summary["overlays"] = _draw(pairs, rows, label_set, out, events)
    write_csv(out / METRICS_CSV, list(rows[0]), rows)
    events.emit(Result(kind="metrics", path=METRICS_CSV))
    if clinical:
        write_csv(out / CLINICAL_CSV, list(clinical[0]), clinical)
        events.emit(Result(kind="clinical", path=CLINICAL_CSV))
    write_json(out / METRICS_JSON, summary)
    events.emit(Result(kind="summary", path=METRICS_JSON))
    return Evaluation(rows, clinical, summary, format_table(summary))


def _read(pair: Pair, label_set: LabelSet) -> tuple[Volume, Volume]:
    """Segmentation and reference. Slicer crops segmentations: they are put back on the grid of their image, or of each
    other; whether they lie on one grid is not seen to here."""
    cropped = any(path.name.lower().endswith(SEGMENTATION_SUFFIX) for path in (pair.prediction, pair.reference))
    grid = read_volume(pair.image, frame=pair.frame) if cropped and pair.image else None
    prediction = read_labels(pair.prediction, label_set, frame=pair.prediction_frame, grid=grid)
    reference = read_labels(pair.reference, label_set, frame=pair.frame, grid=grid or prediction)
    if cropped and grid is None:
        prediction = read_labels(pair.prediction, label_set, frame=pair.prediction_frame, grid=reference)
    return prediction, reference


def _measure_patients(rows: Sequence[dict[str, Any]], label_set: LabelSet, events: EventLog) -> list[dict[str, Any]]:
    """Clinical measures of each patient who has one volume at ED and one at ES; NaN for a structure that is nowhere.

    What cannot be that of a heart is marked and told.
    """
    by_patient: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = {}
    for row in rows:
        if row["phase"]:
            phases = by_patient.setdefault(visit_of(row["case"], row["patient"]), {})
            phases.setdefault(row["phase"], {}).setdefault(row["case"], []).append(row)
    measured = []
    doubted: dict[tuple[str, str], list[str]] = {}
    for patient, phases in sorted(by_patient.items()):
        if set(phases) != {"ED", "ES"}:
            continue
        if any(len(volumes) > 1 for volumes in phases.values()):
            events.warn("this patient has several volumes of one phase, and so no ejection fraction", where=patient)
            continue
        ed, es = (next(iter(phases[phase].values())) for phase in ("ED", "ES"))
        there = {row["structure"] for row in [*ed, *es] if row["prediction_ml"] or row["reference_ml"]}
        sides, doubts = {}, {}
        for side in _SIDES:
            ed_ml, es_ml = (
                {row["structure"]: row[f"{side}_ml"] if row["structure"] in there else math.nan for row in phase}
                for phase in (ed, es)
            )
            sides[side] = patient_measures(ed_ml, es_ml, label_set)
            doubts[side] = implausible(ed_ml, es_ml, label_set)
        for measure, value in sides["prediction"].items():
            expected = sides["reference"][measure]
            why = _by_doubt({side: [found[measure]] for side, found in doubts.items() if measure in found})
            measured.append(
                {
                    "patient": patient, "measure": measure, "unit": MEASURES[measure][1],
                    "prediction": value, "reference": expected, "difference": value - expected,
                    "implausible": "; ".join(f"{doubt}, in the {whose}" for doubt, whose in why.items()),
                }
            )  # fmt: skip
        for found in _by_doubt({side: found.values() for side, found in doubts.items()}).items():
            doubted.setdefault(found, []).append(patient)
    for (doubt, whose), patients in doubted.items():
        hint = "These values are marked there and count in no mean; see that ED and ES are not swapped, that no "
        hint += "structure is missing, and that the voxel size is right"
        events.warn(f"{doubt}, in the {whose} of {listed(patients)}", where=CLINICAL_CSV, hint=hint)
    return measured


def _by_doubt(doubts: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Doubts about prediction and reference, each once, with the sides that it is about."""
    sides: dict[str, list[str]] = {}
    for side, found in doubts.items():
        for doubt in dict.fromkeys(found):
            sides.setdefault(doubt, []).append(_SIDES[side])
    return {doubt: " and the ".join(names) for doubt, names in sides.items()}


def _draw(
    pairs: Sequence[Pair], rows: Sequence[dict[str, Any]], label_set: LabelSet, out: Path, events: EventLog
) -> list[dict[str, Any]]:
    """Pictures from the worst volume to the best in five steps, as far as there are images."""
    means = {case: value for case, value in by_volume(rows, "dice").items() if not math.isnan(value)}
    ranked = sorted(means, key=lambda case: (means[case], case))
    pictured = sorted(
        ((pair, pair.image) for pair in pairs if pair.image is not None and pair.case in means),
        key=lambda each: ranked.index(each[0].case),
    )
    chosen = dict.fromkeys(round(share * (len(pictured) - 1)) for share in (0, 0.25, 0.5, 0.75, 1)) if pictured else {}
    drawn = []
    for pair, path in (pictured[index] for index in chosen):
        try:
            image = read_volume(path, frame=pair.frame)
        except UserError as error:  # the tables do without it
            events.warn(f"no picture of it: {error.what}", where=error.where or pair.case, hint=error.hint)
            continue
        prediction, reference = _read(pair, label_set)
        if difference := same_geometry(image, reference):
            events.warn(f"no picture of it: image and reference lie on different grids ({difference})", where=pair.case)
            continue
        picture = overlay_montage(image, prediction, label_set, reference)
        drawing = out / OVERLAYS / f"{pair.case}.png"
        write_png(drawing, picture)
        rank = ranked.index(pair.case) + 1
        drawn.append(
            {"case": pair.case, "mean_dice": means[pair.case], "rank": rank, "path": f"{OVERLAYS}/{drawing.name}"}
        )
    return drawn
