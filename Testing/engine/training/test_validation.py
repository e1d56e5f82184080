"""Validation scores of a step: their means, and the table that keeps them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from semicardiac.training.validation import record


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
