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


def run(data: Path, folder: Path, labeled: int, seconds: int, more: list[str]) -> None:
    """Trains, goes on, or does nothing, as the folder needs it."""
    if (folder / "metrics.json").exists():
        return
    command = [sys.executable, "-m", "semicardiac", "train"]
    if (folder / "work").exists():
        command += ["--resume", str(folder)]
    else:
        command += [str(data), "--out", str(folder), "--split", "p70", "--labeled", str(labeled), *more]
        command += ["--minutes", str(seconds / 60), "--set", "schedule.clock=cpu"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".log"), "a") as log:
        status = subprocess.run(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode
    print(f"{folder.name}: exit status {status}", flush=True)


def row(folder: Path) -> str:
    """A line of the table: mean and per structure Dice, HD95, ASD; worst volume; steps."""
    found = json.loads((folder / "metrics.json").read_text())
    measured = found["metrics"]
    cells = []
    for name in ("mean", "RV cavity", "LV myocardium", "LV cavity"):
        dice, hd95, asd = (measured[name][metric]["mean"] for metric in ("dice", "hd95_mm", "asd_mm"))
        cells.append(f"{dice:.3f} {hd95:.1f} {asd:.2f}")
    worst = f"{found['worst']['case']} {found['worst']['mean_dice']:.3f}"
    with open(folder / "history.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    return " | ".join([folder.name, *cells, worst, f"{float(last['seconds']):.0f} s", f"{last['step']} steps"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="", help="names or parts of names, separated by commas")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--table", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    wanted = [part for part in arguments.only.split(",") if part]
    runs = [each for each in RUNS if not wanted or any(part in each[0] for part in wanted)]
    if not arguments.table:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for name, labeled, seconds, more in runs:
                pool.submit(run, arguments.data, arguments.out / name, labeled, seconds, more)
    print(
        "run | mean: Dice, HD95 mm, ASD mm | RV cavity | LV myocardium | LV cavity | worst volume | budget used | steps"
    )
    for name, *_ in runs:
        if (arguments.out / name / "metrics.json").exists():
            print(row(arguments.out / name))


if __name__ == "__main__":
    main()
