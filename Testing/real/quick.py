"""How soon a training is of use: the Dice on the validation patients of ACDC over the time that it took.

    python Testing/real/quick.py DATA OUT [--budget 300] [--reference-budget 1500] [--looks 15] [--only NAMES] [--table]

Trains our presets and the reference of Testing/bench on one thread, one after the other, with 7 patients of P70
labeled, each with a budget of processor time over which its learning rate falls. At every look the mean Dice of the 20
validation volumes on their own grids is taken; looking does not count, starting up and preparing do (but for the
reference, whose slices lie ready). Leaves OUT/quick.csv and OUT/quick.png, and prints when each first had a Dice of
0.70, 0.80 and 0.85. What is done is not done again, and what was interrupted goes on.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402
from semicardiac.base.events import read_events  # noqa: E402
from semicardiac.base.files import atomic_path  # noqa: E402
from semicardiac.base.statistics import average  # noqa: E402
from semicardiac.base.tables import write_csv  # noqa: E402
from semicardiac.data.cases import Case, load_image, load_labels, split  # noqa: E402
from semicardiac.data.discover import discover  # noqa: E402
from semicardiac.evaluation.metrics import dice  # noqa: E402
from semicardiac.images.labels import get_label_set  # noqa: E402
from semicardiac.models.compute import keep_freed_memory  # noqa: E402

from Testing.bench import reference  # noqa: E402

PRESETS = ("default", "supervised")
REFERENCE = "reference"
LEVELS = (0.70, 0.80, 0.85)
LABELED = 7
LABELS = get_label_set("acdc")


class Look(NamedTuple):
    """What was known of a training at a moment."""

    cpu_seconds: float
    wall_seconds: float
    dice: float
    """Mean over the structures of the means over the volumes."""


# ----- ours


def train_preset(data: Path, folder: Path, preset: str, seconds: float, looks: int) -> None:
    """Trains, goes on, or does nothing if it is done."""
    command = [sys.executable, "-m", "semicardiac", "train"]
    if (folder / "work").exists():
        command += ["--resume", str(folder)]
    else:
        command += [str(data), "--out", str(folder), "--preset", preset, "--split", "p70", "--labeled", str(LABELED)]
        command += ["--minutes", str(seconds / 60), "--set", "schedule.clock=cpu", "--device", "cpu"]
        command += ["--validate-every", str(1 / looks)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".log"), "a", encoding="utf-8") as log:
        subprocess.run(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)


def looks_of_job(folder: Path) -> list[Look]:
    """The validations of a training whose clock is the processor's.

    Its seconds leave out the validations and what came before the first budget: that is added again. The seconds on the
    wall are reckoned by the share of the processor that the process had from its beginning to its end.
    """
    history = _table(folder / "history.csv")
    before = float(history[0]["cpu_seconds"]) - float(history[0]["seconds"])
    times = [event.time for event in read_events(folder / "events.jsonl")]
    wall_of_cpu = (times[-1] - times[0]) / float(history[-1]["cpu_seconds"])
    looks = []
    for step, scores in _by_step(_table(folder / "validation.csv")).items():
        seconds = before + next(float(row["seconds"]) for row in history if int(row["step"]) >= step)
        looks.append(Look(seconds, seconds * wall_of_cpu, _mean_dice(scores)))
    return looks


def _by_step(rows: list[dict[str, str]]) -> dict[int, dict[str, list[float]]]:
    """The scores of each structure, by step."""
    found: dict[int, dict[str, list[float]]] = {}
    for row in rows:
        if row["dice"]:
            found.setdefault(int(row["step"]), {}).setdefault(row["structure"], []).append(float(row["dice"]))
    return found


def _mean_dice(scores: dict[str, list[float]]) -> float:
    return average(average(each) for each in scores.values())


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ----- the reference


def train_reference(data: Path, folder: Path, seconds: float, looks: int) -> None:
    """Trains the reference, from its last look on if it was interrupted; the looks are in its checkpoint."""
    torch.set_num_threads(1)
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    cases = split(discover([data]), protocol="p70", labeled=LABELED, seed=0)
    of_role = {role: [case for case in cases if case.role == role] for role in ("labeled", "unlabeled", "validation")}
    validation = [(load_image(case).array, load_labels(case, LABELS).array) for case in of_role["validation"]]
    paths = {role: _slices(folder / "slices", of_role[role], role) for role in ("labeled", "unlabeled")}
    torch.manual_seed(0)
    learner = reference.MeanTeacher(LABELS.classes)
    known = _restore(folder, learner)
    batches = reference.loader(paths["labeled"], paths["unlabeled"])
    cpu, wall = (known[-1].cpu_seconds, known[-1].wall_seconds) if known else (0.0, 0.0)
    while len(known) < looks:
        due = seconds * (len(known) + 1) / looks
        start = time.process_time() - cpu, time.monotonic() - wall
        while (cpu := time.process_time() - start[0]) < due:
            learner.step(*next(batches), reference.LABELED, cpu / seconds)
        wall = time.monotonic() - start[1]
        known.append(Look(cpu, wall, validated(learner.student, validation)))
        _save(folder, learner, known)


def _slices(folder: Path, cases: Sequence[Case], role: str) -> list[Path]:
    """The slices of cases as the reference reads them; those of unlabeled ones have empty labels."""
    paths = []
    for case in cases:
        image = load_image(case).array
        labels = load_labels(case, LABELS).array if role == "labeled" else image * 0
        paths += reference.write_slices(folder, image, labels, case.name)
    return paths


def validated(network: torch.nn.Module, volumes: Sequence[tuple]) -> float:
    """The mean Dice of a network on images and their labels, [slice,row,col] each."""
    network.eval()
    scores: dict[str, list[float]] = {}
    for image, truth in volumes:
        found = reference.predict(network, image)
        for value, name in enumerate(LABELS.names, start=1):
            scores.setdefault(name, []).append(dice(found == value, truth == value))
    network.train()
    return _mean_dice(scores)


def _save(folder: Path, learner: reference.MeanTeacher, known: list[Look]) -> None:
    state = {part: getattr(learner, part).state_dict() for part in ("student", "teacher", "optimizer")}
    with atomic_path(folder / "checkpoint.pt") as path:
        torch.save({**state, "steps": learner.steps, "looks": [tuple(look) for look in known]}, path)


def _restore(folder: Path, learner: reference.MeanTeacher) -> list[Look]:
    """Puts the learner where its last look left it, and gives the looks so far."""
    if not (folder / "checkpoint.pt").exists():
        return []
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    for part in ("student", "teacher", "optimizer"):
        getattr(learner, part).load_state_dict(state[part])
    learner.steps = state["steps"]
    return [Look(*look) for look in state["looks"]]


def looks_of_reference(folder: Path) -> list[Look]:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return [Look(*look) for look in state["looks"]]


# ----- what comes of it


def reached(looks: Sequence[Look], level: float) -> Look | None:
    """The first look at which the Dice was so high."""
    return next((look for look in looks if look.dice >= level), None)


def markdown(curves: dict[str, list[Look]]) -> str:
    """A line for each training: processor time and time on the wall at each level, and the Dice at the end."""
    header = ["training", *(f"Dice {level:.2f}" for level in LEVELS), "at the end"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for name, looks in curves.items():
        cells = []
        for level in LEVELS:
            look = reached(looks, level)
            cells.append(f"{look.cpu_seconds:.0f} s ({look.wall_seconds:.0f} s)" if look else "not reached")
        last = looks[-1]
        cells.append(f"{last.dice:.3f} after {last.cpu_seconds:.0f} s")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(curves: dict[str, list[Look]], path: Path) -> None:
    """Dice over processor time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, looks in curves.items():
        seconds, scores = [look.cpu_seconds for look in looks], [look.dice for look in looks]
        axes.plot(seconds, scores, marker=".", label=name, clip_on=False)
    for level in LEVELS:
        axes.axhline(level, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="processor time, s", ylabel="mean Dice, 10 validation patients", ylim=(0, 1))
    axes.set_xlim(left=0)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", type=float, default=300, help="processor time of each of our trainings, s")
    parser.add_argument("--reference-budget", type=float, default=1500, help="that of the reference, s")
    parser.add_argument("--looks", type=int, default=15)
    parser.add_argument("--only", default=",".join((*PRESETS, REFERENCE)), help="names, separated by commas")
    parser.add_argument("--table", action="store_true", help="train nothing, take what there is")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    if not arguments.table:
        for name in (each for each in wanted if each in PRESETS):
            train_preset(arguments.data, arguments.out / name, name, arguments.budget, arguments.looks)
        if REFERENCE in wanted:
            budget = arguments.reference_budget
            train_reference(arguments.data, arguments.out / REFERENCE, budget, arguments.looks)
    curves = {name: looks_of_job(arguments.out / name) for name in PRESETS
              if name in wanted and (arguments.out / name / "validation.csv").exists()}  # fmt: skip
    if REFERENCE in wanted and (arguments.out / REFERENCE / "checkpoint.pt").exists():
        curves[REFERENCE] = looks_of_reference(arguments.out / REFERENCE)
    columns = ("training", *Look._fields)
    rows = [{"training": name, **look._asdict()} for name, looks in curves.items() for look in looks]
    write_csv(arguments.out / "quick.csv", columns, rows)
    draw(curves, arguments.out / "quick.png")
    print(markdown(curves))


if __name__ == "__main__":
    main()
