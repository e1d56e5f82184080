"""Small segmentations on disk, for tests of what is measured."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from semicardiac.images.labels import get_label_set
from semicardiac.images.volumes import Volume, write_labels, write_volume

ACDC = get_label_set("acdc")


GRID = np.diag([2.0, 2.0, 10.0, 1.0])  # 0.04 ml a voxel


def labels_of(rv: int = 0, myo: int = 0, lv: int = 0, shift: int = 0) -> Volume:
    """Training labels in which each structure is a bar of so many voxels on rows of its own."""
    array = np.zeros((3, 12, 40), np.uint8)
    for label, (row, count) in enumerate(((1, rv), (5, myo), (9, lv)), start=1):
        array[1, row, shift : shift + count] = label
    return Volume(array, GRID)


def flat_image() -> Volume:
    return Volume(np.arange(3 * 12 * 40, dtype=np.int16).reshape(3, 12, 40), GRID)


def write_labels_of(folder: Path, name: str, labels: Volume) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_labels(folder / name, labels, ACDC)


def write_acdc(folder: Path, patient: str, frames: dict[str, Volume], *, images: bool = True) -> None:
    for frame, labels in frames.items():
        write_labels_of(folder / patient, f"{patient}_{frame}_gt.nii.gz", labels)
        if images:
            write_volume(folder / patient / f"{patient}_{frame}.nii.gz", flat_image())


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_segmented_study(folder: Path) -> tuple[Path, Path, Path]:
    """Two patients at ED and ES in ACDC layout, and segmentations of them with known errors.

    Returns:
        The folders of the segmentations, of the references, and one for results that does not exist yet.
    """
    reference, predictions = folder / "reference", folder / "predictions"
    write_acdc(reference, "patient001", {"frame01": labels_of(20, 20, 20), "frame12": labels_of(10, 20, 10)})
    write_acdc(reference, "patient002", {"frame01": labels_of(20, 20, 20), "frame09": labels_of(0, 20, 8)})
    write_labels_of(predictions, "patient001_frame01.nii.gz", labels_of(20, 20, 20))
    write_labels_of(predictions, "patient001_frame12.nii.gz", labels_of(10, 20, 8))
    write_labels_of(predictions, "patient002_frame01.nii.gz", labels_of(20, 20, 20, shift=10))  # Dice 0.5
    write_labels_of(predictions, "patient002_frame09.nii.gz", labels_of(0, 0, 8))
    return predictions, reference, folder / "out"
