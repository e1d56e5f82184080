"""Folders with the files of one DICOM series: a volume, or a time series with several images at each position."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from .errors import UserError
from .geometry import FLIP, Frames, unreadable
from .itk import frames_of, metadata

SUFFIXES = (".dcm", ".ima")

_POSITION, _ORIENTATION, _TRIGGER_MS, _INSTANCE = "0020|0032", "0020|0037", "0018|1060", "0020|0013"
_DESCRIPTION = "0008|103e"
_UNEVEN_MM = 0.1
"""Slice distances may differ by this much; positions in headers are rounded."""


class _File(NamedTuple):
    name: str
    position: np.ndarray
    """Of the first pixel, mm, LPS."""
    height: float
    """Along the normal of the slices, mm."""
    trigger_s: float | None
    instance: float


def read_dicom(folder: Path) -> Frames:
    """Reads the only series in a folder. The slice axis is that of the positions, so that a tilted gantry stays exact.

    Raises:
        UserError: If the folder holds no series, or several (they are listed), a slice is missing, or an image cannot
            be read.
    """
    series = sorted(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))
    if not series:
        hint = "Name a volume file, or a folder with the files of one DICOM series"
        raise UserError("this folder holds no DICOM series", where=folder, hint=hint)
    names = {uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in series}
    if len(series) > 1:
        listed = "; ".join(f"{_description(names[uid][0], uid)} ({len(names[uid])} files)" for uid in series[:8])
        hint = (
            "Put each series into a folder of its own; where each slice of a cine is a series, export them as one "
            "series, or join them into one NIfTI or NRRD file first"
        )
        raise UserError(f"this folder holds {len(series)} DICOM series: {listed}", where=folder, hint=hint)
    stacks = _stacks([_describe(name) for name in names[series[0]]], folder)
    read = [_read_stack(stack, folder) for stack in stacks]
    times = [stack[0].trigger_s for stack in stacks]
    known = len(times) > 1 and None not in times and times[-1] > times[0]
    return Frames(
        np.concatenate([frames.array for frames in read]),
        read[0].ijk_to_ras,
        tuple(time - times[0] for time in times) if known else None,
    )


def _stacks(found: list[_File], folder: Path) -> list[list[_File]]:
    """The files of each frame in the order of the slices; at one position, frames follow in time."""
    levels: dict[float, list[_File]] = {}
    for file in sorted(found, key=lambda file: file.height):
        level = next((height for height in levels if abs(height - file.height) < _UNEVEN_MM), file.height)
        levels.setdefault(level, []).append(file)
    counts = sorted({len(files) for files in levels.values()})
    if len(counts) > 1:
        what = f"the slice positions hold between {counts[0]} and {counts[-1]} images, so that some are missing"
        hint = "Export the whole series, and none of another one"
        raise UserError(what, where=folder, hint=hint)
    gaps = np.diff(list(levels))
    if len(gaps) and np.ptp(gaps) > _UNEVEN_MM:
        what = f"the distances between the slices run from {gaps.min():.2f} to {gaps.max():.2f} mm"
        raise UserError(what, where=folder, hint="A slice is missing, or two stacks are mixed: export one whole stack")
    for files in levels.values():
        files.sort(key=lambda file: (file.trigger_s or 0.0, file.instance))
    return [list(stack) for stack in zip(*levels.values(), strict=True)]


def _read_stack(stack: list[_File], folder: Path) -> Frames:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([file.name for file in stack])
    try:
        frames = frames_of(reader.Execute(), folder)
    except RuntimeError as error:
        raise unreadable(error, folder) from None
    if len(stack) == 1:
        return frames
    matrix = frames.ijk_to_ras.copy()
    matrix[:3, 2] = FLIP[:3, :3] @ (stack[-1].position - stack[0].position) / (len(stack) - 1)
    return Frames(frames.array, matrix)


def _describe(name: str) -> _File:
    header = _header(name)
    position = _numbers(metadata(header, _POSITION), [0, 0, 0])
    rows, cols = _numbers(metadata(header, _ORIENTATION), [1, 0, 0, 0, 1, 0]).reshape(2, 3)
    trigger = metadata(header, _TRIGGER_MS).strip()
    return _File(
        name,
        position,
        float(np.cross(rows, cols) @ position),
        float(trigger) / 1000 if trigger else None,
        float(metadata(header, _INSTANCE).strip() or 0),
    )


def _numbers(text: str, default: list[float]) -> np.ndarray:
    parts = text.split("\\")
    return np.array([float(part) for part in parts] if len(parts) == len(default) else default, dtype=float)


def _description(name: str, uid: str) -> str:
    text = metadata(_header(name), _DESCRIPTION).strip()
    return f"'{text}'" if text else uid


def _header(name: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(name)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise unreadable(error, Path(name)) from None
    return reader
