"""Sections of the report on what a segment job made: pictures, volumes, and the heart's function over the cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.events import Result
from ..base.text import listed
from ..evaluation.clinical import MEASURES, implausible_volumes, volumes_ml
from ..evaluation.heart_function import (
    Function,
    Volumes,
    function_of,
    phases_of_cycle,
    phases_of_inputs,
    read_frames,
)
from ..images.labels import LabelSet
from ..images.overlays import overlay_montage, png
from ..images.volumes import Volume, read_series, stem
from ..jobs.job import named_inputs
from ..jobs.record import Record
from . import charts
from .html import render

MARK = "\N{DAGGER}"
PICTURES_MAX = 6
SERIES_MAX = 4
HOW_DRAWN = "Slices are numbered as in the file."


def segmented(record: Record) -> str:
    """Sections on the segmentations of a segment job, as far as the files are still there."""
    labels = record.labels
    results = _results(record)
    if not results:
        return ""
    shown = _measure(record, results, labels) if labels is not None else _Shown()
    return render(
        "segmented.html",
        structures=list(labels.structures) if labels else [],
        how_drawn=HOW_DRAWN,
        mark=MARK,
        pictures=shown.pictures,
        files=results,
        table=record.volumes_table,
        cycles=shown.cycles,
        **_volume_rows(shown.volumes, labels),
        **_measure_rows(shown.measures),
    )


@dataclass
class _Shown:
    """What the sections show: pictures (case, PNG, frame), charts of cycles, and numbers by the name of their input."""

    pictures: list[tuple[str, bytes, int | None]] = field(default_factory=list)
    cycles: list[tuple[str, str, str]] = field(default_factory=list)
    volumes: dict[str, Volumes] = field(default_factory=dict)
    measures: dict[str, Function] = field(default_factory=dict)


def _measure(record: Record, results: Mapping[str, Sequence[Path]], labels: LabelSet) -> _Shown:
    """What is shown of segmentations, as far as their files and inputs are still there."""
    images, found = _images(record), _Shown()
    for case, paths in results.items():
        try:
            frames = read_frames(paths, labels)
        except UserError:  # moved or removed since
            continue
        by_frame = [volumes_ml(frame, labels) for frame in frames]
        shown = None
        if len(frames) > 1:
            largest, smallest = phases_of_cycle(by_frame, labels)
            shown = largest or 0
            if largest is not None and smallest is not None:
                found.measures[case] = function_of(by_frame[largest], by_frame[smallest], labels)
            if len(found.cycles) < SERIES_MAX:
                found.cycles.append(_cycle_chart(case, len(found.cycles), frames, by_frame, labels))
        else:
            found.volumes[case] = by_frame[0]
        if len(found.pictures) < PICTURES_MAX and case in images:
            picture = _picture(images[case], frames[shown or 0], shown or 0, labels)
            found.pictures += [(case, picture, shown)] if picture is not None else []
    for patient, pair in phases_of_inputs(images, _inputs(record)).items():
        if all(name in found.volumes for name in pair):
            ed, es = (found.volumes[name] for name in pair)
            found.measures[patient] = function_of(ed, es, labels)
    return found


def _results(record: Record) -> dict[str, list[Path]]:
    """Label files by the name of their input."""
    results: dict[str, list[Path]] = {}
    for event in record.all(Result) if record.kind == "segment" else []:
        path = record.path(event.path)
        if event.kind == "segmentation" and path not in (paths := results.setdefault(event.case or stem(path), [])):
            paths.append(path)
    return results


def _inputs(record: Record) -> list[Path]:
    return [path for name in record.job.get("inputs", []) if (path := record.path(name)).exists()]


def _images(record: Record) -> dict[str, Path]:
    try:
        return named_inputs(_inputs(record))
    except UserError:  # a folder that is empty now
        return {}


def _cycle_chart(
    case: str, position: int, frames: Sequence[Volume], by_frame: Sequence[Volumes], labels: LabelSet
) -> tuple[str, str, str]:
    times = [frame.time_s for frame in frames if frame.time_s is not None]
    timed = len(times) == len(frames)
    x = times if timed else list(range(1, len(frames) + 1))
    lines = {name: (x, [volumes[name] for volumes in by_frame]) for name in labels.names}
    note = f"Volumes in ml over {'seconds' if timed else 'frames'}."
    colors = charts.structure_colors(labels)
    svg = charts.curves(lines, name=f"cycle-{position}", title=f"{case}: {note}", colors=colors, bounds=(0.0, None))
    return case, note, svg


def _picture(image: Path, labels_shown: Volume, frame: int, labels: LabelSet) -> bytes | None:
    """The slices of an image with its segmentation as a PNG; None where the two no longer belong together."""
    try:
        volume = read_series(image)[frame]
    except (UserError, IndexError):
        return None
    if volume.array.shape != labels_shown.array.shape:
        return None
    return png(overlay_montage(volume, labels_shown, labels))


def _measure_rows(measures: Mapping[str, Function]) -> dict[str, Any]:
    """The table of measures from end-diastole to end-systole: each a value and whether it is implausible."""
    columns = [measure for measure in MEASURES if any(measure in found for found, _ in measures.values())]
    rows = [
        (name, [(found.get(measure), measure in doubts) for measure in columns])
        for name, (found, doubts) in measures.items()
    ]
    return {
        "measures": rows if columns else [],
        "measure_heads": [f"{MEASURES[measure][0]}, {MEASURES[measure][1]}" for measure in columns],
        "measure_doubts": _by_doubt({name: doubts for name, (_, doubts) in measures.items()}),
    }


def _volume_rows(volumes: Mapping[str, Volumes], labels: LabelSet | None) -> dict[str, Any]:
    """The table of volumes: each a value and whether it is implausible."""
    doubts = {case: implausible_volumes(found, labels) for case, found in volumes.items()} if labels else {}
    rows = [(case, [(volumes[case][name], name in odd) for name in volumes[case]]) for case, odd in doubts.items()]
    return {"volumes": rows, "volume_doubts": _by_doubt(doubts)}


def _by_doubt(doubts: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str]]:
    """Each doubt once, with the names that it is about."""
    names: dict[str, list[str]] = {}
    for name, found in doubts.items():
        for doubt in dict.fromkeys(found.values()):
            names.setdefault(doubt, []).append(name)
    return [(doubt, listed(found)) for doubt, found in names.items()]
