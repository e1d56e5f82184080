"""Cases: which volumes there are, whose they are, and what part each plays in a training."""

from __future__ import annotations

import csv
import functools
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from . import files, protocols
from .errors import UserError, nearest
from .labels import LabelSet
from .volumes import DICOM_SUFFIXES, Volume, is_volume_file, read_labels, read_series, read_volume, stem

Role = Literal["labeled", "unlabeled", "validation", "ignore"]
Protocol = Literal["given", "p70", "p80", "mmwhs", "fraction"]

ROLES = ("labeled", "unlabeled", "validation", "ignore")
PROTOCOLS = ("given", "p70", "p80", "mmwhs", "fraction")

_LABEL_ENDINGS = ("_gt", "_label", "_labels", "_seg", "_segmentation", "_mask", "-label", "-labels")
_IMAGE_ENDING = "_image"
_COLUMNS = ("image", "labels", "patient", "role", "phase", "frame", "name", "roi")


class Case(BaseModel):
    """One volume of one patient."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Unique among the cases; results are named after it."""
    patient: str
    image: Path
    labels: Path | None = None
    """Always None for an unlabeled case, so that its labels cannot leak into a training."""
    frame: int | None = None
    """Which frame of a 4D file, from 0; None for a file that holds a single volume."""
    phase: Literal["ED", "ES"] | None = None
    role: Role = "unlabeled"
    roi: tuple[float, float, float, float, float, float] | None = None
    """Where the heart is, if somebody said so: xmin, xmax, ymin, ymax, zmin, zmax in mm, RAS."""

    @field_validator("name")
    @classmethod
    def _usable_in_a_path(cls, name: str) -> str:
        if not name or name in (".", "..") or re.search(r'[\\/:*?"<>|\x00-\x1f]', name):
            raise ValueError("a case's name must be usable as a file name")
        return name

    @field_validator("frame")
    @classmethod
    def _from_zero(cls, frame: int | None) -> int | None:
        if frame is not None and frame < 0:
            raise ValueError("frames are counted from 0")
        return frame

    @field_validator("roi")
    @classmethod
    def _ordered(cls, roi: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if roi is not None and not all(low < high for low, high in zip(roi[::2], roi[1::2], strict=True)):
            raise ValueError("a region is xmin, xmax, ymin, ymax, zmin, zmax with each minimum below its maximum")
        return roi

    @model_validator(mode="before")
    @classmethod
    def _drop_hidden_labels(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("role", "unlabeled") == "unlabeled":
            return {**data, "labels": None}
        return data

    def with_role(self, role: Role) -> Case:
        """The same case in another role; as an unlabeled case it loses its labels."""
        return Case.model_validate({**self.model_dump(), "role": role})


def load_image(case: Case) -> Volume:
    """The image of a case.

    Raises:
        UserError: As `volumes.read_volume`.
    """
    return read_volume(case.image, frame=case.frame)


def load_labels(case: Case, label_set: LabelSet) -> Volume:
    """The training labels of a case that has labels.

    Raises:
        UserError: If it has none, or as `volumes.read_labels`.
    """
    if case.labels is None:
        raise UserError("this case has no labels", where=case.name)
    return read_labels(case.labels, label_set, frame=case.frame)


# Finding cases


def discover(paths: Sequence[Path | str]) -> list[Case]:
    """The cases that folders, case lists and files hold.

    A path is a case list (.csv with the columns image, and as wanted labels, patient, role, phase, frame, name, roi;
    paths are relative to the list), a folder with such a cases.csv, a folder in nnU-Net layout (imagesTr, labelsTr), a
    folder of volumes at any depth (ACDC, MM-WHS and the like: labels beside their image, with the ending _gt, _label or
    _seg), a DICOM folder, or a volume file. Without a case list, cases with labels are labeled and the others unlabeled.

    Returns:
        The cases with unique names, in the order of the paths, sorted within a folder.

    Raises:
        UserError: If a path is missing or holds no volume, for labels without an image, and for mistakes in a list.
    """
    cases: list[Case] = []
    loose: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError("there is no such file or folder", where=path)
        if path.is_dir():
            cases += _from_folder(path)
        elif path.suffix.lower() == ".csv":
            cases += read_case_list(path)
        elif is_volume_file(path):
            loose.append(path)
        else:
            raise UserError(
                "this is not a volume file that can be read",
                where=path,
                hint="Name NIfTI, NRRD or MetaImage files, folders of them, DICOM folders, or a .csv case list",
            )
    return _with_unique_names(cases + _from_files(loose))


def read_case_list(path: Path) -> list[Case]:
    """Reads a case list.

    Raises:
        UserError: With the line and the column of a mistake.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"this case list cannot be read ({error})", where=path, hint="Save it as UTF-8 text with commas") from None
    header = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter=";" if header.count(";") > header.count(",") else ",", skipinitialspace=True)
    columns = [column.strip() for column in reader.fieldnames or ()]
    reader.fieldnames = columns
    if "image" not in columns:
        raise UserError(
            f"the list has no column 'image'; its columns are {', '.join(columns) or 'none'}", where=path, hint="Name the folder of the volumes instead, or add the column"
        )
    cases = [_from_row(row, path, reader.line_num) for row in reader if any(value for value in row.values())]
    if not cases:
        raise UserError("the case list is empty", where=path)
    repeated = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if repeated and "name" in columns:
        raise UserError(f"the name '{repeated[0]}' stands in more than one row", where=path, hint="Give every case a name of its own")
    return cases


def _from_row(row: dict[str, Any], path: Path, line: int) -> Case:
    where = f"{path}, line {line}"
    given = {key: value.strip() for key, value in row.items() if key in _COLUMNS and value and value.strip()}
    if "image" not in given:
        raise UserError("this row names no image", where=where)
    if "role" in given and given["role"] not in ROLES:
        raise UserError(f"there is no role '{given['role']}'", where=where, hint=nearest(given["role"], ROLES))
    image = _beside(path, given["image"])
    described = _describe(stem(image).removesuffix("_0000"))
    data: dict[str, Any] = {
        "name": given.get("name") or _frame_name(stem(image), given.get("frame")),
        "patient": given.get("patient") or described.patient,
        "image": image,
        "labels": _beside(path, given["labels"]) if "labels" in given else None,
        "frame": given.get("frame"),
        "phase": given["phase"].upper() if "phase" in given else described.phase,
        "role": given.get("role") or ("labeled" if "labels" in given else "unlabeled"),
        "roi": re.split(r"[\s,;]+", given["roi"]) if "roi" in given else None,
    }
    try:
        return Case.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{first['loc'][0]}: got {first['input']!r}: {first['msg']}", where=where) from None


def _frame_name(name: str, frame: str | None) -> str:
    return f"{name}_{int(frame):02d}" if frame and frame.isdigit() else name


def _beside(path: Path, entry: str) -> Path:
    return Path(os.path.normpath(path.parent / entry))


def _from_folder(folder: Path) -> list[Case]:
    case_list = folder / "cases.csv"
    if case_list.is_file() and "image" in _columns_of(case_list):
        return read_case_list(case_list)
    if (folder / "imagesTr").is_dir():
        return _from_nnunet(folder)
    volumes: list[Path] = []
    dicom: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(place, name) for name in sorted(names)]
        volumes += [path for path in paths if is_volume_file(path)]
        if any(path.suffix.lower() in DICOM_SUFFIXES for path in paths):
            dicom.append(Path(place))
    cases = _from_files(volumes) + [_plain_case(path) for path in dicom]
    if cases:
        return cases
    if any(folder.iterdir()):
        read_series(folder)  # DICOM files may have no suffix; if they are none, this says so
        return [_plain_case(folder)]
    raise UserError("this folder is empty", where=folder)


def _columns_of(case_list: Path) -> list[str]:
    with open(case_list, encoding="utf-8-sig", errors="replace") as file:
        return [column.strip().strip('"') for column in re.split("[,;]", file.readline())]


def _plain_case(path: Path) -> Case:
    name = _safe(stem(path))
    return Case(name=name, patient=_describe(name).patient, image=path, phase=_describe(name).phase)


def _from_nnunet(folder: Path) -> list[Case]:
    dataset = folder / "dataset.json"
    channels = {}
    if dataset.is_file():
        description = files.read_json(dataset)
        channels = description.get("channel_names") or description.get("modality") or {}
    if len(channels) > 1:
        raise UserError(f"images of {len(channels)} channels are not supported", where=dataset, hint="Keep one channel, the one numbered 0000")
    cases = []
    for image in sorted(path for path in (folder / "imagesTr").iterdir() if is_volume_file(path)):
        name, channel = re.fullmatch(r"(.*?)(_\d{4})?", stem(image)).groups()
        if channel not in (None, "_0000"):
            raise UserError(f"this is channel {channel[1:]} of an image, and one channel is supported", where=image, hint="Keep the channel numbered 0000")
        ending = image.name[len(stem(image)) :]
        labels = next((path for path in _named(folder / "labelsTr", name, ending) if path.is_file()), None)
        described = _describe(name)
        role = "labeled" if labels else "unlabeled"
        cases.append(Case(name=_safe(name), patient=described.patient, image=image, labels=labels, phase=described.phase, role=role))
    if not cases:
        raise UserError("this folder holds no images", where=folder / "imagesTr")
    return cases


def _named(folder: Path, name: str, ending: str) -> Iterable[Path]:
    return (folder / f"{name}{suffix}" for suffix in (ending, ".nii.gz", ".nrrd", ".seg.nrrd", ".mha"))


class _Described(BaseModel):
    patient: str
    frame: int | None = None
    """As numbered in the name: from 1 in ACDC."""
    phase: Literal["ED", "ES"] | None = None


def _describe(name: str) -> _Described:
    """What a name tells: patient001_frame01, SC-HF-I-01_ED, mr_train_1001."""
    framed = re.fullmatch(r"(.+?)[_-]frame_?(\d+)", name, re.IGNORECASE)
    if framed:
        return _Described(patient=framed[1], frame=int(framed[2]))
    phased = re.fullmatch(r"(.+?)[_-](ED|ES)", name, re.IGNORECASE)
    if phased:
        return _Described(patient=phased[1], phase=phased[2].upper())
    return _Described(patient=name.removesuffix("_4d"))


def _from_files(paths: list[Path]) -> list[Case]:
    """Cases of volume files, each with the labels that lie beside it under its name and an ending."""
    images: dict[Path, Path] = {}
    labels: dict[Path, Path] = {}
    for path in paths:
        name = stem(path)
        ending = next((ending for ending in _LABEL_ENDINGS if name.lower().endswith(ending)), "")
        key = path.parent / name[: len(name) - len(ending)]
        if ending or path.name.lower().endswith(".seg.nrrd"):
            target = labels
        else:
            key, target = path.parent / name.removesuffix(_IMAGE_ENDING), images
        if key in target:
            raise UserError(f"this and '{target[key].name}' are two files for one case", where=path, hint="Move one of them elsewhere")
        target[key] = path
    orphans = sorted(set(labels) - set(images))
    if orphans:
        more = f" (and {len(orphans) - 1} more)" if len(orphans) > 1 else ""
        raise UserError(f"these labels have no image beside them{more}", where=labels[orphans[0]], hint=f"An image named {orphans[0].name} is expected")

    frames: dict[tuple[Path, str], list[int]] = {}
    for key in images:
        described = _describe(key.name)
        if described.frame is not None:
            frames.setdefault((key.parent, described.patient), []).append(described.frame)
    cases = []
    for key, image in images.items():
        described = _describe(key.name)
        siblings = frames.get((key.parent, described.patient), [])
        if key.name.lower().endswith("_4d"):
            if not siblings:  # else the frames that matter lie beside it as files of their own
                cases += _from_cine(key, image, labels.get(key), described.patient)
            continue
        phase = described.phase or _phase(key, described.frame, siblings)
        role = "labeled" if key in labels else "unlabeled"
        cases.append(Case(name=_safe(key.name), patient=described.patient, image=image, labels=labels.get(key), phase=phase, role=role))
    return cases


def _from_cine(key: Path, image: Path, labels: Path | None, patient: str) -> list[Case]:
    """The ED and ES frames of a cine file where an Info.cfg names them, else every frame."""
    named = _info_cfg(key.parent)
    frames = dict.fromkeys(range(1, len(read_series(image)) + 1)) if not named else {frame: phase for phase, frame in named.items()}
    role = "labeled" if labels else "unlabeled"
    return [
        Case(name=_safe(f"{patient}_frame{frame:02d}"), patient=patient, image=image, labels=labels, frame=frame - 1, phase=phase, role=role)
        for frame, phase in sorted(frames.items())
    ]


def _phase(key: Path, frame: int | None, siblings: list[int]) -> str | None:
    """ED or ES by Info.cfg, else by a cases.csv in this folder or the one above, else the first of two frames is ED."""
    if frame is None:
        return None
    named = _info_cfg(key.parent)
    if named:
        return next((phase for phase, number in named.items() if number == frame), None)
    for folder in (key.parent, key.parent.parent):
        listed = _listed_phases(folder / "cases.csv")
        if key.name in listed:
            return listed[key.name]
    return ("ED" if frame == min(siblings) else "ES") if len(siblings) == 2 else None


def _info_cfg(folder: Path) -> dict[str, int]:
    """ED and ES frame numbers of ACDC's Info.cfg, counted from 1; nothing where there is no such file."""
    path = folder / "Info.cfg"
    if not path.is_file():
        return {}
    return {phase: int(number) for phase, number in re.findall(r"^(ED|ES)\s*[:=]\s*(\d+)", path.read_text(errors="replace"), re.MULTILINE)}


@functools.lru_cache(maxsize=8)
def _listed_phases(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["case"]: row["phase"] for row in rows if row.get("case") and row.get("phase") in ("ED", "ES")}


def _safe(name: str) -> str:
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", name)


def _with_unique_names(cases: list[Case]) -> list[Case]:
    """Cases whose names occur twice get their folder's name in front, and a number where that is not enough."""
    counts = Counter(case.name for case in cases)
    taken: set[str] = set()
    unique = []
    for case in cases:
        name = case.name if counts[case.name] == 1 else f"{_safe(case.image.parent.name)}_{case.name}"
        number = 2
        while name in taken or (name != case.name and name in counts):
            name, number = f"{case.name}_{number}", number + 1
        taken.add(name)
        unique.append(case if name == case.name else case.model_copy(update={"name": name}))
    return unique


# Splitting


def split(
    cases: Sequence[Case],
    *,
    protocol: Protocol = "given",
    labeled: float | None = None,
    seed: int = 0,
    validation: float = 0,
) -> list[Case]:
    """Cases in their roles under a protocol; all cases of a patient get one role, or `ignore`.

    Args:
        cases: The cases, as discovered. Only a patient with labels can become labeled or validate.
        protocol: `given` keeps the roles as they are. `p70` and `p80` are the published patient lists of ACDC.
            `fraction` draws patients by the seed; `mmwhs` does so within MR and within CT alike.
        labeled: How many patients are labeled: a count, or a share (below 1) of the training patients.
            Without it: 7 (p70), 8 (p80), 0.1 (mmwhs), 0.1 (fraction).
        seed: Draws the patients of `fraction` and `mmwhs`; a larger `labeled` keeps those of a smaller one.
        validation: For `fraction` and `mmwhs`, how many patients validate, as a count or share of all patients. They
            depend on the seed alone, not on `labeled`.

    Raises:
        UserError: If the cases do not hold the patients that are asked for.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"there is no split '{protocol}'", where="split", hint=nearest(protocol, PROTOCOLS))
    if protocol == "given":
        return list(cases)
    with_labels = {case.patient for case in cases if case.labels is not None}
    if protocol in ("p70", "p80"):
        roles = _published(protocol, labeled, {case.patient for case in cases}, with_labels)
    else:
        patients = sorted({case.patient for case in cases})
        groups = [patients]
        if protocol == "mmwhs":
            modalities = sorted({_modality(patient) for patient in patients})
            groups = [[patient for patient in patients if _modality(patient) == modality] for modality in modalities]
        roles = {}
        for group in groups:
            roles |= _drawn(group, with_labels, 0.1 if labeled is None else labeled, validation, seed)
    return [_in_role(case, roles.get(case.patient, "ignore")) for case in cases]


def _in_role(case: Case, role: Role) -> Case:
    if role in ("labeled", "validation") and case.labels is None:
        role = "ignore"  # a further frame of a patient whose other frames have labels
    return case.with_role(role)


def _published(protocol: Protocol, labeled: float | None, patients: set[str], with_labels: set[str]) -> dict[str, Role]:
    training = protocols.P70_TRAINING if protocol == "p70" else protocols.P80_TRAINING
    if protocol == "p70":
        count = _count(7 if labeled is None else labeled, len(training))
        chosen, validating = training[:count], protocols.P70_VALIDATION
    else:
        count = _count(8 if labeled is None else labeled, len(training))
        if count not in protocols.P80_LABELED:
            raise UserError(f"p80 has no list of {count} labeled patients", where="labeled", hint=f"Choose one of {', '.join(map(str, protocols.P80_LABELED))}")
        chosen, validating = protocols.P80_LABELED[count], ()
    for kind, names in (("labeled", chosen), ("validation", validating)):
        missing = [name for name in names if name not in with_labels]
        if missing:
            found = "are not among the cases" if not set(missing) & patients else "are missing or have no labels"
            raise UserError(
                f"{len(missing)} of the {len(names)} {kind} patients of {protocol} {found}: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}",
                where="split",
                hint="This split is for the ACDC training set; use --split fraction for other data",
            )
    roles: dict[str, Role] = dict.fromkeys(training, "unlabeled")
    return roles | dict.fromkeys(validating, "validation") | dict.fromkeys(chosen, "labeled")


def _drawn(patients: list[str], with_labels: set[str], labeled: float, validation: float, seed: int) -> dict[str, Role]:
    order = sorted(patients)
    random.Random(seed).shuffle(order)
    candidates = [patient for patient in order if patient in with_labels]
    held_out = _count(validation, len(order), least=0, what="validation")
    count = _count(labeled, len(order) - held_out)
    if held_out + count > len(candidates):
        raise UserError(
            f"{count} labeled and {held_out} validation patients are asked for, but only {len(candidates)} of {len(order)} patients have labels",
            where="split",
            hint="Ask for fewer, or label more",
        )
    validating = candidates[len(candidates) - held_out :]
    roles: dict[str, Role] = dict.fromkeys(order, "unlabeled")
    return roles | dict.fromkeys(validating, "validation") | dict.fromkeys(candidates[:count], "labeled")


def _count(asked: float, total: int, *, least: int = 1, what: str = "labeled") -> int:
    """A count of patients from a count, or a share below 1, of `total`."""
    if 0 < asked < 1:
        return max(least, round(asked * total))
    if asked != int(asked) or not least <= asked <= total:
        raise UserError(f"got {asked:g} patients, of {total}", where=what, hint=f"Give a count from {least} to {total}, or a share such as 0.1")
    return int(asked)


def _modality(patient: str) -> str:
    return patient.partition("_")[0].lower()
