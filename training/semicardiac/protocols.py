"""The published patient lists of ACDC, as facts: who is labeled, who is not, who validates.

The order of the training patients is that of SSL4MIS (data/ACDC/train.list), where "N labeled" means the first N. The
lists of the 80-patient protocol are those of SSCI (MICCAI 2023), which Mi et al. follow. The 20 test patients of both
are in none of these lists.
"""

from __future__ import annotations


def _patients(numbers: str) -> tuple[str, ...]:
    return tuple(f"patient{int(number):03d}" for number in numbers.split())


P70_TRAINING = _patients(
    "99 38 50 100 58 21 49 20 72 40 60 89 4 56 98 96 31 18 94 47 48 55 97 74 43 41 63 37 95 54 26 88 32 69 6 "
    "71 12 73 61 17 25 10 57 29 51 5 36 46 62 34 76 92 70 77 67 3 91 16 14 44 42 90 53 27 35 86 23 9 79 15"
)
P70_VALIDATION = _patients("28 85 82 87 19 30 78 45 2 39")

P80_TRAINING = P70_TRAINING + P70_VALIDATION
#: Labeled patients of the 80 for 1.25 %, 2.5 % and 10 %.
P80_LABELED = {
    1: _patients("99"),
    2: _patients("99 100"),
    8: _patients("99 100 85 49 90 23 18 26"),
}
