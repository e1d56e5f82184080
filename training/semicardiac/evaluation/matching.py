"""Which reference belongs to which segmentation: by their names, whatever the layout of the folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import UserError
from ..data.cases import Case, case_name, label_file
from ..data.discover import discover
from ..data.layouts import LabelsAlone, phases_of, walk
from ..data.names import IMAGE_ENDING, LABEL_ENDING, MAP_ENDING, NameParts, frame_name, name_of, parse_name
from ..images.volumes import count_frames, is_volume_file, stem

_CHANNEL_ENDING = re.compile(r"_0000$")  # of an image in nnU-Net layout


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
    prediction_frame: int | None = None
    """Which frame of `prediction`, where it is a time series."""


def match(predictions: Path, reference: Path) -> tuple[list[Pair], list[Path], list[Case]]:
    """Finds the reference of each segmentation by its name.

    Endings such as _gt, _label, _seg, and _image and _0000 of the image that the segmentation is named after, do not
    count. The frames of a time series are told apart as `layouts.frame_name` names them, so that those of a series meet
    those of another one, and files of single frames too. Patients and phases are read off the reference as
    `cases.discover` does.

    Args:
        predictions: A folder, searched at any depth, or a label file.
        reference: A data set in any layout that `cases.discover` knows, or a label file or a folder of these without
            images, at any depth.

    Returns:
        Pairs sorted by case, the segmentations that have no reference, and the references that have no segmentation.

    Raises:
        UserError: If nothing matches, a name stands for two files, or a case list in `reference` is wrong.
    """
    found = [path for path in _files(predictions) if not MAP_ENDING.search(stem(path))]
    segmentations = _unique((name, path, frame) for path in found for name, frame in _frames(path))
    references = _references(reference)
    pairs = [
        Pair(name, case.patient, case.phase, path, label_file(case), image, case.frame, frame)
        for name, (case, image) in sorted(references.items())
        if name in segmentations
        for path, frame in [segmentations[name]]
    ]
    if not pairs:
        names = [f"such as '{next(iter(group))}'" if group else "none" for group in (segmentations, references)]
        raise UserError(
            f"no segmentation has the name of a reference (segmentations: {names[0]}; references: {names[1]})",
            where=reference,
            hint="A segmentation is named after its image; see that both folders are of the same cases",
        )
    matched = {pair.prediction for pair in pairs}
    measured = {(pair.reference, pair.frame) for pair in pairs}
    missing = {(case.labels, case.frame): case for case, _ in references.values()}  # a case may have two names
    return (
        pairs,
        [path for path in found if path not in matched],
        [case for key, case in missing.items() if key not in measured],
    )


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError("there is no such file or folder", where=path)
    found = [path]
    if path.is_dir():
        found = sorted(file for _, _, names in walk(path) for file in names if is_volume_file(file))
    if not found:
        hint = "Label files are .nii.gz, .nrrd, .seg.nrrd or .mha"
        raise UserError("this folder holds no label files", where=path, hint=hint)
    return found


def _plain(name: str) -> str:
    """A name without endings: that of the case."""
    for ending in (LABEL_ENDING, IMAGE_ENDING, _CHANNEL_ENDING):
        name = ending.sub("", name)
    return case_name(name)


def _frames(path: Path, name: str | None = None) -> list[tuple[str, int | None]]:
    """Name and number of each frame of a label file; a file with a single volume has no numbers."""
    name, frames = name or _plain(stem(path)), count_frames(path)
    return [(name, None)] if frames == 1 else [(frame_name(name, frame), frame) for frame in range(frames)]


def _references(path: Path) -> dict[str, tuple[Case, Path | None]]:
    """Each reference as a case with labels, and its image where there is one, by plain name."""
    if not path.exists():
        raise UserError("there is no such file or folder", where=path)
    try:
        cases = discover([path], roles=False)
    except LabelsAlone:
        cases = []
    labeled = [frame for case in cases if case.labels is not None for frame in _frames_of_case(case)]
    if not labeled:
        return {case.name: (case, None) for case in _cases_of_labels(path, cases)}
    counts = Counter(map(_file_name, labeled))
    by_file = {_file_name(case): case for case in labeled if counts[_file_name(case)] == 1}
    return {name: (case, case.image) for name, case in (by_file | {case.name: case for case in labeled}).items()}


def _cases_of_labels(path: Path, found: list[Case]) -> list[Case]:
    """Cases of label files alone; `found` is what was seen in them at first: images of these names, or of a list."""
    files = _files(path)
    files = [file for file in files if LABEL_ENDING.search(stem(file))] or files  # they may lie among images
    named = _unique((name, file, frame) for file in files for name, frame in _frames(file))
    keys = {name: file.parent / name for name, (file, _) in named.items()}
    phases = phases_of(keys.values())
    told = {name: NameParts(parse_name(name_of(key)).patient, phase=phases[key]) for name, key in keys.items()}
    told |= {_plain(case.name): NameParts(case.patient, phase=case.phase) for case in found}
    return [
        Case(
            name=name, patient=told[name].patient, phase=told[name].phase,
            image=file, labels=file, frame=frame, role="validation",
        )
        for name, (file, frame) in named.items()
    ]  # fmt: skip


def _frames_of_case(case: Case) -> list[Case]:
    """The case; if nobody has said which frame of a time series it is, one for each."""
    if case.frame is not None:
        return [case]
    frames = _frames(label_file(case), case.name)
    return [case.model_copy(update={"name": name, "frame": frame}) for name, frame in frames]


def _file_name(case: Case) -> str:
    name = _plain(stem(case.image))
    return name if case.frame is None else frame_name(name, case.frame)


def _unique(named: Iterable[tuple[str, Path, int | None]]) -> dict[str, tuple[Path, int | None]]:
    found: dict[str, tuple[Path, int | None]] = {}
    for name, path, frame in named:
        if name in found:
            hint = "Name one folder of segmentations at a time"
            raise UserError(f"this and {found[name][0]} are two files for one case", where=path, hint=hint)
        found[name] = (path, frame)
    return found
