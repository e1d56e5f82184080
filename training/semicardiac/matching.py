"""Which reference belongs to which segmentation: by their names, whatever the layout of the folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cases import Case, discover
from .errors import UserError
from .layouts import parse_name
from .volumes import is_volume_file, stem

_ENDING = re.compile(r"([_-](gt|labels?|seg|segmentation|mask|image)|_0000)$", re.IGNORECASE)
_LABEL_ENDING = re.compile(r"[_-](gt|labels?|seg|segmentation|mask)$", re.IGNORECASE)
_MAP = re.compile(r"_(confidence|entropy)$")  # what segmentation writes beside its labels


@dataclass(frozen=True)
class Pair:
    """A segmentation and what it is measured against."""

    case: str
    patient: str
    phase: str | None
    prediction: Path
    reference: Path
    image: Path | None = None
    frame: int | None = None
    """Which frame of `reference` and `image`, where these are time series."""


def match(predictions: Path | Sequence[Path], reference: Path) -> tuple[list[Pair], list[Path]]:
    """Finds the reference of each segmentation by its name.

    Endings such as _gt, _label, _seg, and _image and _0000 of the image that the segmentation is named after, do not
    count. Patients and phases are read off the reference as `cases.discover` does.

    Args:
        predictions: A folder, searched at any depth, or label files.
        reference: A data set in any layout that `cases.discover` knows, or a label file or a folder of these without
            images, at any depth.

    Returns:
        Pairs sorted by case, and the segmentations that have no reference.

    Raises:
        UserError: If nothing matches, or a name stands for two files.
    """
    found = _files(predictions)
    by_name = _unique((_plain(path), path) for path in found if not _MAP.search(stem(path)))
    references = _references(Path(reference), found)
    pairs = [
        Pair(name, case.patient, case.phase, by_name[name], labels, image, case.frame)
        for name, (case, labels, image) in sorted(references.items())
        if name in by_name
    ]
    if not pairs:
        names = [f"such as '{next(iter(group))}'" if group else "none" for group in (by_name, references)]
        raise UserError(
            f"no segmentation has the name of a reference (segmentations: {names[0]}; references: {names[1]})",
            where=reference,
            hint="A segmentation is named after its image; see that both folders are of the same cases",
        )
    return pairs, [path for name, path in sorted(by_name.items()) if name not in references]


def _files(paths: Path | Sequence[Path]) -> list[Path]:
    found = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(path)
        if not path.exists():
            raise UserError("there is no such file or folder", where=path)
        found += sorted(item for item in path.rglob("*") if is_volume_file(item)) if path.is_dir() else [path]
    if not found:
        hint = "Label files are .nii.gz, .nrrd, .seg.nrrd or .mha"
        raise UserError("this folder holds no label files", where=paths, hint=hint)
    return found


def _plain(path: Path) -> str:
    """A file's name without suffix and ending: the name of its case."""
    return _ENDING.sub("", stem(path))


def _references(path: Path, predictions: list[Path]) -> dict[str, tuple[Case, Path, Path | None]]:
    """Case, label file and image (where there is one) of each reference, by plain name."""
    if not path.exists():
        raise UserError("there is no such file or folder", where=path)
    cases = discover([path]) if path.suffix.lower() == ".csv" else _discovered([path])
    labeled = [case for case in cases if case.labels is not None]
    if labeled:
        by_file = {_plain(case.image): case for case in labeled if case.frame is None}
        by_name = by_file | {case.name: case for case in labeled}
        return {name: (case, case.labels, case.image) for name, case in by_name.items()}
    known = {_ENDING.sub("", case.name): case for case in cases or _discovered(predictions)}
    files = _files(path)
    named_so = [
        file for file in files if _LABEL_ENDING.search(stem(file))
    ]  # else images that lie among labels count too
    label_files = _unique((_plain(file), file) for file in named_so or files)
    return {name: (known.get(name) or _case_of(name, file), file, None) for name, file in label_files.items()}


def _case_of(name: str, file: Path) -> Case:
    parts = parse_name(name)
    return Case(name=name, patient=parts.patient, phase=parts.phase, image=file)


def _discovered(paths: list[Path]) -> list[Case]:
    """The cases there, or none where labels lie without images."""
    try:
        return discover(paths)
    except UserError:
        return []


def _unique(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, path in named:
        if name in found:
            hint = "Name one folder of segmentations at a time"
            raise UserError(f"this and {found[name]} are two files for one case", where=path, hint=hint)
        found[name] = path
    return found
