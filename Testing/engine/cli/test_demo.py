"""The demo from end to end, on two small studies' worth of time."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import pytest
from semicardiac.base.errors import Stopped
from semicardiac.base.settings import parse_assignments
from semicardiac.cli import demo
from semicardiac.cli.main import main
from semicardiac.config import make_config
from semicardiac.jobs.job import load_job
from semicardiac.jobs.record import read_record
from semicardiac.report.compare import LEARNED, compare
from semicardiac.training.schedule import shortfall

from Testing.engine.report.support import make_train_job
from Testing.engine.support import QUICK

pytest.importorskip("matplotlib")


@pytest.fixture
def small(monkeypatch) -> None:
    """Few patients, a tiny network and a few steps."""
    for name in ("LABELED", "UNLABELED", "TEST"):
        monkeypatch.setattr(demo, name, 1)

    def quick_config(preset: str, overrides: dict):
        assert overrides["schedule"]["steps"] == 3 * demo.STEPS_A_MINUTE
        quick = [text for text in QUICK if preset == "default" or not text.startswith("method.")]
        settings = parse_assignments([*quick, "schedule.steps=4", "deterministic=true"])
        return make_config(preset, settings)

    monkeypatch.setattr(demo, "make_config", quick_config)


@pytest.mark.slow
def test_both_trainings_are_measured_on_patients_that_neither_has_seen(tmp_path: Path, small, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--device", "cpu"]) == 0
    default, supervised = load_job(out / "default"), load_job(out / "supervised")
    assert (default.config.preset, supervised.config.preset) == ("default", "supervised")
    assert default.cases == supervised.cases
    trained = {case.patient for case in default.cases}
    means = {}
    for preset in ("default", "supervised"):
        with open(out / preset / "evaluation" / "metrics.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        measured = {row["patient"] for row in rows}
        assert len(measured) == 1
        assert not measured & trained
        by_structure = {row["structure"]: [] for row in rows}
        for row in rows:
            by_structure[row["structure"]] += [float(row["dice"])] if row["dice"] else []
        means[preset] = statistics.fmean(map(statistics.fmean, filter(None, by_structure.values())))
    printed = capsys.readouterr().out
    assert str(out / "report.html") in printed
    assert [read_record(out / preset).steps for preset in ("default", "supervised")] == [4, 4]
    comparison = compare(read_record(out / "default"), read_record(out / "supervised"))
    assert (comparison.ours, comparison.theirs) == pytest.approx((means["default"], means["supervised"]), abs=1e-5)
    assert comparison.theirs < LEARNED  # after four steps
    assert comparison.doubts[-1] in printed
    assert comparison.sentence not in printed
    assert comparison.sentence in (out / "report.html").read_text(encoding="utf-8")


def test_both_trainings_have_the_same_steps_and_settings_however_busy_the_machine(monkeypatch, tmp_path: Path):
    configs = {}

    def write_nothing(*_, **__):
        raise Stopped

    def note(preset: str, overrides: dict):
        configs[preset] = make_config(preset, overrides)
        return configs[preset]

    monkeypatch.setattr(demo, "make_config", note)
    monkeypatch.setattr(demo, "write_study", write_nothing)
    main(["demo", "--out", str(tmp_path / "demo"), "--device", "cpu", "--minutes", "2"])
    with_unlabeled, alone = configs["default"], configs["supervised"]
    assert with_unlabeled.schedule.minutes is None
    assert with_unlabeled.schedule.steps == alone.schedule.steps == 2 * demo.STEPS_A_MINUTE
    for section in ("preprocess", "locate", "augment", "network", "optim"):
        assert getattr(with_unlabeled, section) == getattr(alone, section)
    assert shortfall(with_unlabeled.schedule, with_unlabeled.schedule.steps) is None


def test_a_fair_comparison_is_printed_with_both_numbers_of_steps(tmp_path: Path, capsys):
    with_unlabeled = make_train_job(tmp_path / "default", shift=2, steps=1700)
    alone = make_train_job(tmp_path / "supervised", preset="supervised", shift=6)
    demo._print_results(read_record(with_unlabeled), read_record(alone))
    printed = capsys.readouterr().out
    assert "0.600   2,000 steps" in printed
    assert "0.867   1,700 steps" in printed
    assert "raised the mean Dice from 0.600 to 0.867" in printed


def test_a_stop_ends_the_whole_demo(tmp_path: Path, small, monkeypatch):
    def work(*_) -> None:
        raise Stopped

    monkeypatch.setattr("semicardiac.jobs.run._work", work)
    assert main(["demo", "--out", str(tmp_path / "demo"), "--device", "cpu"]) == 130
    assert not (tmp_path / "demo" / "supervised").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--minutes", value) for value in ("0", "-3", "nan", "Infinity", "1e400", "1e9")),
        ("--seed", "-1"),
        ("--device", "gpu"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_drawn(option: str, value: str, tmp_path: Path, capsys):
    assert main(["demo", "--out", str(tmp_path / "demo"), f"{option}={value}"]) == 2
    complaint = capsys.readouterr().err
    assert option.removeprefix("--") in complaint
    assert len(complaint.splitlines()) == 1
    assert not (tmp_path / "demo").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, capsys):
    (tmp_path / "mine.txt").touch()
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
