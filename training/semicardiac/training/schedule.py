"""How much of a training is done, by the clock or by steps, over all the runs that it took, and what depends on it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ..base.text import count
from ..config import ScheduleConfig


class Budget:
    """The time or the steps that a training may take.

    Args:
        schedule: `minutes` or `steps`, whichever is set.
        reserve: Share of the time that is kept for what comes after the steps.
        used_before: Seconds that earlier runs of the job used.
    """

    def __init__(self, schedule: ScheduleConfig, reserve: float = 0.0, used_before: float = 0.0) -> None:
        self.steps = schedule.steps
        self.seconds = None if schedule.minutes is None else 60 * schedule.minutes
        self.reserve = reserve
        self.used_before = used_before
        self._now = time.process_time if schedule.clock == "cpu" else time.monotonic
        self._start = self._now()
        self._paused = 0.0

    def used(self) -> float:
        """Seconds of training so far, in this run and those before."""
        return self.used_before + self._now() - self._start - self._paused

    def share(self, step: int) -> float:
        """What share of the training is done after so many steps, 0 to 1; without the reserve."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.seconds is not None  # a schedule has one of the two
        return min(1.0, self.used() / (self.seconds * (1 - self.reserve)))

    def stage(self, share: float, steps: int) -> Callable[[int], float]:
        """A part of the budget: ends after `steps`, or where time counts after `share` of it, whichever is first."""
        start = self.used()

        def done(step: int) -> float:
            by_time = (self.used() - start) / (share * self.seconds) if self.seconds is not None and share else 0.0
            return min(1.0, max(step / steps, by_time))

        return done

    def pause(self, seconds_since: float) -> None:
        """Leaves out what was spent since `used()` was `seconds_since`: validation is not training."""
        self._paused += self.used() - seconds_since


def rate_factor(share: float, hold: float) -> float:
    """The learning rate over its full value: 1 for the first `hold` of the training, then a cosine to 0."""
    if share <= hold:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (share - hold) / (1 - hold)))


def passed(before: float, now: float, every: float) -> bool:
    """Whether a multiple of `every` lies between two shares."""
    return math.floor(now / every + 1e-9) > math.floor(before / every + 1e-9)


def shortfall(schedule: ScheduleConfig, steps: int) -> tuple[str, str] | None:
    """What and hint if so many steps end before the unlabeled cases come into play; None if they do not."""
    alone = max(schedule.warmup_steps, math.ceil(schedule.warmup * steps))
    if alone < steps:
        return None
    about = "" if schedule.steps is not None else "about "
    what = f"the training will end after {about}{count(steps, 'step')}, before the unlabeled cases come into play"
    what += f": {count(alone, 'step')} on the labeled cases alone come first"
    return what, "Train for longer, or lower schedule.warmup and schedule.warmup_steps"
