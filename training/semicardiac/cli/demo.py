"""The demo: a study of phantom hearts through the very path of real data, with and without its unlabeled volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..base import files
from ..base.errors import UserError
from ..base.text import count
from ..config import TrainConfig, make_config
from ..data.cases import Case
from ..images.labels import get_label_set
from ..jobs.job import EvaluateJob, SegmentJob, TrainJob, create_job
from ..jobs.record import Record, read_record
from ..jobs.run import run_job
from ..models.compute import pick_device
from ..phantom.study import MILD, require_sound, write_study
from ..report.compare import compare
from ..report.plotting import require_matplotlib
from ..report.write import write_report
from .progress import Console

PRESETS = {"default": "labeled and unlabeled volumes", "supervised": "the labeled volumes alone"}
"""The two trainings and what they learn from."""
LABELED, UNLABELED, TEST = 2, 24, 9
"""Patients of the phantom study."""
STEPS_A_MINUTE = 370
"""Steps of each of the two trainings for a minute of the demo, as two quiet processor cores manage them. Both trainings
get the same steps, however busy the machine: by the clock, one of them could be cut off before it has learned."""
MINUTES_MAX = 10_000
"""A week."""
SETTINGS: dict[str, Any] = {
    "preprocess": {"spacing_mm": 2.0, "crop": 80},  # as much of the body in half as many pixels
    "locate": {"spacing_mm": 4.0, "size": 64, "steps_max": 80, "refine": 0.0},  # a phantom's heart is soon found
    "optim": {"batch_mixed": (4, 4)},  # in so few steps every label counts
    # No phantom is mirrored, and a mild study has fewer sizes and contrasts: the right ventricle is learned sooner.
    "augment": {"flip": 0.0, "scale": (0.8, 1.25), "gain": (0.8, 1.25), "gamma": (0.75, 1.35)},
}
"""What the demo trains with, to have learned in a minute; all else is as by default."""
SCHEDULE: dict[str, Any] = {"warmup_steps": 0, "preview_every": 0.5}
"""The default has 400 steps on labeled slices alone at the least, a third of the demo's. Its share of them, 35 %, is
enough for a teacher of these hearts."""


def run_demo(out: Path, *, minutes: float, seed: int, device: str) -> int:
    """Draws the study, trains with and without its unlabeled volumes, segments, evaluates, and writes the report.

    Args:
        out: New folder for all of it.
        minutes: Time for all of it on two processor cores; the number of steps follows from it.
        seed: Decides on the hearts.
        device: Where to compute.

    Returns:
        The exit status of the first job that did not end well, else 0.

    Raises:
        UserError: If the time, the seed, the device or the folder cannot be used, or Matplotlib is missing.
    """
    if not 0 < minutes <= MINUTES_MAX:
        hint = f"Give a time above 0 and of {MINUTES_MAX:,} at most, such as 3"
        raise UserError(f"got {minutes:g}", where="--minutes", hint=hint)
    require_sound(seed=seed)
    pick_device(device)
    require_matplotlib()  # not to miss it at the end
    schedule = {**SCHEDULE, "steps": max(1, round(minutes * STEPS_A_MINUTE))}
    configs = {preset: make_config(preset, {**SETTINGS, "schedule": schedule}) for preset in PRESETS}
    out = files.output_folder(out).absolute()
    with Console(brief=True) as console:
        console.say(f"drawing {LABELED} labeled, {UNLABELED} unlabeled and {TEST} test patients")
        study = out / "study"
        drawn = write_study(study, labeled=LABELED, unlabeled=UNLABELED, test=TEST, seed=seed, difficulty=MILD)
        cases = tuple(case for case in drawn if case.role != "ignore")  # the test patients' role
        for preset, title in PRESETS.items():
            console.say(f"training on {title}, {count(schedule['steps'], 'step')}")
            for folder, job in _jobs(out / preset, study, cases, configs[preset], device):
                status = run_job(create_job(folder, job), console)
                if status:
                    return status
    page = write_report(out / "default", baseline=out / "supervised", out=out / "report.html")
    _print_results(*(read_record(out / preset) for preset in PRESETS))
    print(f"\nLook at {page}")
    return 0


def _print_results(with_unlabeled: Record, alone: Record) -> None:
    """The mean Dice of both trainings with their steps; of the first alone where comparing them would be unfair."""
    comparison = compare(with_unlabeled, alone)
    assert comparison is not None  # both were evaluated, on the same cases
    print(f"\nMean Dice on {TEST} patients that no training saw, against their exact labels:")
    if comparison.fair:
        print(
            f"  {LABELED} labeled patients alone    {comparison.theirs:.3f}   {count(round(alone.steps or 0), 'step')}"
        )
    steps = count(round(with_unlabeled.steps or 0), "step")
    print(f"  and {UNLABELED} unlabeled ones        {comparison.ours:.3f}   {steps}")
    if comparison.fair:
        print(f"\n{comparison.sentence}")
    else:
        print(
            f"\nWhat the unlabeled patients bring cannot be told from so short a demo: {'; '.join(comparison.doubts)}."
        )


def _jobs(
    folder: Path, study: Path, cases: tuple[Case, ...], config: TrainConfig, device: str
) -> list[tuple[Path, TrainJob | SegmentJob | EvaluateJob]]:
    """A training, the segmentation of the test patients and its evaluation, each with its job folder."""
    labels = get_label_set("acdc")
    results = folder / "segmentations"
    return [
        (folder, TrainJob(cases=cases, labels=labels, config=config, device=device)),
        (results, SegmentJob(model=folder, inputs=(study / "test",), out=results, device=device)),
        (folder / "evaluation", EvaluateJob(predictions=results, reference=study / "reference/test", labels=labels)),
    ]
