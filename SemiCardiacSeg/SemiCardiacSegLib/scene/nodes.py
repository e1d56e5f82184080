"""Volume nodes: their voxels and place, what is wrong with them, and making new ones.

Arrays are [slice, row, column]; ijk is (column, row, slice); a matrix is 4x4, from ijk to millimeters in RAS. Parent
transforms are never part of an array or a matrix: they are told, and hardened on a copy where the user asks for it.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import slicer
import slicer.util
import vtk

from ..i18n import tr as _

RESULT_ATTRIBUTE = "SemiCardiacSeg.Result"
"""Attribute of the nodes that hold what a model made, so that they are never taken for a person's work."""

CASE_ATTRIBUTE = "SemiCardiacSeg.Case"
"""Attribute of volumes that were taken out of a sequence or a pool: the key of the case."""

_SAME_VOXEL = 0.02
"""Voxels coincide if they are no farther apart than this share of a voxel; the engine takes the same."""

_SHOWN_AS = {"bool": np.uint8, "float16": np.float32, "int64": np.int32, "uint64": np.uint32}
"""For types that Slicer's volumes do not hold."""


class Grid(NamedTuple):
    """Where voxels lie."""

    shape: tuple[int, int, int]
    """Slices, rows, columns."""
    matrix: np.ndarray
    """IJK to RAS, 4x4."""

    @property
    def spacing(self) -> np.ndarray:
        """(3,) in mm: column, row, slice."""
        return np.linalg.norm(self.matrix[:3, :3], axis=0)


def checkVolume(volumeNode) -> None:
    """Says what keeps a node from being used as an image.

    Raises:
        ValueError: As `checkKind`, and for a volume under a parent transform.
    """
    checkKind(volumeNode)
    if isTransformed(volumeNode):
        message = _("The volume '{name}' lies under the transform '{transform}', which files do not hold. "
                    "Harden the transform on a copy.")  # fmt: skip
        transform = volumeNode.GetParentTransformNode().GetName()
        raise ValueError(message.format(name=volumeNode.GetName(), transform=transform))


def checkKind(volumeNode) -> None:
    """Says why a node is no image, wherever it lies.

    Raises:
        ValueError: If it is None, no scalar volume, or without image data or usable spacing.
    """
    if volumeNode is None:
        raise ValueError(_("There is no volume. Choose one."))
    name = volumeNode.GetName()
    if not volumeNode.IsA("vtkMRMLScalarVolumeNode"):
        raise ValueError(_("'{name}' is no volume. Choose a scalar volume.").format(name=name))
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise ValueError(_("'{name}' is a label map. Choose it as the segmentation of a volume.").format(name=name))
    image = volumeNode.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        raise ValueError(_("The volume '{name}' has no image data. Load it again, or remove it.").format(name=name))
    components = image.GetNumberOfScalarComponents()
    if components > 1 or volumeNode.IsA("vtkMRMLTensorVolumeNode"):
        message = _("'{name}' holds {count} numbers in each voxel. Convert it to a scalar volume (module "
                    "Vector to Scalar Volume), or to a sequence if these are frames.")  # fmt: skip
        raise ValueError(message.format(name=name, count=components))
    determinant = np.linalg.det(gridOf(volumeNode).matrix)
    if not np.isfinite(determinant) or abs(determinant) < 1e-9:
        message = _("The volume '{name}' has no usable spacing and orientation. Correct them in the module Volumes.")
        raise ValueError(message.format(name=name))


def isTransformed(node) -> bool:
    """Whether a parent transform moves a node."""
    return transformsDiffer(node.GetParentTransformNode(), None)


def transformsDiffer(transformNode, otherNode) -> bool:
    """Whether two transforms, or one and none, put what lies under them in different places."""
    if transformNode is otherNode:
        return False
    matrix = vtk.vtkMatrix4x4()
    linear = slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(transformNode, otherNode, matrix)
    return not (linear and np.allclose(slicer.util.arrayFromVTKMatrix(matrix), np.eye(4), rtol=0, atol=1e-6))


def arrayAndMatrix(volumeNode) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of a scalar volume or label map, not copied, and its IJK-to-RAS matrix (float64)."""
    return slicer.util.arrayFromVolume(volumeNode), gridOf(volumeNode).matrix


def gridOf(volumeNode) -> Grid:
    """Where a volume's voxels lie; for a node with image data."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return Grid(volumeNode.GetImageData().GetDimensions()[::-1], slicer.util.arrayFromVTKMatrix(matrix))


def gridDifference(grid: Grid, other: Grid, *, cropped: bool = False) -> str | None:
    """None if voxels coincide, in whatever order, else how they differ, in mm.

    The order does not count because Slicer turns the slices of a left-handed volume around when it reads it from a
    file, so that a volume comes back so from a saved scene, while its segmentation does not.

    Args:
        grid: One grid.
        other: The other one.
        cropped: Whether `grid` may reach less or more far, as the labelmaps of segments do.
    """
    toOther = np.linalg.inv(other.matrix) @ grid.matrix
    steps = np.abs(np.rint(toOther[:3, :3]))
    isReordering = (steps.sum(axis=0) == 1).all() and (steps.sum(axis=1) == 1).all()
    apart = (toOther - np.rint(toOther))[:3] @ _corners(grid.shape)  # in voxels of the other grid
    if not isReordering or np.abs(apart).max() > _SAME_VOXEL:
        return _axesDifference(grid, other) or _apartText(other.matrix[:3, :3] @ apart)
    if not cropped:
        ends = np.rint((toOther @ _corners(grid.shape))[:3])
        extent = ends.max(axis=1) - ends.min(axis=1) + 1
        if (extent != other.shape[::-1]).any():
            message = _("the sizes are {size} and {otherSize} voxels")
            return message.format(size=timesText(grid.shape[::-1]), otherSize=timesText(other.shape[::-1]))
        if (ends.min(axis=1) != 0).any():
            centers = [each.matrix[:3] @ _corners(each.shape).mean(axis=1) for each in (grid, other)]
            return _apartText((centers[0] - centers[1])[:, None])
    return None


def _corners(shape: tuple[int, int, int]) -> np.ndarray:
    """The first and last voxels along each axis as columns (i, j, k, 1), (4, 8)."""
    return np.array([(*ijk, 1.0) for ijk in itertools.product(*((0.0, size - 1.0) for size in shape[::-1]))]).T


def _axesDifference(grid: Grid, other: Grid) -> str:
    cosines = np.abs((grid.matrix[:3, :3] / grid.spacing).T @ (other.matrix[:3, :3] / other.spacing))
    details = []
    if not np.allclose(np.sort(grid.spacing), np.sort(other.spacing), rtol=1e-3):
        message = _("the spacings are {spacing} and {otherSpacing} mm")
        details.append(message.format(spacing=timesText(grid.spacing), otherSpacing=timesText(other.spacing)))
    angle = float(np.degrees(np.arccos(np.clip(cosines.max(axis=1), 0, 1))).max())
    if angle > 0.1:
        details.append(_("the axes are turned by {angle:.1f} degrees").format(angle=angle))
    return ", ".join(details)


def _apartText(offsets: np.ndarray) -> str:
    """What to say of offsets in mm, (3, n)."""
    return _("voxels lie up to {apart:.3g} mm apart").format(apart=float(np.linalg.norm(offsets, axis=0).max()))


def timesText(numbers) -> str:
    """Sizes or spacings in the order column, row, slice: `256 × 256 × 10`."""
    return " × ".join(f"{number:.4g}" for number in numbers)


def resampledLabels(array: np.ndarray, matrix: np.ndarray, grid: Grid) -> np.ndarray:
    """Labels on another grid by nearest neighbor, 0 where there are none; exact where the voxels coincide.

    Args:
        array: Labels [slice, row, column].
        matrix: Their IJK to RAS, 4x4.
        grid: Where they shall lie.
    """
    if array.shape == grid.shape and np.array_equal(matrix, grid.matrix):
        return array.copy()
    toSource = np.linalg.inv(matrix) @ grid.matrix
    slices, rows, columns = grid.shape
    column, row = np.arange(columns)[None, :], np.arange(rows)[:, None]
    result = np.zeros(grid.shape, array.dtype)
    for index in range(slices):  # slice by slice, since the indices take far more memory than the labels
        ijk = [np.floor(a * column + b * row + c * index + d + 0.5).astype(int) for a, b, c, d in toSource[:3]]
        inside = np.logical_and.reduce(
            [(place >= 0) & (place < size) for place, size in zip(ijk, array.shape[::-1], strict=True)]
        )
        i, j, k = (place[inside] for place in ijk)
        result[index][inside] = array[k, j, i]
    return result


def addVolume(array: np.ndarray, matrix: np.ndarray, name: str, nodeClass: str = "vtkMRMLScalarVolumeNode"):
    """Adds a volume with these voxels [slice, row, column] and this IJK-to-RAS matrix to the scene.

    The name is taken as it is. Types that Slicer does not hold become the next that it does.
    """
    array = array.astype(_SHOWN_AS.get(array.dtype.name, array.dtype), copy=False)
    node = slicer.mrmlScene.CreateNodeByClass(nodeClass)
    node.UnRegister(None)
    node.SetName(name)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.asarray(matrix, dtype=float)))
    slicer.util.updateVolumeFromArray(node, array)
    slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    return node


def hardenedCopy(node):
    """A copy of a volume or segmentation with its parent transforms made part of it, beside the original.

    A linear transform changes the matrix only; any other one resamples the copy.

    Raises:
        ValueError: If Slicer cannot harden the transform.
    """
    name = node.GetName()
    copy = slicer.mrmlScene.CreateNodeByClass(node.GetClassName())
    copy.UnRegister(None)
    copy.CopyContent(node)
    copy.SetName(uniqueName(_("{name} hardened").format(name=name)))
    slicer.mrmlScene.AddNode(copy)
    copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    if not copy.HardenTransform():
        slicer.mrmlScene.RemoveNode(copy)
        message = _("The transform of '{name}' cannot be hardened. Resample it with the module Resample Image.")
        raise ValueError(message.format(name=name))
    copy.CreateDefaultDisplayNodes()
    placeBeside(copy, node)
    return copy


def uniqueName(name: str) -> str:
    """The name, with a number behind where a node has it already."""
    names = itertools.chain([name], (f"{name} {number}" for number in itertools.count(2)))
    return next(each for each in names if slicer.mrmlScene.GetFirstNodeByName(each) is None)


def shItem(node) -> int:
    """The item of a node in the subject hierarchy, made where Slicer's own plugins, which use Qt, are not there."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    return hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


def placeBeside(node, reference) -> None:
    """Moves a node into the subject-hierarchy folder of another one."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    hierarchy.SetItemParent(shItem(node), hierarchy.GetItemParent(shItem(reference)))
