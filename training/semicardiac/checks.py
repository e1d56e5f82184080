"""What is wrong with the inputs and the machine, found before anything long starts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from .cases import Case, pick_frame
from .config import TrainConfig
from .errors import UserError
from .labels import LabelSet
from .volumes import Volume, read_labels, read_series, same_geometry

_FIELD_OF_VIEW_MM = (60.0, 1000.0)
"""A heart does not fit into less, a scanner does not reach farther: outside, the spacing is probably wrong."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (`error`: nothing can be trained with it) or that one should know (`warning`)."""

    level: Literal["error", "warning"]
    what: str
    where: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.level}: {UserError(self.what, where=self.where, hint=self.hint)}"


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
        config: The training to come, which decides how many slices a batch needs; the default one if left out.
        progress: Called after each case with the number done, the total and the case's name.
    """
    config = config or TrainConfig()
    cases = [case for case in cases if case.role != "ignore"]
    findings = _check_roles(cases)
    inspected = _Inspection(label_set)
    for number, case in enumerate(cases):
        findings += inspected.inspect(case)
        progress(number + 1, len(cases), case.name)
    findings += inspected.check_together(cases)
    if not any(finding.level == "error" for finding in findings):
        findings += _check_batches(cases, inspected.slices, config)
    return sorted(findings, key=lambda finding: finding.level != "error")


def require_no_errors(findings: Sequence[Finding]) -> list[Finding]:
    """The warnings, if there is nothing worse.

    Raises:
        UserError: With all errors, one a line, if there are any.
    """
    errors = [finding for finding in findings if finding.level == "error"]
    if len(errors) == 1:
        raise UserError(errors[0].what, where=errors[0].where, hint=errors[0].hint)
    if errors:
        lines = "\n".join(f"  {UserError(error.what, where=error.where, hint=error.hint)}" for error in errors)
        raise UserError(f"{len(errors)} things are wrong:\n{lines}", where="cases")
    return list(findings)


# Roles


def _check_roles(cases: list[Case]) -> list[Finding]:
    findings = []
    roles = [case.role for case in cases]
    if "labeled" not in roles:
        findings.append(
            Finding("error", "there is no labeled case", "cases", "Put the labels beside the images, or name them in a cases.csv")
        )
    elif "unlabeled" not in roles:
        findings.append(
            Finding(
                "warning",
                "there is no unlabeled case, so this will be plain supervised training",
                "cases",
                "Add volumes without labels: they are what semi-supervised training learns from",
            )
        )
    by_patient = defaultdict(set)
    names = defaultdict(list)
    for case in cases:
        by_patient[case.patient].add(case.role)
        names[case.name].append(case)
        if case.role in ("labeled", "validation") and case.labels is None:
            findings.append(Finding("error", f"this case is to be '{case.role}' but names no labels", case.name, "Name its labels or change its role"))
    for name, same in names.items():
        if len(same) > 1:
            files = " and ".join(str(case.image) for case in same[:3])
            findings.append(Finding("error", f"{len(same)} cases have this name: {files}", name, "Give every case a name of its own"))
    for patient, parts in by_patient.items():
        if "validation" in parts and len(parts) > 1:
            others = " and ".join(sorted(parts - {"validation"}))
            level = "error" if "labeled" in parts else "warning"
            findings.append(
                Finding(level, f"this patient is both {others} and in validation, so the validation would flatter", patient, "Keep all volumes of a patient in one role")
            )
    return findings


# Volumes


class _Inspection:
    """Reads the cases one by one and keeps what can only be judged over all of them."""

    def __init__(self, label_set: LabelSet) -> None:
        self.slices: dict[str, int] = {}
        """Slices across the coarsest axis, by case name."""
        self._label_set = label_set
        self._labeled_voxels = np.zeros(label_set.classes, dtype=np.int64)
        self._contents: dict[str, list[Case]] = defaultdict(list)
        self._file: tuple[Path | None, list[Volume]] = (None, [])  # the frames of one file are read once

    def inspect(self, case: Case) -> list[Finding]:
        findings: list[Finding] = []
        image = None
        try:
            image = self._read(case)
            findings += _check_image(image, case)
        except UserError as error:
            findings.append(_as_finding(error, case))
        if image is not None:
            self.slices[case.name] = image.array.shape[0]
            self._contents[_content(image)].append(case)
        if case.labels is not None:
            try:
                findings += self._check_labels(read_labels(case.labels, self._label_set, frame=case.frame), image, case)
            except UserError as error:
                findings.append(_as_finding(error, case))
        return findings

    def check_together(self, cases: list[Case]) -> list[Finding]:
        findings = []
        for same in self._contents.values():
            if len(same) > 1:
                places = " and ".join(str(case.image) for case in same[:4])
                findings.append(
                    Finding("error", f"the same image stands under {len(same)} names: {places}", ", ".join(case.name for case in same[:4]), "Remove all but one")
                )
        if any(case.role == "labeled" for case in cases) and self._labeled_voxels.any():
            for name, voxels in zip(self._label_set.names, self._labeled_voxels[1:], strict=True):
                if voxels == 0:
                    findings.append(
                        Finding("warning", f"no labeled case shows '{name}', so it cannot be learned", "cases", "Label it, or use a label set without it")
                    )
        return findings

    def _read(self, case: Case) -> Volume:
        if self._file[0] != case.image:
            self._file = (None, [])  # frees the memory of the one before
            self._file = (case.image, read_series(case.image))
        return pick_frame(self._file[1], case.frame, case.image)

    def _check_labels(self, labels: Volume, image: Volume | None, case: Case) -> list[Finding]:
        difference = same_geometry(image, labels) if image is not None else None
        where = f"{case.name}: {case.labels}"
        if difference:
            return [Finding("error", f"image and labels do not lie on the same grid: {difference}", where, "Resample the labels onto the grid of the image")]
        counts = np.bincount(labels.array.ravel(), minlength=self._label_set.classes)
        if case.role == "labeled":
            self._labeled_voxels += counts
        if not counts[1:].any():
            return [Finding("error", "the labels are empty: every voxel is background", where, "Draw the labels, or use this case as an unlabeled one")]
        return []


def _check_image(image: Volume, case: Case) -> list[Finding]:
    where = f"{case.name}: {case.image}"
    array = image.array
    matrix = image.ijk_to_ras[:3, :3]
    if not np.isfinite(image.ijk_to_ras).all() or abs(np.linalg.det(matrix)) < 1e-9:
        return [Finding("error", "the header gives no usable spacing and orientation", where, "Export the volume again")]
    if array.dtype.kind == "f":
        broken = array.size - int(np.isfinite(array).sum())
        if broken:
            return [Finding("error", f"{broken} of {array.size} voxels are NaN or infinite", where, "Replace them, for example by 0")]
    lowest, highest = array.min(), array.max()
    if lowest == highest:
        return [Finding("error", f"the image is constant: every voxel is {lowest:g}", where, "See that the right file was exported")]
    findings = []
    if 1 in array.shape:
        findings.append(
            Finding("warning", "this is a single slice; it is used, but heart finding and volumes in ml need a stack", where, "Use the whole stack where there is one")
        )
    widest = float((image.spacing * array.shape[::-1]).max())
    if not _FIELD_OF_VIEW_MM[0] <= widest <= _FIELD_OF_VIEW_MM[1]:
        sides = " x ".join(f"{side:.4g}" for side in image.spacing)
        findings.append(
            Finding("warning", f"the image is {widest:.4g} mm wide, so its spacing of {sides} mm is probably wrong", where, "Correct the spacing in the file's header")
        )
    return findings


def _as_finding(error: UserError, case: Case) -> Finding:
    return Finding("error", error.what, f"{case.name}: {error.where}", error.hint)


def _content(image: Volume) -> str:
    """A hash of the voxels that does not depend on the format, the compression and the type in which they were stored."""
    digest = hashlib.sha256(repr(image.array.shape).encode())
    digest.update(np.ascontiguousarray(image.array, dtype=np.float32))
    return digest.hexdigest()


def _check_batches(cases: list[Case], slices: dict[str, int], config: TrainConfig) -> list[Finding]:
    findings = []
    needed = {"labeled": config.optim.batch_labeled, "unlabeled": config.optim.batch_mixed[1]}
    keys = {"labeled": "optim.batch_labeled", "unlabeled": "optim.batch_mixed"}
    for role, batch in needed.items():
        found = sum(slices[case.name] for case in cases if case.role == role)
        if 0 < found < batch:
            findings.append(
                Finding("error", f"the {role} cases have {found} slices, fewer than the {batch} of a batch", "cases", f"Add {role} cases or lower {keys[role]}")
            )
    return findings


# Machine


def check_environment(device: str = "auto") -> dict[str, str]:
    """What a training on this machine would run on, in words, for a person or a bug report.

    Raises:
        UserError: If the device is not known or not there.
    """
    import torch

    from .compute import pick_device

    chosen = pick_device(device)
    found = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in ("semicardiac", "torch", "numpy", "SimpleITK", "nibabel", "scipy", "scikit-image", "monai"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    found["processors"] = f"{os.cpu_count()}, PyTorch uses {torch.get_num_threads()}"
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
        return f"{page * os.sysconf('SC_AVPHYS_PAGES') / 2**30:.1f} GB free of {page * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GB"
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return "unknown"
