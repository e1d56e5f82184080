"""The commands of `semicardiac`: their options, with what the help says of them, and what they do.

Everything heavy is imported where it is used: `--help` should not wait for PyTorch.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from .errors import UserError

Roi = tuple[float, float, float, float, float, float]
Flag = Annotated[bool, arg(help_behavior_hint="")]
Data = Annotated[Positional[tuple[Path, ...]], arg(metavar="DATA", help_behavior_hint="")]


def optional(metavar: str = "") -> Any:
    """An option whose absence needs no mention in the help."""
    return arg(metavar=metavar or None, help_behavior_hint="")


@dataclass(frozen=True)
class Demo:
    """Train, segment and evaluate on a phantom heart: no data needed, three minutes."""

    out: Annotated[Path, arg(metavar="DIR")] = Path("semicardiac-demo")
    """New folder for the phantom's volumes, the models and the report."""
    minutes: float = 3.0
    """Time for all of it."""
    seed: int = 0
    """Another number makes other hearts."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps."""

    EXAMPLES = """
  semicardiac demo
  semicardiac demo --out /tmp/demo --minutes 10"""

    def run(self) -> int:
        from .demo import run_demo

        return run_demo(self.out, minutes=self.minutes, seed=self.seed, device=self.device)


@dataclass(frozen=True)
class Cases:
    """Which volumes take part, and as what."""

    data: Data = ()
    """A folder in ACDC, MM-WHS or nnU-Net layout, a cases.csv, or volume files."""
    labels: Annotated[str, arg(metavar="SET")] = "acdc"
    """Label set: acdc, mmwhs, or a JSON file."""
    split: Annotated[str | None, optional("NAME")] = None
    """p70 or p80, published for ACDC; mmwhs; fraction: patients drawn by the seed. Without it, roles as they are."""
    labeled: Annotated[str | None, optional("N")] = None
    """How many patients keep their labels: a number, or a share such as 10%."""
    validation: Annotated[str | None, optional("N")] = None
    """How many labeled patients are kept aside for validation: a number, or a share."""
    seed: int = 0
    """Decides on random splits and everything random in training."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps."""

    def find(self) -> tuple[tuple[Any, ...], Any]:
        """The cases with their roles, and the label set."""
        from .cases import discover, split
        from .labels import get_label_set

        if not self.data:
            raise UserError("no data was named", where="DATA", hint="Name a folder, a cases.csv or volume files")
        labels = get_label_set(self.labels)
        cases = discover(self.data)
        asked = {
            name: _count(value, f"--{name}")
            for name, value in (("labeled", self.labeled), ("validation", self.validation))
            if value is not None
        }
        if self.split or asked:
            cases = split(cases, protocol=self.split or "fraction", seed=self.seed, **asked)
        return tuple(case for case in cases if case.role != "ignore"), labels


@dataclass(frozen=True)
class Check(Cases):
    """Look for whatever is wrong with volumes and machine before anything long starts."""

    EXAMPLES = """
  semicardiac check data/acdc
  semicardiac check data/acdc --split p70 --labeled 7
  semicardiac check cases.csv --labels mmwhs"""

    def run(self) -> int:
        from .checks import check_cases, check_environment
        from .console import Console

        environment = check_environment(self.device)
        cases, labels = self.find()
        with Console() as console:
            findings = check_cases(cases, labels, progress=console.progress_of("checking inputs"))
        for finding in findings:
            print(f"{finding.level}: {UserError(finding.what, where=finding.where, hint=finding.hint)}")
        roles = [case.role for case in cases]
        print(", ".join(f"{roles.count(role)} {role}" for role in ("labeled", "unlabeled", "validation")))
        for name, value in environment.items():
            print(f"{name}: {value}")
        errors = sum(finding.level == "error" for finding in findings)
        print(f"{errors} errors, {len(findings) - errors} warnings")
        return 2 if errors else 0


@dataclass(frozen=True)
class Train(Cases):
    """Train a model on a few labeled and many unlabeled volumes."""

    out: Annotated[Path | None, optional("JOB")] = None
    """New folder for the training and its model."""
    resume: Annotated[Path | None, optional("JOB")] = None
    """Go on with a training that was interrupted; with --minutes or --steps, train that much longer."""
    preset: Literal["default", "paper", "supervised"] = "default"
    """default: our best; paper: the published recipe, literally; supervised: default on the labeled cases alone."""
    minutes: Annotated[float | None, optional()] = None
    """Time for the training; 10 if neither time nor steps are given."""
    steps: Annotated[int | None, optional()] = None
    """Steps to train, in place of a time."""
    validate_every: Annotated[float | None, optional("SHARE")] = None
    """Validate each time this share of the training is done, such as 0.1; without it, at the end."""
    seeds: int = 1
    """Train this many times with different seeds, and report mean and standard deviation."""
    deterministic: Flag = False
    """Only deterministic operations: the same numbers on every run, a little slower."""
    no_dptm: Flag = False
    """Without the dynamic pseudo-label threshold map."""
    no_rem: Flag = False
    """Without the robust entropy minimization."""
    no_contrast: Flag = False
    """Without the contrastive consistency."""
    set: Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], arg(metavar="SECTION.KEY=VALUE")] = ()
    """Any other setting."""
    jsonl: Flag = False
    """Events as lines of JSON on standard output, for programs."""

    EXAMPLES = """
  semicardiac train data/acdc --out runs/first --split p70 --labeled 7 --minutes 10
  semicardiac train labeled/ unlabeled/ --out runs/mine --labels mine.json --validate-every 0.1
  semicardiac train data/acdc --out runs/plain --split p70 --labeled 7 --preset supervised
  semicardiac train cases.csv --out runs/other --no-contrast --set loss.lambda_u=0.5 --set optim.ema=0.995
  semicardiac train --resume runs/first --minutes 10"""

    def run(self) -> int:
        from .config import make_config, parse, parse_assignments
        from .jobs import TrainJob, create_job

        if self.resume is not None:
            return self._go_on(self.resume)
        if self.out is None:
            raise UserError("no folder for the training was named", where="--out", hint="Add --out JOB, a new folder")
        if self.minutes is not None and self.steps is not None:
            raise UserError("both a time and a number of steps are given", where="--minutes, --steps", hint="Give one")
        cases, labels = self.find()
        assignments = [*self._assignments(labels.plane), *(text for texts in self.set for text in texts)]
        config = make_config(self.preset, parse_assignments(assignments))
        fields = {"cases": cases, "labels": labels, "config": config, "device": self.device, "seeds": self.seeds}
        job = parse(TrainJob, fields, where="train")
        return self._train(create_job(self.out, job))

    def _train(self, folder: Path) -> int:
        status = _run(folder, jsonl=self.jsonl)
        if status == 0 and not self.jsonl:
            print(f"The model is in {folder}. Use it:   semicardiac segment {folder} VOLUME --out DIR")
            print(f"Look at how it went:   semicardiac report {folder}")
        return status

    def _assignments(self, plane: str) -> list[str]:
        """What the options ask for, in the words of `--set`, which comes after them and so wins."""
        values = {
            "seed": self.seed,
            "deterministic": self.deterministic,
            "preprocess.plane": plane,
            "schedule.minutes": 10.0 if self.minutes is None and self.steps is None else self.minutes,
            "schedule.steps": self.steps,
            "schedule.validate_every": self.validate_every,
            **{f"loss.{name}": False for name in ("dptm", "rem", "contrast") if getattr(self, f"no_{name}")},
        }
        return [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None]

    def _go_on(self, folder: Path) -> int:
        from .jobs import prolong

        if self.out is not None or self.data:
            hint = "Drop --out and DATA: a training that is resumed has them"
            raise UserError("a new training and one to resume are named at once", where="--resume", hint=hint)
        if self.minutes is not None or self.steps is not None:
            prolong(folder, minutes=self.minutes, steps=self.steps)
        return self._train(folder)


@dataclass(frozen=True)
class Segment:
    """Segment volumes and time series with a trained model."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """A job folder, or a model package (folder or zip)."""
    inputs: Annotated[Positional[tuple[Path, ...]], arg(metavar="INPUT")]
    """Volume files (3D or 4D), DICOM folders, or folders of volumes."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Folder for the segmentations, each named after its input."""
    format: Literal["nii.gz", "nrrd", "seg.nrrd"] = "nii.gz"
    """seg.nrrd opens in 3D Slicer as a segmentation with names, colors and terminology."""
    confidence: Flag = False
    """Also write maps of the confidence, 0 to 1."""
    entropy: Flag = False
    """Also write maps of the entropy, 0 to 1."""
    flips: Flag = False
    """Average over the flips of each slice: a little better, four times slower."""
    all_components: Flag = False
    """Keep all parts of a structure, not only its largest."""
    roi: Annotated[Roi | None, optional("XMIN XMAX YMIN YMAX ZMIN ZMAX")] = None
    """Where the heart is, in RAS mm, if it is not to be searched for."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps."""
    jsonl: Flag = False
    """Events as lines of JSON on standard output, for programs."""

    EXAMPLES = """
  semicardiac segment runs/first scan.nii.gz --out results
  semicardiac segment model.zip cine_4d.nii.gz dicom/series12 --out results --format seg.nrrd --flips
  semicardiac segment runs/first data/unlabeled --out results --confidence --entropy"""

    def run(self) -> int:
        from .config import parse
        from .jobs import SegmentJob, create_job, subfolder

        if not self.inputs:
            raise UserError("no volume to segment was named", where="INPUT", hint="Name volume files or folders")
        for path in (self.model, *self.inputs):
            if not path.exists():
                raise UserError("there is no such file or folder", where=path)
        options = {name: getattr(self, name) for name in ("confidence", "entropy", "flips", "roi", "device")}
        places = {"model": self.model, "inputs": self.inputs, "out": self.out}
        largest = {"suffix": f".{self.format}", "largest_component": not self.all_components}
        job = parse(SegmentJob, {**places, **options, **largest}, where="segment")
        return _run(create_job(subfolder(self.out, "segment-job"), job), jsonl=self.jsonl)


@dataclass(frozen=True)
class Evaluate:
    """Compare segmentations with reference segmentations: Dice, distances, volumes, ejection fraction."""

    predictions: Annotated[Positional[Path], arg(metavar="PREDICTIONS")]
    """Folder of segmentations."""
    reference: Annotated[Positional[Path], arg(metavar="REFERENCE")]
    """Folder of reference segmentations."""
    out: Annotated[Path, arg(metavar="DIR")]
    """New folder for the tables."""
    labels: Annotated[str, arg(metavar="SET")] = "acdc"
    """Label set: acdc, mmwhs, or a JSON file."""
    jsonl: Flag = False
    """Events as lines of JSON on standard output, for programs."""

    EXAMPLES = """
  semicardiac evaluate results data/acdc --out evaluation"""

    def run(self) -> int:
        from .jobs import EvaluateJob, create_job
        from .labels import get_label_set

        job = EvaluateJob(predictions=self.predictions, reference=self.reference, labels=get_label_set(self.labels))
        return _run(create_job(self.out, job), jsonl=self.jsonl)


@dataclass(frozen=True)
class Report:
    """Write a page with curves, tables and pictures of a job."""

    job: Annotated[Positional[Path], arg(metavar="JOB")]
    """A job folder."""
    baseline: Annotated[Path | None, optional("JOB")] = None
    """The folder of a training on the labeled cases alone, to compare with."""

    EXAMPLES = """
  semicardiac report runs/first
  semicardiac report runs/first --baseline runs/plain"""

    def run(self) -> int:
        from .report import write_report

        print(write_report(self.job, baseline=self.baseline))
        return 0


@dataclass(frozen=True)
class Run:
    """Run a job, or go on with it where it was interrupted."""

    job: Annotated[Positional[Path], arg(metavar="JOB")]
    """A job folder: one with a job.json."""
    jsonl: Flag = False
    """Events as lines of JSON on standard output; also without this where that is not a terminal."""

    EXAMPLES = """
  semicardiac run runs/first
  semicardiac run runs/first --jsonl"""

    def run(self) -> int:
        return _run(self.job, jsonl=self.jsonl or not sys.stdout.isatty())


@dataclass(frozen=True)
class Info:
    """Tell what a model segments and how it was trained."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """A job folder, or a model package (folder or zip)."""

    EXAMPLES = """
  semicardiac info runs/first"""

    def run(self) -> int:
        from .model import describe_model

        described = describe_model(self.model)
        names = [structure["name"] for structure in described["labels"]["structures"]]
        rows = {
            "segments": ", ".join(names),
            "label set": described["labels"]["name"],
            "written by": f"semicardiac {described['version']}",
            "preset": described["config"]["preset"],
            **described["about"],
        }
        width = max(map(len, rows))
        for name, value in rows.items():
            print(f"{name.replace('_', ' '):{width}}  {value}")
        return 0


def _count(text: str, option: str) -> float:
    """A number of patients, or a share of them below 1, from `7`, `0.1` or `10%`."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        hint = "For example 7, 0.1 or 10%"
        raise UserError(f"'{text}' is neither a number nor a share", where=option, hint=hint) from None


def _run(folder: Path, *, jsonl: bool) -> int:
    from .console import Console, Lines
    from .runner import run_job

    if jsonl:
        return run_job(folder, Lines())
    with Console() as console:
        return run_job(folder, console)


COMMANDS: dict[str, Any] = {
    "demo": Demo,
    "check": Check,
    "train": Train,
    "segment": Segment,
    "evaluate": Evaluate,
    "report": Report,
    "run": Run,
    "info": Info,
}
