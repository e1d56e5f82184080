"""Whether two trainings, with and without unlabeled cases, tell what these brought; and the sentence that says it.

They do where the unlabeled cases came into play, both trainings have learned, and nothing else differs: not the labeled
cases, the seeds, the settings that both use, nor clearly the number of steps or images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..base.statistics import average, mean_and_sd
from ..base.text import count, is_number, listed
from ..evaluation.averages import MEAN, by_volume
from ..jobs.record import Record

LENGTH_APART = 0.25
"""By what share of the longer training two may differ in their steps or images: a step that uses unlabeled slices takes
a quarter longer than one that does not, so that of two trainings of the same time one has some 15 % fewer."""
LEARNED = 0.3
"""The least mean Dice of a training that has learned: below it, a difference says which of them was cut off earlier."""
_OF_UNLABELED = ("preset", "seed", "method.", "schedule.", "optim.batch_mixed", "locate.recenter")
"""Settings that are about unlabeled cases, or are compared by what came of them; but for the supervised loss."""
_UNUSED = "they never came into play"


@dataclass(frozen=True)
class Comparison:
    """Mean Dice of two trainings on the same volumes.

    Attributes:
        ours: With unlabeled cases.
        theirs: Without.
        used: Whether the unlabeled cases came into play; None if nothing tells.
        differences: What else differs, to be read after "the trainings differ in".
        noise: What the difference is small against, as words; empty where it is not.
    """

    ours: float
    theirs: float
    used: bool | None
    differences: tuple[str, ...]
    noise: str

    @property
    def fair(self) -> bool:
        """Whether the difference is what the unlabeled cases brought."""
        return not self.doubts

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the difference is not that of the unlabeled cases; empty if it is."""
        found = [] if self.used else [_UNUSED if self.used is False else "nothing tells whether they took part"]
        if min(self.ours, self.theirs) < LEARNED:
            found.append(f"a training with a mean Dice below {LEARNED:g} has hardly learned yet")
        if self.differences:
            found.append(f"the trainings differ in {listed(self.differences)}")
        return tuple(found)

    @property
    def sentence(self) -> str:
        """What the unlabeled cases brought, whatever it is, or why that cannot be told."""
        ours, theirs = f"{self.ours:.3f}", f"{self.theirs:.3f}"
        if not self.fair:
            return (
                f"The mean Dice is {ours} here and {theirs} in the training on the labeled cases alone. "
                f"What unlabeled cases bring cannot be told from this: {', and '.join(self.doubts)}."
            )
        if ours == theirs:
            return f"The unlabeled volumes left the mean Dice at {ours}."
        if self.noise:
            return f"The mean Dice is {ours} with the unlabeled volumes and {theirs} without them, {self.noise}."
        verb = "raised" if self.ours > self.theirs else "lowered"
        return f"The unlabeled volumes {verb} the mean Dice from {theirs} to {ours}."


def compare(record: Record, other: Record | None) -> Comparison | None:
    """A training with unlabeled cases against one without; None as long as one of them is not measured."""
    if other is None:
        return None
    ours, theirs = dice_of(record, MEAN), dice_of(other, MEAN)
    if ours is None or theirs is None:
        return None
    return Comparison(ours, theirs, record.used_unlabeled, tuple(_differences(record, other)), _noise(record, other))


def dice_of(record: Record, name: str) -> float | None:
    """Mean Dice of a structure, or of all, in the evaluation, or else in the last validation; mean over the seeds."""
    if record.seeds:
        return over_seeds(record, lambda seed: dice_of(seed, name))
    if record.summary:
        return record.summary["metrics"].get(name, {}).get("dice", {}).get("mean")
    if not record.validation:
        return None
    last = record.validation_lines.get(name, ((), (math.nan,)))[1][-1]
    return last if is_number(last) else None


def over_seeds(record: Record, value: Callable[[Record], float | None]) -> float | None:
    """The mean of a value over the seeds of a training; None where no training has it."""
    mean = average(value(training) for training in record.seeds or [record])
    return mean if is_number(mean) else None


def _differences(record: Record, other: Record) -> list[str]:
    """What makes two trainings different, apart from the unlabeled cases."""
    found = []
    if _labeled(record) != _labeled(other):
        found.append("their labeled cases")
    if _seeds(record) != _seeds(other):
        found.append("their seeds")
    if record.job.get("start_from") != other.job.get("start_from"):
        found.append("the model that they began with")
    ours, theirs = _shared_settings(record), _shared_settings(other)
    changed = sorted(key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key])
    if changed or not (ours and theirs):
        found.append(f"their settings ({listed(changed, most=3) or 'unknown'})")
    for what, length in (("steps", _steps), ("images", _images)):
        own, others = (over_seeds(each, partial(length, each)) for each in (record, other))
        if own is None or others is None or abs(own - others) > LENGTH_APART * max(own, others):
            told = ("unknown" if each is None else f"{each:,.0f}" for each in (own, others))
            found.append(f"their {what} ({' and '.join(told)})")
            break  # as many images would be no surprise
    return found


def _labeled(record: Record) -> set[tuple[str, str]]:
    return {(case.get("patient", ""), case.get("name", "")) for case in record.cases if case.get("role") == "labeled"}


def _seeds(record: Record) -> tuple[Any, int]:
    return record.job.get("config", {}).get("seed", 0), record.job.get("seeds", 1)


def _shared_settings(record: Record) -> dict[str, Any]:
    """The settings that a training with and one without unlabeled cases have in common, as they were asked for."""
    settings = flat(record.job.get("config", {}))
    return {key: value for key, value in settings.items() if key == "method.supervised" or not _of_unlabeled(key)}


def _of_unlabeled(key: str) -> bool:
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in _OF_UNLABELED)


def _steps(_job: Record, training: Record) -> float | None:
    return training.steps


def _images(job: Record, training: Record) -> float | None:
    """How many slices one training of a job has seen; None where its settings or its history do not tell."""
    optim = job.job.get("config", {}).get("optim")
    alone, mixed = (optim.get(key) for key in ("batch_labeled", "batch_mixed")) if isinstance(optim, dict) else (0, 0)
    if not (training.history and is_number(alone) and isinstance(mixed, list) and all(map(is_number, mixed))):
        return None
    seen, before = 0.0, 0.0
    for row in training.history:
        seen += (row["step"] - before) * (sum(mixed) if row.get("stage") == "semi-supervised" else alone)
        before = row["step"]
    return seen


def _noise(record: Record, other: Record) -> str:
    """What a difference is small against: less than twice its standard error over seeds, or else over patients."""
    seeds = [[dice_of(seed, MEAN) for seed in each.seeds] for each in (record, other)]
    if all(len(values) > 1 for values in seeds):
        means, sds = zip(*map(mean_and_sd, seeds), strict=True)
        error = math.hypot(*(sd / math.sqrt(len(values)) for sd, values in zip(sds, seeds, strict=True)))
        return "" if abs(means[0] - means[1]) > 2 * error else "a difference within what seeds alone make"
    ours, theirs = _dice_by_patient(record), _dice_by_patient(other)
    apart = [ours[patient] - theirs[patient] for patient in ours if patient in theirs]
    if len(apart) < 2:
        return "a difference that may be chance"
    mean, sd = mean_and_sd(apart)
    if abs(mean) > 2 * sd / math.sqrt(len(apart)):
        return ""
    return f"a difference within what chance makes among {count(len(apart), 'patient')}"


def _dice_by_patient(record: Record) -> dict[str, float]:
    """Mean Dice of each measured patient, over the volumes and the seeds."""
    values: dict[str, list[float]] = {}
    for training in record.seeds or [record]:
        rows = training.metrics
        patients = {row["case"]: row["patient"] for row in rows}
        for case, value in by_volume(rows, "dice").items():
            values.setdefault(patients[case], []).append(value)
    return {patient: average(found) for patient, found in values.items() if is_number(average(found))}


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found
