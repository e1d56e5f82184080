"""How folders of volumes are laid out and named: ACDC, MM-WHS, nnU-Net, or any with labels beside their images."""

from __future__ import annotations

import csv
import functools
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from . import dicom, files, segmentations
from .errors import UserError
from .volumes import count_frames, is_volume_file, read_series, stem

CASE_LIST = "cases.csv"
Phase = Literal["ED", "ES"]

LABEL_ENDING = re.compile(r"[_-](gt|labels?|seg|segmentation|mask)$", re.IGNORECASE)
"""What the name of a label file has more than that of its image; a .seg.nrrd needs none of these."""
IMAGE_ENDING = re.compile(r"[_-]image$", re.IGNORECASE)

_CINE_ENDING = re.compile(r"_4d$", re.IGNORECASE)
_NOBODY = re.compile(r"frame_?\d+|ED|ES", re.IGNORECASE)
"""Names that say nothing of the patient, whose name the folder has then."""


class LabelsAlone(UserError):  # noqa: N818 - named for what is found, as Stopped is
    """There are labels without an image beside them."""


class Entry(NamedTuple):
    """A volume in a folder, and its labels if it has some."""

    name: str
    patient: str
    image: Path
    labels: Path | None = None
    frame: int | None = None
    """Index in a 4D file, from 0."""
    phase: Phase | None = None


class NameParts(NamedTuple):
    """What a name tells: patient001_frame01, SC-HF-I-01_ED, mr_train_1001."""

    patient: str
    frame: int | None = None
    """As numbered in the name: ACDC counts from 1."""
    phase: Phase | None = None


def parse_name(name: str) -> NameParts:
    """Reads a name without suffix and endings such as _gt."""
    framed = re.fullmatch(r"(.+?)[_-]frame_?(\d+)", name, re.IGNORECASE)
    if framed:
        return NameParts(framed[1], frame=int(framed[2]))
    phased = re.fullmatch(r"(.+?)[_-](ED|ES)", name, re.IGNORECASE)
    if phased:
        return NameParts(phased[1], phase="ED" if phased[2].upper() == "ED" else "ES")
    return NameParts(_CINE_ENDING.sub("", name))


def name_of(key: Path) -> str:
    """What a volume is called whose path, without suffix and endings, this is: x/ED tells no patient and is x_ED."""
    key = Path(os.path.abspath(key))  # of the folder '.' too
    return f"{key.parent.name}_{key.name}" if _NOBODY.fullmatch(key.name) else key.name


def frame_name(name: str, frame: int) -> str:
    """What a frame of a time series is called: frame 0 of patient001_4d is patient001_frame01, as in ACDC."""
    return f"{_CINE_ENDING.sub('', name)}_frame{frame + 1:02d}"


def read_table(path: Path) -> csv.DictReader:
    """The rows of a table as spreadsheets write it: a head, and commas or semicolons.

    Raises:
        UserError: If it is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"this table cannot be read ({error})", where=path, hint="Save it as UTF-8 text") from None
    head = lines[0] if lines else ""
    delimiter = ";" if head.count(";") > head.count(",") else ","
    reader = csv.DictReader(lines, delimiter=delimiter, skipinitialspace=True)
    reader.fieldnames = [column.strip() for column in reader.fieldnames or ()]
    return reader


def entries_of_folder(folder: Path) -> list[Entry]:
    """The volumes in a folder, at any depth.

    Raises:
        UserError: If there are none, labels have no image, or the nnU-Net layout holds what is not supported.
    """
    if (folder / "imagesTr").is_dir():
        return _nnunet(folder)
    volumes: list[Path] = []
    entries: list[Entry] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(place, name) for name in sorted(names)]
        volumes += [path for path in paths if is_volume_file(path)]
        if any(path.suffix.lower() in dicom.SUFFIXES for path in paths):
            entries.append(_dicom(Path(place)))
    entries = entries_of_files(volumes) + entries
    if not entries and any(path.is_file() for path in folder.iterdir()):
        read_series(folder)  # DICOM files may have no suffix; where they are none, this says so
        entries.append(_dicom(folder))
    if not entries:
        hint = "Name a folder with NIfTI, NRRD, MetaImage or DICOM files"
        raise UserError("this folder holds no volumes", where=folder, hint=hint)
    return entries


def entries_of_files(paths: Iterable[Path]) -> list[Entry]:
    """Volumes among files, each with the labels that have its name with an ending such as _gt, or .seg.nrrd.

    Raises:
        UserError: If labels have no image, or two files are the same thing.
    """
    images: dict[Path, Path] = {}
    labels: dict[Path, Path] = {}
    for path in paths:
        name = stem(path)
        is_label = bool(LABEL_ENDING.search(name)) or path.name.lower().endswith(segmentations.SUFFIX)
        key = path.parent / (LABEL_ENDING if is_label else IMAGE_ENDING).sub("", name)
        target = labels if is_label else images
        if key in target:
            what = f"this and '{target[key].name}' are both {'labels' if is_label else 'images'} of '{key.name}'"
            raise UserError(what, where=path, hint="Move one of them elsewhere")
        target[key] = path
    orphans = [key for key in labels if key not in images]
    if orphans:
        what = f"{len(orphans)} label files have no image beside them, of which this is the first"
        hint = f"An image named {orphans[0].name} is expected in the same place"
        raise LabelsAlone(what, where=labels[orphans[0]], hint=hint)

    phases = phases_of(images)
    frames = _frames_of_patients(images)
    entries: list[Entry] = []
    for key, image in images.items():
        patient = parse_name(name_of(key)).patient
        if not _CINE_ENDING.search(key.name):
            entries.append(Entry(name_of(key), patient, image, labels.get(key), phase=phases[key]))
        elif key.parent / patient not in frames:  # else the frames that matter lie beside it as files of their own
            entries += _cine(key, image, labels.get(key))
    return entries


def phases_of(keys: Iterable[Path]) -> dict[Path, Phase | None]:
    """ED or ES of volumes by their paths, without suffix and endings, whether or not there are images of these names.

    The name says it; for numbered frames Info.cfg, else a cases.csv in their folder or the one above with the columns
    case and phase, else the first of two frames is ED.

    Raises:
        UserError: If a cases.csv cannot be read.
    """
    keys = list(keys)
    frames = _frames_of_patients(keys)
    listed_phases = functools.cache(_listed_phases)  # for these alone: a list may have changed when it is next asked
    phases: dict[Path, Phase | None] = {}
    for key in keys:
        patient, frame, phases[key] = parse_name(name_of(key))
        if frame is not None:
            phases[key] = _phase(key, frame, frames[key.parent / patient], listed_phases)
    return phases


def _frames_of_patients(keys: Iterable[Path]) -> dict[Path, list[int]]:
    """The numbers of the frames that are files of their own, by folder and patient."""
    frames: dict[Path, list[int]] = {}
    for key in keys:
        patient, frame, _ = parse_name(name_of(key))
        if frame is not None:
            frames.setdefault(key.parent / patient, []).append(frame)
    return frames


def _dicom(path: Path) -> Entry:
    name = name_of(path)
    parts = parse_name(name)
    return Entry(name, parts.patient, path, phase=parts.phase)


def _cine(key: Path, image: Path, labels: Path | None) -> list[Entry]:
    """The ED and ES frames of a cine file where an Info.cfg names them, else every frame."""
    phases = {number: phase for phase, number in _info_cfg(key.parent).items()}
    numbers = sorted(phases) or range(1, count_frames(image) + 1)
    patient = parse_name(key.name).patient
    return [
        Entry(frame_name(key.name, number - 1), patient, image, labels, frame=number - 1, phase=phases.get(number))
        for number in numbers
    ]


def _phase(
    key: Path, frame: int, siblings: list[int], listed_phases: Callable[[Path], dict[str, Phase]]
) -> Phase | None:
    named = _info_cfg(key.parent)
    if named:
        return next((phase for phase, number in named.items() if number == frame), None)
    for folder in key.parents[:2]:
        if key.name in (listed := listed_phases(folder / CASE_LIST)):
            return listed[key.name]
    return ("ED" if frame == min(siblings) else "ES") if len(siblings) == 2 else None


def _info_cfg(folder: Path) -> dict[Phase, int]:
    """ED and ES frame numbers, counted from 1, of ACDC's Info.cfg; nothing where there is no such file."""
    path = folder / "Info.cfg"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return {phase: int(number) for phase, number in re.findall(r"^\s*(ED|ES)\s*[:=]\s*(\d+)", text, re.MULTILINE)}


def _listed_phases(path: Path) -> dict[str, Phase]:
    if not path.is_file():
        return {}
    return {
        row["case"]: row["phase"] for row in read_table(path) if row.get("phase") in get_args(Phase) and "case" in row
    }


def _nnunet(folder: Path) -> list[Entry]:
    dataset = folder / "dataset.json"
    description = files.read_json(dataset) if dataset.is_file() else {}
    channels = description.get("channel_names") or description.get("modality") or {}
    hint = "Keep one channel, numbered 0000"
    if len(channels) > 1:
        raise UserError(f"images with {len(channels)} channels are not supported", where=dataset, hint=hint)
    labels = {stem(path): path for path in _volumes_in(folder / "labelsTr")}
    images: dict[Path, Path] = {}
    for image in _volumes_in(folder / "imagesTr"):
        name, channel = re.fullmatch(r"(.*?)(?:_(\d{4}))?", stem(image)).groups()
        if channel not in (None, "0000"):
            raise UserError(f"this is channel {channel} of an image; one is supported", where=image, hint=hint)
        images[image.with_name(name)] = image
    entries = [
        Entry(key.name, parse_name(key.name).patient, images[key], labels.pop(key.name, None), phase=phase)
        for key, phase in phases_of(images).items()
    ]
    if labels:
        orphan = next(iter(labels.values()))
        hint = f"An image named {stem(orphan)}_0000 is expected in imagesTr"
        raise UserError(f"{len(labels)} label files have no image, of which this is the first", where=orphan, hint=hint)
    if not entries:
        raise UserError("this folder holds no volumes", where=folder / "imagesTr")
    return entries


def _volumes_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_volume_file(path)) if folder.is_dir() else []
