"""Cines that Slicer's DICOM module has loaded as something else, opened again from their files.

Its reader of scalar volumes stacks all images of a series, those of one position beside one another; its reader of
image sequences makes a frame of each image. Both leave the identity of the images in the nodes, by which the DICOM
database finds their files.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import slicer
import slicer.util
import vtk

from ..i18n import tr as _
from . import cine
from .nodes import gridOf

_INSTANCES = "DICOM.instanceUIDs"
"""Attribute of volumes that come from DICOM: the identities of their images, slice by slice, between spaces."""
_POSITION = "0020,0032"
"""Tag of the place of an image's first pixel."""
_SAME_MM = 0.1
"""Images nearer to one another than this are at one position; the engine takes the same."""


def imagesAtEachPosition(node) -> int:
    """How many images lie at each position of what should be a stack; 1 where it is one, or nothing is known.

    Args:
        node: A volume, whose places are those that the DICOM database knows, or those to which the transform moves the
            slices that comes with unevenly spaced images; or a sequence of single slices, which know their own.
    """
    points = _slicesOfSequence(node) if node.IsA("vtkMRMLSequenceNode") else _slicesOfVolume(node)
    if len(points) < 2:
        return 1
    farthest = points[np.linalg.norm(points - points[0], axis=1).argmax()]
    length = np.linalg.norm(farthest - points[0])
    along = np.sort((points - points[0]) @ (farthest - points[0]) / max(length, _SAME_MM))
    ends = np.flatnonzero(np.diff(along) > _SAME_MM) + 1
    counts = np.diff([0, *ends, len(along)])
    if node.IsA("vtkMRMLSequenceNode") and len(counts) == 1:
        return 1  # a cine of one slice: its frames are what they should be
    return int(np.median(counts)) if counts.min() > 1 else 1


def filesOf(node) -> list[Path]:
    """The files of the images of a volume or sequence; none if the DICOM database does not know all of them."""
    database = _database()
    if database is None:
        return []
    paths = [database.fileForInstance(uid) for uid in _instancesOf(node)]
    return [Path(path) for path in paths] if all(path and Path(path).is_file() for path in paths) else []


def fromFiles(node, tick: Callable[[], object] | None = None):
    """Opens the cine that a volume or sequence was made of; the node stays as it is.

    Args:
        node: One whose files are known, see `filesOf`.
        tick: Called after each frame.

    Returns:
        The new vtkMRMLSequenceNode.

    Raises:
        ValueError: If the images are no cine; with the reason.
    """
    with _folderOf(filesOf(node)) as folder:
        return cine.fromFile(folder, tick, _("{name} cine").format(name=node.GetName()))


def _database():
    """Slicer's DICOM database, or None where there is none or it is closed."""
    database = getattr(slicer, "dicomDatabase", None)
    return database if database is not None and database.isOpen else None


def _framesOf(sequence) -> list:
    return [sequence.GetNthDataNode(index) for index in range(sequence.GetNumberOfDataNodes())]


def _instancesOf(node) -> list[str]:
    nodes = _framesOf(node) if node.IsA("vtkMRMLSequenceNode") else [node]
    return [uid for each in nodes for uid in (each.GetAttribute(_INSTANCES) or "").split()]


def _slicesOfSequence(sequence) -> np.ndarray:
    """Where the frames lie, (n, 3) in mm, if each is a single slice; nothing otherwise."""
    frames = _framesOf(sequence)
    if not all(frame.IsA("vtkMRMLVolumeNode") and frame.GetImageData() is not None for frame in frames):
        return np.empty((0, 3))
    grids = [gridOf(frame) for frame in frames]
    return np.array([grid.matrix[:3, 3] for grid in grids if grid.shape[0] == 1]).reshape(-1, 3)


def _slicesOfVolume(volumeNode) -> np.ndarray:
    """Where the slices of a volume lie, (n, 3) in mm, as far as anything but its matrix says so; nothing otherwise."""
    if volumeNode.GetImageData() is None:
        return np.empty((0, 3))
    grid = gridOf(volumeNode)
    instances = volumeNode.GetAttribute(_INSTANCES) or ""
    if _database() is not None and len(instances.split()) == grid.shape[0]:
        try:
            return _positions(instances)
        except LookupError:
            pass
    transformNode = volumeNode.GetParentTransformNode()
    if transformNode is None or transformNode.IsTransformToWorldLinear():
        return np.empty((0, 3))
    transform = vtk.vtkGeneralTransform()
    transformNode.GetTransformToWorld(transform)
    origins = grid.matrix[:3, 3] + np.arange(grid.shape[0])[:, None] * grid.matrix[:3, 2]
    return np.array([transform.TransformPoint(*origin) for origin in origins])


@lru_cache(maxsize=64)
def _positions(instances: str) -> np.ndarray:
    """The places of images by their identities; there may be hundreds, and each is a query of the database.

    Raises:
        LookupError: If the database does not know one of them; asked again, it may.
    """
    texts = [_database().instanceValue(uid, _POSITION) for uid in instances.split()]
    try:
        return np.array([[float(number) for number in text.split("\\")] for text in texts]).reshape(-1, 3)
    except ValueError as error:
        raise LookupError(instances) from error


@contextmanager
def _folderOf(files: list[Path]) -> Iterator[Path]:
    """A folder with these files and no others: their own, or one of copies, which is deleted afterwards."""
    folder = files[0].parent
    others = {path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")} - set(files)
    if not others and all(path.parent == folder for path in files):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="SemiCardiacSeg ") as place:
        for index, path in enumerate(files):
            shutil.copyfile(path, Path(place, f"{index:05}.dcm"))
        yield Path(place)
