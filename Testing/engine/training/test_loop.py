"""How long a training lasts, and what happens when."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path

import pytest
from semicardiac.base import files
from semicardiac.base.errors import Stopped, UserError
from semicardiac.base.events import Progress, Warned, read_events
from semicardiac.data.cases import Case
from semicardiac.images.labels import get_label_set
from semicardiac.training import loop, recorded
from semicardiac.training.checkpoint import load_checkpoint
from semicardiac.training.schedule import rate_factor
from torch import Tensor

from Testing.engine.training.support import config_of, events, run


class Clock:
    """Stands in for the time on the wall: a step takes a twentieth of a second, and nothing else any time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        real = recorded.train_step

        def step(*args) -> Tensor:
            self.now += 0.05
            return real(*args)

        monkeypatch.setattr(recorded, "train_step", step)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


class TestMinutes:
    CONFIG = config_of(schedule={"steps": None, "minutes": 0.05}, locate={"refine": 0.0})  # three seconds

    def test_the_schedule_fits_itself_to_the_speed(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        Clock(monkeypatch)
        summary = run(tmp_path / "job", cases, self.CONFIG)
        assert summary["steps"] == pytest.approx(60, abs=1)
        assert summary["seconds"] == pytest.approx(3, abs=0.1)
        told = [event for event in events(tmp_path / "job", Progress) if event.loss is not None]
        assert [event.total for event in told] == pytest.approx([60] * len(told), abs=1)
        assert told[0].eta_s == pytest.approx(2, abs=0.1)  # after 20 steps
        state = load_checkpoint(tmp_path / "job" / "checkpoint.pt", get_label_set("acdc").names)
        assert state.mixed_since == (pytest.approx(21, abs=1), pytest.approx(0.35, abs=0.02))

    def test_a_second_run_has_what_the_first_left(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        clock = Clock(monkeypatch)
        with pytest.raises(Stopped):
            run(tmp_path / "job", cases, self.CONFIG, stop=lambda: clock.now > 1001.99)
        clock.now += 5000  # a night in between
        summary = run(tmp_path / "job", cases, self.CONFIG)
        assert summary["steps"] == pytest.approx(60, abs=1)
        assert summary["seconds"] == pytest.approx(3, abs=0.1)

    def test_looking_on_takes_no_time_from_the_training(
        self, tmp_path: Path, validated: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        clock = Clock(monkeypatch)

        def slow(path: Path, *rest) -> None:
            clock.now += 100
            files.write_text(path, "")

        monkeypatch.setattr(loop, "write_preview", slow)
        monkeypatch.setattr(loop, "validate", lambda *args: slow(tmp_path / "validated") or [("a", "LV cavity", 0.5)])
        schedule = {"steps": None, "minutes": 0.05, "preview_every": 0.4, "validate_every": 0.4}
        summary = run(tmp_path / "job", validated, config_of(schedule=schedule, locate={"refine": 0.0}))
        assert summary["steps"] == pytest.approx(60, abs=1)

    def test_on_the_wall(self, tmp_path: Path, cases: tuple[Case, ...]):
        begin = time.monotonic()
        summary = run(tmp_path / "job", cases, config_of(schedule={"steps": None, "minutes": 0.02}))
        assert 1.2 <= summary["seconds"] <= time.monotonic() - begin + 0.1

    def test_time_for_not_a_single_step_is_not_passed_over_in_silence(self, tmp_path: Path, cases: tuple[Case, ...]):
        config = config_of(schedule={"steps": None, "minutes": 1e-6}, locate={"method": "center"})
        with pytest.raises(UserError, match="before the first step"):
            run(tmp_path / "job", cases, config)


class TestSchedule:
    @pytest.mark.parametrize(
        ("share", "hold", "expected"),
        [
            (0, 0.35, 1),
            (0.35, 0.35, 1),
            (0.675, 0.35, 0.5),
            (1, 0.35, 0),
            (0.5, 0, 0.5),
            (1, 1, 1),
            (0.25, 0, 0.853553),
        ],
    )
    def test_the_rate_is_held_and_then_a_cosine(self, share: float, hold: float, expected: float):
        assert rate_factor(share, hold) == pytest.approx(expected, abs=1e-6)

    def test_lambda_u_rises_along_its_sigmoid(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        real, seen = recorded.train_step, []

        def noting(learner, config, plan, labeled, unlabeled, moment):
            seen.append((learner.step, unlabeled is not None, moment.ramp))
            return real(learner, config, plan, labeled, unlabeled, moment)

        monkeypatch.setattr(recorded, "train_step", noting)
        run(
            tmp_path / "job",
            cases,
            config_of(schedule={"steps": 20, "warmup": 0.3, "ramp": 0.5}),
        )
        assert len(seen) == 20
        for step, mixed, ramp in seen:
            assert mixed == (step >= 6)
            x = min(1, (step - 6) / 10)
            assert ramp == pytest.approx(math.exp(-5 * (1 - x) ** 2) if mixed else 0)


class TestTooShort:
    """Trainings that end before the unlabeled cases come into play."""

    @pytest.mark.parametrize(
        ("warmup", "least", "alone"), [(0.35, 30, 30), (0.99, 0, 20), (0.35, 19, None), (0.9, 0, None)]
    )
    def test_one_by_steps_says_so_before_any_work(
        self, tmp_path: Path, cases: tuple[Case, ...], warmup: float, least: int, alone: int | None
    ):
        folder = tmp_path / "job"
        run(folder, cases, config_of(schedule={"steps": 20, "warmup": warmup, "warmup_steps": least}))
        mixed = load_checkpoint(folder / "checkpoint.pt", get_label_set("acdc").names).mixed_since
        assert (mixed is None) == (alone is not None)
        first = read_events(folder / "events.jsonl")[0]
        assert isinstance(first, Warned) == (alone is not None)
        if alone is not None:
            assert "end after 20 steps" in first.warning
            assert f": {alone} steps" in first.warning
            assert "schedule.warmup_steps" in first.hint

    def test_one_by_the_clock_says_so_once_when_its_speed_is_known(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        Clock(monkeypatch)
        schedule = {"steps": None, "minutes": 0.1, "warmup_steps": 500}  # about 120 steps
        run(tmp_path / "job", cases, config_of(schedule=schedule, locate={"refine": 0.0}))
        told = read_events(tmp_path / "job" / "events.jsonl")
        early, late = (at for at, event in enumerate(told) if isinstance(event, Warned))
        assert re.search(r"about 1[12]\d steps.*: 500 steps", told[early].warning)
        assert [event.step for event in told[:early] if isinstance(event, Progress) and event.learning_rate] == [20]
        assert "ended after" in told[late].warning
