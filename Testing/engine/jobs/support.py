"""What the tests of jobs and of their models share, without PyTorch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from semicardiac.config import TrainConfig
from semicardiac.data.cases import Case
from semicardiac.jobs import run
from semicardiac.jobs.job import TrainJob
from semicardiac.models.package import CHECKSUMS, CONTENT, WEIGHTS

from Testing.engine.support import ACDC

SETTINGS = {
    "format": 1, "version": "0.1.0", "config": TrainConfig().model_dump(mode="json"),
    "labels": ACDC.model_dump(mode="json"), "locator": True, "heart_area_mm2": [1.0, 2.0],
    "about": {"labeled_patients": 7, "validation_mean_dice": 0.886},
}  # fmt: skip


def write_package(folder: Path, **changes: object) -> Path:
    """A package that holds no tensor."""
    folder.mkdir(parents=True)
    for name in CONTENT:
        (folder / name).write_text(f"this is {name}")
    (folder / WEIGHTS).write_bytes(b"\2\0\0\0\0\0\0\0{}")
    (folder / "config.json").write_text(json.dumps({**SETTINGS, **changes}))
    sign(folder)
    return folder


def sign(folder: Path) -> None:
    """Checksums that fit, as one who edits a package on purpose would write them."""
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in CONTENT}
    (folder / CHECKSUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))


def train_job(folder: Path, **fields) -> TrainJob:
    """A training of two cases: one inside the job folder, one outside."""
    data = folder / "data"
    cases = (
        Case(name="inside", patient="a", image=data / "a.nii.gz", labels=data / "a_gt.nii.gz", role="labeled"),
        Case(name="outside", patient="b", image=folder.parent / "elsewhere" / "b.nii.gz"),
    )
    return TrainJob(cases=cases, labels=ACDC, **fields)


def work_is(monkeypatch, work) -> None:
    monkeypatch.setattr(run, "_work", work)
