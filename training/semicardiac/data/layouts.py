"""How folders of volumes are laid out and named: ACDC, MM-WHS, nnU-Net, or any with labels beside their images."""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, get_args

from ..base import files
from ..base.errors import UserError
from ..base.events import Result, Writing, read_events
from ..base.tables import read_table
from ..base.text import count
from ..images import seg_nrrd
from ..images.dicom_headers import SUFFIXES as DICOM_SUFFIXES
from ..images.dicom_headers import is_dicom
from ..images.volumes import count_frames, is_volume_file, read_series, stem
from .names import CINE_ENDING, IMAGE_ENDING, LABEL_ENDING, MAP_ENDING, Phase, frame_name, name_of, parse_name

CASE_LIST = "cases.csv"


_SIDE = re.compile(r"(?:images?|imgs?|(labels?|masks?|segmentations?))(tr|ts|[_-].*)?", re.IGNORECASE)
"""Names of folders that hold the images or, group 1, the labels of a data set; group 2 says of which part of it."""
_CORRECTED, _DRAFTS = "final", "original"
"""Folders that MONAI Label makes in its labels: what a person has handed in, and what a model has drawn for that."""
_CHANNEL = re.compile(r"_(\d{4})\Z")
"""What nnU-Net adds to the name of an image."""
_ONE_CHANNEL = "Keep one channel, numbered 0000"


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


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[Path]]]:
    """A folder and those in it at any depth: its path, the names of the folders in it, and its files, sorted.

    Links are followed, each folder comes once, hidden ones do not. Names taken off the list are not walked into.
    """
    seen = {os.path.realpath(folder)}
    for place, folders, names in os.walk(folder, followlinks=True):
        real = {name: os.path.realpath(os.path.join(place, name)) for name in folders if not name.startswith(".")}
        folders[:] = []
        for name in sorted(real):
            if real[name] not in seen:
                seen.add(real[name])
                folders.append(name)
        yield Path(place), folders, [Path(place, name) for name in sorted(names)]


def entries_of_folder(folder: Path) -> list[Entry]:
    """The volumes in a folder, at any depth, but for jobs and what segmentations have written.

    Raises:
        UserError: If there are none, labels have no image, or the nnU-Net layout holds what is not supported.
    """
    volumes: list[Path] = []
    entries: list[Entry] = []
    results: set[Path] = set()
    for place, folders, paths in walk(folder):
        if "imagesTr" in folders:
            entries += _nnunet(place)
            folders.clear()
            continue
        if place.name == "labels" and _CORRECTED in folders:
            folders[:] = [name for name in folders if name != _DRAFTS]
        jobs = [name for name in folders if _is_job(place / name)]
        results.update(path for name in jobs for path in _results(place / name))
        folders[:] = [name for name in folders if name not in jobs]
        volumes += [path for path in paths if is_volume_file(path) and not MAP_ENDING.search(stem(path))]
        if any(path.suffix.lower() in DICOM_SUFFIXES for path in paths):
            entries.append(_dicom(place))
    entries = entries_of_files(_without(results, volumes), folder) + entries
    if not entries and not results:
        entries = _dicom_by_content(folder)
    if not entries:
        hint = "Name a folder with NIfTI, NRRD, MetaImage or DICOM files"
        raise UserError("this folder holds no volumes", where=folder, hint=hint)
    return entries


def _is_job(folder: Path) -> bool:
    path = folder / "job.json"
    if not path.is_file():
        return False
    try:
        job = files.read_json(path)
    except UserError:
        job = None
    ours = isinstance(job, dict) and job.get("kind") in ("train", "segment", "evaluate")
    return ours or (folder / "events.jsonl").is_file()


def _results(job: Path) -> Iterator[Path]:
    """The files that a job has written or is about to, also outside of its folder, with their links followed."""
    events = read_events(job / "events.jsonl") if (job / "events.jsonl").is_file() else []
    return (Path(os.path.realpath(job / event.path)) for event in events if isinstance(event, Result | Writing))


def _without(results: set[Path], volumes: list[Path]) -> list[Path]:
    """Volumes that are no results; a .seg.nrrd beside its image stays, since it is where a person corrects it."""
    own = {path for path in volumes if Path(os.path.realpath(path)) in results} if results else set()
    images = {path.parent / stem(path) for path in volumes if path not in own}
    return [
        path
        for path in volumes
        if path not in own or (path.name.lower().endswith(seg_nrrd.SUFFIX) and path.parent / stem(path) in images)
    ]


def entries_of_files(paths: Iterable[Path], root: Path | None = None) -> list[Entry]:
    """Volumes among files, each with its labels.

    Labels have the name of their image with an ending such as _gt, or .seg.nrrd, and lie beside it; or they lie in a
    folder called labels, masks or segmentations, beside the image or its folder images, or in labels/final as MONAI
    Label keeps them.

    Args:
        paths: The files.
        root: The folder that was named; what it and those above it are called does not count. Without it, the folder
            of each file does.

    Raises:
        UserError: If labels have no image, or two files are the same thing.
    """
    images: dict[Path, Path] = {}
    labels: dict[Path, Path] = {}
    paired: dict[Path, Path] = {}
    for path in paths:
        name = stem(path)
        among_labels, place = _place(path, root or path.parent.parent)
        if among_labels:
            key, target = place / IMAGE_ENDING.sub("", LABEL_ENDING.sub("", name)), labels
        elif LABEL_ENDING.search(name) or path.name.lower().endswith(seg_nrrd.SUFFIX):
            key, target = path.parent / LABEL_ENDING.sub("", name), labels
        else:
            key, target = path.parent / IMAGE_ENDING.sub("", name), images
            paired[place / key.name] = key
        if key in target:
            raise _same(path, target[key], "labels" if target is labels else "images", key)
        target[key] = path
    labels_of = _matched(labels, images, paired)
    phases = phases_of(images)
    frames = _frames_of_scans(images)
    entries: list[Entry] = []
    for key, image in images.items():
        name = name_of(key)
        parts = parse_name(name)
        if not CINE_ENDING.search(key.name):
            entries.append(Entry(name, parts.patient, image, labels_of.get(key), phase=phases[key]))
        elif key.parent / parts.scan not in frames:  # else the frames that matter lie beside it as files of their own
            entries += _cine(key, image, labels_of.get(key))
    return entries


def _matched(labels: dict[Path, Path], images: dict[Path, Path], paired: dict[Path, Path]) -> dict[Path, Path]:
    """The label file of each image, by the image's key; `paired` are keys of images as labels elsewhere name them."""
    labels_of: dict[Path, Path] = {}
    orphans: list[Path] = []
    for place, path in labels.items():
        image = place if place in images else paired.get(place)
        if image is None:
            orphans.append(place)
        elif image in labels_of:
            raise _same(path, labels_of[image], "labels", image)
        else:
            labels_of[image] = path
    if orphans:
        have = "label file has" if len(orphans) == 1 else "label files have"
        what = f"{len(orphans)} {have} no image beside them, of which this is the first"
        hint = (
            f"An image named {orphans[0].name} is expected in the same place, or in a folder images beside labels; "
            "where your folders are laid out otherwise, name both in a cases.csv"
        )
        raise LabelsAlone(what, where=labels[orphans[0]], hint=hint)
    return labels_of


def _place(path: Path, root: Path) -> tuple[bool, Path]:
    """Whether a file lies among labels, and its folder with images, labels and the like left out of the path."""
    sides = [(part, _SIDE.fullmatch(part)) for part in path.parent.relative_to(root).parts]
    among_labels = any(side and side[1] for _, side in sides)
    if among_labels and sides[-1][0] == _CORRECTED:
        sides.pop()
    place = root.joinpath(*((side[2] or "").lower() if side else part for part, side in sides))
    return among_labels, Path(unicodedata.normalize("NFC", str(place)))


def _same(path: Path, other: Path, kind: str, key: Path) -> UserError:
    what = f"this and '{other.name}' are both {kind} of '{key.name}'"
    return UserError(what, where=path, hint="Move one of them elsewhere")


def phases_of(keys: Iterable[Path]) -> dict[Path, Phase | None]:
    """ED or ES of volumes by their paths, without suffix and endings, whether or not there are images of these names.

    The name says it; for numbered frames Info.cfg, else a cases.csv in their folder or the one above with the columns
    case and phase, else the first of two frames is ED.

    Raises:
        UserError: If a cases.csv cannot be read.
    """
    keys = list(keys)
    frames = _frames_of_scans(keys)
    listed_phases = functools.cache(_listed_phases)  # for these alone: a list may have changed when it is next asked
    phases: dict[Path, Phase | None] = {}
    for key in keys:
        parts = parse_name(name_of(key))
        phases[key] = parts.phase
        if parts.frame is not None:
            phases[key] = _phase(key, parts.frame, frames[key.parent / parts.scan], listed_phases)
    return phases


def _frames_of_scans(keys: Iterable[Path]) -> dict[Path, list[int]]:
    """The numbers of the frames that are files of their own, by folder and scan."""
    frames: dict[Path, list[int]] = {}
    for key in keys:
        parts = parse_name(name_of(key))
        if parts.frame is not None:
            frames.setdefault(key.parent / parts.scan, []).append(parts.frame)
    return frames


def _dicom(path: Path) -> Entry:
    name = name_of(path)
    parts = parse_name(name)
    return Entry(name, parts.patient, path, phase=parts.phase)


def _dicom_by_content(folder: Path) -> list[Entry]:
    """The DICOM series in a folder whose files have no suffix.

    Raises:
        UserError: If they lie in its subfolders: what was exported to a disc holds all that was imaged of a patient,
            and a person has to choose.
    """
    series = [place for place, _, paths in walk(folder) if any(map(is_dicom, paths))]
    if series and folder not in series:
        what = f"this folder holds no volumes, but DICOM files without suffix in {count(len(series), 'subfolder')}"
        hint = "Name the folder of each series that you want, here or in the column 'image' of a cases.csv"
        first = f", such as '{series[0].relative_to(folder)}'"
        raise UserError(what + first, where=folder, hint=hint)
    if series or any(path.is_file() for path in folder.iterdir()):
        read_series(folder)  # where the files are no DICOM, this says so
        return [_dicom(folder)]
    return []


def _cine(key: Path, image: Path, labels: Path | None) -> list[Entry]:
    """The ED and ES frames of a cine file where an Info.cfg names them, else every frame."""
    phases = {number: phase for phase, number in _info_cfg(key.parent).items()}
    numbers = sorted(phases) or range(1, count_frames(image) + 1)
    name = name_of(key)
    patient = parse_name(name).patient
    return [
        Entry(frame_name(name, number - 1), patient, image, labels, frame=number - 1, phase=phases.get(number))
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
    return {phase: int(number) for phase, number in re.findall(r"^\s*(ED|ES)\s*[:=]\s*(\d{1,9})\b", text, re.MULTILINE)}


def _listed_phases(path: Path) -> dict[str, Phase]:
    rows = read_table(path).rows if path.is_file() else []
    return {
        row.cells["case"]: phase
        for row in rows
        for phase in get_args(Phase)
        if row.cells.get("phase") == phase and "case" in row.cells
    }


def _nnunet(folder: Path) -> list[Entry]:
    _require_one_channel(folder / "dataset.json")
    labels: dict[str, Path] = {}
    for path in _volumes_in(folder / "labelsTr"):
        if stem(path) in labels:
            raise _same(path, labels[stem(path)], "labels", path.with_name(stem(path)))
        labels[stem(path)] = path
    images: dict[Path, Path] = {}
    for image in _volumes_in(folder / "imagesTr"):
        name = stem(image)
        if name not in labels and (channel := _CHANNEL.search(name)):  # else the number tells the patient
            if channel[1] != "0000":
                what = f"this is channel {channel[1]} of an image; one is supported"
                raise UserError(what, where=image, hint=_ONE_CHANNEL)
            name = name[: channel.start()]
        key = image.with_name(name)
        if key in images:
            raise _same(image, images[key], "images", key)
        images[key] = image
    entries = [
        Entry(key.name, parse_name(key.name).patient, images[key], labels.pop(key.name, None), phase=phase)
        for key, phase in phases_of(images).items()
    ]
    if labels:
        orphan = next(iter(labels.values()))
        have = "label file has" if len(labels) == 1 else "label files have"
        hint = f"An image named {stem(orphan)}_0000 is expected in imagesTr"
        raise UserError(f"{len(labels)} {have} no image, of which this is the first", where=orphan, hint=hint)
    if not entries:
        raise UserError("this folder holds no volumes", where=folder / "imagesTr")
    return entries


def _require_one_channel(dataset: Path) -> None:
    description = files.read_json(dataset) if dataset.is_file() else {}
    if not isinstance(description, dict):
        hint = "Describe the data set as nnU-Net does, or remove the file"
        raise UserError("this is not the description of a data set", where=dataset, hint=hint)
    channels = description.get("channel_names") or description.get("modality")
    if isinstance(channels, dict | list) and len(channels) > 1:
        raise UserError(f"images with {len(channels)} channels are not supported", where=dataset, hint=_ONE_CHANNEL)


def _volumes_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_volume_file(path)) if folder.is_dir() else []
