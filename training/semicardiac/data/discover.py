"""Cases found in folders, files and case lists."""

from __future__ import annotations

import difflib
import itertools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Container, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError

from ..base.errors import UserError, nearest
from ..base.tables import Row, read_table
from ..images.volumes import is_volume_file, stem
from .cases import Case, case_name
from .layouts import CASE_LIST, Entry, entries_of_files, entries_of_folder
from .names import Phase, frame_name, name_of, parse_name, subject_of
from .splits import ROLES

_COLUMNS = ("image", "labels", "patient", "role", "phase", "frame", "name", "roi")


_TELLING = ("labels", "patient", "role")
"""Columns without which a training would go on, but another one than was meant."""


_LONGEST_CELL = 4096  # as the longest path of Linux


class _Found(NamedTuple):
    """A case before it is known what others there are."""

    case: Case
    file_name: str
    """What its name would be by the file alone."""
    given: Container[str] = ()
    """Which of its fields a list has given."""


def discover(paths: Sequence[Path | str], *, roles: bool = True) -> list[Case]:
    """The cases that folders, case lists and files hold.

    A path is one of these:

    - a case list, .csv, see `read_case_list`, or a folder with such a cases.csv;
    - a folder in nnU-Net layout (imagesTr, labelsTr), or one that holds such folders;
    - a folder with volumes at any depth, such as those of ACDC and MM-WHS: labels lie beside their image and have its
      name with the ending _gt, _label, _seg or _mask, or .seg.nrrd; or they lie in a folder labels, masks or
      segmentations, or in labels/final as MONAI Label keeps them. ED and ES come from Info.cfg or from a list with the
      columns case and phase; without either, the first of two frames is ED. The sessions of a subject in BIDS, such as
      sub-01, are of one patient. Folders of jobs, and what segmentations have written, are left out;
    - a DICOM folder;
    - a volume file; labels are then named beside their image.

    Without a case list, cases with labels are labeled and the others unlabeled. Where files of one name lie in several
    folders, these are taken for different patients: the names of the folders go before theirs.

    Args:
        paths: What to look through.
        roles: Whether the roles in lists count. Without them every case with labels is labeled, also one whose labels a
            training must not see: for an evaluation.

    Returns:
        The cases with unique names, in the order of the paths.

    Raises:
        UserError: If a path is missing or holds no volumes, for labels without an image, and for mistakes in a list.
    """
    found: list[_Found] = []
    loose: list[Path] = []
    for path in map(_spelled_as_on_disk, map(Path, paths)):
        if not os.path.exists(path):
            raise UserError("there is no such file or folder", where=path, hint="Look for a typing error")
        if path.is_dir():
            case_list = path / CASE_LIST
            if case_list.is_file() and "image" in read_table(case_list).columns:  # else it is a table about volumes
                found += _read_rows(case_list, roles)
            else:
                found += map(_from_entry, entries_of_folder(path))
        elif path.suffix.lower() == ".csv":
            found += _read_rows(path, roles)
        elif is_volume_file(path):
            loose.append(path)
        elif path.suffix.lower() == ".json":
            hint = "Name a folder, or write a case list (.csv) with the columns image and labels, one row a volume"
            raise UserError("data are not listed in JSON here", where=path, hint=hint)
        else:
            hint = "Name NIfTI, NRRD or MetaImage files, folders of them, DICOM folders, or a case list (.csv)"
            raise UserError("this is not a volume file that can be read", where=path, hint=hint)
    return _told_apart([*found, *map(_from_entry, entries_of_files(loose))])


def images_in(folder: Path) -> dict[str, Path]:
    """The volume files and DICOM folders that the cases of a folder lie in, by name.

    Names are those of the files; where one stands for several, they all are named as the cases are.

    Raises:
        UserError: As `discover`.
    """
    images = list(dict.fromkeys(case.image for case in discover([folder])))
    by_file = {stem(image): image for image in images}
    if len(by_file) == len(images):
        return by_file
    found = []
    for image in images:
        name = case_name(name_of(image.with_name(stem(image))))
        found.append(_Found(Case(name=name, patient=parse_name(name).patient, image=image), name))
    return {case.name: case.image for case in _told_apart(found)}


def read_case_list(path: Path) -> list[Case]:
    """Reads a case list: a table with one case a row, separated by commas, semicolons or tabs.

    Columns: `image`; as wanted also `labels`, `patient`, `role` (labeled, unlabeled, validation, ignore), `phase` (ED,
    ES), `frame` (in a 4D file, from 0), `name`, and `roi` (six numbers in mm, RAS). Paths are relative to the list.
    Without a role, cases with labels are labeled; without a patient or a phase, the name of the file tells them as in
    `discover`. Other columns are left alone, but for those that are nearly one of these.

    Raises:
        UserError: With the line of a mistake.
    """
    return _told_apart(_read_rows(path))


def _read_rows(path: Path, roles: bool = True) -> list[_Found]:
    columns, rows = read_table(path)
    if "image" not in columns:
        what = f"the list has no column 'image'; its columns are {', '.join(columns) or 'none':.200}"
        hint = "Add the column, with commas or semicolons between columns, or name the folder of the volumes instead"
        raise UserError(what, where=path, hint=hint)
    for column in columns:
        near = difflib.get_close_matches(column, _TELLING, n=1, cutoff=0.8)
        if column not in _COLUMNS and near and near[0] not in columns:
            what = f"the column '{column:.60}' would be left alone, and is nearly called '{near[0]}'"
            raise UserError(what, where=path, hint=f"Call it '{near[0]}', or something else if it is not meant")
    found = [_from_row(row, path, roles) for row in rows]
    if not found:
        raise UserError("this case list is empty", where=path, hint="Write one row for each volume")
    names = Counter(case.name.casefold() for case, _, given in found if "name" in given)  # as some file systems do
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        hint = "Give every case a name of its own"
        raise UserError(f"the name '{repeated[0]:.60}' stands in more than one row", where=path, hint=hint)
    return found


def _from_entry(entry: Entry) -> _Found:
    name = case_name(entry.name)
    data = {**entry._asdict(), "name": name, "role": "labeled" if entry.labels else "unlabeled"}
    return _Found(Case.model_validate(data), name)


def _from_row(row: Row, path: Path, roles: bool) -> _Found:
    where = f"{path}, line {row.line}"
    given: dict[str, Any] = {key: row.cells[key] for key in _COLUMNS if row.cells.get(key)}
    for key, cell in given.items():
        if len(cell) > _LONGEST_CELL:
            hint = "See whether a quotation mark or a line end is missing"
            raise UserError(f"the cell in the column '{key}' holds {len(cell):,} letters", where=where, hint=hint)
    if "image" not in given:
        raise UserError("this row names no image", where=where, hint="Fill the column 'image' or remove the row")
    if "role" in given:
        given["role"] = given["role"].lower()
        if given["role"] not in ROLES:
            raise UserError(f"there is no role '{given['role']:.60}'", where=where, hint=nearest(given["role"], ROLES))
    if not roles:
        given.pop("role", None)
    image = _beside(path, given["image"], where)
    file_name = name_of(image.with_name(stem(image)))
    parts = parse_name(file_name)
    data: dict[str, Any] = {"name": "case", "patient": parts.patient, "phase": parts.phase}
    data |= {"role": "labeled" if "labels" in given else "unlabeled"} | given | {"image": image}
    if "labels" in given:
        data["labels"] = _beside(path, given["labels"], where)
    if "phase" in given:
        data["phase"] = given["phase"].upper()
    if "roi" in given:
        data["roi"] = re.split(r"[\s,;]+", given["roi"])
    try:
        case = Case.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{first['loc'][0]}: got {first['input']!r:.60}: {first['msg']}", where=where) from None
    name = case_name(file_name if case.frame is None else frame_name(file_name, case.frame))
    return _Found(case if "name" in given else case.model_copy(update={"name": name}), name, given)


def _beside(path: Path, entry: str, where: str) -> Path:
    """The path that a list means, relative to itself; lists that were written on Windows are read elsewhere too."""
    if os.sep == "/" and "\\" in entry and not os.path.exists(path.parent / entry):
        if drive := PureWindowsPath(entry).drive:
            hint = "Write the paths of this machine, or such as are relative to the list"
            raise UserError(f"{entry:.200} lies on a Windows drive, {drive}", where=where, hint=hint)
        entry = entry.replace("\\", "/")
    return _spelled_as_on_disk(Path(os.path.normpath(path.parent / entry)))


def _spelled_as_on_disk(path: Path) -> Path:
    """The path of what is there under a name that looks the same in another form of Unicode; else the path itself."""
    if str(path).isascii() or os.path.exists(path):
        return path
    parent = _spelled_as_on_disk(path.parent)
    wanted = unicodedata.normalize("NFC", path.name)
    try:
        alike = [name for name in os.listdir(parent) if unicodedata.normalize("NFC", name) == wanted]
    except OSError:
        alike = []
    return parent / alike[0] if alike else path


def _told_apart(found: Sequence[_Found]) -> list[Case]:
    """The cases with unique names, and patients of one name in different folders told apart."""
    same_patient: dict[str, list[_Found]] = defaultdict(list)
    for each in found:
        same_patient[parse_name(each.file_name).patient].append(each)
    depths = {patient: _telling_depth(same) for patient, same in same_patient.items()}
    cases = [_with_folders(each, depths[parse_name(each.file_name).patient]) for each in found]

    counts = Counter(case.name.casefold() for case in cases)  # files A and a are one where upper case does not count
    taken = {name for name, count in counts.items() if count == 1}
    unique = []
    for case in cases:
        if counts[case.name.casefold()] > 1:  # one file, named twice
            candidates = itertools.chain([case.name], (f"{case.name}_{number}" for number in itertools.count(2)))
            case = case.model_copy(update={"name": next(name for name in candidates if name.casefold() not in taken)})
            taken.add(case.name.casefold())
        unique.append(case)
    return unique


def _telling_depth(same: Sequence[_Found]) -> int:
    """How many folders tell files of one patient's name apart; none where their names do so."""
    if len({each.file_name for each in same}) == len(same):
        return 0
    folders = {each.case.image.absolute().parent.parts for each in same}
    return next(depth for depth in itertools.count(1) if len({parts[-depth:] for parts in folders}) == len(folders))


def _with_folders(found: _Found, depth: int) -> Case:
    """The case with so many of its folders before its name, and patient and phase read off the two together."""
    if depth == 0:
        return found.case
    parents = [unicodedata.normalize("NFC", part) for part in found.case.image.absolute().parent.parts]
    subject = subject_of(found.file_name)
    if subject in parents:  # the folders from that of the subject on say in BIDS what the name says
        last = len(parents) - parents[::-1].index(subject) - 1
        folders, within = parents[-depth:last], parents[max(last, len(parents) - depth) :]
    else:
        folders, within = parents[-depth:], []
    parts = [part for part in folders if part != parse_name(found.file_name).patient]
    parts += [part for part in within if part not in found.file_name.split("_")] + [found.file_name]
    parts.sort(key=lambda part: part.upper() in get_args(Phase))  # a patient's images may lie in folders ED and ES
    name = case_name("_".join(parts))
    patient, _, phase, _ = parse_name(name)
    if subject is not None:
        patient = "_".join([*folders, subject])
    read_off = {"name": name, "patient": patient, "phase": found.case.phase or phase}
    return found.case.model_copy(update={key: read_off[key] for key in read_off if key not in found.given})
