"""How folders of volumes are laid out and named: ACDC, MM-WHS, nnU-Net, or any with labels beside their images."""

from __future__ import annotations

import csv
import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from . import dicom, files, segmentations
from .errors import UserError
from .volumes import is_volume_file, read_series, stem

Phase = Literal["ED", "ES"]

_LABEL_ENDING = re.compile(r"[_-](gt|labels?|seg|segmentation|mask)$", re.IGNORECASE)
_IMAGE_ENDING = re.compile(r"_image$", re.IGNORECASE)
_CINE_ENDING = re.compile(r"_4d$", re.IGNORECASE)


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
            entries.append(_single(Path(place)))
    entries = entries_of_files(volumes) + entries
    if not entries and any(path.is_file() for path in folder.iterdir()):
        read_series(folder)  # DICOM files may have no suffix; where they are none, this says so
        entries.append(_single(folder))
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
        is_label = bool(_LABEL_ENDING.search(name)) or path.name.lower().endswith(segmentations.SUFFIX)
        key = path.parent / (_LABEL_ENDING if is_label else _IMAGE_ENDING).sub("", name)
        target = labels if is_label else images
        if key in target:
            what = f"this and '{target[key].name}' are both {'labels' if is_label else 'images'} of '{key.name}'"
            raise UserError(what, where=path, hint="Move one of them elsewhere")
        target[key] = path
    orphans = [key for key in labels if key not in images]
    if orphans:
        what = f"{len(orphans)} label files have no image beside them, of which this is the first"
        hint = f"An image named {orphans[0].name} is expected in the same place"
        raise UserError(what, where=labels[orphans[0]], hint=hint)

    frames: dict[Path, list[int]] = {}
    for key in images:
        parts = parse_name(key.name)
        if parts.frame is not None:
            frames.setdefault(key.parent / parts.patient, []).append(parts.frame)
    entries: list[Entry] = []
    for key, image in images.items():
        parts = parse_name(key.name)
        siblings = frames.get(key.parent / parts.patient, [])
        if not _CINE_ENDING.search(key.name):
            phase = parts.phase or _phase(key, parts.frame, siblings)
            entries.append(Entry(key.name, parts.patient, image, labels.get(key), phase=phase))
        elif not siblings:  # else the frames that matter lie beside the cine as files of their own
            entries += _cine(key, image, labels.get(key))
    return entries


def _single(path: Path) -> Entry:
    parts = parse_name(stem(path))
    return Entry(stem(path), parts.patient, path, phase=parts.phase)


def _cine(key: Path, image: Path, labels: Path | None) -> list[Entry]:
    """The ED and ES frames of a cine file where an Info.cfg names them, else every frame."""
    patient = parse_name(key.name).patient
    phases = {number: phase for phase, number in _info_cfg(key.parent).items()}
    numbers = sorted(phases) or range(1, len(read_series(image)) + 1)
    return [
        Entry(f"{patient}_frame{number:02d}", patient, image, labels, frame=number - 1, phase=phases.get(number))
        for number in numbers
    ]


def _phase(key: Path, frame: int | None, siblings: list[int]) -> Phase | None:
    """ED or ES by Info.cfg, else by a cases.csv in this folder or the one above, else the first of two frames is ED."""
    if frame is None:
        return None
    named = _info_cfg(key.parent)
    if named:
        return next((phase for phase, number in named.items() if number == frame), None)
    for folder in key.parents[:2]:
        if key.name in (listed := _listed_phases(folder / "cases.csv")):
            return listed[key.name]
    return ("ED" if frame == min(siblings) else "ES") if len(siblings) == 2 else None


def _info_cfg(folder: Path) -> dict[Phase, int]:
    """ED and ES frame numbers, counted from 1, of ACDC's Info.cfg; nothing where there is no such file."""
    path = folder / "Info.cfg"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return {phase: int(number) for phase, number in re.findall(r"^\s*(ED|ES)\s*[:=]\s*(\d+)", text, re.MULTILINE)}


@functools.lru_cache(maxsize=4)
def _listed_phases(path: Path) -> dict[str, Phase]:
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["case"]: row["phase"] for row in rows if row.get("case") and row.get("phase") in ("ED", "ES")}


def _nnunet(folder: Path) -> list[Entry]:
    dataset = folder / "dataset.json"
    description = files.read_json(dataset) if dataset.is_file() else {}
    channels = description.get("channel_names") or description.get("modality") or {}
    hint = "Keep one channel, numbered 0000"
    if len(channels) > 1:
        raise UserError(f"images with {len(channels)} channels are not supported", where=dataset, hint=hint)
    labels = {stem(path): path for path in _volumes_in(folder / "labelsTr")}
    entries = []
    for image in _volumes_in(folder / "imagesTr"):
        name, channel = re.fullmatch(r"(.*?)(?:_(\d{4}))?", stem(image)).groups()
        if channel not in (None, "0000"):
            raise UserError(f"this is channel {channel} of an image; one is supported", where=image, hint=hint)
        parts = parse_name(name)
        entries.append(Entry(name, parts.patient, image, labels.pop(name, None), phase=parts.phase))
    if labels:
        orphan = next(iter(labels.values()))
        hint = f"An image named {stem(orphan)}_0000 is expected in imagesTr"
        raise UserError(f"{len(labels)} label files have no image, of which this is the first", where=orphan, hint=hint)
    if not entries:
        raise UserError("this folder holds no volumes", where=folder / "imagesTr")
    return entries


def _volumes_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_volume_file(path)) if folder.is_dir() else []
