"""DICOM files as scanners and archives write them, made with pydicom."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STEP_MM = 8.0
MATRIX = np.array([[-1.25, 0, 0, 10], [0, -1.5, 0, 20.5], [0, 0, STEP_MM, 30], [0, 0, 0, 1]])
"""IJK to RAS of the stacks that are written here."""
CINE = np.random.default_rng(0).integers(0, 900, (4, 3, 6, 7)).astype(np.uint16)
"""[time, slice, row, col]: all images differ."""


def place(index: int) -> list[float]:
    """Of a slice, mm, LPS."""
    return [-10.0, -20.5, 30 + index * STEP_MM]


def write_image(
    path: Path, array: np.ndarray, position: Iterable[float] = (-10.0, -20.5, 30.0), *,
    syntax: str = ExplicitVRLittleEndian, **attributes: Any,
) -> Path:  # fmt: skip
    """A file of a series, 1.25 mm between columns and 1.5 between rows.

    Args:
        path: Where to.
        array: uint16 [row,col]; [frame,row,col] for a plain multi-frame file.
        position: Of its first pixel.
        syntax: How its pixels are stored; the bytes must be given as `PixelData` unless this is uncompressed.
        attributes: By their keywords, instead of or besides those here; None leaves one out.
    """
    content = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": generate_uid(entropy_srcs=[str(path)]),
        "SeriesInstanceUID": "1.2.3",
        "SeriesDescription": "cine sax",
        "PatientName": "Doe^Jane",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": array.shape[-2],
        "Columns": array.shape[-1],
        "NumberOfFrames": len(array) if array.ndim == 3 else None,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "ImagePositionPatient": list(position),
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [1.5, 1.25],
        "SliceThickness": 6.0,
        "PixelData": array.astype("<u2").tobytes(),
    } | attributes
    dataset = as_dataset(**content)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def as_dataset(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def write_cine(folder: Path, attributes: Callable[[int, int], dict[str, Any]], cine: np.ndarray = CINE) -> list[Path]:
    """A file for each image of a cine, named at random.

    Args:
        folder: Where to.
        attributes: What an image has, by its slice and its time.
        cine: [time,slice,row,col].
    """
    images = [(time, index) for time in range(len(cine)) for index in range(cine.shape[1])]
    random.Random(0).shuffle(images)
    return [
        write_image(
            folder / f"IM{number}.dcm", cine[time, index], **{"position": place(index)} | attributes(index, time)
        )
        for number, (time, index) in enumerate(images)
    ]


def trigger_delay(_: int, time: int) -> dict[str, dict[str, Any]]:
    """The functional group that says it."""
    return {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 40.0 * time}}


def write_enhanced(
    path: Path, images: list[tuple[int, int]], *, frame: Callable[[int, int], dict[str, Any]] | None = None,
    shared: dict[str, Any] | None = None, cine: np.ndarray = CINE, **attributes: Any,
) -> Path:  # fmt: skip
    """An enhanced MR file.

    Args:
        path: Where to.
        images: Slice and time of each frame.
        frame: The functional groups of a frame, by its slice and its time, besides its position: keyword of the
            sequence, and attributes of its item.
        shared: Those of all frames, instead of or besides axes and spacing.
        cine: [time,slice,row,col].
        attributes: At the top.
    """
    frame = frame or (
        lambda _, time: {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 40.0 * time}}
    )
    common = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": list(AXIAL)},
        "PixelMeasuresSequence": {"PixelSpacing": [1.5, 1.25], "SliceThickness": 6.0},
    } | (shared or {})
    each = [{"PlanePositionSequence": {"ImagePositionPatient": place(index)}} | frame(index, t) for index, t in images]
    top = {
        "SOPClassUID": EnhancedMRImageStorage,
        "ImagePositionPatient": None,
        "ImageOrientationPatient": None,
        "PixelSpacing": None,
        "SliceThickness": None,
        "InstanceNumber": 1,
        "SharedFunctionalGroupsSequence": [_groups(common)],
        "PerFrameFunctionalGroupsSequence": [_groups(groups) for groups in each],
    }
    return write_image(path, np.stack([cine[time, index] for index, time in images]), **top | attributes)


def _groups(groups: dict[str, dict[str, Any]]) -> Dataset:
    return as_dataset(**{name: [as_dataset(**item)] for name, item in groups.items() if item is not None})
