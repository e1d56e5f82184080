"""The phantom: short-axis cine MR of procedural hearts with exact labels, as volumes, studies and time series.

Nothing of it comes from a patient. It stands in for data in the demo, in tests and as sample data, and goes the very
way of real volumes. Everything follows from a seed, bit by bit.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np

from ..base import files
from ..base.errors import UserError
from ..base.tables import format_csv
from ..data.cases import Case
from ..data.discover import read_case_list
from ..data.layouts import CASE_LIST
from ..data.splits import Role
from ..images.volumes import Volume, write_labels, write_series, write_volume
from .heart import END_SYSTOLE, PATHOLOGIES
from .patient import LABELS, Patient

REFERENCE = "reference"
"""Folder of a study with the labels that no training may see."""
TEST: Final = "test"
"""Folder of a study with the patients that are segmented in the end."""
CYCLE_S = 0.9
"""Length of a cardiac cycle, in seconds."""
MOST_PATIENTS, MOST_FRAMES = 9_999, 200
"""Seeds of one study and the next are 10,000 apart; all frames of a time series are in memory at once."""


LABELED_PATHOLOGIES = ("NOR", "HCM", "MINF")
"""What the labeled patients of a study have, in turn."""


class Difficulty(NamedTuple):
    """How hard a study is to learn from its labels."""

    pathologies: tuple[str, ...]
    """What the patients without labels have, in turn."""
    domain_shift: float
    """How far images of other scanners look from those of the labeled patients, see `scanner_at`."""
    atria: float
    """Brightness of the blood above the valves, where that below has 1: whether one sees where the ventricles end."""


HARD = Difficulty(tuple(PATHOLOGIES), 1.0, 1.0)
"""For tests and measurements: pathologies that no label shows, scanners as different as they are, and ventricles that
end at the base without a sign, as in patients."""
MILD = Difficulty(("NOR", "MINF", "HCM", "MINF", "NOR"), 0.75, 0.5)
"""For the demo: what the labeled patients have, in images that are less different, with atria that are seen. Five
pathologies in turn meet every one of three scanners; three would each keep to their own."""


def make_heart(
    seed: int, phase: float = 0.0, *, pathology: str | None = None, scanner: str | None = None
) -> tuple[Volume, Volume]:
    """A short-axis stack of a heart and its exact labels.

    Args:
        seed: Decides on everything that is not given.
        phase: In the cycle, as a fraction: 0 is end diastole, `END_SYSTOLE` end systole.
        pathology: NOR, DCM, HCM, MINF or RV, as in ACDC; drawn if not given.
        scanner: A, B or C; drawn if not given.

    Returns:
        Image (int16) and training labels of the set `acdc` (uint8) on one grid.

    Raises:
        UserError: For an unknown pathology or scanner.
    """
    return Patient(seed, pathology=pathology, scanner=scanner).frame(phase)


def require_sound(*, seed: int = 0, cine: int = 0, **patients: int) -> None:
    """Looks at what is asked for, before anything is drawn.

    Args:
        seed: Of the study.
        cine: Frames of a time series, 0 for none.
        patients: How many there are in each role.

    Raises:
        UserError: For a number that cannot be, naming the option that asks for it.
    """
    for option, number in {**patients, "seed": seed, "cine": cine}.items():
        if number < 0:
            raise UserError(f"got {number}", where=f"--{option}", hint="Give 0 or more")
    if patients.get("labeled") == 0:
        hint = "Give at least 1 labeled patient"
        raise UserError("nothing can be learned from a study without labels", where="--labeled", hint=hint)
    if (total := sum(patients.values())) > MOST_PATIENTS:
        where = ", ".join(f"--{role}" for role in patients)
        raise UserError(f"{total:,} patients are asked for", where=where, hint=f"Give at most {MOST_PATIENTS:,} in all")
    if cine == 1 or cine > MOST_FRAMES:
        hint = f"Give 2 to {MOST_FRAMES} frames, or 0 for no time series"
        raise UserError(f"got {cine}", where="--cine", hint=hint)


def write_cine(
    path: Path | str,
    *,
    frames: int = 20,
    labels: Path | str | None = None,
    seed: int = 0,
    pathology: str | None = None,
    scanner: str | None = None,
) -> None:
    """Writes one cycle of a heart as a time series.

    Args:
        path: Where to; the ending names the format.
        frames: How many, from end diastole on at equal distances.
        labels: Where to write the exact labels of all frames, if they are wanted.
        seed: Decides on everything that is not given.
        pathology: As for `make_heart`.
        scanner: As for `make_heart`.

    Raises:
        UserError: For an unknown pathology or scanner, and as `require_sound` and `volumes.write_series`.
    """
    require_sound(seed=seed, cine=frames)
    patient = Patient(seed, pathology=pathology, scanner=scanner)
    images, truths = [], []
    for index in range(frames):
        image, truth = (replace(volume, time_s=index / frames * CYCLE_S) for volume in patient.frame(index / frames))
        images.append(image)
        truths.append(truth.with_array(LABELS.to_source(truth.array)))
    write_series(path, images)
    if labels is not None:
        write_series(labels, truths)


_Part = Role | Literal["test"]


class _Row(NamedTuple):
    """A row of a case list; paths are relative to it."""

    image: str
    labels: str
    patient: str
    role: Role
    phase: str
    frame: str
    name: str


def write_study(  # how many patients of each kind, each by its name
    folder: Path | str,
    *,
    labeled: int = 3,
    unlabeled: int = 12,
    validation: int = 0,
    test: int = 4,
    seed: int = 0,
    difficulty: Difficulty = HARD,
) -> list[Case]:
    """Writes a study in ACDC's layout, each patient at end diastole and end systole.

    All labeled patients come from one scanner, and none of them has a dilated heart or an abnormal right ventricle: if
    the others have, as in ACDC, that can be learned from the others alone. The folder holds

    - patient001/ and so on with Info.cfg, patient001_frame01.nii.gz and, if labeled or for validation, the same name
      with _gt;
    - test/ with further such patients, without labels;
    - reference/unlabeled/ and reference/test/ with the exact labels of these cases under the names of their images, out
      of reach of a training, each with a case list that joins them to their images, for the evaluation;
    - cases.csv with the role of each case; the test's is `ignore`.

    Args:
        folder: New or empty.
        labeled: How many patients have labels.
        unlabeled: How many have none.
        validation: How many have labels that only serve to watch a training.
        test: How many are for the evaluation at the end.
        seed: Decides on everything.
        difficulty: How hard it is to learn from the labels.

    Returns:
        The cases as `cases.discover` finds them in the folder.

    Raises:
        UserError: If the folder is not empty or cannot be written, and as `require_sound`.
    """
    require_sound(labeled=labeled, unlabeled=unlabeled, validation=validation, test=test, seed=seed)
    folder = files.output_folder(Path(folder))
    counts: dict[_Part, int] = {"labeled": labeled, "unlabeled": unlabeled, "validation": validation, TEST: test}
    roles = [role for role, patients in counts.items() for _ in range(patients)]
    cases: list[_Row] = []
    references: dict[_Part, list[_Row]] = {}
    for number, role in enumerate(roles, start=1):
        turn = number - 1 - roles.index(role)
        own, hidden = _write_patient(folder, f"patient{number:03d}", role, turn, seed * 10_000 + number, difficulty)
        cases += own
        if hidden:
            references.setdefault(role, []).extend(hidden)
    _write_list(folder / CASE_LIST, cases)
    for role, rows in references.items():
        _write_list(folder / REFERENCE / role / CASE_LIST, rows)
    return read_case_list(folder / CASE_LIST)


def _write_patient(
    folder: Path, name: str, role: _Part, turn: int, seed: int, difficulty: Difficulty
) -> tuple[list[_Row], list[_Row]]:
    """Writes a patient; gives its rows for the list of cases and for the list of references."""
    if role == "labeled":
        pathology, scanner = LABELED_PATHOLOGIES[turn % 3], "A"
    else:
        pathology, scanner = difficulty.pathologies[turn % len(difficulty.pathologies)], ("B", "C", "A")[turn % 3]
    patient = Patient(
        seed, pathology=pathology, scanner=scanner, domain_shift=difficulty.domain_shift, atria=difficulty.atria
    )
    rng = np.random.default_rng([seed, 2])
    frames = int(rng.integers(20, 36))
    numbers = {"ED": 1, "ES": 1 + round(END_SYSTOLE * frames)}
    height = rng.normal(170, 9)
    info = {**numbers, "Group": pathology, "Height": f"{height:.1f}", "NbFrame": frames}
    info["Weight"] = f"{rng.normal(26, 4) * (height / 100) ** 2:.1f}"

    place = f"{TEST}/{name}" if role == TEST else name
    hidden = role in ("unlabeled", TEST)
    files.write_text(folder / place / "Info.cfg", "".join(f"{key}: {value}\n" for key, value in info.items()))
    rows: list[_Row] = []
    references: list[_Row] = []
    for phase, fraction in (("ED", 0.0), ("ES", END_SYSTOLE)):
        case = f"{name}_frame{numbers[phase]:02d}"
        image, labels = patient.frame(fraction)
        path = f"{place}/{case}.nii.gz"
        truth = f"{REFERENCE}/{role}/{case}.nii.gz" if hidden else f"{place}/{case}_gt.nii.gz"
        write_volume(folder / path, image)
        write_labels(folder / truth, labels, LABELS)
        rows.append(_Row(path, "" if hidden else truth, name, "ignore" if role == TEST else role, phase, "", case))
        if hidden:
            references.append(_Row(f"../../{path}", f"{case}.nii.gz", name, "ignore", phase, "", case))
    return rows, references


def _write_list(path: Path, rows: list[_Row]) -> None:
    files.write_text(path, format_csv(_Row._fields, rows))
