"""Volumes and heart function of what was segmented: of single volumes, of both phases of a patient, of a cine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..base.errors import UserError
from ..data.discover import discover
from ..data.names import visit_of
from ..images.labels import LabelSet
from ..images.seg_nrrd import SUFFIX as SEGMENTATION_SUFFIX
from ..images.volumes import Volume, read_labels, read_series
from .clinical import MEASURES, cycle_phases, implausible, implausible_volumes, patient_measures

Volumes = Mapping[str, float]
"""The volume of each structure, in ml."""

COLUMNS = ("case", "frame", "phase", "structure", "measure", "unit", "value", "implausible")
"""Of volumes.csv: a row for every structure of every volume or frame (measure `volume_ml`), and for every measure of
clinical.py of a patient or cine, without a structure."""


class Function(NamedTuple):
    """The `clinical.MEASURES` of a heart, and what is wrong with those that cannot be of one."""

    measures: dict[str, float]
    implausible: dict[str, str]


def read_frames(paths: Sequence[Path], labels: LabelSet) -> list[Volume]:
    """The training labels of each frame of a result: of one file, or of one Slicer segmentation a frame.

    Raises:
        UserError: If one cannot be read, or holds other values.
    """
    if len(paths) > 1 or paths[0].name.endswith(SEGMENTATION_SUFFIX):
        return [read_labels(path, labels) for path in paths]
    return [frame.with_array(labels.to_training(frame.array, where=paths[0])) for frame in read_series(paths[0])]


def function_of(ed: Volumes, es: Volumes, labels: LabelSet) -> Function:
    """Of a heart whose volumes at end-diastole and end-systole are known."""
    return Function(patient_measures(ed, es, labels), implausible(ed, es, labels))


def phases_of_cycle(by_frame: Sequence[Volumes], labels: LabelSet) -> tuple[int | None, int | None]:
    """End-diastole and end-systole of a cine, see `cycle_phases`; None where the labels have no LV cavity."""
    lv = labels.role_index("lv")
    return cycle_phases([frame[labels.names[lv - 1]] for frame in by_frame]) if lv is not None else (None, None)


def phases_of_inputs(inputs: Mapping[str, Path], places: Sequence[Path]) -> dict[str, tuple[str, str]]:
    """The names of the inputs that are end-diastole and end-systole of a patient, by patient (in BIDS, by session).

    Args:
        inputs: Volume files by name.
        places: Files and folders that they were found in, whose lists and names tell patients and phases.
    """
    try:
        cases = discover(places)
    except UserError:  # no more than the names of the results is known then
        return {}
    names = {image: name for name, image in inputs.items()}
    phases: dict[str, dict[str, list[str]]] = {}
    for case in cases:
        if case.phase and case.frame is None and case.image in names:
            visit = phases.setdefault(visit_of(case.name, case.patient), {})
            visit.setdefault(case.phase, []).append(names[case.image])
    return {
        patient: (found["ED"][0], found["ES"][0])
        for patient, found in sorted(phases.items())
        if set(found) == {"ED", "ES"} and all(len(same) == 1 for same in found.values())
    }


def volumes_table(
    volumes: Mapping[str, Sequence[Volumes]], pairs: Mapping[str, tuple[str, str]], labels: LabelSet
) -> list[dict[str, Any]]:
    """The rows of volumes.csv, see `COLUMNS`; frames are counted from 1.

    Args:
        volumes: Of each frame of each input, by the input's name.
        pairs: See `phases_of_inputs`.
        labels: The structures.
    """
    pairs = {patient: pair for patient, pair in pairs.items() if all(len(volumes.get(name, ())) == 1 for name in pair)}
    phases = {name: phase for pair in pairs.values() for name, phase in zip(pair, ("ED", "ES"), strict=True)}
    rows: list[dict[str, Any]] = []
    functions: dict[str, Function] = {}
    for case, frames in volumes.items():
        ed, es = phases_of_cycle(frames, labels) if len(frames) > 1 else (None, None)
        if ed is not None and es is not None:
            functions[case] = function_of(frames[ed], frames[es], labels)
        for number, found in enumerate(frames):
            phase = phases.get(case, "") if len(frames) == 1 else {ed: "ED", es: "ES"}.get(number, "")
            doubts = implausible_volumes(found, labels)
            about = {"case": case, "frame": number + 1 if len(frames) > 1 else None, "phase": phase}
            of_volume = {"measure": "volume_ml", "unit": "ml"}
            rows += [
                {**about, "structure": name, **of_volume, "value": found[name], "implausible": doubts.get(name, "")}
                for name in labels.names
            ]
    functions |= {patient: function_of(volumes[ed][0], volumes[es][0], labels) for patient, (ed, es) in pairs.items()}
    for case, (measures, doubts) in functions.items():
        rows += [
            {
                "case": case, "frame": None, "phase": "", "structure": "", "measure": measure,
                "unit": MEASURES[measure][1], "value": value, "implausible": doubts.get(measure, ""),
            }
            for measure, value in measures.items()
        ]  # fmt: skip
    return rows
