"""What is wrong with the volumes of cases, found before anything long starts."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..base.errors import UserError
from ..base.text import count, listed
from ..config import TrainConfig
from ..images.labels import LabelSet, UnknownValues
from ..images.volumes import Volume, same_geometry
from .case_reader import CaseReader
from .cases import Case
from .check_names import check_names, ignored_value
from .findings import EVERYWHERE, Finding, Level, grouped
from .intensities import contrast_fault
from .label_order import mixed_up
from .slices import Stack, as_stack, stack_fault

FIELD_OF_VIEW_MM = (60.0, 1000.0)
"""No heart fits into less, no scanner reaches farther: outside, the spacing is probably wrong."""

LOWEST_STACK_MM = 30.0
"""Several slices that together are lower than this hold no heart, not even a left atrium."""

THINNEST_OF_FEW_MM = 3.0
"""Slices that do not cover the heart, since only some were taken, are thicker than this."""

ORDER_HINT = (
    "Data sets number structures differently (in M&Ms 1 is the LV cavity, in ACDC the RV cavity): name the label set "
    "that these files follow, or correct them"
)

_LABEL_MAP_VALUES = 12
"""An image of whole numbers with fewer different ones is probably a label map."""


def check_cases(
    cases: Sequence[Case],
    label_set: LabelSet,
    config: TrainConfig | None = None,
    *,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
    reader: CaseReader | None = None,
) -> list[Finding]:
    """Reads every volume and lists what is wrong, errors first.

    Args:
        cases: The cases in their roles; those to be ignored are left out.
        label_set: What the labels should mean.
        config: The training to come, which decides on the plane of the slices and how many a batch needs; by default
            the default one in the plane of the label set.
        progress: Called after each case with the number done, the total and the case's name.
        reader: Reads the cases, for others that will need them too.
    """
    if config is None:
        config = TrainConfig.model_validate({"preprocess": {"plane": label_set.plane}})
    cases = [case for case in cases if case.role != "ignore"]
    findings = check_names(cases, label_set)
    volumes = _Volumes(label_set, config, reader or CaseReader(room=0))
    for number, case in enumerate(cases, start=1):
        findings += volumes.check(case)
        progress(number, len(cases), case.name)
    return grouped([*findings, *volumes.check_together()])


class _Volumes:
    """Looks at the volumes one by one, and keeps what can only be judged over all of them."""

    def __init__(self, label_set: LabelSet, config: TrainConfig, reader: CaseReader) -> None:
        self._label_set = label_set
        self._config = config
        self._reader = reader
        self._slices = {"labeled": 0, "unlabeled": 0, "validation": 0}
        self._labeled_voxels = np.zeros(label_set.classes, dtype=np.int64)
        self._same_image: dict[str, list[Case]] = defaultdict(list)
        self._labels_content: dict[str, str] = {}
        self._unread = False

    def check(self, case: Case) -> list[Finding]:
        """What is wrong with one case; a file that cannot be read keeps nobody from looking at the next one."""
        image = None
        findings: list[Finding] = []
        try:
            image = self._reader.image(case)
            findings += self._check_image(case, image)
        except (UserError, OSError, MemoryError) as error:
            self._unread = True
            findings.append(_unread(error, case, case.image))
        if case.labels is not None:
            try:
                findings += self._check_labels(case, case.labels, image)
            except (UserError, OSError, MemoryError) as error:
                findings.append(_unread(error, case, case.labels))
        return findings

    def _check_image(self, case: Case, image: Volume) -> list[Finding]:
        stack = as_stack(image, self._config.preprocess.plane)
        self._slices[case.role] += 1 if self._config.volumetric else len(stack.array)
        faults = _image_faults(image, stack, self._config.network.dimensions)
        findings = [_found(level, what, case, case.image, hint) for level, what, hint in faults]
        if case.role == "unlabeled" and (values := _values_of_label_map(image.array)):
            what = f"this is probably a label map and no image: it holds {values} different whole numbers"
            hint = "Move it out of the folder, or give it the role 'ignore' in a cases.csv"
            findings.append(_found("warning", what, case, case.image, hint))
        elif not image_fault(image) and (fault := contrast_fault(image)):
            findings.append(_found("warning", fault[0], case, case.image, fault[1]))
        if image.array.min() < image.array.max():
            self._same_image[_content(image.array)].append(case)
        return findings

    def check_together(self) -> list[Finding]:
        findings = [self._duplicate(same) for same in self._same_image.values() if len(same) > 1]
        if self._labeled_voxels.any():
            for name, voxels in zip(self._label_set.names, self._labeled_voxels[1:], strict=True):
                if voxels == 0:
                    what = f"'{name}' is in no labeled case, so that it cannot be learned"
                    findings.append(Finding("warning", what, EVERYWHERE, "Label it, or use a label set without it"))
        return findings if self._unread else findings + self._check_batches()

    def _duplicate(self, same: list[Case]) -> Finding:
        """A case that was copied, or a validation image that is trained on, is an error; the rest does no harm.

        Public data hold such images: in ACDC, patients 074 and 076 are one, labeled twice.
        """
        roles = {case.role for case in same}
        labels = [self._labels_content[case.name] for case in same if case.name in self._labels_content]
        copied = len(set(labels)) < len(labels)
        what = f"the same image stands under {len(same)} names: {listed([case.image for case in same], 3)}"
        hint = "Remove all but one, or give the others the role 'ignore' in a cases.csv"
        level: Level = "error" if copied or ("validation" in roles and len(roles) > 1) else "warning"
        return Finding(level, what, listed([case.name for case in same], 3), hint)

    def _check_batches(self) -> list[Finding]:
        findings = []
        optim = self._config.optim
        needed = {"labeled": (max(optim.batch_labeled, optim.batch_mixed[0]), "optim.batch_labeled")}
        needed["unlabeled"] = (optim.batch_mixed[1], "optim.batch_mixed")
        if self._config.volumetric:  # one labeled volume is enough: a batch then holds several views of it
            del needed["labeled"]
        for role, (batch, key) in needed.items():
            if 0 < self._slices[role] < batch:
                slices = count(self._slices[role], "volume" if self._config.volumetric else "slice")
                what = f"the {role} cases have {slices}, fewer than the {batch} in a batch"
                findings.append(Finding("error", what, EVERYWHERE, f"Add {role} cases, or lower the setting {key}"))
        return findings

    def _check_labels(self, case: Case, path: Path, image: Volume | None) -> list[Finding]:
        try:
            labels = self._reader.labels(case, self._label_set)
        except UnknownValues as error:
            ignored = ignored_value(path)
            if ignored not in error.values:
                raise
            what = f"{error.what}; {ignored} is 'ignore' in dataset.json, and no voxel can be left out of a training"
            raise UserError(what, where=error.where, hint="Label these voxels, or make them background") from None
        self._labels_content[case.name] = _content(labels.array)
        voxels = np.bincount(labels.array.ravel(), minlength=self._label_set.classes)
        if case.role == "labeled":
            self._labeled_voxels += voxels
        doubts = labels.doubts if image is None or not image.doubts else ()  # else they are told already
        findings = [_found("warning", doubt.what, case, path, doubt.hint) for doubt in doubts]
        if image is not None and (difference := same_geometry(image, labels)):
            what = f"image and labels do not lie on the same grid: {difference}"
            return [*findings, _found("error", what, case, path, _how_to_place(image, labels))]
        if not voxels[1:].any():
            hint = "Draw the labels, or make this an unlabeled case"
            what = "the labels are empty: all voxels are background"
            return [*findings, _found("error", what, case, path, hint)]
        if order := mixed_up(labels, self._label_set):
            findings.append(_found("warning", order, case, path, ORDER_HINT))
        return findings


def _found(level: Level, what: str, case: Case, path: Path, hint: str) -> Finding:
    return Finding(level, what, f"{case.name}: {path}", hint, case.name)


def _unread(error: UserError | OSError | MemoryError, case: Case, path: Path) -> Finding:
    """The finding for a file that could not be read."""
    if isinstance(error, UserError):
        return Finding("error", error.what, f"{case.name}: {error.where}", error.hint, case.name)
    if isinstance(error, MemoryError):
        hint = "Close other programs, or see whether its header gives the right size"
        return _found("error", "there is not enough memory to read this file", case, path, hint)
    what = f"this file cannot be read ({error.strerror or type(error).__name__})"
    return _found("error", what, case, path, "See that it is there and that you may read it")


def _how_to_place(image: Volume, labels: Volume) -> str:
    """What to do about labels on another grid than their image."""
    same_size = image.array.shape == labels.array.shape
    lost = _is_placeless(labels) and not _is_placeless(image)
    if same_size and (lost or (_along_axes(labels) and no_spacing(labels))):
        return (
            "They were saved without their place in the patient: copy the geometry from the header of the image, in "
            "nibabel by Nifti1Image(labels, image.affine), and do not resample them"
        )
    return "Resample the labels onto the grid of the image"


def image_fault(image: Volume) -> tuple[str, str] | None:
    """Why nothing can be learned from an image, or segmented in it: what and hint; None if it is sound."""
    if not np.isfinite(image.ijk_to_ras).all() or abs(np.linalg.det(image.ijk_to_ras)) < 1e-9:
        return "the header gives no usable spacing and orientation", "Export the volume again"
    broken = image.array.size - int(np.isfinite(image.array).sum()) if image.array.dtype.kind == "f" else 0
    if broken:
        are = "is" if broken == 1 else "are"
        return f"{broken} of {image.array.size} voxels {are} NaN or infinite", "Replace them by a number, such as 0"
    if image.array.min() == image.array.max():
        what = f"the image is constant: all voxels are {image.array.flat[0]:g}"
        return what, "See whether the right volume was exported"
    return None


def _image_faults(image: Volume, stack: Stack, dimensions: int) -> list[tuple[Level, str, str]]:
    """Level, what and hint of each fault of an image that could be read; `stack` is what becomes of it."""
    if fault := image_fault(image) or stack_fault(stack, dimensions):
        return [("error", *fault)]
    faults: list[tuple[Level, str, str]] = []
    if len(stack.array) == 1:
        what = "this is a single slice: it is used, but volumes in ml mean nothing, and the heart is harder to find"
        faults.append(("warning", what, "Take the whole stack where there is one"))
    if fault := spacing_fault(image):
        faults.append(("warning", *fault))
    return faults + [("warning", doubt.what, doubt.hint) for doubt in image.doubts]


def spacing_fault(image: Volume) -> tuple[str, str] | None:
    """What and hint if no scanner makes images that are as wide, or stacks that are as low, as the spacing says."""
    hint = "Correct the spacing in the header of the file"
    shape = np.array(image.array.shape[::-1])
    extent = image.spacing * shape
    widest, lowest = float(extent.max()), float(extent[shape > 1].min(initial=np.inf))
    single = shape.min() == 1
    if no_spacing(image) and (lowest < FIELD_OF_VIEW_MM[0] or (single and _is_placeless(image))):
        what = "the spacing is 1 x 1 x 1 mm, as in files that were saved without one, so that it is probably wrong"
        return f"{what}: volumes in ml would be too", hint
    spacing = " x ".join(f"{side:.4g}" for side in image.spacing)
    if not FIELD_OF_VIEW_MM[0] <= widest <= FIELD_OF_VIEW_MM[1]:
        return f"the image is {widest:.4g} mm wide, so that its spacing of {spacing} mm is probably wrong", hint
    axis = int(np.where(shape > 1, extent, np.inf).argmin())
    if lowest < LOWEST_STACK_MM and image.spacing[axis] < THINNEST_OF_FEW_MM:
        what = f"its {shape[axis]} slices are {lowest:.4g} mm high in all, which holds no heart"
        return f"{what}, so that the spacing of {spacing} mm is probably wrong", hint
    return None


def no_spacing(volume: Volume) -> bool:
    """Whether voxels are cubes of exactly 1 mm, as in a file to which nobody gave a spacing."""
    return np.allclose(volume.spacing, 1, rtol=0, atol=1e-6)


def _is_placeless(volume: Volume) -> bool:
    """Whether the place in the patient is that of a file to which nobody gave one: along the axes, from zero on."""
    return _along_axes(volume) and not np.abs(volume.ijk_to_ras[:3, 3]).max() > 1e-6


def _along_axes(volume: Volume) -> bool:
    return np.count_nonzero(np.abs(volume.ijk_to_ras[:3, :3]) > 1e-6) == 3


def _values_of_label_map(array: np.ndarray) -> int | None:
    """How many values there are, if so few that an image is improbable."""
    if array.dtype.kind not in "iu" or len(np.unique(array.ravel()[::97])) >= _LABEL_MAP_VALUES:  # sorting all is slow
        return None
    values = len(np.unique(array))
    return values if 1 < values < _LABEL_MAP_VALUES else None


def _content(array: np.ndarray) -> str:
    """A hash of the voxels that does not depend on the format and the type in which they are stored."""
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array, dtype=np.float32).data)
    return digest.hexdigest()
