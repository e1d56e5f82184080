"""Folders with the files of one DICOM series: a volume, or a time series with several images at each position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..base import files
from ..base.errors import UserError
from ..base.text import count
from .dicom_headers import DicomFile, Plane, planes_of, quiet, read_file
from .dicom_pixels import pixels_of
from .dicom_stack import levels_of, matrix_of
from .dicom_times import CLAIMS, in_order
from .geometry import Frames


def read_dicom(folder: Path) -> Frames:
    """Reads the only series in a folder, of single images or multi-frame files.

    Raises:
        UserError: If the folder holds no series, or several (they are listed); if its images are no stack of parallel
            slices, or their order in time is not known; if an image cannot be read.
    """
    with quiet(), _naming_multi_frame(series := _series(folder)):
        planes = [planes_of(file) for file in series]
        levels, times = _arranged(planes, folder)
        matrix = matrix_of([level[0] for level in levels])
        pixels = {each[0].file.path: pixels_of(each) for each in planes}
        stacks = [[pixels[plane.file.path][plane.frame] for plane in stack] for stack in zip(*levels, strict=True)]
    return Frames(np.stack(stacks), matrix, times)


def count_frames(folder: Path) -> int:
    """How many frames the only series in a folder has, by the headers alone.

    Raises:
        UserError: As `read_dicom`, but for pixels.
    """
    with quiet(), _naming_multi_frame(series := _series(folder)):
        return len(_arranged([planes_of(file) for file in series], folder)[0][0])


def _series(folder: Path) -> list[DicomFile]:
    """The files of the only series in a folder; copies count once."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found: dict[str, list[DicomFile]] = {}
    for file in filter(None, map(read_file, paths)):
        found.setdefault(file.series, []).append(file)
    if not found:
        hint = "Name a volume file, or a folder with the files of one DICOM series"
        raise UserError("this folder holds no DICOM series", where=folder, hint=hint)
    if len(found) > 1:
        listed = "; ".join(
            f"{repr(same[0].description) if same[0].description else uid} ({count(len(same), 'file')})"
            for uid, same in sorted(found.items())[:8]
        )
        hint = (
            "Put each series into a folder of its own; where each slice of a cine is a series, export them as one "
            "series, or join them into one NIfTI or NRRD file first"
        )
        raise UserError(f"this folder holds {len(found)} DICOM series: {listed}", where=folder, hint=hint)
    return _without_copies(next(iter(found.values())))


def _without_copies(series: list[DicomFile]) -> list[DicomFile]:
    """The files, but for those whose bytes are those of another one of the same image."""
    counts = Counter(file.uid for file in series)
    kept: dict[tuple[str, str], DicomFile] = {}
    for file in series:
        content = files.sha256(file.path) if counts[file.uid] > 1 else ""
        kept.setdefault((file.uid, content), file)
    return list(kept.values())


def _arranged(by_file: list[list[Plane]], folder: Path) -> tuple[list[list[Plane]], tuple[float, ...] | None]:
    """The images of each slice in the order of time, and the times in seconds."""
    planes = [plane for each in by_file for plane in each]
    _require_no_versions(planes, folder)
    return in_order(levels_of(planes, folder), folder)


def _require_no_versions(planes: list[Plane], folder: Path) -> None:
    """Raises UserError if files that differ hold the same image, by its identity, place and time."""
    seen: dict[tuple[object, ...], Plane] = {}
    for plane in planes:
        place = tuple(np.round(plane.position, 2) + 0.0)
        times = tuple(plane.header.text(tag) for tag in CLAIMS)
        other = seen.setdefault((plane.file.uid, plane.frame, place, times), plane)
        if other is not plane and plane.file.uid:
            what = f"{other.name} and {plane.name} are the same image (by SOPInstanceUID), but the files differ"
            raise UserError(what, where=folder, hint="The series was exported twice: keep the files of one export")


@contextmanager
def _naming_multi_frame(series: list[DicomFile]) -> Iterator[None]:
    """Errors of multi-frame files say that they are such, since few programs write them and some convert them."""
    try:
        yield
    except UserError as error:
        if not any(file.multi_frame for file in series):
            raise
        what = f"this multi-frame DICOM cannot be used: {error.what}"
        hint = f"{error.hint}, or convert it to NIfTI, for example with dcm2niix"
        raise UserError(what, where=error.where, hint=hint) from None
