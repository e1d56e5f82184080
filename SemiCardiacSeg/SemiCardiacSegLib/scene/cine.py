"""Cines that Slicer does not load as sequences: 4D files, DICOM folders, volumes with a frame in each component."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import slicer
import slicer.util

from ..engine import process
from ..i18n import tr as _
from . import sequences
from .nodes import gridOf
from .transaction import nothingHalfMade

_LABELS, _UNIT = "MultiVolume.FrameLabels", "MultiVolume.FrameIdentifyingDICOMTagUnits"
"""Attributes of multi-volumes: the value of each frame, separated by commas, and its unit."""
_SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3}
_MIN_FRAMES = 5
"""Volumes with fewer components hold colors or vectors."""


def fromFile(path: Path | str, tick: Callable[[], object] | None = None, name: str = ""):
    """Reads a time series with the engine, and adds it to the scene.

    Args:
        path: A 4D file, or a folder with one DICOM series.
        tick: Called after each frame.
        name: Of the cine; without it, that of the file or folder.

    Returns:
        The vtkMRMLSequenceNode.

    Raises:
        ValueError: If it cannot be read, or holds a single volume.
    """
    process.addToPath()
    from semicardiac.images.volumes import read_series, stem

    frames = read_series(path)
    if len(frames) == 1:
        message = _("{path} holds a single volume and no cine. Load it into the scene as a volume.")
        raise ValueError(message.format(path=path))
    times = None if any(frame.time_s is None for frame in frames) else [frame.time_s for frame in frames]
    with nothingHalfMade(tick) as pause:
        arrays = [frame.array for frame in frames]
        return sequences.newCine(name or stem(path), arrays, frames[0].ijk_to_ras, times, pause)


def volumesWithFrames() -> list:
    """The volumes of the scene that hold a frame in each of their components, as multi-volumes do."""
    nodes = slicer.util.getNodesByClass("vtkMRMLVolumeNode")
    return [node for node in nodes if not node.GetHideFromEditors() and holdsFrames(node)]


def holdsFrames(node) -> bool:
    """Whether a node is a volume with a frame in each of its components."""
    return node.IsA("vtkMRMLVolumeNode") and framesOf(node) >= _MIN_FRAMES


def framesOf(volumeNode) -> int:
    """How many numbers a volume holds in each voxel."""
    image = volumeNode.GetImageData()
    return image.GetNumberOfScalarComponents() if image is not None else 0


def ofComponents(volumeNode):
    """A cine of the components of a volume, which stays as it is; returns the vtkMRMLSequenceNode.

    Times are those that the volume tells, if it does.
    """
    array = np.moveaxis(slicer.util.arrayFromVolume(volumeNode), -1, 0)
    frames = [np.ascontiguousarray(frame) for frame in array]
    with nothingHalfMade():
        name = _("{name} cine").format(name=volumeNode.GetName())
        return sequences.newCine(name, frames, gridOf(volumeNode).matrix, _timesOf(volumeNode, len(frames)))


def _timesOf(volumeNode, count: int) -> list[float] | None:
    """The times of a multi-volume from its first frame on, in seconds, as far as it tells them."""
    scale = _SECONDS.get((volumeNode.GetAttribute(_UNIT) or "").strip().lower())
    try:
        values = [float(text) for text in (volumeNode.GetAttribute(_LABELS) or "").split(",")]
    except ValueError:
        return None
    rising = len(values) == count and all(first < second for first, second in pairwise(values))
    return [(value - values[0]) * scale for value in values] if scale and rising else None
