"""Sections of the report on what a segment job made: pictures, volumes, and the heart's function over the cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..base.errors import UserError
from ..base.events import Result
from ..base.text import listed, number
from ..data.discover import discover
from ..data.layouts import visit_of
from ..evaluation.clinical import MEASURES, cycle_phases, implausible, implausible_volumes, patient_measures, volumes_ml
from ..images.labels import LabelSet
from ..images.overlays import overlay_montage, png
from ..images.volumes import Volume, read_labels, read_series, stem
from ..jobs.job import named_inputs
from ..jobs.record import Record
from . import charts, html
from .html import escape

Volumes = Mapping[str, float]
"""The volume of each structure, in ml."""
Measured = tuple[dict[str, float], dict[str, str]]
"""The measures of a heart, and what is wrong with those that cannot be of one."""
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
    files = [[escape(case), "<br>".join(html.path(path) for path in paths)] for case, paths in results.items()]
    listed = html.details("Files", html.table(["Input", "segmentation"], files, numeric_from=2))
    if labels is None:
        return html.section("Segmentations", listed)
    images = _images(record)
    pictures: list[str] = []
    cycles: list[str] = []
    volumes: dict[str, Volumes] = {}
    measures: dict[str, Measured] = {}
    for case, paths in results.items():
        try:
            frames = _frames(paths, labels)
        except UserError:  # moved or removed since
            continue
        by_frame = [volumes_ml(frame, labels) for frame in frames]
        shown = 0
        if len(frames) > 1:
            shown, measures[case] = _cycle(by_frame, labels)
            if len(cycles) < SERIES_MAX:
                cycles.append(_cycle_panel(case, len(cycles), frames, by_frame, labels))
        else:
            volumes[case] = by_frame[0]
        if len(pictures) < PICTURES_MAX and case in images:
            pictures += _picture(case, images[case], frames[shown], shown if len(frames) > 1 else None, labels)
    measures |= _by_patient(record, volumes, labels)
    charts = f'<div class="two">{"".join(cycles)}</div>' if cycles else ""
    heart = html.section("Heart function", charts, _measures_table(measures))
    montages = f'<div class="pictures">{"".join(pictures)}</div>' if pictures else ""
    legend = html.legend([*labels.structures], HOW_DRAWN) if pictures else ""
    return html.section("Segmentations", legend, montages, _volumes_table(volumes, labels), listed) + heart


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


def _frames(paths: Sequence[Path], labels: LabelSet) -> list[Volume]:
    if len(paths) > 1 or paths[0].name.endswith(".seg.nrrd"):
        return [read_labels(path, labels) for path in paths]
    return [frame.with_array(labels.to_training(frame.array, where=paths[0])) for frame in read_series(paths[0])]


def _cycle(by_frame: Sequence[Volumes], labels: LabelSet) -> tuple[int, Measured]:
    """The frame of the largest LV, taken as end-diastole, and the measures against that of the smallest."""
    lv = labels.role_index("lv")
    ed, es = cycle_phases([frame[labels.names[lv - 1]] for frame in by_frame]) if lv is not None else (None, None)
    if ed is None or es is None:
        return ed or 0, ({}, {})
    return ed, _measured(by_frame[ed], by_frame[es], labels)


def _measured(ed: Volumes, es: Volumes, labels: LabelSet) -> Measured:
    return patient_measures(ed, es, labels), implausible(ed, es, labels)


def _cycle_panel(
    case: str, position: int, frames: Sequence[Volume], by_frame: Sequence[Volumes], labels: LabelSet
) -> str:
    times = [frame.time_s for frame in frames if frame.time_s is not None]
    timed = len(times) == len(frames)
    x = times if timed else list(range(1, len(frames) + 1))
    lines = {name: (x, [volumes[name] for volumes in by_frame]) for name in labels.names}
    note = f"Volumes in ml over {'seconds' if timed else 'frames'}."
    colors = charts.structure_colors(labels)
    svg = charts.curves(lines, name=f"cycle-{position}", title=f"{case}: {note}", colors=colors, bounds=(0.0, None))
    return html.panel(case, note, svg)


def _picture(case: str, image: Path, labels_shown: Volume, frame: int | None, labels: LabelSet) -> list[str]:
    try:
        volume = read_series(image)[frame or 0]
    except (UserError, IndexError):
        return []
    if volume.array.shape != labels_shown.array.shape:
        return []
    which = "" if frame is None else f", frame {frame + 1}, where the LV cavity is largest"
    data = png(overlay_montage(volume, labels_shown, labels))
    return [html.picture(data, f"Slices of {case} with its segmentation", f"<b>{escape(case)}</b>{which}")]


def _by_patient(record: Record, volumes: Mapping[str, Volumes], labels: LabelSet) -> dict[str, Measured]:
    """Measures of each patient of whom one input is end-diastole and one end-systole."""
    try:
        cases = discover(_inputs(record))
    except UserError:
        return {}
    names = {image: name for name, image in _images(record).items()}
    phases: dict[str, dict[str, list[str]]] = {}
    for case in cases:
        name = names.get(case.image)
        if case.phase and name is not None and name in volumes:
            phases.setdefault(visit_of(case.name, case.patient), {}).setdefault(case.phase, []).append(name)
    return {
        patient: _measured(volumes[found["ED"][0]], volumes[found["ES"][0]], labels)
        for patient, found in sorted(phases.items())
        if set(found) == {"ED", "ES"} and all(len(names) == 1 for names in found.values())
    }


def _measures_table(measures: Mapping[str, Measured]) -> str:
    columns = [measure for measure in MEASURES if any(measure in found for found, _ in measures.values())]
    if not columns:
        return ""
    rows = [
        [escape(name), *(_cell(found.get(measure), measure in doubts) for measure in columns)]
        for name, (found, doubts) in measures.items()
    ]
    head = ["", *(f"{MEASURES[measure][0]}, {MEASURES[measure][1]}" for measure in columns)]
    caption = "From end-diastole to end-systole. LV mass is that of the myocardium at end-diastole, 1.05 g/ml."
    return html.table(head, rows, caption=caption + _marked({name: doubts for name, (_, doubts) in measures.items()}))


def _volumes_table(volumes: Mapping[str, Volumes], labels: LabelSet) -> str:
    if not volumes:
        return ""
    marked = {case: implausible_volumes(found, labels) for case, found in volumes.items()}
    rows = [
        [escape(case), *(_cell(found[name], name in marked[case]) for name in labels.names)]
        for case, found in volumes.items()
    ]
    head = ["Volume", *(html.chip(structure.color, structure.name) for structure in labels.structures)]
    return html.table(head, rows, caption="Volumes in ml." + _marked(marked))


def _cell(value: float | None, is_marked: bool) -> str:
    text = number(value, 1)
    return f'<span class="odd">{text}{MARK}</span>' if is_marked else text


def _marked(marked: Mapping[str, Mapping[str, str]]) -> str:
    """What the marks in a table mean: each doubt once, with the names that it is about."""
    names: dict[str, list[str]] = {}
    for name, doubts in marked.items():
        for doubt in dict.fromkeys(doubts.values()):
            names.setdefault(doubt, []).append(name)
    told = "; ".join(f"{escape(doubt)} ({escape(listed(found))})" for doubt, found in names.items())
    return f' <span class="odd">{MARK}</span> Implausible: {told}.' if told else ""
