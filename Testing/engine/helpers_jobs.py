"""What the tests of jobs share."""

from __future__ import annotations

from pathlib import Path

from semicardiac import runner
from semicardiac.cases import Case
from semicardiac.jobs import (
    TrainJob,
)
from semicardiac.labels import get_label_set

ACDC = get_label_set("acdc")


def train_job(folder: Path, **fields) -> TrainJob:
    """A training of two cases: one inside the job folder, one outside."""
    data = folder / "data"
    cases = (
        Case(name="inside", patient="a", image=data / "a.nii.gz", labels=data / "a_gt.nii.gz", role="labeled"),
        Case(name="outside", patient="b", image=folder.parent / "elsewhere" / "b.nii.gz"),
    )
    return TrainJob(cases=cases, labels=ACDC, **fields)


def work_is(monkeypatch, work) -> None:
    monkeypatch.setattr(runner, "_work", work)
