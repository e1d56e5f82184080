"""Label sets: which structures there are, what they are called and coded, and which values stand for them in files."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..base import files
from ..base.errors import UserError, nearest
from ..base.text import count, listed
from .structure_names import meaning_of, meaning_of_code

#: The Slicer terminology in which all our codes are found (the extension ships it; myocardium is in no default one).
TERMINOLOGY_CONTEXT = "Segmentation category and type - SemiCardiacSeg"

#: Colors of structures that name none (Okabe and Ito: told apart by color-blind people too).
PALETTE = (
    (213, 94, 0),
    (240, 228, 66),
    (0, 114, 178),
    (0, 158, 115),
    (86, 180, 233),
    (230, 159, 0),
    (204, 121, 167),
)

_LARGEST_SOURCE_VALUE = 65535  # what an unsigned 16-bit label volume can hold
_BEYOND = 2.0**31  # stands for all that is larger, and may not fit into an integer
_ROUNDING = 1e-3
"""Labels come back as 0.99998 where a program saved them as floats under the header of an integer image."""

SourceValue = Annotated[int, Field(ge=1, le=_LARGEST_SOURCE_VALUE)]
Channel = Annotated[int, Field(ge=0, le=255)]
ClinicalRole = Literal["lv", "myo", "rv"]


class UnknownValues(UserError):  # noqa: N818 - named for what is found, as Stopped is
    """There are values in a label file that are not in the label set: `values`."""

    def __init__(self, what: str, *, values: frozenset[int], where: object = "", hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.values = values


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Code(_Model):
    """A coded concept, such as SCT / 74281007 / Myocardium."""

    scheme: str
    value: str
    meaning: str

    def __str__(self) -> str:
        """As Slicer and DICOM tools write it in one string: scheme^value^meaning."""
        return f"{self.scheme}^{self.value}^{self.meaning}"


ANATOMY = Code(scheme="SCT", value="123037004", meaning="Anatomical Structure")
TISSUE = Code(scheme="SCT", value="85756007", meaning="Tissue")


class Structure(_Model):
    """One structure of a label set."""

    name: str = Field(min_length=1)
    source_values: tuple[SourceValue, ...] = Field(min_length=1)
    """Values that stand for it in label files; the first is the one written."""
    color: tuple[Channel, Channel, Channel]
    category: Code = TISSUE
    type: Code = TISSUE
    modifier: Code | None = None
    role: ClinicalRole | None = None
    """What it counts as in the clinical numbers: LV cavity, LV myocardium, RV cavity, or nothing."""

    @property
    def key(self) -> str:
        """The name as it may stand in a file name or a column header: `LV cavity` gives `LV_cavity`."""
        return _key(self.name)

    @property
    def meaning(self) -> str | None:
        """What it is, whatever its name: its role, else what its code or its name means (see structure_names)."""
        coded = meaning_of_code(self.type.value) if self.type.scheme == "SCT" else None
        return self.role or coded or meaning_of(self.name)

    @property
    def terminology(self) -> str:
        """Slicer's terminology entry: context~category~type~modifier~anatomic context~region~region modifier."""
        modifier = str(self.modifier) if self.modifier else "^^"
        return f"{TERMINOLOGY_CONTEXT}~{self.category}~{self.type}~{modifier}~Anatomic codes - DICOM master list~^^~^^"


class LabelSet(_Model):
    """The structures that a model segments. In training, 0 is background and structure i has label i + 1."""

    name: str = Field(min_length=1)
    structures: tuple[Structure, ...] = Field(min_length=1, max_length=255)
    plane: Literal["acquired", "axial", "coronal", "sagittal"] = "acquired"
    """The slices that suit this anatomy, unless the configuration says otherwise."""

    @model_validator(mode="before")
    @classmethod
    def _fill_colors(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("structures"), list):
            structures = [
                {"color": PALETTE[index % len(PALETTE)], **structure} if isinstance(structure, dict) else structure
                for index, structure in enumerate(data["structures"])
            ]
            return {**data, "structures": structures}
        return data

    @field_validator("structures")
    @classmethod
    def _unambiguous(cls, structures: tuple[Structure, ...]) -> tuple[Structure, ...]:
        keys = [structure.key.lower() for structure in structures]
        values = [value for structure in structures for value in structure.source_values]
        roles = [structure.role for structure in structures if structure.role]
        for kind, entries in (("name", keys), ("source value", values), ("role", roles)):
            repeated = [entry for entry, count in Counter(entries).items() if count > 1]
            if repeated:
                raise ValueError(f"the {kind} {repeated[0]} stands for more than one structure")
        if not all(keys):
            raise ValueError("a structure's name needs at least one letter or digit")
        return structures

    @property
    def names(self) -> list[str]:
        """Names of the structures, without background, in the order of the training labels."""
        return [structure.name for structure in self.structures]

    @property
    def classes(self) -> int:
        """Number of training labels, with background."""
        return len(self.structures) + 1

    def role_index(self, role: str) -> int | None:
        """The training label of the structure that plays a role (`lv`, `myo`, `rv`), or None."""
        for label, structure in enumerate(self.structures, start=1):
            if structure.role == role:
                return label
        return None

    def to_training(self, values: np.ndarray, *, where: object = "") -> np.ndarray:
        """Source values as training labels.

        Args:
            values: Source values of any shape and real type.
            where: The file that they come from, for messages.

        Returns:
            Training labels, uint8, same shape.

        Raises:
            UnknownValues: For values outside the set, listed with their voxel counts.
            UserError: For values that are no whole numbers.
        """
        lookup = np.zeros(_LARGEST_SOURCE_VALUE + 1, dtype=np.uint8)
        known = np.zeros(_LARGEST_SOURCE_VALUE + 1, dtype=bool)
        known[0] = True
        for label, structure in enumerate(self.structures, start=1):
            lookup[list(structure.source_values)] = label
            known[list(structure.source_values)] = True
        whole = as_whole_numbers(values, where=where)
        outside = (whole < 0) | (whole > _LARGEST_SOURCE_VALUE)
        clipped = np.where(outside, 0, whole) if outside.any() else whole
        unknown = ~known[clipped] | outside
        if unknown.any():
            found, counts = np.unique(whole[unknown], return_counts=True)
            pairs = zip(found, counts.tolist(), strict=True)
            counted = listed((f"{value} ({count(voxels, 'voxel')})" for value, voxels in pairs), 8)
            what = f"the label values {counted} are not in the label set '{self.name}'"
            hint = "Name the label set that these files follow, or correct the files"
            text = f"{what} ({self._describe()})"
            raise UnknownValues(text, values=frozenset(found.tolist()), where=where, hint=hint)
        return lookup[clipped]

    def to_source(self, training: np.ndarray) -> np.ndarray:
        """Training labels as the first source value of each structure, in the smallest unsigned type that fits."""
        values = [0, *(structure.source_values[0] for structure in self.structures)]
        return np.array(values, dtype=np.uint8 if max(values) <= 255 else np.uint16)[training]

    def _describe(self) -> str:
        parts = [f"{'/'.join(map(str, structure.source_values))} {structure.name}" for structure in self.structures]
        return ", ".join(["0 background", *parts])


def as_whole_numbers(values: np.ndarray, *, where: object = "") -> np.ndarray:
    """Label values as an integer array; floats are accepted where they are whole, up to `_ROUNDING`.

    Raises:
        UserError: For complex or structured types, NaN, inf or fractions, with the number of voxels.
    """
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind != "f":
        hint = "Save them as whole numbers"
        raise UserError(f"labels must be whole numbers, these are {values.dtype}", where=where, hint=hint)
    wrong = ~np.isfinite(values)
    whole = np.rint(np.where(wrong, 0, values))
    wrong |= np.abs(np.where(wrong, 0, values) - whole) > _ROUNDING
    if wrong.any():
        voxels = count(int(wrong.sum()), "voxel")
        what = f"labels must be whole numbers; others, such as {values[wrong][0]!s}, are in {voxels}"
        hint = "Resample labels with nearest-neighbor interpolation, and see whether image and labels were swapped"
        raise UserError(what, where=where, hint=hint)
    return np.clip(whole, -_BEYOND, _BEYOND).astype(np.int64)


def get_label_set(name_or_path: str | Path) -> LabelSet:
    """A ready-made label set (`acdc`, `mmwhs`), or one read from a JSON file.

    The file is a label set as `LabelSet.model_dump_json` writes it, where colors, codes and roles may be left out;
    or an nnU-Net dataset.json, of which the plain (not region-based) `labels` are taken.

    Raises:
        UserError: If there is no such set, or the file does not hold one.
    """
    if str(name_or_path) in LABEL_SETS:
        return LABEL_SETS[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix != ".json":
        hint = f"{nearest(str(name_or_path), LABEL_SETS)}, or name a .json file"
        raise UserError(f"there is no label set '{name_or_path}'", where="labels", hint=hint)
    data = files.read_json(path)
    if not isinstance(data, dict) or not {"structures", "labels"} & data.keys():
        hint = "Name a label set, or the dataset.json of an nnU-Net data set"
        raise UserError(f"got {_shortened(data)}: neither 'structures' nor 'labels' are in it", where=path, hint=hint)
    if "structures" not in data:
        data = _from_nnunet(data, path)
    try:
        return LabelSet.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{field}: got {_shortened(first['input'])}: {first['msg']}", where=path) from None


def nnunet_labels(labels: Any, path: Path) -> dict[str, int]:
    """Name and value of each of the `labels` in an nnU-Net dataset.json, `background` and `ignore` too.

    Raises:
        UserError: For regions, which stand for several values, and what is neither names with values nor, as before
            version 2 and in the Medical Segmentation Decathlon, values with names.
    """
    hint = 'Write a name and its value for each structure, such as "LV": 3'
    if not isinstance(labels, dict):
        what = f"these are of the kind '{type(labels).__name__}' where names with values are expected"
        raise UserError(what, where=f"{path}: labels", hint=hint)
    named: dict[str, int] = {}
    for name, value in labels.items():
        if name.isdecimal() and not isinstance(value, list):
            name, value = str(value), name
        where = f"{path}: labels.{name}"
        if isinstance(value, list) and len(value) != 1:
            alone = 'Write a JSON file with one value for each structure, such as {"labels": {"LV": 3}}, and name that'
            raise UserError("region-based labels are not supported", where=where, hint=alone)
        (single,) = value if isinstance(value, list) else [value]
        try:
            named[name] = int(single)
        except (TypeError, ValueError, OverflowError):
            named[name] = -1
        if isinstance(single, bool) or str(single).strip() not in (str(named[name]), f"{named[name]}.0"):
            raise UserError(f"{_shortened(single)} is no whole number", where=where, hint=hint)
    return named


def _from_nnunet(data: dict[str, Any], path: Path) -> dict[str, Any]:
    values = nnunet_labels(data["labels"], path)
    structures: list[dict[str, Any]] = [
        {"name": name, "source_values": [value]} for name, value in values.items() if value != 0 and name != "ignore"
    ]
    meanings = [meaning_of(each["name"]) for each in structures]
    for structure, meaning in zip(structures, meanings, strict=True):
        if meaning in get_args(ClinicalRole) and meanings.count(meaning) == 1:
            structure["role"] = meaning
    name = data.get("name")
    return {"name": name if name and isinstance(name, str) else path.parent.name or "nnunet", "structures": structures}


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _key(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_")


def _anatomy(
    name: str,
    values: tuple[int, ...],
    color: tuple[int, int, int],
    code: str,
    meaning: str,
    role: ClinicalRole | None = None,
) -> Structure:
    kind = Code(scheme="SCT", value=code, meaning=meaning)
    return Structure(name=name, source_values=values, color=color, category=ANATOMY, type=kind, role=role)


LABEL_SETS: dict[str, LabelSet] = {
    label_set.name: label_set
    for label_set in (
        LabelSet(
            name="acdc",
            structures=(
                _anatomy("RV cavity", (1,), (0, 114, 178), "53085002", "Right Ventricle", "rv"),
                _anatomy("LV myocardium", (2,), (240, 228, 66), "74281007", "Myocardium", "myo"),
                _anatomy("LV cavity", (3,), (213, 94, 0), "87878005", "Left Ventricle", "lv"),
            ),
        ),
        LabelSet(
            name="mmwhs",
            plane="axial",
            structures=(
                _anatomy("LV myocardium", (205,), (240, 228, 66), "74281007", "Myocardium", "myo"),
                # 421 is found in place of 420 in a few of the published files.
                _anatomy("Left atrium", (420, 421), (0, 158, 115), "82471001", "Left atrium"),
                _anatomy("LV cavity", (500,), (213, 94, 0), "87878005", "Left Ventricle", "lv"),
                _anatomy("Right atrium", (550,), (86, 180, 233), "73829009", "Right atrium"),
                _anatomy("RV cavity", (600,), (0, 114, 178), "53085002", "Right Ventricle", "rv"),
                _anatomy("Ascending aorta", (820,), (230, 159, 0), "54247002", "Ascending aorta"),
                _anatomy("Pulmonary artery", (850,), (204, 121, 167), "81040000", "Pulmonary artery"),
            ),
        ),
    )
}
