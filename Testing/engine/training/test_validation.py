"""The validation of a model: segmentations that are kept, scores, their means, and the table that keeps them."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from semicardiac.data.discover import discover
from semicardiac.images.volumes import read_labels
from semicardiac.training import validation
from semicardiac.training.validation import record

from Testing.engine.evaluation.support import ACDC, labels_of, write_acdc


def test_means_leave_out_what_no_case_has(tmp_path: Path):
    scores = [
        ("a", "RV cavity", 0.8), ("a", "LV cavity", math.nan), ("a", "Scar", math.nan),
        ("b", "RV cavity", 0.6), ("b", "LV cavity", 0.9), ("b", "Scar", math.nan),
    ]  # fmt: skip
    means = record(scores, tmp_path / "validation.csv", 10)
    assert means == {"dice": {"RV cavity": 0.7, "LV cavity": 0.9, "Scar": None}, "mean_dice": 0.8}
    with open(tmp_path / "validation.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["dice"] for row in rows] == ["0.8", "", "", "0.6", "0.9", ""]


def test_without_any_score_there_is_no_mean(tmp_path: Path):
    assert record([("a", "RV cavity", math.nan)], tmp_path / "validation.csv", 1)["mean_dice"] is None


def test_a_step_that_is_recorded_again_replaces_what_was_there(tmp_path: Path):
    for score in (0.1, 0.2):
        record([("a", "RV cavity", score)], tmp_path / "validation.csv", 5)
    with open(tmp_path / "validation.csv", encoding="utf-8", newline="") as file:
        assert [row["dice"] for row in csv.DictReader(file)] == ["0.2"]


def test_a_model_on_its_validation_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_acdc(tmp_path, "patient001", {"frame01": labels_of(20, 20, 20), "frame12": labels_of(10, 20, 10)})
    cases = [case.with_role("validation") for case in discover([tmp_path])]
    asked = []

    def segment(model, volume, plan, roi):
        asked.append((model, volume.array.shape, plan, roi))
        return SimpleNamespace(labels=labels_of(20, 20, 20))

    monkeypatch.setattr(validation, "segment", segment)
    model = SimpleNamespace(labels=ACDC)
    result = validation.evaluate_model(model, cases, "plan", tmp_path / "job")
    assert asked == [(model, (3, 12, 40), "plan", None)] * 2
    assert result.summary["by_phase"]["ED"]["mean"]["dice"]["mean"] == 1.0
    assert result.summary["by_phase"]["ES"]["RV cavity"]["dice"]["mean"] == pytest.approx(2 / 3)
    kept = read_labels(tmp_path / "job" / "validation" / "patient001_frame12.nii.gz", ACDC)
    np.testing.assert_array_equal(kept.array, labels_of(20, 20, 20).array)
    assert {path.name for path in (tmp_path / "job").iterdir()} >= {"metrics.csv", "metrics.json", "overlays"}
