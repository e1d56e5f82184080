"""Volume nodes: what is wrong with them, their geometry, and making new ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

import vtk
from SemiCardiacSegLib.scene import nodes
from SemiCardiacSegLib.scene.nodes import Grid, gridDifference, gridOf, resampledLabels

from Testing.slicer.scenes import (
    SHAPE,
    heartLabels,
    makeFolder,
    makeHeartSegmentation,
    makeTransform,
    makeVolume,
    matrixOf,
    obliqueMatrix,
    saveAndReload,
)

_manySeeds = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
_seeds = st.integers(0, 10_000)


class TestCheckVolume:
    def test_accepts_a_scalar_volume(self, scene):
        nodes.checkVolume(makeVolume())

    def test_none(self, scene):
        with pytest.raises(ValueError, match=r"There is no volume\. Choose one"):
            nodes.checkVolume(None)

    def test_another_kind_of_node(self, scene):
        with pytest.raises(ValueError, match="'shift' is no volume"):
            nodes.checkVolume(makeTransform(name="shift"))

    def test_label_map(self, scene):
        node = slicer.util.addVolumeFromArray(heartLabels(), name="labels", nodeClassName="vtkMRMLLabelMapVolumeNode")
        with pytest.raises(ValueError, match=r"'labels' is a label map\. Choose it as the segmentation"):
            nodes.checkVolume(node)

    def test_without_image_data(self, scene):
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        with pytest.raises(ValueError, match=r"'empty' has no image data\. Load it again"):
            nodes.checkVolume(node)

    def test_vector_volume(self, scene):
        node = slicer.util.addVolumeFromArray(
            np.zeros((2, 3, 4, 7), np.int16), name="frames", nodeClassName="vtkMRMLVectorVolumeNode"
        )
        with pytest.raises(ValueError, match=r"'frames' holds \d numbers in each voxel. Convert it"):
            nodes.checkVolume(node)

    def test_several_numbers_in_a_scalar_volume(self, scene):
        node = makeVolume("rgb")
        node.GetImageData().AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
        with pytest.raises(ValueError, match="'rgb' holds 3 numbers in each voxel"):
            nodes.checkVolume(node)

    def test_flat_matrix(self, scene):
        node = makeVolume("flat")
        node.SetIToRASDirection(0, 0, 1)
        node.SetJToRASDirection(0, 0, 1)
        with pytest.raises(ValueError, match="'flat' has no usable spacing and orientation"):
            nodes.checkVolume(node)

    def test_parent_transform_is_told_by_name(self, scene):
        node = makeVolume("moved")
        node.SetAndObserveTransformNodeID(makeTransform(name="registration").GetID())
        with pytest.raises(ValueError, match=r"'moved' lies under the transform 'registration'.*Harden"):
            nodes.checkVolume(node)

    def test_parent_transform_that_moves_nothing(self, scene):
        node = makeVolume()
        node.SetAndObserveTransformNodeID(makeTransform((0, 0, 0), angle=0).GetID())
        nodes.checkVolume(node)


class TestArrayAndMatrix:
    @_manySeeds
    @given(seed=_seeds, leftHanded=st.booleans())
    def test_round_trip_is_exact(self, scene, seed, leftHanded):
        matrix = obliqueMatrix(seed, leftHanded=leftHanded)
        array = np.random.default_rng(seed).integers(-1000, 1000, (3, 4, 5)).astype(np.int16)
        found, place = nodes.arrayAndMatrix(nodes.addVolume(array, matrix, "volume"))
        np.testing.assert_array_equal(found, array)
        np.testing.assert_allclose(place, matrix, atol=1e-9)
        assert place.dtype == np.float64

    def test_matrix_takes_the_middle_of_voxels_in_slice_row_column_order(self, scene):
        node = makeVolume(matrix=obliqueMatrix(5))
        array, matrix = nodes.arrayAndMatrix(node)
        assert array.shape == SHAPE
        slices, rows, columns = SHAPE
        bounds = np.zeros(6)
        node.GetRASBounds(bounds)
        faces = [(-0.5, size - 0.5) for size in (columns, rows, slices)]
        points = np.array([matrix @ [*corner, 1] for corner in itertools.product(*faces)])[:, :3]
        np.testing.assert_allclose(np.column_stack([points.min(0), points.max(0)]).ravel(), bounds)

    def test_ignores_parent_transforms(self, scene):
        node = makeVolume()
        before = matrixOf(node)
        node.SetAndObserveTransformNodeID(makeTransform().GetID())
        np.testing.assert_array_equal(nodes.arrayAndMatrix(node)[1], before)


class TestAddVolume:
    @pytest.mark.parametrize("dtype", [bool, np.float16, np.int64, np.uint64, np.uint8, np.int16, np.float32])
    def test_every_type_finds_a_home(self, scene, dtype):
        array = np.arange(60).reshape(3, 4, 5).astype(dtype)
        found, _ = nodes.arrayAndMatrix(nodes.addVolume(array, np.eye(4), "volume"))
        np.testing.assert_array_equal(found, array)

    def test_label_map(self, scene):
        node = nodes.addVolume(heartLabels(), obliqueMatrix(), "labels", "vtkMRMLLabelMapVolumeNode")
        assert node.IsA("vtkMRMLLabelMapVolumeNode")
        assert node.GetScene() is scene
        assert node.GetDisplayNode() is not None


def difference(volumeNode, otherNode) -> str | None:
    return gridDifference(gridOf(volumeNode), gridOf(otherNode))


class TestGridDifference:
    def test_same_grid(self, scene):
        assert difference(makeVolume("a"), makeVolume("b")) is None

    @_manySeeds
    @given(seed=_seeds, order=st.permutations(range(3)), flips=st.tuples(*[st.booleans()] * 3))
    def test_order_of_voxels_does_not_count(self, scene, seed, order, flips):
        matrix = obliqueMatrix(seed)
        array = np.random.default_rng(seed).integers(0, 9, (3, 4, 5)).astype(np.uint8)
        turned, turnedMatrix = _reordered(array, matrix, order, flips)
        grid = Grid(array.shape, matrix)
        assert gridDifference(Grid(turned.shape, turnedMatrix), grid) is None
        np.testing.assert_array_equal(resampledLabels(turned, turnedMatrix, grid), array)

    def test_left_handed_volume_after_its_scene_was_saved(self, scene, tmp_path):
        """Slicer turns its slices around when it reads it; those of a segmentation stay as they are."""
        before = gridOf(makeVolume("volume"))
        saveAndReload(tmp_path / "scene.mrb")
        after = gridOf(slicer.util.getNode("volume"))
        assert np.linalg.det(before.matrix) < 0 < np.linalg.det(after.matrix)
        assert gridDifference(after, before) is None

    def test_spacing(self, scene):
        other = makeVolume(matrix=obliqueMatrix(0, (1.25, 1.5, 10)))
        text = difference(makeVolume(), other)
        assert text == "the spacings are 1.25 × 1.5 × 8 and 1.25 × 1.5 × 10 mm"

    def test_axes(self, scene):
        matrix = obliqueMatrix()
        turned = matrix.copy()
        turned[:3, :3] = slicer.util.arrayFromTransformMatrix(makeTransform(angle=5))[:3, :3] @ matrix[:3, :3]
        text = difference(makeVolume(matrix=matrix), makeVolume(matrix=turned))
        assert text.startswith("the axes are turned by ")
        assert 3 < float(text.split()[5]) <= 5

    def test_shift_by_part_of_a_voxel(self, scene):
        matrix = obliqueMatrix()
        shifted = matrix.copy()
        shifted[:3, 3] += 0.4 * matrix[:3, 2] / 8  # along the slices, which are 8 mm apart
        text = difference(makeVolume(matrix=matrix), makeVolume(matrix=shifted))
        assert text == "voxels lie up to 0.4 mm apart"

    def test_shift_by_a_whole_slice(self, scene):
        grid = Grid(SHAPE, obliqueMatrix())
        shifted = Grid(SHAPE, grid.matrix @ _translation(0, 0, 1))
        assert gridDifference(shifted, grid) == "voxels lie up to 8 mm apart"
        assert gridDifference(shifted, grid, cropped=True) is None

    def test_size(self, scene):
        small, large = Grid((5, 12, 9), obliqueMatrix()), Grid(SHAPE, obliqueMatrix())
        assert gridDifference(small, large) == "the sizes are 9 × 12 × 5 and 10 × 12 × 5 voxels"
        assert gridDifference(small, large, cropped=True) is None


class TestResampledLabels:
    @_manySeeds
    @given(seed=_seeds)
    def test_nearest_neighbor_as_voxel_by_voxel(self, seed):
        rng = np.random.default_rng(seed)
        array = rng.integers(0, 4, (4, 5, 6)).astype(np.uint8)
        matrix = obliqueMatrix(seed, (1.3, 1.7, 2.9))
        grid = Grid((3, 4, 7), obliqueMatrix(seed + 1, (1.1, 2.1, 3.3), leftHanded=False))
        grid.matrix[:3, 3] = matrix[:3, 3]
        expected = np.zeros(grid.shape, np.uint8)
        for k, j, i in np.ndindex(grid.shape):
            column, row, index = np.floor(np.linalg.solve(matrix, grid.matrix @ [i, j, k, 1])[:3] + 0.5).astype(int)
            if 0 <= index < 4 and 0 <= row < 5 and 0 <= column < 6:
                expected[k, j, i] = array[index, row, column]
        np.testing.assert_array_equal(resampledLabels(array, matrix, grid), expected)

    def test_outside_is_background(self):
        grid = Grid((2, 2, 2), _translation(100, 0, 0))
        assert not resampledLabels(np.ones((2, 2, 2), np.uint8), np.eye(4), grid).any()


class TestHardenedCopy:
    def test_volume(self, scene):
        node = makeVolume("moved")
        before = matrixOf(node)
        transform = makeTransform()
        node.SetAndObserveTransformNodeID(transform.GetID())
        copy = nodes.hardenedCopy(node)
        assert copy.GetName() == "moved hardened"
        assert copy.GetParentTransformNode() is None
        np.testing.assert_allclose(matrixOf(copy), slicer.util.arrayFromTransformMatrix(transform) @ before, atol=1e-9)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(copy), slicer.util.arrayFromVolume(node))

    def test_original_stays(self, scene):
        node = makeVolume("moved")
        before = matrixOf(node)
        transform = makeTransform()
        node.SetAndObserveTransformNodeID(transform.GetID())
        copy = nodes.hardenedCopy(node)
        slicer.util.arrayFromVolume(copy)[:] = 0
        assert node.GetParentTransformNode() is transform
        np.testing.assert_array_equal(matrixOf(node), before)
        assert slicer.util.arrayFromVolume(node).any()

    def test_segmentation_stays_on_the_volume_that_moved_with_it(self, scene):
        volume = makeVolume()
        segmentation = makeHeartSegmentation(volume)
        transform = makeTransform()
        for node in (volume, segmentation):
            node.SetAndObserveTransformNodeID(transform.GetID())
        volumeCopy, copy = nodes.hardenedCopy(volume), nodes.hardenedCopy(segmentation)
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(copy, "S1", volumeCopy)
        np.testing.assert_array_equal(mask > 0, heartLabels() == 1)
        assert segmentation.GetParentTransformNode() is transform

    def test_warped_volume_is_resampled(self, scene):
        array = np.zeros((9, 9, 9), np.int16)
        array[4, 4, 4] = 100
        node = makeVolume("warped", array, np.eye(4))
        warp = scene.AddNewNodeByClass("vtkMRMLTransformNode")
        spline = vtk.vtkThinPlateSplineTransform()
        points, moved = vtk.vtkPoints(), vtk.vtkPoints()
        for corner in itertools.product((-20, 20), repeat=3):
            points.InsertNextPoint(corner)
            moved.InsertNextPoint(corner)
        points.InsertNextPoint(4, 4, 4)
        moved.InsertNextPoint(4, 4, 6)
        spline.SetSourceLandmarks(points)
        spline.SetTargetLandmarks(moved)
        spline.SetBasisToR()
        warp.SetAndObserveTransformToParent(spline)
        node.SetAndObserveTransformNodeID(warp.GetID())
        assert nodes.isTransformed(node)
        copy = nodes.hardenedCopy(node)
        array, matrix = nodes.arrayAndMatrix(copy)
        brightest = np.unravel_index(array.argmax(), array.shape)[::-1]
        np.testing.assert_allclose((matrix @ [*brightest, 1])[:3], (4, 4, 6), atol=0.6)

    def test_lies_beside_the_original(self, scene):
        node = makeVolume()
        folder = makeFolder("patient001", [node])
        node.SetAndObserveTransformNodeID(makeTransform().GetID())
        hierarchy = scene.GetSubjectHierarchyNode()
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(nodes.hardenedCopy(node))) == folder


class TestNames:
    def test_unique_name(self, scene):
        assert nodes.uniqueName("result") == "result"
        makeVolume("result")
        assert nodes.uniqueName("result") == "result 2"
        makeVolume("result 2")
        assert nodes.uniqueName("result") == "result 3"


class TestSubjectHierarchy:
    def test_item_is_made_once(self, scene):
        node = makeVolume()
        assert nodes.shItem(node) == nodes.shItem(node) != 0

    def test_place_beside(self, scene):
        volume, other = makeVolume(), makeVolume("other")
        folder = makeFolder("patient001", [volume])
        nodes.placeBeside(other, volume)
        hierarchy = scene.GetSubjectHierarchyNode()
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(other)) == folder


def _translation(*shift: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    return matrix


def _reordered(array: np.ndarray, matrix: np.ndarray, order, flips) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels with axes swapped and flipped; `order` and `flips` are of the axes slice, row, column."""
    turned = array.transpose(order)
    toOld = np.zeros((4, 4))
    toOld[3, 3] = 1
    for new, old in enumerate(order):
        size = array.shape[old]
        toOld[2 - old, 2 - new] = -1 if flips[new] else 1
        toOld[2 - old, 3] = size - 1 if flips[new] else 0
        if flips[new]:
            turned = np.flip(turned, new)
    return np.ascontiguousarray(turned), matrix @ toOld
