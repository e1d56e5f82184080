"""How much of a training is done, by steps and by the clock."""

from __future__ import annotations

import pytest
from semicardiac.config import ScheduleConfig
from semicardiac.training.schedule import Budget


class TestBudget:
    def test_steps(self):
        budget = Budget(ScheduleConfig(steps=40))
        assert [budget.share(step) for step in (0, 10, 40, 50)] == [0, 0.25, 1, 1]

    def test_time_over_several_runs(self, monkeypatch: pytest.MonkeyPatch):
        now = [100.0]
        monkeypatch.setattr("time.monotonic", lambda: now[0])
        budget = Budget(ScheduleConfig(minutes=1.0), used_before=15.0)
        assert budget.share(123) == 0.25
        now[0] += 15
        assert budget.share(0) == 0.5
        paused = budget.used()
        now[0] += 1000  # a validation
        budget.pause(paused)
        assert budget.used() == 30
        now[0] += 3000
        assert budget.share(0) == 1

    def test_a_stage_ends_after_its_steps_or_its_share_of_the_time(self, monkeypatch: pytest.MonkeyPatch):
        now = [0.0]
        monkeypatch.setattr("time.monotonic", lambda: now[0])
        budget = Budget(ScheduleConfig(minutes=1.0))
        now[0] = 6.0
        done = budget.stage(0.2, steps=100)  # 12 seconds from here
        assert done(50) == 0.5
        now[0] = 15.0
        assert done(50) == 0.75
        assert done(100) == 1
        now[0] = 20.0
        assert done(50) == 1
