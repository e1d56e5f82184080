"""Whether another commit trains to the same weights, to the last bit, and what its step costs in comparison.

    git worktree add ../before COMMIT
    python Testing/bench/commits.py ../before [--steps 60] [--rounds 3] [--presets default,supervised,paper]

Each training is a process of `semicardiac train` on the same phantom study, deterministic, on one thread. Those of the
two commits take turns; the processor time of a step is read from history.csv, from its first entry to its last.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("schedule.warmup=0.3", "schedule.warmup_steps=0", "locate.steps_max=40", "schedule.preview_every=1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout of the other commit")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--presets", default="default,supervised,paper")
    arguments = parser.parse_args()
    trees = {"other": arguments.other.resolve(), "this": ROOT}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(ROOT, "phantom", "--out", place / "study", "--labeled", 2, "--unlabeled", 6, "--test", 0)
        for preset in arguments.presets.split(","):
            costs: dict[str, list[float]] = {name: [] for name in trees}
            for number in range(arguments.rounds):
                for name, tree in trees.items():
                    job = place / f"{preset}-{number}-{name}"
                    train(tree, place / "study", job, preset, arguments.steps)
                    costs[name].append(cost_of_a_step(job))
            found = differences(place / f"{preset}-0-other", place / f"{preset}-0-this")
            ratios = [this / other for this, other in zip(costs["this"], costs["other"], strict=True)]
            print(
                f"{preset}: {'weights equal to the last bit' if not found else f'DIFFERENT: {found}'}; "
                f"a step takes {statistics.median(ratios):.3f} of the time ({min(ratios):.3f} to {max(ratios):.3f})"
            )


def run(tree: Path, *arguments: object) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tree / "training"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "semicardiac", *map(str, arguments)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def train(tree: Path, study: Path, job: Path, preset: str, steps: int) -> None:
    settings = [text for setting in QUICK for text in ("--set", setting)]
    if preset == "supervised":  # which says itself how long it warms up
        settings = settings[4:]
    if preset == "paper":
        settings = settings[4:]
    run(tree, "train", study, "--out", job, "--preset", preset, "--steps", steps, "--device", "cpu", "--deterministic",
        *settings)  # fmt: skip


def cost_of_a_step(job: Path) -> float:
    """Processor time in seconds."""
    with open(job / "history.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    first, last = rows[0], rows[-1]
    return (float(last["cpu_seconds"]) - float(first["cpu_seconds"])) / (int(last["step"]) - int(first["step"]))


def differences(one: Path, other: Path) -> list[str]:
    """What of student, teacher, threshold map and momentum differs in two checkpoints, whatever their format."""
    a, b = (flat(torch.load(job / "checkpoint.pt", weights_only=True)) for job in (one, other))
    names = [name for name in a.keys() & b.keys() if not torch.equal(a[name], b[name])]
    return sorted(names + [name for name in a.keys() ^ b.keys() if not name.startswith("method.")])


def flat(state: dict) -> dict[str, torch.Tensor]:
    method = state.get("method", state)  # where the map stands in an earlier format
    momentum = {f"{key}.momentum": value["momentum_buffer"] for key, value in state["optimizer"]["state"].items()}
    parts = {f"{part}.{key}": value for part in ("student", "teacher") for key, value in state[part].items()}
    maps = {name: method[name] for name in ("threshold", "ratio") if name in method}
    return parts | {f"method.{name}": value for name, value in maps.items()} | momentum


if __name__ == "__main__":
    main()
