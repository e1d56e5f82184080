"""Commands that look at cases and train on them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import UseAppendAction, arg

from ..base.defaults import MINUTES
from ..base.errors import UserError
from ..base.text import count
from ..methods.registry import METHODS
from .options import Data, Flag, job_made, optional, run_shown

METHOD_HELP = "How to learn from the unlabeled cases; without it, as the preset does. " + " ".join(
    f"{name}: {entry.about}." for name, entry in METHODS.items()
)


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
    """How many patients keep their labels: a number such as 7, or a share such as 10%."""
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
        from ..data.cases import split
        from ..data.discover import discover
        from ..images.labels import get_label_set

        if not self.data:
            if swallowed := [text for texts in self.set for text in texts if "=" not in text]:
                hint = "Name the data before --set, which takes all that follows it"
                raise UserError(f"'{swallowed[0]}' is not of the form section.key=value", where="--set", hint=hint)
            raise UserError("no data was named", where="DATA", hint="Name a folder, a cases.csv or volume files")
        labels = get_label_set(self.labels)
        cases = discover(self.data)
        asked = {
            name: _count(value, f"--{name}")
            for name, value in (("labeled", self.labeled), ("validation", self.validation))
            if value is not None
        }
        if self.split or asked:
            cases = split(cases, protocol=(self.split or "fraction").lower(), seed=self.seed, **asked)
        return tuple(case for case in cases if case.role != "ignore"), labels

    def configure(self, labels: Any, **options: Any) -> Any:
        """The configuration: the preset, over it what the options ask for (None: nothing), over that `--set`."""
        from ..base.settings import parse_assignments
        from ..config import make_config

        values = {"seed": self.seed, "preprocess.plane": labels.plane, **options}
        asked = [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None]
        return make_config(self.preset, parse_assignments([*asked, *(text for texts in self.set for text in texts)]))


@dataclass(frozen=True)
class Check(Cases):
    """Look for whatever is wrong with volumes and machine before anything long starts; without volumes, the machine."""

    EXAMPLES = """
  semicardiac check
  semicardiac check data/acdc
  semicardiac check data/acdc --split p70 --labeled 7
  semicardiac check cases.csv --labels mmwhs --set optim.batch_labeled=4"""

    def run(self) -> int:
        from ..data.checks import check_cases
        from .environment import check_environment
        from .progress import Console

        environment = "\n".join(f"{name}: {value}" for name, value in check_environment(self.device).items())
        if not self.data and not self.set:
            print(environment)
            return 0
        cases, labels = self.find()
        config = self.configure(labels)
        with Console() as console:
            findings = check_cases(cases, labels, config, progress=console.progress_of("checking inputs"))
        for finding in findings:
            print(finding)
        print(", ".join(_counted(cases, role) for role in ("labeled", "unlabeled", "validation")))
        print(environment)
        errors = sum(finding.level == "error" for finding in findings)
        print(f"{count(errors, 'error')}, {count(len(findings) - errors, 'warning')}")
        return 2 if errors else 0


@dataclass(frozen=True)
class Train(Cases):
    """Train a model on a few labeled and many unlabeled volumes."""

    out: Annotated[Path | None, optional("JOB")] = None
    """New folder for the training and its model."""
    resume: Annotated[Path | None, optional("JOB")] = None
    """Continue a training that was interrupted; with --minutes or --steps, train that much longer."""
    minutes: Annotated[
        float | None, optional(help=f"Time for the training; {MINUTES:g} if neither time nor steps are given.")
    ] = None
    steps: Annotated[int | None, optional()] = None
    """Steps to train, in place of a time."""
    start_from: Annotated[Path | None, optional("MODEL")] = None
    """Start from a model, such as that of an earlier training with fewer labels, in place of random weights."""
    validate_every: Annotated[float | None, optional("SHARE")] = None
    """Validate each time this share of the training is done, such as 0.1; without it, at the end."""
    seeds: int = 1
    """Train this many times with different seeds, and report mean and standard deviation."""
    method: Annotated[str | None, optional("NAME", help=METHOD_HELP)] = None
    deterministic: Flag = False
    """Only deterministic operations: the same numbers on every run, a little slower."""
    no_dptm: Flag = False
    """Ours without the dynamic pseudo-label threshold map."""
    no_rem: Flag = False
    """Ours without the robust entropy minimization."""
    no_contrast: Flag = False
    """Ours without the contrastive consistency."""
    job_only: Flag = False
    """Only make the job, for semicardiac run: later, on another machine, or with torchrun on many GPUs."""
    jsonl: Flag = False
    """Events as lines of JSON on standard output, for programs."""

    EXAMPLES = """
  semicardiac train data/acdc --out runs/first --split p70 --labeled 7 --minutes 10
  semicardiac train labeled/ unlabeled/ --out runs/mine --labels mine.json --validate-every 0.1
  semicardiac train data/acdc --out runs/plain --split p70 --labeled 7 --preset supervised
  semicardiac train cases.csv --out runs/other --no-contrast --set method.lambda_u=0.5 --set optim.ema=0.995
  semicardiac train data/acdc --out runs/fixmatch --split p70 --labeled 7 --method fixmatch
  semicardiac train --resume runs/first --minutes 10"""

    def run(self) -> int:
        from ..base.settings import parse
        from ..jobs.job import TrainJob, create_job
        from ..methods.registry import complete

        if self.minutes is not None and self.steps is not None:
            raise UserError("both a time and a number of steps are given", where="--minutes, --steps", hint="Give one")
        if self.resume is not None:
            return self._go_on(self.resume)
        if self.out is None:
            raise UserError("no folder for the training was named", where="--out", hint="Add --out JOB, a new folder")
        cases, labels = self.find()
        options = {
            "deterministic": self.deterministic,
            "schedule.minutes": self.minutes,
            "schedule.steps": self.steps,
            "schedule.validate_every": self.validate_every,
            "method.name": self.method,
            **{f"method.{name}": False for name in ("dptm", "rem", "contrast") if getattr(self, f"no_{name}")},
        }
        config = complete(self.configure(labels, **options))
        job = {"cases": cases, "labels": labels, "config": config, "device": self.device, "seeds": self.seeds}
        job["start_from"] = self.start_from
        folder = create_job(self.out, parse(TrainJob, job, where="train"))
        if self.job_only:
            print(job_made(folder))
            return 0
        return self._train(folder)

    def _train(self, folder: Path) -> int:
        status = run_shown(folder, jsonl=self.jsonl)
        if status == 0 and not self.jsonl:
            quoted = shlex.quote(str(folder))
            print(f"The model is in {folder}. Use it:   semicardiac segment {quoted} VOLUME --out DIR")
            print(f"Look at how it went:   semicardiac report {quoted}")
        return status

    def _go_on(self, folder: Path) -> int:
        from ..jobs.job import prolong

        given = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        refused = [name for name in given if name not in ("resume", "minutes", "steps", "jsonl")]
        if refused:
            names = ", ".join("DATA" if name == "data" else f"--{name.replace('_', '-')}" for name in refused)
            what = f"a training that is resumed keeps its data and settings, so that {names} would change nothing"
            hint = f"Drop {names}; only --minutes or --steps go with --resume"
            raise UserError(what, where="--resume", hint=hint)
        if self.minutes is not None or self.steps is not None:
            longer = prolong(folder, minutes=self.minutes, steps=self.steps)
            if not self.jsonl:
                if longer.steps is not None:
                    amount = count(longer.steps, "step")
                else:
                    amount = f"{longer.minutes:g} minute{'' if longer.minutes == 1 else 's'}"
                print(f"Training for {amount} in all, with what was trained already", file=sys.stderr)
        return self._train(folder)


def _counted(cases: Sequence[Any], role: str) -> str:
    """Such as `14 labeled (7 patients)`."""
    patients = [case.patient for case in cases if case.role == role]
    return f"{len(patients)} {role}" + (f" ({count(len(set(patients)), 'patient')})" if patients else "")


def _count(text: str, option: str) -> float:
    """A number of patients (int), or a share of them (float), from `7`, `0.1` or `10%`."""
    try:
        if text.isdigit():
            return int(text)
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        hint = "For example 7, 0.1 or 10%"
        raise UserError(f"'{text}' is neither a number nor a share", where=option, hint=hint) from None
