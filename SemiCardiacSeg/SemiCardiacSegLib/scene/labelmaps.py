"""Labelmaps inside segmentation nodes, at the level of Slicer's images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..i18n import tr as _
from .nodes import Grid

LABELMAP = "Binary labelmap"
"""The representation that is made of voxels."""


@dataclass(frozen=True)
class Layer:
    """A labelmap, which several segments may share."""

    array: np.ndarray
    """[slice, row, column]; the voxels of a segment hold its value."""
    matrix: np.ndarray
    """IJK to RAS, 4x4, of this array."""
    values: dict[str, int]
    """The values of the segments by segment ID."""

    @property
    def grid(self) -> Grid:
        return Grid(self.array.shape, self.matrix)


def segmentNames(segmentationNode) -> dict[str, str]:
    """The names of the segments by segment ID, in their order."""
    segmentation = segmentationNode.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
    return {segmentId: segmentation.GetSegment(segmentId).GetName() for segmentId in ids}


def readLayers(segmentationNode, grid: Grid | None = None) -> list[Layer]:
    """The labelmaps of a segmentation, without those that are empty; not copied.

    Surfaces and contours are filled on the grid that is given, or on that of the segmentation. Nothing is converted in
    the node itself.

    Raises:
        ValueError: If its representation cannot be converted.
    """
    segmentation = segmentationNode.GetSegmentation()
    if segmentation.GetNumberOfSegments() and not segmentation.ContainsRepresentation(LABELMAP):
        segmentation = _converted(segmentationNode, grid)
    shared: dict[object, dict[str, int]] = {}
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        image = segment.GetRepresentation(LABELMAP)
        if image is not None and not image.IsEmpty() and image.GetPointData().GetScalars() is not None:
            shared.setdefault(image, {})[segmentation.GetNthSegmentID(index)] = segment.GetLabelValue()
    layers = [Layer(*_arrayAndMatrixOf(image), values) for image, values in shared.items()]
    return [layer for layer in layers if layer.array.any()]  # where nothing lies does not matter


def segmentVolumesMl(segmentationNode) -> dict[str, float]:
    """The volume of each segment in ml, by segment ID.

    Raises:
        ValueError: As `readLayers`.
    """
    volumes = dict.fromkeys(segmentNames(segmentationNode), 0.0)
    for layer in readLayers(segmentationNode):
        voxelMl = abs(float(np.linalg.det(layer.matrix[:3, :3]))) / 1000
        for segmentId, value in layer.values.items():
            volumes[segmentId] = np.count_nonzero(layer.array == value) * voxelMl
    return volumes


def _converted(segmentationNode, grid: Grid | None):
    """A copy of the segmentation inside a node, with labelmaps."""
    segmentation = slicer.vtkSegmentation()
    segmentation.DeepCopy(segmentationNode.GetSegmentation())
    source = segmentation.GetSourceRepresentationName()
    for segmentId in segmentNames(segmentationNode):
        shape = segmentation.GetSegment(segmentId).GetRepresentation(source)
        if shape is None or shape.GetNumberOfPoints() == 0:
            segmentation.RemoveSegment(segmentId)  # else its labelmap, on a grid of its own, would draw in all others
    if grid is not None:
        setGrid(segmentation, orientedImage(np.zeros(grid.shape, np.uint8), grid.matrix))
    if segmentation.GetNumberOfSegments() and not segmentation.CreateRepresentation(LABELMAP):
        message = _("The segments of '{name}' cannot be made labelmaps. Convert them in the module Segmentations.")
        raise ValueError(message.format(name=segmentationNode.GetName()))
    return segmentation


def _arrayAndMatrixOf(image) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of an oriented image [slice, row, column] and their IJK-to-RAS matrix; its extent may begin anywhere."""
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    first = np.eye(4)
    first[:3, 3] = image.GetExtent()[::2]
    return array, slicer.util.arrayFromVTKMatrix(matrix) @ first


def orientedImage(array: np.ndarray, matrix: np.ndarray):
    """A vtkOrientedImageData with these voxels [slice, row, column] and this IJK-to-RAS matrix."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*array.shape[::-1])
    scalars = numpy_to_vtk(array.ravel(), deep=True)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return image


def setGrid(segmentation, image) -> None:
    """Says that a vtkSegmentation is drawn on the grid of an image."""
    converter = slicer.vtkSegmentationConverter
    parameter = converter.GetReferenceImageGeometryParameterName()
    segmentation.SetConversionParameter(parameter, converter.SerializeImageGeometry(image))
