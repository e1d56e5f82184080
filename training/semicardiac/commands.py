"""The commands of `semicardiac`: their options, with what the help says of them, and what they do.

Everything heavy is imported where it is used: `--help` should not wait for PyTorch.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from .errors import UserError

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
class Phantom:
    """Draw a study of phantom hearts with exact labels, to try things out on."""

    out: Annotated[Path, arg(metavar="DIR")]
    """New folder for the study, in the layout of ACDC, with a cases.csv."""
    labeled: int = 3
    """Patients with labels; each is drawn at end diastole and end systole."""
    unlabeled: int = 12
    """Patients without."""
    validation: int = 0
    """Patients with labels that only serve to watch a training."""
    test: int = 4
    """Patients that no training sees, in the folder test."""
    cine: int = 0
    """Frames of a time series of one more heart, cine.nii.gz; 0 for none."""
    seed: int = 0
    """Another number makes other hearts."""

    EXAMPLES = """
  semicardiac phantom --out study
  semicardiac phantom --out study --labeled 2 --unlabeled 24 --cine 30"""

    def run(self) -> int:
        from .phantom import REFERENCE, write_cine, write_study

        parts = {name: getattr(self, name) for name in ("labeled", "unlabeled", "validation", "test")}
        write_study(self.out, **parts, seed=self.seed)
        if self.cine:
            labels = self.out / REFERENCE / "cine.nii.gz"
            write_cine(self.out / "cine.nii.gz", frames=self.cine, labels=labels, seed=self.seed * 10_000)
        print(f"The study is in {self.out}. Train on it:   semicardiac train {self.out} --out JOB")
        return 0


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
    preset: Literal["default", "paper", "supervised"] = "default"
    """default: our best; paper: the published recipe; supervised: default on the labeled cases alone."""
    set: Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], arg(metavar="SECTION.KEY=VALUE")] = ()
    """Any other setting."""
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

    def configure(self, labels: Any, **options: Any) -> Any:
        """The configuration: the preset, over it what the options ask for (None: nothing), over that `--set`."""
        from .config import make_config, parse_assignments

        values = {"seed": self.seed, "preprocess.plane": labels.plane, **options}
        asked = [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None]
        return make_config(self.preset, parse_assignments([*asked, *(text for texts in self.set for text in texts)]))


@dataclass(frozen=True)
class Check(Cases):
    """Look for whatever is wrong with volumes and machine before anything long starts."""

    EXAMPLES = """
  semicardiac check data/acdc
  semicardiac check data/acdc --split p70 --labeled 7
  semicardiac check cases.csv --labels mmwhs --set optim.batch_labeled=4"""

    def run(self) -> int:
        from .checks import check_cases, check_environment
        from .console import Console

        environment = check_environment(self.device)
        cases, labels = self.find()
        config = self.configure(labels)
        with Console() as console:
            findings = check_cases(cases, labels, config, progress=console.progress_of("checking inputs"))
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
    minutes: Annotated[float | None, optional()] = None
    """Time for the training; 10 if neither time nor steps are given."""
    steps: Annotated[int | None, optional()] = None
    """Steps to train, in place of a time."""
    start_from: Annotated[Path | None, optional("MODEL")] = None
    """Go on from a model, such as that of an earlier training with fewer labels, in place of random weights."""
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
    jsonl: Flag = False
    """Events as lines of JSON on standard output, for programs."""

    EXAMPLES = """
  semicardiac train data/acdc --out runs/first --split p70 --labeled 7 --minutes 10
  semicardiac train labeled/ unlabeled/ --out runs/mine --labels mine.json --validate-every 0.1
  semicardiac train data/acdc --out runs/plain --split p70 --labeled 7 --preset supervised
  semicardiac train cases.csv --out runs/other --no-contrast --set loss.lambda_u=0.5 --set optim.ema=0.995
  semicardiac train --resume runs/first --minutes 10"""

    def run(self) -> int:
        from .config import parse
        from .jobs import TrainJob, create_job

        if self.minutes is not None and self.steps is not None:
            raise UserError("both a time and a number of steps are given", where="--minutes, --steps", hint="Give one")
        if self.resume is not None:
            return self._go_on(self.resume)
        if self.out is None:
            raise UserError("no folder for the training was named", where="--out", hint="Add --out JOB, a new folder")
        cases, labels = self.find()
        options = {
            "deterministic": self.deterministic,
            "schedule.minutes": 10.0 if self.minutes is None and self.steps is None else self.minutes,
            "schedule.steps": self.steps,
            "schedule.validate_every": self.validate_every,
            **{f"loss.{name}": False for name in ("dptm", "rem", "contrast") if getattr(self, f"no_{name}")},
        }
        config = self.configure(labels, **options)
        job = {"cases": cases, "labels": labels, "config": config, "device": self.device, "seeds": self.seeds}
        job["start_from"] = self.start_from
        return self._train(create_job(self.out, parse(TrainJob, job, where="train")))

    def _train(self, folder: Path) -> int:
        status = _run(folder, jsonl=self.jsonl)
        if status == 0 and not self.jsonl:
            print(f"The model is in {folder}. Use it:   semicardiac segment {folder} VOLUME --out DIR")
            print(f"Look at how it went:   semicardiac report {folder}")
        return status

    def _go_on(self, folder: Path) -> int:
        from .jobs import prolong

        given = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        refused = [name for name in given if name not in ("resume", "minutes", "steps", "jsonl")]
        if refused:
            names = ", ".join("DATA" if name == "data" else f"--{name.replace('_', '-')}" for name in refused)
            what = f"a training that is resumed keeps its data and settings, so that {names} would change nothing"
            hint = f"Drop {names}; only --minutes or --steps go with --resume"
            raise UserError(what, where="--resume", hint=hint)
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
    threshold: Flag = False
    """Also write maps of the dynamic threshold of each voxel's class (DPTM)."""
    pseudo_labels: Flag = False
    """Also write what would be taught as pseudo-labels: the labels whose confidence passes that threshold."""
    flips: Flag = False
    """Average over the flips of each slice: a little better, four times slower."""
    all_components: Flag = False
    """Keep all parts of a structure, not only its largest."""
    roi: Annotated[
        tuple[float, float, float, float, float, float] | None, optional("XMIN XMAX YMIN YMAX ZMIN ZMAX")
    ] = None
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
        from .jobs import MAPS, SegmentJob, create_job, subfolder

        if not self.inputs:
            raise UserError("no volume to segment was named", where="INPUT", hint="Name volume files or folders")
        for path in (self.model, *self.inputs):
            if not path.exists():
                raise UserError("there is no such file or folder", where=path)
        options = {name: getattr(self, name) for name in (*MAPS, "flips", "roi", "device")}
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

    zip: Annotated[Path | None, optional("FILE")] = None
    """Also write the model into this file, to send."""

    EXAMPLES = """
  semicardiac info runs/first
  semicardiac info runs/first --zip first.zip"""

    def run(self) -> int:
        from .package import open_package, write_zip

        package = open_package(self.model)
        package.verify()
        rows = {
            "segments": ", ".join(package.labels.names),
            "label set": package.labels.name,
            "written by": f"semicardiac {package.settings['version']}",
            "preset": package.settings["config"]["preset"],
            **package.about,
        }
        width = max(map(len, rows))
        for name, value in rows.items():
            print(f"{name.replace('_', ' '):{width}}  {value}")
        if self.zip is not None:
            if self.zip.exists():
                raise UserError("there is a file of this name already", where=self.zip, hint="Name a new file")
            write_zip(package, self.zip)
            print(f"\nwrote {self.zip}")
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
    with Console(folder=folder) as console:
        return run_job(folder, console)


COMMANDS: dict[str, Any] = {
    "demo": Demo,
    "phantom": Phantom,
    "check": Check,
    "train": Train,
    "segment": Segment,
    "evaluate": Evaluate,
    "report": Report,
    "run": Run,
    "info": Info,
}
