"""What the tests of cases share."""

from __future__ import annotations

import os
from pathlib import Path

from semicardiac.data.cases import Case

from Testing.engine.support import SHARED_DATA

DATA = Path(os.environ.get("SEMICARDIAC_DATA", SHARED_DATA))


def table(cases: list[Case], *fields: str) -> list[tuple]:
    return [tuple(getattr(case, field) for field in fields) for case in cases]


def make_case(name: str, patient: str | None = None, **more) -> Case:
    return Case(name=name, patient=patient or name, image=Path(f"{name}.nii.gz"), **more)


def labeled(name: str, patient: str | None = None, **more) -> Case:
    return make_case(name, patient, labels=Path(f"{name}_gt.nii.gz"), role="labeled", **more)


def touch(*paths: Path) -> None:
    """Files of these names: finding cases looks at names alone."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
