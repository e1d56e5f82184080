"""How everything in the bench is timed: what is compared takes turns, so that a drifting machine slows all alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

LEAST_S = 0.1
"""What takes less is repeated until it takes so long: clocks of processor time may tick in hundredths."""

LONG_S = 0.5
WARM_UP_GPU = 10
"""Calls before anything is counted on a GPU, where kernels are chosen and graphs captured in the first ones."""


@dataclass(frozen=True)
class Setting:
    """Where and how thoroughly to measure."""

    device: str
    """`cpu`, or a CUDA device."""
    rounds: int
    folder: Path
    """For files that last as long as the bench."""

    @property
    def gpu(self) -> bool:
        return torch.device(self.device).type == "cuda"


@dataclass(frozen=True)
class Measured:
    """What came of a row: the value of each round, and what has to be known of them."""

    rounds: list[float] = field(default_factory=list)
    note: str = ""


class Unmeasured(Exception):  # noqa: N818 - no error, a reason
    """Why something cannot be measured here, as a sentence without a full stop."""


Work = Callable[[], object]


def take_turns(setting: Setting, works: Mapping[str, Work], turns: int = 1) -> dict[str, list[float]]:
    """Seconds of each work in each round, after some calls to warm up.

    Args:
        setting: Where to measure, and how many rounds.
        works: What takes turns, by name.
        turns: Of each work in a round, whose mean is the round's value; every other turn is in reverse order.
    """
    repeats = {name: _warm_up(setting, work) for name, work in works.items()}
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(setting.rounds):
        taken = dict.fromkeys(works, 0.0)
        for turn in range(turns):
            for name in list(works)[:: -1 if turn % 2 else 1]:
                taken[name] += seconds(setting, works[name], repeats[name])
        for name, total in taken.items():
            times[name].append(total / turns)
    return times


def _warm_up(setting: Setting, work: Work) -> int:
    """Runs a work for the first time; gives how often it has to be repeated to take so long that it can be timed."""
    for _ in range(WARM_UP_GPU if setting.gpu else 0):
        work()
    if seconds(setting, work) >= LONG_S:  # the next one would be no shorter by much
        return 1
    return max(1, math.ceil(LEAST_S / max(seconds(setting, work), 1e-6)))


def seconds(setting: Setting, work: Work, repeats: int = 1) -> float:
    """What a work takes, in the mean of some repeats: processor time, or time of the device between two events."""
    if setting.gpu:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.device(setting.device):
            begin.record()
            for _ in range(repeats):
                work()
            end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000 / repeats
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def ratios(over: list[float], under: list[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(over, under, strict=True)]
