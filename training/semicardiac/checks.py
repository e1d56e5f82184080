"""What is wrong with the inputs and the machine, found before anything long starts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from . import files
from .anatomy import meaning_of, plain
from .cases import Case, load_labels
from .config import TrainConfig
from .errors import UserError
from .intensities import contrast_fault
from .labels import LabelSet, Structure, get_label_set
from .preprocess import Stack, as_stack, stack_fault
from .volumes import Volume, pick_frame, read_series, same_geometry

FIELD_OF_VIEW_MM = (60.0, 1000.0)
"""No heart fits into less, no scanner reaches farther: outside, the spacing is probably wrong."""

_LABEL_MAP_VALUES = 12
"""An image of whole numbers with fewer different ones is probably a label map."""

_PHASE_ENDING = re.compile(
    r"(.+?)[ _-]?(phase[ _-]?\d*|(end[ _-]?)?(systol|diastol)(e|ic)|(?<=[ _-])(sys|dias?))", re.IGNORECASE
)
_NUMBER_ENDING = re.compile(
    r"(.*\d.*?)[ _-]((t|tp|time|f|fr|ph|v|visit|ses|scan|vol|rep|run)[ _-]?)?\d{1,2}", re.IGNORECASE
)
"""Of a name that has a number before, too: subj002_1, subj002_t1, but neither case_12 nor patient001."""

_PACKAGES = ("semicardiac", "torch", "numpy", "SimpleITK", "nibabel", "scipy", "scikit-image", "pydantic", "monai")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (`error`: it must be mended first) or that one should know (`warning`)."""

    level: Literal["error", "warning"]
    what: str
    where: str
    hint: str = ""


def check_cases(
    cases: Sequence[Case],
    label_set: LabelSet,
    config: TrainConfig | None = None,
    *,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> list[Finding]:
    """Reads every volume and lists what is wrong, errors first.

    Args:
        cases: The cases in their roles; those to be ignored are left out.
        label_set: What the labels should mean.
        config: The training to come, which decides on the plane of the slices and how many a batch needs; by default
            the default one in the plane of the label set.
        progress: Called after each case with the number done, the total and the case's name.
    """
    if config is None:
        config = TrainConfig.model_validate({"preprocess": {"plane": label_set.plane}})
    cases = [case for case in cases if case.role != "ignore"]
    findings = [*_check_roles(cases), *_check_patients(cases), *_check_tables(cases, label_set)]
    volumes = _Volumes(label_set, config)
    for number, case in enumerate(cases, start=1):
        findings += volumes.check(case)
        progress(number, len(cases), case.name)
    findings += volumes.check_together()
    return sorted(findings, key=lambda finding: finding.level != "error")


def _check_roles(cases: list[Case]) -> list[Finding]:
    """What can be said without reading a volume."""
    findings = []
    roles = {case.role for case in cases}
    if "labeled" not in roles:
        hint = "Put labels beside the images (case_gt.nii.gz beside case.nii.gz), or name them in a cases.csv"
        findings.append(Finding("error", "there is no labeled case", "cases", hint))
    elif "unlabeled" not in roles:
        what = "there is no unlabeled case: this will be plain supervised training"
        hint = "Add volumes without labels, which semi-supervised training learns from"
        findings.append(Finding("warning", what, "cases", hint))
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
            what = f"{len(same)} cases have this name: {_listed([str(case.image) for case in same])}"
            findings.append(Finding("error", what, name, "Give every case a name of its own"))
    for patient, parts in of_patient.items():
        if "validation" in parts and len(parts) > 1:
            what = f"this patient is {' and '.join(sorted(parts - {'validation'}))} and in validation"
            hint = "Give all volumes of a patient one role, or the validation will look better than it is"
            findings.append(Finding("error" if "labeled" in parts else "warning", what, f"patient {patient}", hint))
    return findings


def _check_patients(cases: list[Case]) -> list[Finding]:
    """Names by which volumes that count as patients of their own are probably of one."""
    counts = Counter(case.patient for case in cases)
    single = [patient for patient, count in counts.items() if count == 1]
    alike = _alike(single, _PHASE_ENDING)
    numbered = _alike(single, _NUMBER_ENDING)
    if numbered and len(numbered) >= max(map(len, numbered)):  # else the numbers tell patients, and their stem a site
        alike += numbered
    if not alike:
        return []
    what = f"{', '.join(alike[0][:3])} look like one patient, and count as {len(alike[0])} patients"
    what += f" (and so do {len(alike) - 1} more groups)" if len(alike) > 1 else ""
    hint = "Name the volumes in a cases.csv with a column patient, or one patient may be in training and validation"
    return [Finding("warning", what, "cases", hint)]


def _alike(names: Sequence[str], ending: re.Pattern[str]) -> list[list[str]]:
    """Names that differ in their ending alone, in groups of two or more."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if found := ending.fullmatch(name):
            groups[found[1]].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _check_tables(cases: list[Case], label_set: LabelSet) -> list[Finding]:
    """Whether the tables of labels in nnU-Net data sets say what the label set does."""
    folders = dict.fromkeys(folder for case in cases if case.labels for folder in case.labels.parents[:2])
    tables = [folder / "dataset.json" for folder in folders if (folder / "dataset.json").is_file()]
    return [finding for table in tables for finding in _check_table(table, label_set)]


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
                meanings = {_meaning(named[value]), _meaning(structure)}
                text = f"{value} is '{named[value].name}' in dataset.json and '{structure.name}' in the set"
                if None in meanings:
                    unclear.append(text)
                elif len(meanings) > 1:
                    wrong.append(text)
    findings = []
    hint = f"Name the labels of the data set (--labels {path}), or another label set that fits"
    if wrong:
        what = f"this data set and the label set '{label_set.name}' contradict each other: {', '.join(wrong)}"
        findings.append(Finding("error", what, str(path), hint))
    if unclear:
        what = f"this data set and the label set '{label_set.name}' may not mean the same: {', '.join(unclear)}"
        findings.append(Finding("warning", what, str(path), hint))
    return findings


def _meaning(structure: Structure) -> str | None:
    return structure.role or meaning_of(structure.name)


class _Volumes:
    """Looks at the volumes one by one, and keeps what can only be judged over all of them."""

    def __init__(self, label_set: LabelSet, config: TrainConfig) -> None:
        self._label_set = label_set
        self._config = config
        self._slices = {"labeled": 0, "unlabeled": 0, "validation": 0}
        self._labeled_voxels = np.zeros(label_set.classes, dtype=np.int64)
        self._same_image: dict[str, list[Case]] = defaultdict(list)
        self._labels_content: dict[str, str] = {}
        self._unread = False
        self._file: tuple[Path, list[Volume]] | None = None  # the frames of a file are read once

    def check(self, case: Case) -> list[Finding]:
        findings: list[Finding] = []
        image = None
        try:
            image = self._read(case)
        except UserError as error:
            self._unread = True
            findings.append(Finding("error", error.what, _place(case, error.where), error.hint))
        else:
            stack = as_stack(image, self._config.preprocess.plane)
            self._slices[case.role] += len(stack.array)
            findings += [
                Finding(level, what, _place(case, case.image), hint)
                for level, what, hint in _image_faults(image, stack)
            ]
            if case.role == "unlabeled" and (values := _values_of_label_map(image.array)):
                what = f"this is probably a label map and no image: it holds {values} different whole numbers"
                hint = "Move it out of the folder, or give it the role 'ignore' in a cases.csv"
                findings.append(Finding("warning", what, _place(case, case.image), hint))
            elif not image_fault(image) and (fault := contrast_fault(image)):
                findings.append(Finding("warning", fault[0], _place(case, case.image), fault[1]))
            if image.array.min() < image.array.max():
                self._same_image[_content(image.array)].append(case)
        if case.labels is not None:
            try:
                findings += self._check_labels(case, image)
            except UserError as error:
                findings.append(Finding("error", error.what, _place(case, error.where), error.hint))
        return findings

    def check_together(self) -> list[Finding]:
        findings = [self._duplicate(same) for same in self._same_image.values() if len(same) > 1]
        if self._labeled_voxels.any():
            for name, voxels in zip(self._label_set.names, self._labeled_voxels[1:], strict=True):
                if voxels == 0:
                    what = f"'{name}' is in no labeled case, so that it cannot be learned"
                    findings.append(Finding("warning", what, "cases", "Label it, or use a label set without it"))
        return findings if self._unread else findings + self._check_batches()

    def _duplicate(self, same: list[Case]) -> Finding:
        """A case that was copied, or a validation image that is trained on, is an error; the rest does no harm.

        Public data hold such images: in ACDC, patients 074 and 076 are one, labeled twice.
        """
        roles = {case.role for case in same}
        labels = [self._labels_content[case.name] for case in same if case.name in self._labels_content]
        copied = len(set(labels)) < len(labels)
        what = f"the same image stands under {len(same)} names: {_listed([str(case.image) for case in same])}"
        hint = "Remove all but one, or give the others the role 'ignore' in a cases.csv"
        level = "error" if copied or ("validation" in roles and len(roles) > 1) else "warning"
        return Finding(level, what, _listed([case.name for case in same]), hint)

    def _check_batches(self) -> list[Finding]:
        findings = []
        optim = self._config.optim
        needed = {"labeled": (max(optim.batch_labeled, optim.batch_mixed[0]), "optim.batch_labeled")}
        needed["unlabeled"] = (optim.batch_mixed[1], "optim.batch_mixed")
        for role, (batch, key) in needed.items():
            if 0 < self._slices[role] < batch:
                what = f"the {role} cases have {self._slices[role]} slices, fewer than the {batch} in a batch"
                findings.append(Finding("error", what, "cases", f"Add {role} cases, or lower {key} with --set"))
        return findings

    def _read(self, case: Case) -> Volume:
        if self._file is None or self._file[0] != case.image:
            self._file = None  # the memory of the file before is free again
            self._file = (case.image, read_series(case.image))
        return pick_frame(self._file[1], case.frame, case.image)

    def _check_labels(self, case: Case, image: Volume | None) -> list[Finding]:
        labels = load_labels(case, self._label_set)
        self._labels_content[case.name] = _content(labels.array)
        counts = np.bincount(labels.array.ravel(), minlength=self._label_set.classes)
        if case.role == "labeled":
            self._labeled_voxels += counts
        where = _place(case, case.labels)
        difference = same_geometry(image, labels) if image is not None else None
        if difference:
            what = f"image and labels do not lie on the same grid: {difference}"
            return [Finding("error", what, where, "Resample the labels onto the grid of the image")]
        if not counts[1:].any():
            hint = "Draw the labels, or make this an unlabeled case"
            return [Finding("error", "the labels are empty: all voxels are background", where, hint)]
        return []


def image_fault(image: Volume) -> tuple[str, str] | None:
    """Why nothing can be learned from an image, or segmented in it: what and hint; None if it is sound."""
    if not np.isfinite(image.ijk_to_ras).all() or abs(np.linalg.det(image.ijk_to_ras)) < 1e-9:
        return "the header gives no usable spacing and orientation", "Export the volume again"
    broken = image.array.size - int(np.isfinite(image.array).sum()) if image.array.dtype.kind == "f" else 0
    if broken:
        return f"{broken} of {image.array.size} voxels are NaN or infinite", "Replace them by a number, such as 0"
    if image.array.min() == image.array.max():
        what = f"the image is constant: all voxels are {image.array.flat[0]:g}"
        return what, "See whether the right volume was exported"
    return None


def _image_faults(image: Volume, stack: Stack) -> list[tuple[Literal["error", "warning"], str, str]]:
    """Level, what and hint of each fault of an image that could be read; `stack` is what becomes of it."""
    if fault := image_fault(image) or stack_fault(stack):
        return [("error", *fault)]
    faults = []
    if len(stack.array) == 1:
        what = "this is a single slice: it is used, but volumes in ml mean nothing, and the heart is harder to find"
        faults.append(("warning", what, "Take the whole stack where there is one"))
    if fault := spacing_fault(image):
        faults.append(("warning", *fault))
    return faults


def spacing_fault(image: Volume) -> tuple[str, str] | None:
    """What and hint if no scanner makes images as wide as the spacing says."""
    widest = float((image.spacing * image.array.shape[::-1]).max())
    if FIELD_OF_VIEW_MM[0] <= widest <= FIELD_OF_VIEW_MM[1]:
        return None
    spacing = " x ".join(f"{side:.4g}" for side in image.spacing)
    what = f"the image is {widest:.4g} mm wide, so that its spacing of {spacing} mm is probably wrong"
    return what, "Correct the spacing in the header of the file"


def _values_of_label_map(array: np.ndarray) -> int | None:
    """How many values there are, if so few that an image is improbable."""
    if array.dtype.kind not in "iu" or len(np.unique(array.ravel()[::97])) >= _LABEL_MAP_VALUES:  # sorting all is slow
        return None
    values = len(np.unique(array))
    return values if 1 < values < _LABEL_MAP_VALUES else None


def _content(array: np.ndarray) -> str:
    """A hash of the voxels that does not depend on the format and the type in which they are stored."""
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array, dtype=np.float32))
    return digest.hexdigest()


def _place(case: Case, path: Path | str | None) -> str:
    return f"{case.name}: {path}"


def _listed(texts: Sequence[str]) -> str:
    return " and ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


def check_environment(device: str = "auto") -> dict[str, str]:
    """What a training would run on here, in words, for a person or a bug report.

    Raises:
        UserError: If the device is not known or not there.
    """
    import torch  # here, so that volumes can be checked without it

    from .compute import pick_device

    chosen = pick_device(device)
    found = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    found["processors"] = f"{os.cpu_count()}, of which PyTorch uses {torch.get_num_threads()}"
    found["memory"] = _memory()
    found["device"] = chosen
    if torch.device(chosen).type == "cuda":
        free, total = torch.cuda.mem_get_info(chosen)
        found["device"] += f", {torch.cuda.get_device_name(chosen)}, CUDA {torch.version.cuda}"
        found["device memory"] = f"{free / 2**30:.1f} GB free of {total / 2**30:.1f} GB"
    return found


def _memory() -> str:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        free, total = (page * os.sysconf(name) / 2**30 for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows and macOS do not tell
        return "unknown"
    return f"{free:.1f} GB free of {total:.1f} GB"
