"""The engine on a GPU, from its tests to whole trainings, in one JSON file. `check.sh` starts it.

    python Testing/gpu/check.py OUT [--data ACDC] [--minutes 0.7] [--device cuda] [--only tests,trainings]

Parts: `tests` (those marked gpu), `bench`, `trainings` (7 and 3 labeled patients of P70, 8 of P80, each for
`--minutes`, judged on the validation patients and on the unlabeled ones, whose labels no training saw), `memory` (a
training that runs out of it, halves its batches and continues), `segmentation` (200 volumes). Without ACDC a phantom
study stands in for it, and the file says so. A part that fails is noted with its last lines, and the next one begins.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from semicardiac.base.events import Device, Progress, Warned, read_events
from semicardiac.base.files import atomic_path

ROOT = Path(__file__).resolve().parents[2]
VOLUMES = 200
#: Name, split, labeled patients. The published Dice of the method with 8 of P80 is 0.906, on other patients.
TRAININGS = (("p70-7", "p70", 7), ("p70-3", "p70", 3), ("p80-8", "p80", 8))
ON_PHANTOMS = (("phantom-2", None, 2),)

#: So much of the memory is left to the training that is to run out of it, and so much larger are its batches.
SCARCE_GB, TIMES = 1.5, 64
SCARCE = """
import sys, torch
free, total = torch.cuda.mem_get_info()
torch.cuda.set_per_process_memory_fraction(min(1.0, {gb} * 2**30 / total))
from semicardiac.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Check:
    """Where things are."""

    out: Path
    data: Path
    is_phantom: bool
    device: str
    minutes: float

    @property
    def trainings(self) -> tuple[tuple[str, str | None, int], ...]:
        return ON_PHANTOMS if self.is_phantom else TRAININGS

    def job(self, name: str) -> Path:
        return self.out / name


def engine(*arguments: object, before: list[str] | None = None) -> str:
    """Runs a command of the engine, or another one; returns what it printed.

    Raises:
        RuntimeError: If it fails: the last lines.
    """
    command = before or [sys.executable, "-m", "semicardiac"]
    done = subprocess.run([*command, *map(str, arguments)], cwd=ROOT, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError("\n".join((done.stdout + done.stderr).splitlines()[-15:]))
    return done.stdout


def tests(check: Check) -> dict[str, Any]:
    """The tests that need a CUDA device."""
    printed = engine(
        "-m", "gpu", "-q", "-p", "no:cacheprovider", "Testing/engine", before=[sys.executable, "-m", "pytest"]
    )
    return {"summary": printed.splitlines()[-1]}


def bench(check: Check) -> dict[str, Any]:
    """`semicardiac bench`, all rows."""
    file = check.out / "bench.json"
    engine("bench", "--device", check.device, "--rounds", 3, "--json", file)
    return json.loads(file.read_text(encoding="utf-8"))


def trainings(check: Check) -> dict[str, Any]:
    """Trainings as a user starts them, and what they are worth."""
    return {name: training(check, name, split, labeled) for name, split, labeled in check.trainings}


def training(check: Check, name: str, split: str | None, labeled: int) -> dict[str, Any]:
    job, start = check.job(name), time.monotonic()
    if not (job / "model").is_dir():
        which = ["--split", split, "--labeled", labeled] if split else []
        engine("train", check.data, "--out", job, *which, "--minutes", check.minutes, "--device", check.device)
    seconds = time.monotonic() - start
    events = read_events(job / "events.jsonl")
    steps = [event for event in events if isinstance(event, Progress) and event.images_per_s]
    about = json.loads((job / "model/config.json").read_text(encoding="utf-8"))["about"]
    return {
        "minutes": check.minutes, "seconds_with_preparation_and_validation": round(seconds, 1),
        "steps": about["training_steps"], "device": about["device"], "precision": about["precision"],
        "plan": next(event.model_dump(mode="json") for event in events if isinstance(event, Device)),
        "images_per_s": [event.images_per_s for event in steps][-1] if steps else None,
        "gpu_memory_mb": max((event.gpu_memory_mb or 0 for event in steps), default=None),
        "warnings": [event.warning for event in events if isinstance(event, Warned)],
        "validation_dice": dice(job / "metrics.json"), "unlabeled_dice": unlabeled_dice(check, job),
    }  # fmt: skip


def unlabeled_dice(check: Check, job: Path) -> dict[str, float] | None:
    """Dice on the unlabeled cases of a training, against the labels that lie beside them in ACDC."""
    if check.is_phantom:
        return None
    out = job.with_name(f"{job.name}-unlabeled")
    cases = json.loads((job / "job.json").read_text(encoding="utf-8"))["cases"]
    images = [(job / case["image"]).resolve() for case in cases if case["role"] == "unlabeled"]
    if not (out / "evaluation/metrics.json").exists():
        engine("segment", job, *images, "--out", out / "segmented", "--device", check.device)
        engine("evaluate", out / "segmented", check.data, "--out", out / "evaluation")
    return dice(out / "evaluation/metrics.json")


def dice(metrics: Path) -> dict[str, float] | None:
    if not metrics.exists():
        return None
    found = json.loads(metrics.read_text(encoding="utf-8"))["metrics"]
    return {name: round(values["dice"]["mean"], 4) for name, values in found.items()}


def memory(check: Check) -> dict[str, Any]:
    """A training in too little memory halves its batches, says so, and ends with a model."""
    job, (_name, split, labeled) = check.job("scarce"), check.trainings[0]
    which = ["--split", split, "--labeled", labeled] if split else []
    settings = [f"optim.batch_times={TIMES}", "schedule.warmup_steps=0", "locate.steps_max=50"]
    engine(
        "train", check.data, "--out", job, *which, "--steps", 40, "--device", check.device,
        *(part for setting in settings for part in ("--set", setting)),
        before=[sys.executable, "-c", SCARCE.format(gb=SCARCE_GB)],
    )  # fmt: skip
    told = [event.warning for event in read_events(job / "events.jsonl") if isinstance(event, Warned)]
    return {"gb": SCARCE_GB, "halved": [each for each in told if "out of memory" in each]}


def segmentation(check: Check) -> dict[str, Any]:
    """Many volumes with one model, with flips: seconds a volume."""
    model = next((check.job(name) for name, *_ in check.trainings if (check.job(name) / "model").is_dir()), None)
    if model is None:
        raise RuntimeError("no training has left a model")
    inputs = check.out / "inputs"
    inputs.mkdir(exist_ok=True)
    for number, image in enumerate(islice(cycle(images_of(check.data)), VOLUMES)):
        link = inputs / f"{number:03}_{image.name}"
        if not link.exists():
            os.symlink(image, link)
    start, out = time.monotonic(), check.out / f"segmented-{os.getpid()}"
    engine("segment", model, inputs, "--out", out, "--device", check.device)
    seconds = time.monotonic() - start
    return {"volumes": VOLUMES, "seconds": round(seconds, 1), "seconds_a_volume": round(seconds / VOLUMES, 4)}


def images_of(data: Path) -> Iterator[Path]:
    """Volumes that are no labels."""
    found = sorted(path for path in data.resolve().rglob("*.nii*") if not path.name.split(".")[0].endswith("_gt"))
    if not found:
        raise RuntimeError(f"{data}: there are no volumes")
    return iter(found)


PARTS: dict[str, Callable[[Check], dict[str, Any]]] = {
    "tests": tests, "bench": bench, "trainings": trainings, "memory": memory, "segmentation": segmentation,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, help="ACDC; without it, a phantom study is drawn")
    parser.add_argument("--minutes", type=float, default=0.7, help="of each training")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    arguments = parser.parse_args()
    if unknown := set(arguments.only.split(",")) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    data = arguments.data.resolve() if arguments.data else out / "phantoms"
    if not arguments.data and not data.exists():
        engine("phantom", "--out", data, "--labeled", 2, "--unlabeled", 8, "--test", 2)
    check = Check(out, data, not arguments.data, arguments.device, arguments.minutes)
    found: dict[str, Any] = {"data": "phantoms" if check.is_phantom else "ACDC"}
    failed = 0
    for name in arguments.only.split(","):
        start = time.monotonic()
        try:
            found[name] = PARTS[name](check)
        except Exception as error:
            failed += 1
            found[name] = {"error": str(error)}
        found[name]["part_seconds"] = round(time.monotonic() - start, 1)
        print(f"{name}: {json.dumps(found[name], indent=1)}", flush=True)
        with atomic_path(out / "check.json") as temporary:
            temporary.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
