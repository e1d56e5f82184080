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
from pathlib import Path

from semicardiac.cli import main as semicardiac

LABELED = 7


def pool(data: Path) -> list[Path]:
    """The images of the patients behind the labeled ones."""
    patients = json.loads((data / "splits.json").read_text(encoding="utf-8"))["train_patients"][LABELED:]
    images = [path for patient in patients for path in sorted((data / patient).glob("*_frame??.nii*"))]
    assert len(images) == 2 * len(patients)
    return images


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
            assert semicardiac(["segment", str(job), *images, "--out", str(out / "segmented")]) == 0
            assert (
                semicardiac(["evaluate", str(out / "segmented"), str(arguments.data), "--out", str(out / "evaluation")])
                == 0
            )
        found = json.loads((out / "evaluation" / "metrics.json").read_text(encoding="utf-8"))["metrics"]
        dice = {name: round(values["dice"]["mean"], 4) for name, values in found.items()}
        print(f"{job.name}: {dice}")


if __name__ == "__main__":
    main()
