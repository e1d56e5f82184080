"""Sessions of one subject in BIDS: one patient in a training, and hearts of their own where they are measured."""

from __future__ import annotations

from pathlib import Path

from semicardiac.data.cases import split
from semicardiac.data.discover import discover
from semicardiac.evaluation.evaluate import CLINICAL_CSV, evaluate_folder

from Testing.engine.evaluation.support import ACDC, labels_of, read_rows, write_labels_of

VOLUMES = {"ses-1_ED": 20, "ses-1_ES": 10, "ses-2_ED": 30, "ses-2_ES": 6}
"""Voxels of the LV cavity."""


def write_sessions(folder: Path) -> Path:
    for name, lv in VOLUMES.items():
        for ending in ("", "_gt"):
            write_labels_of(folder, f"sub-01_{name}{ending}.nii.gz", labels_of(20, 20, lv))
            write_labels_of(folder, f"sub-02_{name}{ending}.nii.gz", labels_of(20, 20, lv))
    return folder


def test_they_never_lie_on_both_sides_of_a_split(tmp_path):
    cases = split(discover([write_sessions(tmp_path)]), protocol="fraction", labeled=1, validation=1)
    roles = {patient: {case.role for case in cases if case.patient == patient} for patient in ("sub-01", "sub-02")}
    assert sorted(map(sorted, roles.values())) == [["labeled"], ["validation"]]


def test_each_has_its_ejection_fraction(tmp_path):
    reference = write_sessions(tmp_path / "reference")
    for name, lv in VOLUMES.items():
        write_labels_of(tmp_path / "predictions", f"sub-01_{name}.nii.gz", labels_of(20, 20, lv))
    evaluate_folder(tmp_path / "predictions", reference, ACDC, tmp_path / "out")
    rows = [row for row in read_rows(tmp_path / "out" / CLINICAL_CSV) if row["measure"] == "lv_ef_percent"]
    found = {row["patient"]: float(row["prediction"]) for row in rows}
    assert found == {"sub-01_ses-1": 50.0, "sub-01_ses-2": 80.0}
