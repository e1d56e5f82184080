"""Volumes and segmentations for the tests, made with plain MRML calls and not with the code under test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import numpy_to_vtk

SHAPE = (5, 12, 10)
"""Slices, rows, columns."""


def obliqueMatrix(seed: int = 0, spacing=(1.25, 1.5, 8.0), *, leftHanded: bool = True) -> np.ndarray:
    """An IJK-to-RAS matrix whose axes lie along none of the patient's; left-handed ones mirror the array."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if (np.linalg.det(axes) > 0) == leftHanded:
        axes[:, 0] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing
    matrix[:3, 3] = rng.uniform(-100, 100, 3)
    return matrix


def makeVolume(
    name: str = "volume", array: np.ndarray | None = None, matrix: np.ndarray | None = None, *, seed: int = 0
):
    """A volume node with an image, by default int16 noise on an oblique grid."""
    if array is None:
        array = np.random.default_rng(seed).integers(0, 500, SHAPE).astype(np.int16)
    return slicer.util.addVolumeFromArray(array, obliqueMatrix(seed) if matrix is None else matrix, name)


def heartLabels(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Training labels of the label set acdc: 1 RV cavity, 2 LV myocardium, 3 LV cavity; uint8, every side differs."""
    labels = np.zeros(shape, np.uint8)
    labels[1:-1, 2:5, 1:4] = 1
    labels[1:-1, 2:9, 4:9] = 2
    labels[1:-1, 4:7, 5:8] = 3
    labels[1, 2, 1] = 0  # no symmetry is left in any of them, so that a flipped axis cannot go unseen
    labels[1, 2, 4] = 0
    labels[1, 4, 5] = 2
    return labels


def makeSegmentation(volumeNode, masks: dict[str, np.ndarray], name: str = "segmentation"):
    """A segmentation with a segment for each mask [slice, row, col], every one in a labelmap of its own.

    Segments may overlap; their IDs are S0, S1, ... in the order of `masks`, whose keys are the names.
    """
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    for index, (segmentName, mask) in enumerate(masks.items()):
        segment = slicer.vtkSegment()
        segment.SetName(segmentName)
        segment.AddRepresentation("Binary labelmap", _orientedImage(mask, matrix))
        node.GetSegmentation().AddSegment(segment, f"S{index}")
    node.CreateDefaultDisplayNodes()
    return node


def makeHeartSegmentation(volumeNode, name: str = "segmentation", shape: tuple[int, int, int] = SHAPE):
    """The segmentation of `heartLabels` on a volume's grid; LV first, so that order and label value differ."""
    labels = heartLabels(shape)
    return makeSegmentation(
        volumeNode, {"LV cavity": labels == 3, "RV cavity": labels == 1, "LV myocardium": labels == 2}, name
    )


def makeTransform(shift=(5.0, -3.0, 2.0), *, angle: float = 20.0, name: str = "transform"):
    """A rigid transform node: a rotation about the third axis, in degrees, then a shift in mm."""
    transform = vtk.vtkTransform()
    transform.Translate(shift)
    transform.RotateZ(angle)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(transform.GetMatrix())
    return node


def makeSequence(frames: list[np.ndarray], matrix: np.ndarray | None = None, name: str = "cine", *, step: float = 0.03):
    """A sequence node with a volume for each array, indexed by time in seconds, and no browser yet."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    for index, frame in enumerate(frames):
        volumeNode = makeVolume(name, frame, matrix)
        sequence.SetDataNodeAtValue(volumeNode, f"{index * step:.3f}")
        slicer.mrmlScene.RemoveNode(volumeNode.GetDisplayNode())
        slicer.mrmlScene.RemoveNode(volumeNode)
    return sequence


def makeFolder(name: str, nodes=()) -> int:
    """A folder of the subject hierarchy with the items of these nodes in it; returns the folder's item."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), name)
    for node in nodes:
        # In Slicer a plugin written with Qt has made the item already.
        item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(folder, node)
        hierarchy.SetItemParent(item, folder)
    return folder


def matrixOf(volumeNode) -> np.ndarray:
    """IJK to RAS, without parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def saveAndReload(path: Path) -> None:
    """Writes the scene to a .mrb file, clears it, and reads it again."""
    assert slicer.util.saveScene(str(path), {})
    slicer.mrmlScene.Clear(False)
    slicer.util.loadScene(str(path), {})


def _orientedImage(mask: np.ndarray, matrix):
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*mask.shape[::-1])
    scalars = numpy_to_vtk(mask.astype(np.uint8).ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR)
    image.GetPointData().SetScalars(scalars)
    image.SetGeometryFromImageToWorldMatrix(matrix)
    return image
