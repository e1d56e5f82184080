"""How well models segment the patients of ACDC's training set whose labels they did not see.

    python Testing/real/pool.py DATA OUT JOB [JOB ...]

The 10 validation patients do not tell a difference of 0.005 from chance: two volumes, in which all models take a slice
too many, decide. The 63 patients that are unlabeled when 7 of P70 are labeled do; their images took part in the
training, their labels did not, which is how a lab labels the rest of its own cases. Without flips, on the original
grid. What is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from semicardiac.cli.main import main as semicardiac

LABELED = 7


def pool(data: Path) -> list[Path]:
    """The images of the patients behind the labeled ones."""
    patients = json.loads((data / "splits.json").read_text(encoding="utf-8"))["train_patients"][LABELED:]
    images = [path for patient in patients for path in sorted((data / patient).glob("*_frame??.nii*"))]
    if len(images) != 2 * len(patients):
        sys.exit(f"{data}: {len(images)} volumes of {len(patients)} patients; there should be ED and ES of each")
    return images


def run(*arguments: str) -> None:
    """A command of the engine; what it could not do it has told."""
    if status := semicardiac(list(arguments)):
        sys.exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("jobs", type=Path, nargs="+")
    arguments = parser.parse_args()
    for job in arguments.jobs:
        out = arguments.out / job.name
        if not (out / "evaluation" / "metrics.json").exists():
            images = map(str, pool(arguments.data))
            run("segment", str(job), *images, "--out", str(out / "segmented"))
            run("evaluate", str(out / "segmented"), str(arguments.data), "--out", str(out / "evaluation"))
        found = json.loads((out / "evaluation" / "metrics.json").read_text(encoding="utf-8"))["metrics"]
        dice = {name: round(values["dice"]["mean"], 4) for name, values in found.items()}
        print(f"{job.name}: {dice}")


if __name__ == "__main__":
    main()
