"""What is wrong with cases by their names, roles and tables alone, before a volume is read."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..base import files
from ..base.errors import UserError
from ..base.text import count, listed
from ..images.labels import LabelSet, get_label_set, nnunet_labels
from ..images.structure_names import plain
from .cases import Case
from .findings import EVERYWHERE, Finding

_PHASE_ENDING = re.compile(
    r"(.+?)[ _-]?(phase[ _-]?\d*|(end[ _-]?)?(systol|diastol)(e|ic)|(?<=[ _-])(sys|dias?))", re.IGNORECASE
)
_NUMBER_ENDING = re.compile(
    r"(.*\d.*?)[ _-]((t|tp|time|f|fr|ph|v|visit|ses|scan|vol|rep|run)[ _-]?)?\d{1,2}", re.IGNORECASE
)
"""Of a name that has a number before, too: subj002_1, subj002_t1, but neither case_12 nor patient001."""

_VISIT = re.compile(
    r"""(?<=[^ _-])[ _-]+(?:
        (?:visit|ses|session|timepoint|follow[ _-]?up)[ _-]?\d{1,3}
        |(?:19|20)\d\d-?[01]\d-?[0-3]\d
        |(?:baseline|base|bl|follow[ _-]?up|fu|before|after|pre|post|rest|stress)
    )(?=[ _-]|$)""",
    re.IGNORECASE | re.VERBOSE,
)
"""A part of a name that says when, not who: p01_visit2, p01_baseline_cine, p01_2019-04-30."""
_NUMBERED_VISIT = re.compile(
    r"(?<=[^ _-])[ _-]+(?:v|t|tp|time|exam|study|scan|run|rep|acq|day|week|month|m|year|y|fu)[ _-]?\d{1,3}(?=[ _-]|$)",
    re.IGNORECASE,
)
"""The same in a name that has a number before: p01_v2, but not volunteer_v2."""

_FIRST_VISIT = re.compile(
    r"^(?:(?:visit|ses|session|timepoint)[ _-]?\d{1,3}|baseline|follow[ _-]?up|before|after|pre|post|rest|stress)[ _-]+"
    r"(?=.*\d)",
    re.IGNORECASE,
)
"""The same before a number, as where folders are named so: baseline_p01."""
_VIEW = re.compile(
    r"(?<=[^ _-])[ _-]+(?:sa|sax|short[ _-]?axis|la|lax|long[ _-]?axis|[234]ch|cine|lge|de|c0|t2)(?=[ _-]|$)",
    re.IGNORECASE,
)
"""A part of a name that says what was imaged, in one that has a number before: 001_SA and 001_LA, but not site_sa."""

_VISITS = 6
"""A patient seldom comes more often: where many more names differ in such a part alone, it probably tells patients."""


def check_names(cases: Sequence[Case], label_set: LabelSet) -> list[Finding]:
    """Roles that do not fit, volumes that look like one patient's, and tables that contradict the label set."""
    return [*_check_roles(cases), *_check_patients(cases), *_check_tables(cases, label_set)]


def _check_roles(cases: Sequence[Case]) -> list[Finding]:
    """What can be said without reading a volume."""
    findings = []
    roles = {case.role for case in cases}
    if "labeled" not in roles:
        hint = "Put labels beside the images (case_gt.nii.gz beside case.nii.gz), or name them in a cases.csv"
        findings.append(Finding("error", "there is no labeled case", EVERYWHERE, hint))
    elif "unlabeled" not in roles:
        what = "there is no unlabeled case: this will be plain supervised training"
        hint = "Add volumes without labels, which semi-supervised training learns from"
        findings.append(Finding("warning", what, EVERYWHERE, hint))
    of_patient: dict[str, set[str]] = defaultdict(set)
    of_name: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        of_patient[case.patient].add(case.role)
        of_name[case.name].append(case)
        if case.role in ("labeled", "validation") and case.labels is None:
            hint = "Name its labels, or change its role"
            findings.append(Finding("error", f"this case has the role '{case.role}' but no labels", case.name, hint))
    for name, same in of_name.items():
        if len(same) > 1:
            what = f"{len(same)} cases have this name: {listed([case.image for case in same], 3)}"
            findings.append(Finding("error", what, name, "Give every case a name of its own"))
    for patient, parts in of_patient.items():
        if "validation" in parts and len(parts) > 1:
            what = f"this patient has cases that are {listed(sorted(parts))}"
            hint = "Give all volumes of a patient one role, or the validation will look better than it is"
            findings.append(Finding("error" if "labeled" in parts else "warning", what, f"patient {patient}", hint))
    return findings


def _check_patients(cases: Sequence[Case]) -> list[Finding]:
    """Names by which volumes that count as patients of their own are probably of one."""
    groups = _look_alike(Counter(case.patient for case in cases))
    if not groups:
        return []
    roles: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        roles[case.patient].add(case.role)
    torn = [group for group in groups if _is_torn(set().union(*(roles[patient] for patient in group)))]
    first = (torn or groups)[0]
    what = f"{listed(first, 3)} look like one patient, and count as {len(first)} patients"
    what += ", of whom some are trained on and some validate" if torn else ""
    what += f" (and so do {count(len(groups) - 1, 'more group')})" if len(groups) > 1 else ""
    hint = "Name the volumes in a cases.csv with a column patient, or one patient may be in training and validation"
    return [Finding("warning", what, EVERYWHERE, hint)]


def _is_torn(roles: set[str]) -> bool:
    return "validation" in roles and len(roles) > 1


def _look_alike(volumes: Counter[str]) -> list[list[str]]:
    """Groups of patients, given with the number of their volumes, whose names are probably of one."""
    single = [patient for patient, number in volumes.items() if number == 1]
    visits = [group for group in _alike(volumes, _without_visits) if len(group) <= _VISITS]
    numbered = _alike(single, lambda name: _before(_NUMBER_ENDING, name))
    if numbered and len(numbered) < max(map(len, numbered)):  # the numbers tell patients, and their stem a site
        numbered = []
    groups: list[list[str]] = []
    for group in (*visits, *_alike(single, lambda name: _before(_PHASE_ENDING, name)), *numbered):
        if not any(set(group) <= set(other) for other in groups):
            groups.append(group)
    return groups


def _alike(names: Iterable[str], key: Callable[[str], str | None]) -> list[list[str]]:
    """Names of one key, in groups of two or more."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if (what := key(name)) is not None:
            groups[what].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _before(ending: re.Pattern[str], name: str) -> str | None:
    """A name without its ending, or None if it has none."""
    found = ending.fullmatch(name)
    return found[1] if found else None


def _without_visits(name: str) -> str:
    """A name without what tells a visit or a view from another, and in lower case: p01 of P01_v2_sax."""
    name = _FIRST_VISIT.sub("", _VISIT.sub("", name))
    shorter = _NUMBERED_VISIT.sub("", _VIEW.sub("", name))
    return (shorter if re.search(r"\d", shorter) else name).casefold()


def _check_tables(cases: Sequence[Case], label_set: LabelSet) -> list[Finding]:
    """Whether the tables of labels in nnU-Net data sets say what the label set does."""
    tables = dict.fromkeys(table for case in cases if case.labels and (table := _table_of(case.labels)))
    return [finding for table in tables for finding in _check_table(table, label_set)]


def _table_of(labels: Path) -> Path | None:
    """The dataset.json of nnU-Net that tells what is in a label file."""
    return next((path for folder in labels.parents[:2] if (path := folder / "dataset.json").is_file()), None)


def ignored_value(labels: Path) -> int | None:
    """The value in a label file that nnU-Net leaves out of a training, where its dataset.json names one."""
    try:
        table = _table_of(labels)
        return nnunet_labels(files.read_json(table)["labels"], table).get("ignore") if table else None
    except (UserError, TypeError, LookupError):  # another program's file of this name
        return None


def _check_table(path: Path, label_set: LabelSet) -> list[Finding]:
    try:
        data = files.read_json(path)
        if not isinstance(data, dict) or not isinstance(data.get("labels"), dict):
            return []
        named = {value: each for each in get_label_set(path).structures for value in each.source_values}
    except UserError as error:
        what = f"whether its labels are those of the label set '{label_set.name}' is not known: {error.what}"
        return [Finding("warning", what, str(path), "See that the values mean the same")]
    wrong, unclear = [], []
    for structure in label_set.structures:
        for value in structure.source_values:
            if value in named and plain(named[value].name) != plain(structure.name):
                meanings = {named[value].meaning, structure.meaning}
                text = f"{value} is '{named[value].name}' in dataset.json and '{structure.name}' in the set"
                if None in meanings:
                    unclear.append(text)
                elif len(meanings) > 1:
                    wrong.append(text)
    findings = []
    hint = f"Take the labels of the data set, {path}, or another label set that fits"
    if wrong:
        what = f"this data set and the label set '{label_set.name}' contradict each other: {', '.join(wrong)}"
        findings.append(Finding("error", what, str(path), hint))
    if unclear:
        what = f"this data set and the label set '{label_set.name}' may not mean the same: {', '.join(unclear)}"
        findings.append(Finding("warning", what, str(path), hint))
    return findings
