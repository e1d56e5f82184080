"""The commands of `semicardiac`: their options, with what the help says of them, and what they do.

Everything heavy is imported where it is used: `--help` should not wait for PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from .options import optional
from .results import Evaluate, Info, Report, Run, Segment
from .train import Check, Train


@dataclass(frozen=True)
class Demo:
    """Train, segment and evaluate on a phantom heart: no data needed, three minutes."""

    out: Annotated[Path, arg(metavar="DIR")] = Path("semicardiac-demo")
    """New folder for the phantom's volumes, the models and the report."""
    minutes: float = 3.0
    """Time for all of it on two processor cores. It decides on the steps: a busy machine takes longer for the same."""
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
    whole: Annotated[Literal["ct", "mr"] | None, arg(metavar="ct|mr")] = None
    """Draw whole hearts with seven structures instead, in thin axial slices: for a training on volumes."""
    seed: int = 0
    """Another number makes other hearts."""

    EXAMPLES = """
  semicardiac phantom --out study
  semicardiac phantom --out study --labeled 2 --unlabeled 24 --cine 30
  semicardiac phantom --out hearts --whole ct --labeled 2 --validation 2"""

    def run(self) -> int:
        from ..phantom.study import REFERENCE, require_sound, write_cine, write_study

        parts = {name: getattr(self, name) for name in ("labeled", "unlabeled", "validation", "test")}
        require_sound(**parts, seed=self.seed, cine=self.cine)
        if self.whole is not None:
            return self._draw_whole(self.whole, parts)
        write_study(self.out, **parts, seed=self.seed)
        if self.cine:
            labels = self.out / REFERENCE / "cine.nii.gz"
            write_cine(self.out / "cine.nii.gz", frames=self.cine, labels=labels, seed=self.seed * 10_000)
        print(f"The study is in {self.out}. Train on it:   semicardiac train {self.out} --out JOB")
        return 0

    def _draw_whole(self, modality: Literal["ct", "mr"], parts: dict[str, int]) -> int:
        from ..base.errors import UserError
        from ..phantom.whole_heart import write_whole_hearts

        if self.cine:
            raise UserError("whole hearts do not beat", where="--cine", hint="Leave out --cine or --whole")
        write_whole_hearts(self.out, **parts, modality=modality, seed=self.seed)
        train = f"semicardiac train {self.out} --labels mmwhs --out JOB --set network.dimensions=3"
        print(f"The study is in {self.out}. Train on it:   {train}")
        return 0


@dataclass(frozen=True)
class Bench:
    """Measure what the engine costs on this machine: ratios of one run, with the bars that they should reach."""

    json: Annotated[Path | None, optional("FILE")] = None
    """Also write the figures into this file."""
    rounds: int = 5
    """How often each piece of work takes its turn; the median counts."""
    only: Annotated[tuple[str, ...], arg(metavar="ID", help_behavior_hint="")] = ()
    """Rows to measure; without it, all."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:0."""

    EXAMPLES = """
  semicardiac bench --json bench.json
  semicardiac bench --only import_s help_s --rounds 3"""

    def run(self) -> int:
        from ..bench.run import run_bench
        from .environment import check_environment

        machine = check_environment(self.device)
        passed = run_bench(machine, device=self.device, rounds=self.rounds, only=self.only, json=self.json)
        return 0 if passed else 1


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
    "bench": Bench,
}
