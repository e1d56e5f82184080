"""Cases: which volumes there are, whose they are, and what part each plays in a training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from ..base.errors import UserError
from ..base.settings import Roi
from ..images.image_files import as_text
from ..images.labels import LabelSet
from ..images.seg_nrrd import SUFFIX as SEGMENTATION_SUFFIX
from ..images.volumes import Volume, read_labels, read_volume
from .names import Phase
from .splits import Role, assign_roles

_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


def case_name(name: str) -> str:
    """A name as cases have them: in one form of Unicode, and with _ in place of what no file's name can hold."""
    name = _NOT_IN_NAMES.sub("_", as_text(name))
    return name if name.strip(" .") else f"_{name}"


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
    roi: Roi | None = None
    """If somebody said where the heart is."""

    @field_validator("name", "patient")
    @classmethod
    def _in_one_form(cls, name: str) -> str:
        return as_text(name)  # else two that look alike could be two patients

    @field_validator("name")
    @classmethod
    def _is_file_name(cls, name: str) -> str:
        if name != case_name(name):
            raise ValueError("results are named after a case, so its name must be a file name")
        return name

    @field_validator("frame")
    @classmethod
    def _is_index(cls, frame: int | None) -> int | None:
        if frame is not None and frame < 0:
            raise ValueError("frames are counted from 0")
        return frame

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


def label_file(case: Case) -> Path:
    """The labels of a case that has labels.

    Raises:
        UserError: If it has none.
    """
    if case.labels is None:
        raise UserError("this case has no labels", where=case.name, hint="Name its label file")
    return case.labels


def load_labels(case: Case, label_set: LabelSet) -> Volume:
    """The training labels of a case that has labels.

    Raises:
        UserError: If it has none, or as `volumes.read_labels`.
    """
    path = label_file(case)
    grid = load_image(case) if path.name.lower().endswith(SEGMENTATION_SUFFIX) else None
    return read_labels(path, label_set, frame=case.frame, grid=grid)


def split(
    cases: Sequence[Case],
    *,
    protocol: str = "given",
    labeled: float | None = None,
    validation: float = 0,
    seed: int = 0,
) -> list[Case]:
    """Gives the cases their roles under a protocol; all cases of a patient get one role, or `ignore`.

    Args:
        cases: The cases, as discovered. Only a patient with labels can become labeled or validate.
        protocol: `given` keeps the roles as they are; `p70` and `p80` are the published lists of ACDC; `fraction` draws
            patients by the seed, `mmwhs` does so within MR and within CT alike.
        labeled: How many patients are labeled: a count (int), or a share (float, up to 1.0) of the training patients.
            Without it, 7 for p70, 8 for p80, 0.1 for mmwhs, and for fraction all that have labels and do not validate.
        validation: How many patients validate with fraction and mmwhs: a count (int), or a share (float) of all. Who
            they are does not depend on `labeled`.
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
