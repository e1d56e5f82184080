"""The trainings on ACDC that tell whether the engine is as good as it should be, and their table.

    python Testing/real/acdc.py DATA OUT [--only 800,2400] [--jobs 2] [--table]

Each training is a job of the command line, on one thread, with a budget of processor time, in a folder of OUT. What is
done is not done again, and what was interrupted goes on: call it until it prints the whole table.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: Name, labeled patients of P70, CPU-seconds, what else the command line says.
RUNS = (
    ("default-7-800", 7, 800, []),
    ("supervised-7-800", 7, 800, ["--preset", "supervised"]),
    ("default-7-2400", 7, 2400, []),
    ("supervised-7-2400", 7, 2400, ["--preset", "supervised"]),
    ("default-1-1200", 1, 1200, []),
    ("supervised-1-1200", 1, 1200, ["--preset", "supervised"]),
    ("default-3-1200", 3, 1200, []),
    ("supervised-3-1200", 3, 1200, ["--preset", "supervised"]),
    ("no-dptm-7-1000", 7, 1000, ["--no-dptm"]),
    ("no-rem-7-1000", 7, 1000, ["--no-rem"]),
    ("no-contrast-7-1000", 7, 1000, ["--no-contrast"]),
    ("default-7-1000", 7, 1000, []),
)

METRICS = (("dice", ".3f"), ("hd95_mm", ".1f"), ("asd_mm", ".2f"))


def done(folder: Path) -> bool:
    """Whether the folder holds a whole model and its measurement."""
    return (folder / "model" / "SHA256SUMS").exists() and (folder / "metrics.json").exists()


def run(data: Path, folder: Path, labeled: int, seconds: int, more: list[str]) -> bool:
    """Trains, goes on, or does nothing, as the folder needs it; tells whether it is done."""
    if done(folder):
        return True
    command = [sys.executable, "-m", "semicardiac", "train"]
    if (folder / "work").exists():
        command += ["--resume", str(folder)]
    else:
        command += [str(data), "--out", str(folder), "--split", "p70", "--labeled", str(labeled), *more]
        command += ["--minutes", str(seconds / 60), "--set", "schedule.clock=cpu"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    log_file = folder.with_suffix(".log")
    with open(log_file, "a", encoding="utf-8") as log:
        status = subprocess.run(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode
    print(f"{folder.name}: exit status {status}" + (f", see {log_file}" if status else ""), flush=True)
    return status == 0


def row(folder: Path) -> str:
    """A line of the table: mean and per structure Dice, HD95, ASD; worst volume; what it cost."""
    found, package = (json.loads((folder / name).read_text("utf-8")) for name in ("metrics.json", "model/config.json"))
    measured, about = found["metrics"], package["about"]
    cells = []
    for name in ("mean", "RV cavity", "LV myocardium", "LV cavity"):
        means = ((measured[name][metric]["mean"], digits) for metric, digits in METRICS)
        cells.append(" ".join("-" if mean is None else f"{mean:{digits}}" for mean, digits in means))
    worst = f"{found['worst']['case']} {found['worst']['mean_dice']:.3f}"
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        history = list(csv.DictReader(file))
    cost = [
        f"{about['training_seconds']:.0f} s",
        f"{float(history[-1]['cpu_seconds']):.0f} CPU-s",
        f"{about['training_steps']} steps",
        f"{images_of(history, about['training_steps'], package['config']['optim'])} images",
    ]
    return " | ".join([folder.name, *cells, worst, *cost])


def images_of(history: list[dict[str, str]], steps: int, optim: dict) -> int:
    """Slices that the student saw: those of each step's batch, labeled and unlabeled.

    Args:
        history: Rows of history.csv, the last of which may lie some steps before the end.
        steps: Of the whole training.
        optim: The settings that say how large a batch is.
    """
    batch = {"supervised": optim["batch_labeled"], "semi-supervised": sum(optim["batch_mixed"])}
    images = before = 0
    for look in history:
        images += (int(look["step"]) - before) * batch[look["stage"]]
        before = int(look["step"])
    return images + (steps - before) * batch[history[-1]["stage"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="", help="names or parts of names, separated by commas")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--table", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    wanted = [part for part in arguments.only.split(",") if part]
    runs = [each for each in RUNS if not wanted or any(part in each[0] for part in wanted)]
    failed = []
    if not arguments.table:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            futures = {name: pool.submit(run, arguments.data, arguments.out / name, *more) for name, *more in runs}
        for name, future in futures.items():
            if error := future.exception():
                print(f"{name}: {error!r}", file=sys.stderr)
            if error or not future.result():
                failed.append(name)
    print(
        "run | mean: Dice, HD95 mm, ASD mm | RV cavity | LV myocardium | LV cavity | worst volume | budget used | "
        "user and system time | steps | images"
    )
    for name, *_ in runs:
        if done(arguments.out / name):
            print(row(arguments.out / name))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
