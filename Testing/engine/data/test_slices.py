"""From any volume to squares and back: positions in millimeters, on grids of every kind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from semicardiac.data.slices import (
    MOST_PIXELS,
    MOST_SLICES,
    Stack,
    as_stack,
    centroid,
    restore_maps,
    restore_probabilities,
    sample_images,
    sample_labels,
    stack_fault,
)
from semicardiac.images.volumes import Volume

from Testing.engine.networks import ball, dice, ijk_to_ras, mass_center, middle_of, ras_of_voxels

CLIP = (-3.0, 4.0)
PLANES = ("acquired", "axial", "coronal", "sagittal")
PROPERTY = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


class Grid(NamedTuple):
    """A random grid."""

    shape: tuple[int, int, int]
    matrix: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """In the order of the array."""
        return np.linalg.norm(self.matrix[:3, :3], axis=0)[::-1]


@st.composite
def grids(draw: st.DrawFn, *, slices: st.SearchStrategy[int] | None = None) -> Grid:
    """Oblique, left-handed, anisotropic, odd and even sides, single slices; thick slices along any stored axis."""
    in_plane = (draw(st.floats(0.7, 2.5)), draw(st.floats(0.7, 2.5)))
    thick = draw(st.floats(2.6, 12.0))
    sides = [draw(slices or st.integers(1, 5)), draw(st.integers(41, 60)), draw(st.integers(41, 60))]
    spacing = [thick, *in_plane]  # slice, row, col
    order = draw(st.sampled_from([(0, 1, 2), (1, 0, 2), (1, 2, 0)]))
    shape = tuple(sides[axis] for axis in order)
    matrix = ijk_to_ras(
        tuple(spacing[axis] for axis in order)[::-1],
        draw(st.tuples(*[st.floats(-180, 180)] * 3)),
        draw(st.tuples(*[st.floats(-300, 300)] * 3)),
        draw(st.tuples(*[st.booleans()] * 3)),
    )
    return Grid(shape, matrix)


def ramp(shape: tuple[int, int, int], matrix: np.ndarray, axis: int) -> Volume:
    """A volume whose voxels hold their own R, A or S."""
    return Volume(ras_of_voxels(shape, matrix)[..., axis], matrix)


def in_plane(array: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0), thickness: float = 8.0) -> Stack:
    """A stack of the slices given."""
    return Stack(array, (thickness, *spacing), (0, 1, 2), (False, False, False))


class TestAsStack:
    @given(grid=grids(), plane=st.sampled_from(PLANES), seed=st.integers(0, 9))
    @PROPERTY
    def test_the_way_back_is_exact(self, grid: Grid, plane: str, seed: int):
        array = np.random.default_rng(seed).integers(0, 1000, grid.shape)
        stack = as_stack(Volume(array, grid.matrix), plane)
        back = stack.restore(stack.array)
        np.testing.assert_array_equal(back, array)
        assert sorted(stack.axes) == [0, 1, 2]
        np.testing.assert_allclose(stack.spacing, grid.spacing[list(stack.axes)])

    @pytest.mark.parametrize(
        ("plane", "directions"),
        # The RAS axis that slices, rows and columns follow, and which way they run.
        [
            ("axial", ((2, 1), (1, -1), (0, -1))),
            ("coronal", ((1, 1), (2, -1), (0, -1))),
            ("sagittal", ((0, -1), (2, -1), (1, -1))),
        ],
    )
    @given(data=st.data())
    @PROPERTY
    def test_anatomical_planes_run_as_radiologists_look_at_them(self, plane: str, directions, data: st.DataObject):
        axes = data.draw(st.permutations([0, 1, 2]))
        tilt = data.draw(st.tuples(*[st.floats(-20, 20)] * 3))
        matrix = ijk_to_ras((1.1, 0.9, 3.0), tilt, (10, -20, 30), data.draw(st.tuples(*[st.booleans()] * 3)))
        matrix[:3, :3] = matrix[list(axes), :3]  # any stored order of the axes
        for stack_axis, (ras_axis, sign) in enumerate(directions):
            stack = as_stack(ramp((5, 6, 7), matrix, ras_axis), plane)
            steps = np.diff(stack.array, axis=stack_axis)
            assert (steps * sign > 0).all()
            assert np.abs(steps).min() > 0.7 * stack.spacing[stack_axis]  # nearly along this axis

    @pytest.mark.parametrize(
        ("spacing", "first"),  # (col, row, slice) in mm; the array's axis that becomes the slices
        [
            ((1.4, 1.4, 10.0), 0),
            ((10.0, 1.4, 1.4), 2),
            ((1.4, 8.0, 1.4), 1),
            ((1.0, 1.0, 1.0), 0),
            ((1.4, 1.0, 1.0), 0),  # not coarse enough to be the slices
            ((1.0, 1.0, 1.5), 0),
            ((1.6, 1.0, 1.0), 2),
        ],
    )
    def test_acquired_slices_lie_across_the_coarsest_axis(self, spacing, first: int):
        stack = as_stack(Volume(np.zeros((3, 4, 5)), ijk_to_ras(spacing, (30, -50, 10))), "acquired")
        assert stack.axes[0] == first
        assert list(stack.axes[1:]) == sorted(stack.axes[1:])
        assert stack.flipped == (False, False, False)

    def test_image_and_label_become_the_same_stack_whatever_the_precision_of_their_files(self):
        # 1.05 = 1.5 x 0.7 to the last digit: NIfTI's single precision must not tip the choice.
        image = as_stack(Volume(np.zeros((3, 4, 5)), ijk_to_ras((1.05, 0.7, 0.7))), "acquired")
        for noise in (-1e-7, 1e-7):
            label = as_stack(Volume(np.zeros((3, 4, 5)), ijk_to_ras((1.05 + noise, 0.7, 0.7 - noise))), "acquired")
            assert label.axes == image.axes

    def test_the_middle_is_the_middle_of_the_plane(self):
        stack = as_stack(Volume(np.zeros((3, 5, 8)), ijk_to_ras((2.0, 1.5, 8.0))), "acquired")
        assert stack.middle == (2 * 1.5, 3.5 * 2.0)


class TestStackFault:
    @staticmethod
    def stack(*shape: int) -> Stack:
        return in_plane(np.broadcast_to(np.int16(0), shape), (0.001, 1e4))

    @pytest.mark.parametrize("shape", [(1, 2, 2), (MOST_SLICES, 2, 2), (1, 30_000, 2), (1, 2**13, 2**13)])
    def test_what_memory_holds_is_sound(self, shape: tuple[int, int, int]):
        assert stack_fault(self.stack(*shape)) is None

    @pytest.mark.parametrize("shape", [(4, 1, 400), (4, 400, 1), (1, 1, 1)])
    def test_lines_are_no_slices(self, shape: tuple[int, int, int]):
        what, hint = stack_fault(self.stack(*shape))
        assert f"{shape[1]} x {shape[2]} voxels" in what
        assert hint

    @pytest.mark.parametrize("shape", [(MOST_SLICES + 1, 2, 2), (30_000, 64, 64), (1, 2, MOST_PIXELS // 2 + 1)])
    def test_more_than_memory_holds_is_told_with_size_and_spacing(self, shape: tuple[int, int, int]):
        what, hint = stack_fault(self.stack(*shape))
        assert f"{shape[1]} x {shape[2]} voxels, 0.001 x 1e+04 mm each and 8 mm apart" in what
        assert "spacing" in hint


class TestSampling:
    def test_a_point_lands_where_its_millimeters_say(self):
        rows, cols = np.mgrid[:61, :80]
        spacing = (1.3, 0.9)
        peak = (30 * spacing[0], 52 * spacing[1])
        blob = np.exp(-((rows * spacing[0] - peak[0]) ** 2 + (cols * spacing[1] - peak[1]) ** 2) / (2 * 5**2))
        center = (33.0, 41.5)
        seen = sample_images(in_plane(blob[None], spacing), center, 1.1, 48, (-99, 99))[0]
        weight = (seen - seen.min()) ** 2
        found = [(weight.sum(1 - axis) * np.arange(48)).sum() / weight.sum() for axis in (0, 1)]
        np.testing.assert_allclose(found, [23.5 + (peak[axis] - center[axis]) / 1.1 for axis in (0, 1)], atol=0.05)

    @given(
        spacing=st.tuples(st.floats(0.5, 3), st.floats(0.5, 3)),
        target=st.floats(0.8, 2.5),
        apart=st.tuples(st.floats(-30, 30), st.floats(-30, 30)),
    )
    @PROPERTY
    def test_distances_in_millimeters_are_kept(self, spacing, target: float, apart):
        """Two blobs, whatever the pixels' shape: nothing is ever stretched."""
        field = 130.0
        rows, cols = (np.arange(round(field / step) + 1) * step for step in spacing)
        first = np.array([rows[-1] / 2, cols[-1] / 2])
        size = int(110 / target)
        places = []
        for place in (first, first + apart):
            blob = np.exp(-((rows[:, None] - place[0]) ** 2 + (cols[None] - place[1]) ** 2) / (2 * 7**2))
            seen = sample_images(in_plane(blob[None], spacing), tuple(first), target, size, (-99, 99))[0]
            weight = (seen - seen.min()) ** 2
            places.append([(weight.sum(1 - axis) * np.arange(size)).sum() / weight.sum() for axis in (0, 1)])
        measured = (np.array(places[1]) - places[0]) * target
        np.testing.assert_allclose(measured, apart, atol=0.5)

    def test_between_pixels_it_is_linear_interpolation(self):
        array = np.random.default_rng(0).normal(size=(2, 20, 23)).astype(np.float32)
        center, spacing, size = (12.0, 16.0), 0.8, 16
        seen = sample_images(in_plane(array, (1.2, 1.5)), center, spacing, size, (-99, 99))
        place = (np.arange(size) - (size - 1) / 2) * spacing
        rows, cols = np.meshgrid((center[0] + place) / 1.2, (center[1] + place) / 1.5, indexing="ij")
        for index in range(2):
            expected = (map_coordinates(array[index], (rows, cols), order=1) - array.mean()) / array.std()
            np.testing.assert_allclose(seen[index], expected, atol=1e-4)

    @pytest.mark.parametrize("spacing", [0.3, 1.0, 2.7, 9.0])
    def test_a_constant_stays_constant_up_to_the_edge_and_the_minimum_lies_outside(self, spacing: float):
        array = np.full((1, 31, 40), 5.0)
        array[0, 0, 0] = 1.0  # the minimum, in a corner
        stack = in_plane(array)
        seen = sample_images(stack, stack.middle, spacing, 64, (-99, 99)) * array.std() + array.mean()
        place = (np.arange(64) - 31.5) * spacing
        inside = (np.abs(place) < 15.5)[:, None] & (np.abs(place) < 20)[None]
        away = np.hypot(place[:, None] + 15, place[None] + 19.5) > 3 * max(1, spacing)  # not touched by that corner
        np.testing.assert_allclose(seen[0][inside & away], 5, atol=1e-3)
        np.testing.assert_allclose(seen[0][~inside], 1, atol=1e-3)

    def test_shrinking_averages_instead_of_skipping(self):
        noise = np.random.default_rng(0).normal(size=(1, 128, 128))
        seen = sample_images(in_plane(noise), (63.5, 63.5), 4.0, 32, (-99, 99))
        # A tent of 4 pixels either way has weights whose squares sum to 2 / (3 * 4) in each direction.
        assert seen[0, 2:-2, 2:-2].std() == pytest.approx(1 / 6, rel=0.1)

    def test_intensities_are_those_of_the_whole_volume_in_standard_deviations(self):
        array = np.random.default_rng(0).normal(100, 25, (4, 30, 30))
        stack = in_plane(array)
        seen = sample_images(stack, stack.middle, 1.0, 30, (-99, 99))
        assert seen.dtype == np.float32
        np.testing.assert_allclose(seen, (array - array.mean()) / array.std(), atol=1e-3)
        rescaled = sample_images(in_plane(array * 7.5 - 3000), stack.middle, 1.0, 30, CLIP)
        np.testing.assert_allclose(rescaled, seen.clip(*CLIP), atol=1e-3)  # no matter the scanner's units

    def test_a_constant_volume_gives_finite_numbers(self):
        stack = in_plane(np.full((2, 10, 10), 7, np.int16))
        assert np.isfinite(sample_images(stack, stack.middle, 1.5, 32, CLIP)).all()

    def test_unsigned_numbers_do_not_wrap_around(self):
        array = np.random.default_rng(0).integers(0, 60000, (2, 20, 20)).astype(np.uint16)
        stack = in_plane(array)
        seen = sample_images(stack, stack.middle, 1.0, 20, (-99, 99))
        np.testing.assert_allclose(seen, (array - array.mean()) / array.std(), atol=1e-3)

    def test_labels_keep_to_their_values_and_are_background_outside(self):
        labels = np.zeros((1, 30, 30), np.uint8)
        labels[0, 5:25, 5:15], labels[0, 5:25, 15:25] = 1, 3  # never 2 between 1 and 3
        seen = sample_labels(in_plane(labels), (14.5, 14.5), 0.7, 64, 4)
        assert seen.dtype == np.uint8
        assert set(np.unique(seen)) == {0, 1, 3}
        place = (np.arange(64) - 31.5) * 0.7
        outside = np.abs(place) > 15
        assert (seen[0][outside] == 0).all()
        assert (seen[0][:, outside] == 0).all()
        expected = labels[0][
            np.ix_(np.rint(place[~outside] + 14.5).astype(int), np.rint(place[~outside] + 14.5).astype(int))
        ]
        assert (seen[0][~outside][:, ~outside] == expected).mean() > 0.99

    def test_a_label_at_the_very_edge_of_the_image_is_kept(self):
        labels = np.ones((1, 16, 16), np.uint8)
        assert (sample_labels(in_plane(labels), (7.5, 7.5), 1.0, 16, 2) == 1).all()
        assert sample_labels(in_plane(labels), (7.5, 7.5), 0.5, 40, 2).sum() == 32 * 32  # 16 mm of pixels, not 15


class TestInverse:
    @given(grid=grids(), plane=st.sampled_from(("acquired", "axial")), target=st.floats(0.9, 2.0), data=st.data())
    @PROPERTY
    def test_a_segmentation_of_the_square_lands_on_the_original_voxels(
        self, grid: Grid, plane: str, target: float, data: st.DataObject
    ):
        if min(as_stack(Volume(np.zeros(grid.shape), grid.matrix), plane).array.shape[1:]) < 41:
            plane = "acquired"  # thin slabs seen from the side hold no ball
        shift = np.array(data.draw(st.tuples(*[st.floats(-5, 5)] * 3)))
        radius = 6.5 * max(*sorted(grid.spacing)[:2], target)
        center = middle_of(grid.shape, grid.matrix) + shift
        mask = ball(grid.shape, grid.matrix, center, radius)
        stack = as_stack(Volume(mask.astype(np.uint8), grid.matrix), plane)
        at = centroid(stack.array > 0, stack)
        at = (at[0] + data.draw(st.floats(-4, 4)), at[1] + data.draw(st.floats(-4, 4)))
        size = int(2.6 * radius / target) + 16
        square = sample_labels(stack, at, target, size, 2)
        probability = np.stack([square == 0, square == 1], axis=1).astype(np.float32)
        restored = restore_probabilities(probability, stack, at, target)
        back = stack.restore(restored.argmax(axis=1))
        assert back.shape == grid.shape
        np.testing.assert_allclose(restored.sum(axis=1), 1, atol=1e-5)
        assert restored.min() > -1e-5
        assert dice(back > 0, mask) > 0.93
        # In the plane within a fraction of a pixel; across the slices, where nothing is resampled, no farther either.
        pixel = max(*stack.spacing[1:], target)
        assert np.linalg.norm(mass_center(back > 0, grid.matrix) - mass_center(mask, grid.matrix)) < 0.3 * pixel

    @given(grid=grids(), target=st.floats(0.9, 2.0), data=st.data())
    @PROPERTY
    def test_smooth_probabilities_come_back(self, grid: Grid, target: float, data: st.DataObject):
        """Without argmax: what is sampled from a smooth field of probabilities is restored to it."""
        stack = as_stack(Volume(np.zeros(grid.shape), grid.matrix), "acquired")
        rows, cols = (
            np.arange(side) * step for side, step in zip(stack.array.shape[1:], stack.spacing[1:], strict=True)
        )
        width = 5 * max(*stack.spacing[1:], target)
        at = tuple(middle + data.draw(st.floats(-3, 3)) for middle in stack.middle)
        truth = np.exp(-((rows[:, None] - at[0]) ** 2 + (cols[None] - at[1]) ** 2) / (2 * width**2))
        size = 2 * int(np.ceil(max(rows[-1], cols[-1]) / target / 2 + 6))
        place = (np.arange(size) - (size - 1) / 2) * target
        square = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * width**2)).astype(np.float32)
        probability = np.stack([1 - square, square])[None].repeat(len(stack.array), axis=0)
        restored = restore_probabilities(probability, stack, at, target)
        assert restored.shape == (len(stack.array), 2, *stack.array.shape[1:])
        np.testing.assert_allclose(restored[:, 1], truth[None].repeat(len(stack.array), axis=0), atol=0.03)

    def test_where_it_shrinks_the_edge_counts_as_half_a_pixel(self):
        maps = np.array([4.0, 0, 0, 0], np.float32)[:, None] * np.ones(4, np.float32)
        stack = in_plane(np.zeros((1, 2, 2)), (2.0, 2.0))
        restored = restore_maps(maps, stack, (1.5, 1.5), 1.0)  # rows at the pixels 0 and 2 of the map
        # A tent of 2 pixels has the weights 1/2 1 1/2: at the edge, what lies beyond is the edge again.
        np.testing.assert_allclose(restored, [[3, 3], [0, 0]], atol=1e-6)
        np.testing.assert_allclose(restore_maps(maps[::-1], stack, (0.5, 1.5), 1.0)[1], [3, 3], atol=1e-6)

    def test_outside_the_square_is_background(self):
        stack = in_plane(np.zeros((2, 50, 60)), (1.5, 1.25))
        probability = np.zeros((2, 3, 16, 16), np.float32)
        probability[:, 2] = 1
        center, spacing = (30.0, 40.0), 2.0
        restored = restore_probabilities(probability, stack, center, spacing)
        rows, cols = np.arange(50) * 1.5 - center[0], np.arange(60) * 1.25 - center[1]
        inside = (np.abs(rows) < 16)[:, None] & (np.abs(cols) < 16)[None]  # 16 pixels of 2 mm
        for index in range(2):
            np.testing.assert_array_equal(restored[index].argmax(0), np.where(inside, 2, 0))
            np.testing.assert_allclose(restored[index, 0][~inside], 1)

    def test_a_square_that_lies_wholly_outside_is_all_background(self):
        stack = in_plane(np.zeros((1, 20, 20)))
        probability = np.zeros((1, 2, 8, 8), np.float32)
        probability[:, 1] = 1
        restored = restore_probabilities(probability, stack, (500.0, -300.0), 1.0)
        assert (restored[:, 0] == 1).all()

    def test_on_the_same_grid_it_is_the_exact_inverse(self):
        array = np.random.default_rng(0).integers(0, 3, (3, 24, 24)).astype(np.uint8)
        stack = in_plane(array, (1.5, 1.5))
        square = sample_labels(stack, stack.middle, 1.5, 24, 3)
        np.testing.assert_array_equal(square, array)
        probability = np.moveaxis(np.eye(3, dtype=np.float32)[square], -1, 1)
        np.testing.assert_allclose(restore_probabilities(probability, stack, stack.middle, 1.5), probability, atol=1e-6)


class TestCentroid:
    def test_by_hand(self):
        mass = np.zeros((2, 4, 5))
        mass[0, 1, 2], mass[1, 3, 4] = 1, 3
        assert centroid(mass, in_plane(mass, (2.0, 0.5))) == (2 * (1 + 9) / 4, 0.5 * (2 + 12) / 4)

    def test_without_mass_there_is_none(self):
        assert centroid(np.zeros((2, 4, 5)), in_plane(np.zeros((2, 4, 5)))) is None
