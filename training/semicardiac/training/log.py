"""What is shown of a training: a log entry every few steps, as an event and as a row of history.csv."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base.events import EventLog, Progress
from ..base.tables import GrowingTable
from ..images.labels import LabelSet
from .schedule import Budget

#: Steps between two log entries: each waits for the device.
EVERY = 20
#: Log entries without a foreground pseudo-label before a warning.
CLOSED_MOST = 5


@dataclass(eq=False)
class Window:
    """Sums since the last log entry, on the device."""

    since: float
    """Seconds of the budget when it began."""
    sums: dict[str, tuple[Tensor | float, int]] = field(default_factory=dict)
    """By name: the sum, and of how many steps."""
    steps: int = 0
    mixed: int = 0
    images: int = 0

    def add(self, log: dict[str, Tensor | float], images: int, *, mixed: bool) -> None:
        """Adds what a step has logged."""
        for name, value in log.items():
            total, steps = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + value, steps + 1
        self.steps, self.mixed, self.images = self.steps + 1, self.mixed + mixed, self.images + images

    def read(self) -> dict[str, list[float]]:
        """The mean of each number over the steps that have it; this waits for the device, once."""
        tensors = {name: value for name, (value, _) in self.sums.items() if isinstance(value, Tensor)}
        flat = torch.cat([value.flatten().float() for value in tensors.values()]).tolist() if tensors else []
        values = {name: [float(value)] for name, (value, _) in self.sums.items() if name not in tensors}
        for name, value in tensors.items():
            values[name], flat = flat[: value.numel()], flat[value.numel() :]
        return {name: [value / steps for value in values[name]] for name, (_, steps) in self.sums.items()}

    def state(self, used: float) -> dict[str, Any]:
        """For a checkpoint."""
        kept = {"sums": self.sums, "steps": self.steps, "mixed": self.mixed, "images": self.images}
        return kept | {"seconds": used - self.since}

    @classmethod
    def restored(cls, state: dict[str, Any], used: float, device: str) -> Window:
        """From a checkpoint."""
        sums = {
            name: (value.to(device) if isinstance(value, Tensor) else value, steps)
            for name, (value, steps) in state["sums"].items()
        }
        return cls(used - state["seconds"], sums, state["steps"], state["mixed"], state["images"])


class TrainingLog:
    """Log entries of a training.

    Args:
        table: history.csv.
        labels: Names of the structures.
        budget: Of the training.
        events: Where entries and warnings go.
    """

    def __init__(self, table: Path, labels: LabelSet, budget: Budget, events: EventLog) -> None:
        self.history = GrowingTable(table)
        self.window = Window(budget.used())
        self.closed = 0
        """Entries in a row in which no foreground pseudo-label passed."""
        self.cpu_before = 0.0
        self._names = ["background", *labels.names]
        self._budget, self._events = budget, events

    @property
    def cpu(self) -> float:
        """Processor time of the training in seconds, over all its runs; where several processes train, of the first."""
        return self.cpu_before + time.process_time()

    def is_finite(self) -> bool:
        """Whether the loss is still a number; this waits for the device."""
        return math.isfinite(float(self.window.sums.get("loss", (0.0, 0))[0]))

    def write(self, step: int, total: int, **numbers: float | None) -> None:
        """Writes an entry and begins a new window.

        Args:
            step: So many are done.
            total: So many there will be.
            numbers: `learning_rate`, `eta_s`, `gpu_memory_mb`, as in the event.
        """
        window, used = self.window, self._budget.used()
        means = window.read()
        passed, own = means.pop("passed", []), means.pop("own", [])
        rates = {name: round(a / b, 4) for name, a, b in zip(self._names, passed, own, strict=False) if b}
        losses = {name.removeprefix("loss_"): value for name, (value,) in means.items() if name.startswith("loss_")}
        figures = {name: value for name, (value,) in means.items() if not name.startswith("loss")}
        stage = "semi-supervised" if window.mixed else "supervised"
        speed = round(window.images / max(used - window.since, 1e-9), 2)
        loss = means["loss"][0]
        self._events.emit(
            Progress(
                stage=stage, step=step, total=total, loss=loss, losses=losses, figures=figures, pass_rate=rates,
                images_per_s=speed, **numbers,
            )
        )  # fmt: skip
        row: dict[str, Any] = {
            "step": step, "total": total, "stage": stage, "seconds": round(used, 2), "cpu_seconds": round(self.cpu, 2),
            "loss": loss, **{f"loss_{name}": value for name, value in losses.items()}, **figures,
            "learning_rate": numbers.get("learning_rate"), "images_per_s": speed,
        }  # fmt: skip
        self.history.add(row | {f"pass_rate/{name}": rates.get(name) for name in self._names if passed})
        if passed:
            self._watch_gate(sum(passed[1:]) == 0)
        self.window = Window(used)

    def _watch_gate(self, closed: bool) -> None:
        self.closed = self.closed + 1 if closed else 0
        if self.closed == CLOSED_MOST:
            hint = (
                "The teacher is sure of no structure in the unlabeled cases: either they are of another kind than the "
                "labeled ones, or it needs a longer training"
            )
            what = f"no foreground pseudo-label has passed its threshold for {CLOSED_MOST * EVERY} steps"
            self._events.warn(what, where="unlabeled cases", hint=hint)
