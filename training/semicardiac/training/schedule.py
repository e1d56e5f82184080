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


class Ramp:
    """How the weight of the unlabeled loss rises: exp(-5 (1 - x)²), which a prolonged training does not climb again.

    Args:
        length: Of the ramp, as a share of the training.
    """

    def __init__(self, length: float) -> None:
        self.length = length
        self.since: tuple[int, float] | None = None
        """Step and share of the training at which it began; None before."""
        self.climbed = 0.0
        """How far it has come, x of 0 to 1."""

    def at(self, share: float) -> float:
        """The weight's share of its final value, once the ramp has begun."""
        assert self.since is not None
        x = min(1.0, (share - self.since[1]) / self.length) if self.length else 1.0
        self.climbed = max(self.climbed, x)
        return math.exp(-5 * (1 - self.climbed) ** 2)
