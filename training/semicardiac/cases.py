"""Cases: which volumes there are, whose they are, and what part each plays in a training."""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from .errors import UserError, nearest
from .labels import LabelSet
from .layouts import Entry, Phase, entries_of_files, entries_of_folder, parse_name
from .protocols import ROLES, Protocol, Role, assign_roles
from .segmentations import SUFFIX as SEGMENTATION_SUFFIX
from .volumes import Volume, is_volume_file, read_labels, read_volume, stem

CASE_LIST = "cases.csv"

_COLUMNS = ("image", "labels", "patient", "role", "phase", "frame", "name", "roi")
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


class Case(BaseModel):
    """One volume of one patient."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Unique among the cases; results are named after it."""
    patient: str
    image: Path
    labels: Path | None = None
    """Always None for an unlabeled case: its labels cannot leak into a training."""
    frame: int | None = None
    """Which frame of a 4D file, from 0; None for a file that holds a single volume."""
    phase: Phase | None = None
    role: Role = "unlabeled"
    roi: tuple[float, float, float, float, float, float] | None = None
    """Where the heart is, if somebody said so: xmin, xmax, ymin, ymax, zmin, zmax in mm, RAS."""

    @field_validator("name")
    @classmethod
    def _is_file_name(cls, name: str) -> str:
        if name.strip(" .") == "" or _NOT_IN_NAMES.search(name):
            raise ValueError("results are named after a case, so its name must be a file name")
        return name

    @field_validator("frame")
    @classmethod
    def _is_index(cls, frame: int | None) -> int | None:
        if frame is not None and frame < 0:
            raise ValueError("frames are counted from 0")
        return frame

    @field_validator("roi")
    @classmethod
    def _is_box(cls, roi: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if roi is not None and not all(low < high for low, high in zip(roi[::2], roi[1::2], strict=True)):
            raise ValueError("a region is xmin, xmax, ymin, ymax, zmin, zmax in mm, each minimum below its maximum")
        return roi

    @model_validator(mode="before")
    @classmethod
    def _hide_labels(cls, data: Any) -> Any:
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
        raise UserError("this case has no labels", where=case.name, hint="Name its label file")
    grid = load_image(case) if case.labels.name.lower().endswith(SEGMENTATION_SUFFIX) else None
    return read_labels(case.labels, label_set, frame=case.frame, grid=grid)


def discover(paths: Sequence[Path | str]) -> list[Case]:
    """The cases that folders, case lists and files hold.

    A path is one of these:

    - a case list, .csv, see `read_case_list`, or a folder with such a cases.csv;
    - a folder in nnU-Net layout (imagesTr, labelsTr);
    - a folder with volumes at any depth, such as those of ACDC and MM-WHS: labels lie beside their image and have its
      name with the ending _gt, _label, _seg or _mask, or .seg.nrrd. ED and ES come from Info.cfg or from a list with
      the columns case and phase; without either, the first of two frames is ED;
    - a DICOM folder;
    - a volume file; labels are then named beside their image.

    Without a case list, cases with labels are labeled and the others unlabeled.

    Returns:
        The cases with unique names, in the order of the paths.

    Raises:
        UserError: If a path is missing or holds no volumes, for labels without an image, and for mistakes in a list.
    """
    cases: list[Case] = []
    loose: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError("there is no such file or folder", where=path, hint="Look for a typing error")
        if path.is_dir():
            case_list = path / CASE_LIST
            if _names_images(case_list):
                cases += read_case_list(case_list)
            else:
                cases += map(_from_entry, entries_of_folder(path))
        elif path.suffix.lower() == ".csv":
            cases += read_case_list(path)
        elif is_volume_file(path):
            loose.append(path)
        else:
            hint = "Name NIfTI, NRRD or MetaImage files, folders of them, DICOM folders, or a case list (.csv)"
            raise UserError("this is not a volume file that can be read", where=path, hint=hint)
    return _with_unique_names(cases + [_from_entry(entry) for entry in entries_of_files(loose)])


def read_case_list(path: Path) -> list[Case]:
    """Reads a case list: a table with one case a row, separated by commas or semicolons.

    Columns: `image`; as wanted also `labels`, `patient`, `role` (labeled, unlabeled, validation, ignore), `phase` (ED,
    ES), `frame` (in a 4D file, from 0), `name`, and `roi` (six numbers in mm, RAS). Paths are relative to the list.
    Without a role, cases with labels are labeled. Other columns are left alone.

    Raises:
        UserError: With the line of a mistake.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"this case list cannot be read ({error})", where=path, hint="Save it as UTF-8 text") from None
    reader = csv.DictReader(lines, delimiter=_delimiter(lines), skipinitialspace=True)
    columns = [column.strip() for column in reader.fieldnames or ()]
    reader.fieldnames = columns
    if "image" not in columns:
        what = f"the list has no column 'image'; its columns are {', '.join(columns) or 'none'}"
        raise UserError(what, where=path, hint="Add the column, or name the folder of the volumes instead")
    cases = [_from_row(row, path, reader.line_num) for row in reader if any(row.values())]
    if not cases:
        raise UserError("this case list is empty", where=path, hint="Write one row for each volume")
    repeated = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if repeated and "name" in columns:
        hint = "Give every case a name of its own"
        raise UserError(f"the name '{repeated[0]}' stands in more than one row", where=path, hint=hint)
    return cases


def split(
    cases: Sequence[Case],
    *,
    protocol: Protocol = "given",
    labeled: float | None = None,
    validation: float = 0,
    seed: int = 0,
) -> list[Case]:
    """Gives the cases their roles under a protocol; all cases of a patient get one role, or `ignore`.

    Args:
        cases: The cases, as discovered. Only a patient with labels can become labeled or validate.
        protocol: `given` keeps the roles as they are; `p70` and `p80` are the published lists of ACDC; `fraction` draws
            patients by the seed, `mmwhs` does so within MR and within CT alike.
        labeled: How many patients are labeled: a count, or a share (below 1) of the training patients. Without it, 7
            for p70, 8 for p80, 0.1 for mmwhs, and for fraction all that have labels and do not validate.
        validation: How many patients validate with fraction and mmwhs: a count, or a share of all patients. Who they
            are does not depend on `labeled`.
        seed: Of the draw; with a larger `labeled` the same patients and further ones are drawn.

    Raises:
        UserError: If the cases do not hold the patients that are asked for.
    """
    if protocol == "given":
        return list(cases)
    patients = {case.patient for case in cases}
    with_labels = {case.patient for case in cases if case.labels is not None}
    roles = assign_roles(protocol, patients, with_labels, labeled=labeled, validation=validation, seed=seed)
    return [case.with_role(_role_of(case, roles.get(case.patient, "ignore"))) for case in cases]


def _role_of(case: Case, role: Role) -> Role:
    """The patient's role, unless it takes labels and this volume, unlike another one of the patient, has none."""
    return "ignore" if role in ("labeled", "validation") and case.labels is None else role


def _from_entry(entry: Entry) -> Case:
    data = {**entry._asdict(), "name": _NOT_IN_NAMES.sub("_", entry.name)}
    return Case.model_validate({**data, "role": "labeled" if entry.labels else "unlabeled"})


def _from_row(row: dict[str, Any], path: Path, line: int) -> Case:
    where = f"{path}, line {line}"
    given = {key: row[key].strip() for key in _COLUMNS if row.get(key) and row[key].strip()}
    if "image" not in given:
        raise UserError("this row names no image", where=where, hint="Fill the column 'image' or remove the row")
    if given.get("role", "ignore") not in ROLES:
        raise UserError(f"there is no role '{given['role']}'", where=where, hint=nearest(given["role"], ROLES))
    image = _beside(path, given["image"])
    parts = parse_name(stem(image))
    name = f"{stem(image)}_t{int(given['frame']):02d}" if given.get("frame", "").isdigit() else stem(image)
    data: dict[str, Any] = {"name": _NOT_IN_NAMES.sub("_", name), "patient": parts.patient, "phase": parts.phase}
    data |= {"role": "labeled" if "labels" in given else "unlabeled"} | given | {"image": image}
    if "labels" in given:
        data["labels"] = _beside(path, given["labels"])
    if "phase" in given:
        data["phase"] = given["phase"].upper()
    if "roi" in given:
        data["roi"] = re.split(r"[\s,;]+", given["roi"])
    try:
        return Case.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{first['loc'][0]}: got {first['input']!r}: {first['msg']}", where=where) from None


def _beside(path: Path, entry: str) -> Path:
    return Path(os.path.normpath(path.parent / entry))


def _names_images(case_list: Path) -> bool:
    """Whether a file is a case list, and not a table about volumes that has the same name."""
    if not case_list.is_file():
        return False
    lines = case_list.read_text(encoding="utf-8-sig", errors="replace").splitlines()[:1]
    return "image" in [column.strip() for row in csv.reader(lines, delimiter=_delimiter(lines)) for column in row]


def _delimiter(lines: list[str]) -> str:
    header = lines[0] if lines else ""
    return ";" if header.count(";") > header.count(",") else ","


def _with_unique_names(cases: list[Case]) -> list[Case]:
    """Where names repeat, that of the folder goes before, and a number behind where even that is not enough."""
    counts = Counter(case.name for case in cases)
    taken = {name for name, count in counts.items() if count == 1}
    unique = []
    for case in cases:
        if counts[case.name] > 1:
            base = f"{_NOT_IN_NAMES.sub('_', case.image.parent.name)}_{case.name}"
            candidates = itertools.chain([base], (f"{base}_{number}" for number in itertools.count(2)))
            case = case.model_copy(update={"name": next(name for name in candidates if name not in taken)})
            taken.add(case.name)
        unique.append(case)
    return unique
