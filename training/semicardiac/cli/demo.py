"""The demo: a study of phantom hearts through the very path of real data, with and without its unlabeled volumes."""

from __future__ import annotations

import math
from pathlib import Path

from ..base import files
from ..base.errors import UserError
from ..config import TrainConfig, make_config
from ..data.cases import Case
from ..images.labels import get_label_set
from ..jobs.job import EvaluateJob, SegmentJob, TrainJob, create_job
from ..jobs.record import read_record
from ..jobs.run import run_job
from ..models.compute import pick_device
from ..phantom.study import require_sound, write_study
from ..report.compare import compare
from ..report.plotting import require_matplotlib
from ..report.write import write_report
from .progress import Console

LABELED, UNLABELED, TEST = 2, 24, 6
"""Patients of the phantom study."""
TRAINING_SHARE = 0.34
"""Share of the time that each of the two trainings gets; the rest is for drawing, segmenting and evaluating."""


def run_demo(out: Path, *, minutes: float, seed: int, device: str) -> int:
    """Draws the study, trains with and without its unlabeled volumes, segments, evaluates, and writes the report.

    Args:
        out: New folder for all of it.
        minutes: Time for all of it.
        seed: Decides on the hearts.
        device: Where to compute.

    Returns:
        The exit status of the first job that did not end well, else 0.

    Raises:
        UserError: If the time, the seed, the device or the folder cannot be used, or Matplotlib is missing.
    """
    if not 0 < minutes < math.inf:
        raise UserError(f"got {minutes:g}", where="--minutes", hint="Give a time above 0, such as 3")
    require_sound(seed=seed)
    pick_device(device)
    require_matplotlib()  # not to miss it at the end
    out = files.output_folder(out).absolute()
    with Console(brief=True) as console:
        console.say(f"drawing {LABELED} labeled, {UNLABELED} unlabeled and {TEST} test patients")
        study = out / "study"
        drawn = write_study(study, labeled=LABELED, unlabeled=UNLABELED, test=TEST, seed=seed)
        cases = tuple(case for case in drawn if case.role != "ignore")  # the test patients' role
        for preset, title in (
            ("default", "labeled and unlabeled volumes"),
            ("supervised", "the labeled volumes alone"),
        ):
            console.say(f"training on {title}")
            schedule = {"minutes": minutes * TRAINING_SHARE, "preview_every": 0.5}
            config = make_config(preset, {"schedule": schedule})
            for folder, job in _jobs(out / preset, study, cases, config, device):
                status = run_job(create_job(folder, job), console)
                if status:
                    return status
    page = write_report(out / "default", baseline=out / "supervised", out=out / "report.html")
    comparison = compare(*(read_record(out / preset) for preset in ("default", "supervised")))
    assert comparison is not None  # both were evaluated on the same cases
    with_unlabeled, alone = comparison.ours, comparison.theirs
    print(f"\nMean Dice on {TEST} patients that no training saw, against their exact labels:")
    print(f"  {LABELED} labeled patients alone           {alone:.3f}")
    print(f"  and {UNLABELED} unlabeled ones, same time    {with_unlabeled:.3f}")
    print(f"\n{comparison.sentence}")
    print(f"\nLook at {page}")
    return 0


def _jobs(
    folder: Path, study: Path, cases: tuple[Case, ...], config: TrainConfig, device: str
) -> list[tuple[Path, TrainJob | SegmentJob | EvaluateJob]]:
    """A training, the segmentation of the test patients and its evaluation, each with its job folder."""
    labels = get_label_set("acdc")
    results = folder / "segmentations"
    return [
        (folder, TrainJob(cases=cases, labels=labels, config=config, device=device)),
        (results, SegmentJob(model=folder, inputs=(study / "test",), out=results, flips=True, device=device)),
        (folder / "evaluation", EvaluateJob(predictions=results, reference=study / "reference/test", labels=labels)),
    ]
