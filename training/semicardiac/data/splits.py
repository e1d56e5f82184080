"""Which patients are labeled, which are not, and which validate: the published lists of ACDC, and draws by a seed."""

from __future__ import annotations

import random
from collections.abc import Set
from typing import Literal, get_args

from ..base.errors import UserError, nearest
from ..base.text import count, listed

Role = Literal["labeled", "unlabeled", "validation", "ignore"]

ROLES: tuple[str, ...] = get_args(Role)
PROTOCOLS = ("given", "p70", "p80", "mmwhs", "fraction")


def _patients(numbers: str) -> tuple[str, ...]:
    return tuple(f"patient{int(number):03d}" for number in numbers.split())


#: In the order of SSL4MIS (data/ACDC/train.list), where "N labeled" means the first N. The 20 test patients that this
#: protocol and the next share are in no list.
P70_TRAINING = _patients(
    "99 38 50 100 58 21 49 20 72 40 60 89 4 56 98 96 31 18 94 47 48 55 97 74 43 41 63 37 95 54 26 88 32 69 6 "
    "71 12 73 61 17 25 10 57 29 51 5 36 46 62 34 76 92 70 77 67 3 91 16 14 44 42 90 53 27 35 86 23 9 79 15"
)
P70_VALIDATION = _patients("28 85 82 87 19 30 78 45 2 39")

#: SSCI (MICCAI 2023), which Mi et al. follow: the 70 and the 10 are training patients, 1.25, 2.5 or 10 % labeled.
P80_TRAINING = (*P70_TRAINING, *P70_VALIDATION)
P80_LABELED = {
    1: _patients("99"),
    2: _patients("99 100"),
    8: _patients("99 100 85 49 90 23 18 26"),
}


def assign_roles(
    protocol: str,
    patients: Set[str],
    with_labels: Set[str],
    *,
    labeled: float | None,
    validation: float,
    seed: int,
) -> dict[str, Role]:
    """The role of each patient; those that are in no list of the protocol are left out.

    Args:
        protocol: `p70`, `p80`, `mmwhs` or `fraction`, see `cases.split`.
        patients: All patients.
        with_labels: Those that have labels.
        labeled: How many are to be labeled: a count (int) or a share (float), see `cases.split`.
        validation: How many are to validate, in the same way.
        seed: Of the draw.

    Raises:
        UserError: If the patients do not suffice, or the protocol has no list for this number.
    """
    if protocol in ("p70", "p80"):
        if validation:
            hint = f"Leave it out, or use another split than {protocol}"
            raise UserError(f"the validation patients of {protocol} are fixed", where="validation", hint=hint)
        return _published(protocol, patients, with_labels, labeled)
    if protocol == "fraction":
        return _drawn(sorted(patients), with_labels, labeled, validation, seed)
    if protocol == "mmwhs":
        unmatched = sorted(patient for patient in patients if _modality(patient) not in ("mr", "ct"))
        if unmatched:
            are = "is" if len(unmatched) == 1 else "are"
            what = f"{count(len(unmatched), 'patient')} {are} neither MR nor CT by their names: {listed(unmatched)}"
            hint = "This split is for names such as mr_train_1001; for other data use the split 'fraction'"
            raise UserError(what, where="split", hint=hint)
        roles: dict[str, Role] = {}
        for modality in sorted({_modality(patient) for patient in patients}):
            group = sorted(patient for patient in patients if _modality(patient) == modality)
            roles |= _drawn(group, with_labels, 0.1 if labeled is None else labeled, validation, seed)
        return roles
    hint = "A share goes with --labeled" if protocol[:1].isdigit() else nearest(protocol.lower(), PROTOCOLS)
    raise UserError(f"there is no split '{protocol}'", where="split", hint=hint)


def _published(protocol: str, patients: Set[str], with_labels: Set[str], labeled: float | None) -> dict[str, Role]:
    if protocol == "p70":
        training, validating = P70_TRAINING, P70_VALIDATION
        chosen = training[: _count(7 if labeled is None else labeled, len(training), "labeled")]
    else:
        training, validating = P80_TRAINING, ()
        wanted = _count(8 if labeled is None else labeled, len(training), "labeled")
        if wanted not in P80_LABELED:
            hint = f"Choose {', '.join(map(str, P80_LABELED))}"
            raise UserError(f"p80 has no list of {count(wanted, 'labeled patient')}", where="labeled", hint=hint)
        chosen = P80_LABELED[wanted]
    for part, names in (("labeled", chosen), ("validation", validating)):
        missing = [name for name in names if name not in with_labels]
        if missing:
            state = "have no labels" if set(missing) <= patients else "are not there or have no labels"
            what = f"{len(missing)} of the {len(names)} {part} patients of {protocol} {state}: {listed(missing)}"
            hint = "This split is for the training set of ACDC; for other data use the split 'fraction'"
            raise UserError(what, where="split", hint=hint)
    roles: dict[str, Role] = dict.fromkeys(training, "unlabeled")
    return roles | dict.fromkeys(validating, "validation") | dict.fromkeys(chosen, "labeled")


def _drawn(
    patients: list[str], with_labels: Set[str], labeled: float | None, validation: float, seed: int
) -> dict[str, Role]:
    order = list(patients)
    random.Random(seed).shuffle(order)
    candidates = [patient for patient in order if patient in with_labels]
    # Validation is taken from the end and labels from the start, so that neither depends on how many the other has.
    held_out = _count(validation, len(order), "validation") if validation else 0
    available = len(candidates) - held_out
    wanted = available if labeled is None else _count(labeled, len(order) - held_out, "labeled")
    if wanted > available or wanted < 1:
        what = (
            f"{max(wanted, 1)} labeled and {held_out} validation patients are asked for, "
            f"but of {count(len(order), 'patient')} only {len(candidates)} have labels"
        )
        raise UserError(what, where="split", hint="Ask for fewer, or label more")
    roles: dict[str, Role] = dict.fromkeys(order, "unlabeled")
    roles |= dict.fromkeys(candidates[available:], "validation")
    return roles | dict.fromkeys(candidates[:wanted], "labeled")


def _count(asked: float, total: int, what: str) -> int:
    """A number of patients from a count (int), or from a share (float, up to 1.0) of `total`; at least 1."""
    if isinstance(asked, float) and 0 < asked <= 1:
        return max(1, round(asked * total))
    if isinstance(asked, float) or not 1 <= asked <= total:
        number = f"a share of {asked:g}" if isinstance(asked, float) else f"{asked}"
        hint = f"Give a count from 1 to {total}, or a share such as 0.1" if total else "Ask for fewer of the others"
        raise UserError(f"{number} of {count(total, 'patient')} cannot be taken", where=what, hint=hint)
    return asked


def _modality(patient: str) -> str:
    """mr or ct, of a name such as mr_train_1001."""
    return patient.partition("_")[0].lower()
