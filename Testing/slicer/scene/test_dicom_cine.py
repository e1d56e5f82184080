"""Cines that Slicer's DICOM module loaded as one volume, or as a sequence of single slices."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

import vtk
from SemiCardiacSegLib.scene import dicom_cine
from SemiCardiacSegLib.scene.nodes import gridOf

from Testing.engine.images.dicom_files import CINE, MATRIX
from Testing.slicer.datasets import makeDataSet
from Testing.slicer.dicom_nodes import FRAMES, SLICES, sequenceOfImages, stackedVolume, writeCine
from Testing.slicer.scenes import makeVolume


@pytest.fixture
def database(scene, tmp_path, monkeypatch):
    """Slicer's DICOM database with the files of a cine."""
    found = writeCine(tmp_path / "series")
    monkeypatch.setattr(slicer, "dicomDatabase", found, raising=False)
    return found


def checkCine(sequence):
    assert sequence.GetNumberOfDataNodes() == FRAMES
    for index in range(FRAMES):
        assert np.array_equal(slicer.util.arrayFromVolume(sequence.GetNthDataNode(index)), CINE[index])
    assert np.allclose(gridOf(sequence.GetNthDataNode(0)).matrix, MATRIX)


def test_a_stack_of_all_images_is_opened_from_its_files(database):
    node = stackedVolume(database)
    assert dicom_cine.imagesAtEachPosition(node) == FRAMES
    opened = dicom_cine.fromFiles(node)
    assert opened.GetName() == "7: cine sax cine"
    checkCine(opened)
    assert node.GetScene() is slicer.mrmlScene


def test_other_files_of_the_folder_do_not_count(database, tmp_path):
    folder = tmp_path / "series"
    writeCine(tmp_path / "other")
    for path in (tmp_path / "other").iterdir():
        shutil.copy(path, folder / f"other {path.name}")
    checkCine(dicom_cine.fromFiles(stackedVolume(database)))


def test_a_sequence_with_a_frame_for_each_image_is_opened_from_its_files(database):
    sequence, _shown = sequenceOfImages(database)
    assert dicom_cine.imagesAtEachPosition(sequence) == FRAMES
    checkCine(dicom_cine.fromFiles(sequence))


def test_a_cine_of_one_slice_is_a_sequence_as_it_should_be(database):
    sequence, shown = sequenceOfImages(database, slices=1)
    assert dicom_cine.imagesAtEachPosition(sequence) == dicom_cine.imagesAtEachPosition(shown) == 1


def test_a_plain_stack_is_no_cine(database):
    node = makeVolume("stack", np.zeros((SLICES, 6, 7), np.int16), MATRIX)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(database.byPosition()[::FRAMES]))
    assert dicom_cine.imagesAtEachPosition(node) == 1
    assert dicom_cine.imagesAtEachPosition(makeVolume()) == 1


def test_without_the_files_it_is_still_seen(database, tmp_path):
    shutil.rmtree(tmp_path / "series")
    node = stackedVolume(database)
    assert dicom_cine.imagesAtEachPosition(node) == FRAMES
    assert dicom_cine.filesOf(node) == []


def test_without_a_database_the_transform_of_the_acquisition_says_it(database, monkeypatch):
    node = stackedVolume(database)
    monkeypatch.setattr(slicer, "dicomDatabase", None)
    assert dicom_cine.imagesAtEachPosition(node) == 1  # nothing says otherwise
    node.SetAndObserveTransformNodeID(acquisitionTransform(node).GetID())
    assert dicom_cine.imagesAtEachPosition(node) == FRAMES
    assert dicom_cine.filesOf(node) == []


def test_it_is_no_case_to_train_on(database):
    node = stackedVolume(database)
    dataSet = makeDataSet()
    (problem,) = dataSet.problems(dataSet.addVolume(node))
    assert (problem.level, problem.fix) == ("error", None)
    assert f"{FRAMES} images at each position" in problem.text


def acquisitionTransform(volumeNode):
    """A displacement for each slice that moves it to where its image was taken, as Slicer adds it."""
    count = volumeNode.GetImageData().GetDimensions()[2]
    image = vtk.vtkImageData()
    image.SetDimensions(2, 2, count)
    image.SetOrigin(*volumeNode.GetOrigin())
    columnStep, rowStep, sliceStep = volumeNode.GetSpacing()
    image.SetSpacing(columnStep * 7, rowStep * 6, sliceStep)
    image.AllocateScalars(vtk.VTK_DOUBLE, 3)
    for index in range(count):
        up = 8.0 * (index // FRAMES) - sliceStep * index
        for row in range(2):
            for column in range(2):
                for axis, value in enumerate((0.0, 0.0, up)):
                    image.SetScalarComponentFromDouble(column, row, index, axis, value)
    directions = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASDirectionMatrix(directions)
    transform = slicer.vtkOrientedGridTransform()
    transform.SetGridDirectionMatrix(directions)
    transform.SetDisplacementGridData(image)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "acquisition transform")
    node.SetAndObserveTransformToParent(transform)
    return node
