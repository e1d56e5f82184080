"""The slice views turned to the slices of a volume as they were acquired, and the user's views again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import slicer
import slicer.util
import vtk

VIEWS = (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal"))
"""The slice views, and the orientation that each has when Slicer starts."""

_COARSER = 1.5
"""The slice axis is the one whose spacing is more than this many times the others'; the engine takes the same."""


class _View(NamedTuple):
    """How a slice view was before it was turned, and how it has been since."""

    sliceToRas: np.ndarray
    fieldOfView: tuple[float, float, float]
    origin: tuple[float, float, float]
    turnedTo: np.ndarray


class AcquiredPlane:
    """Shows a volume's own slices in the red view, and the two planes across them in green and yellow.

    An oblique heart would else be cut along the patient's axes. Does nothing where there are no views.
    """

    def __init__(self) -> None:
        self._before: dict[str, _View] = {}

    def show(self, volumeNode) -> None:
        """Turns the views to a volume, and fits it into them."""
        if slicer.app.layoutManager() is None:
            return
        matrix = _matrixToWorld(volumeNode)
        for (name, orientation), normal in zip(VIEWS, normals(matrix), strict=True):
            node = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode")
            if node is None:
                continue
            before = self._viewOf(node)
            node.SetOrientation(orientation)  # the volume's axes nearest to this one are taken
            node.RotateToAxes(slicer.util.vtkMatrixFromArray(matrix), normal)
            self._before[name] = before._replace(turnedTo=_orientation(node))
        slicer.app.layoutManager().resetSliceViews()

    def restore(self) -> None:
        """Brings the user's views back, but for those that the user has turned since."""
        for name, before in self._before.items():
            node = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode")
            if node is not None and np.allclose(_orientation(node), before.turnedTo):
                node.GetSliceToRAS().DeepCopy(before.sliceToRas.ravel().tolist())
                node.UpdateMatrices()
                node.SetFieldOfView(*before.fieldOfView)
                node.SetXYZOrigin(*before.origin)
        self._before = {}

    def _viewOf(self, node) -> _View:
        """The view that `restore` is to bring back: the one from before the first turn, unless the user turned it."""
        before = self._before.get(node.GetLayoutName())
        if before is not None and np.allclose(_orientation(node), before.turnedTo):
            return before
        matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
        return _View(matrix, node.GetFieldOfView(), node.GetXYZOrigin(), _orientation(node))


def normals(ijkToWorld: np.ndarray) -> tuple[int, int, int]:
    """Across which axis of a volume (0 column, 1 row, 2 slice) the red, the green and the yellow view cut it.

    Red cuts across the slice axis. Of the other two, the one nearer to front and back is across the green view.
    """
    spacing = np.linalg.norm(ijkToWorld[:3, :3], axis=0)
    coarsest = int(spacing.argmax())
    red = coarsest if spacing[coarsest] > _COARSER * np.delete(spacing, coarsest).max() else 2
    others = [axis for axis in range(3) if axis != red]
    forward = np.abs(ijkToWorld[1, :3]) / spacing
    green = max(others, key=lambda axis: forward[axis])
    return red, green, next(axis for axis in others if axis != green)


def _matrixToWorld(volumeNode) -> np.ndarray:
    """IJK to RAS with the parent transforms, 4x4; without one that is not linear."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    transform = volumeNode.GetParentTransformNode()
    if transform is not None and transform.IsTransformToWorldLinear():
        toWorld = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(toWorld)
        vtk.vtkMatrix4x4.Multiply4x4(toWorld, matrix, matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _orientation(node) -> np.ndarray:
    return slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())[:3, :3].copy()
