"""Blocks of slices: where their voxels lie, the way back, and what is chosen from the spacing."""

from __future__ import annotations

import numpy as np
import pytest
from semicardiac.config import PreprocessConfig
from semicardiac.data.blocks import (
    Block,
    block_of,
    fitting_sides,
    margin_of,
    middle_of,
    on_slices,
    reach_of,
    restore_block,
    sample_block,
    sample_block_labels,
    slice_distance,
)
from semicardiac.data.slices import Stack, as_stack
from semicardiac.images.volumes import Volume

from Testing.engine.networks import ijk_to_ras, ras_of_voxels

WIDE = (-99.0, 99.0)


def plain(array: np.ndarray, spacing: tuple[float, float, float]) -> Stack:
    return Stack(array, spacing, (0, 1, 2), (False, False, False))


class TestPlace:
    """A field that is linear in the patient is linear in a block, and back: any voxel out of place would show.

    Interpolation keeps such a field exactly where it does not shrink.
    """

    shape, spacing = (14, 40, 36), (1.3, 1.1, 4.0)
    middle = (26.0, 20.0, 24.0)

    def field(self) -> tuple[Volume, np.ndarray]:
        """A volume that lies obliquely in the patient, left-handed."""
        matrix = ijk_to_ras(self.spacing, (25, -40, 10), (30.0, -80.0, 12.0), mirror=(False, True, False))
        slope = np.array([0.3, -0.7, 0.5])
        return Volume((ras_of_voxels(self.shape, matrix) @ slope).astype(np.float32), matrix), slope

    def on_block(self, block: Block, volume: Volume, slope: np.ndarray) -> np.ndarray:
        """The field where the voxels of a block lie, worked out from the volume's matrix."""
        steps = (block.spacing[0], block.spacing[1], block.spacing[1])
        axes = [
            at + (np.arange(side) - (side - 1) / 2) * step
            for at, side, step in zip(self.middle, block.shape, steps, strict=True)
        ]
        level, row, col = np.meshgrid(*axes, indexing="ij")
        index = np.stack((col / 1.3, row / 1.1, level / 4.0), axis=-1)
        return (index @ volume.ijk_to_ras[:3, :3].T + volume.ijk_to_ras[:3, 3]) @ slope

    def test_voxels_of_a_block_lie_where_its_grid_says(self):
        volume, slope = self.field()
        block = Block((6, 16, 16), (3.0, 1.0))
        seen = sample_block(as_stack(volume, "acquired"), self.middle, block, WIDE)
        expected = (self.on_block(block, volume, slope) - volume.array.mean()) / volume.array.std()
        np.testing.assert_allclose(seen, expected, atol=2e-4)

    def test_the_way_back_gives_the_volume(self):
        volume, slope = self.field()
        stack, block = as_stack(volume, "acquired"), Block((6, 20, 20), (5.0, 1.7))
        maps = self.on_block(block, volume, slope)[None].astype(np.float32)
        restored = restore_block(maps, stack, self.middle, block, slice(0, 14))[:, 0]
        inside = (slice(4, 10), slice(6, 32), slice(8, 30))  # within the first and last voxels of the block
        np.testing.assert_allclose(restored[inside], volume.array[inside], atol=1e-4)
        part = restore_block(maps, stack, self.middle, block, slice(5, 7))[:, 0]
        np.testing.assert_allclose(part, restored[5:7], atol=1e-5)

    def test_nothing_is_there_beyond_the_block(self):
        stack = plain(np.random.default_rng(0).normal(size=(10, 20, 20)), (2.0, 1.0, 1.0))
        restored = restore_block(np.ones((1, 4, 8, 8), np.float32), stack, (9.0, 9.5, 9.5),
                                 Block((4, 8, 8), (2.0, 1.0)), slice(0, 10))[:, 0]  # fmt: skip
        expected = np.zeros((10, 20, 20))
        expected[3:7, 6:14, 6:14] = 1
        np.testing.assert_array_equal(restored, expected)


class TestSampling:
    def test_slices_at_the_same_distance_are_not_mixed(self):
        array = np.random.default_rng(1).normal(size=(9, 12, 12)).astype(np.float32)
        stack, block = plain(array, (8.0, 1.0, 1.0)), Block((5, 12, 12), (8.0, 1.0))
        middle = on_slices((29.0, 5.5, 5.5), block, stack)  # the fifth slice lies at 32, the first of the block at 16
        assert middle == (32.0, 5.5, 5.5)
        seen = sample_block(stack, middle, block, WIDE)
        np.testing.assert_allclose(seen, ((array - array.mean()) / array.std())[2:7], atol=1e-5)

    def test_beyond_the_volume_lies_its_minimum_and_background(self):
        array = np.arange(4 * 8 * 8).reshape(4, 8, 8).astype(np.float32)
        stack, block, middle = plain(array, (2.0, 2.0, 2.0)), Block((8, 12, 12), (2.0, 2.0)), (3.0, 7.0, 7.0)
        seen = sample_block(stack, middle, block, WIDE)
        lowest = (array.min() - array.mean()) / array.std()
        for outside in (seen[:2], seen[6:], seen[:, :2], seen[:, :, 10:]):
            np.testing.assert_allclose(outside, lowest, atol=1e-5)
        labels = sample_block_labels(plain(np.full((4, 8, 8), 2, np.uint8), stack.spacing), middle, block, 3)
        expected = np.zeros((8, 12, 12), np.uint8)
        expected[2:6, 2:10, 2:10] = 2
        np.testing.assert_array_equal(labels, expected)

    def test_a_block_far_outside_is_empty(self):
        stack = plain(np.random.default_rng(2).normal(size=(3, 8, 8)).astype(np.float32), (2.0, 2.0, 2.0))
        seen = sample_block(stack, (500.0, 7.0, 7.0), Block((4, 8, 8), (2.0, 2.0)), WIDE)
        assert np.ptp(seen) == 0

    def test_thin_slices_are_averaged_not_skipped(self):
        array = np.tile(np.array([0.0, 1.0], np.float32), 20)[:, None, None] * np.ones((1, 6, 6), np.float32)
        seen = sample_block(plain(array, (0.5, 1.0, 1.0)), (9.75, 2.5, 2.5), Block((6, 6, 6), (2.0, 1.0)), WIDE)
        np.testing.assert_allclose(seen, 0.0, atol=0.05)  # the mean of the stripes, which lie at -1 and 1


class TestChoosing:
    @pytest.mark.parametrize(
        ("labeled", "chosen"), [([0.6, 0.7], 2.0), ([3.0], 2.0), ([3.1], 3.1), ([10.0, 5.0, 8.0], 8.0)]
    )
    def test_slices_keep_their_distance_where_it_is_large(self, labeled: list[float], chosen: float):
        assert slice_distance(labeled, 2.0) == chosen

    def test_the_block_is_about_as_large_as_the_hearts(self):
        reaches = np.array([[30.0, 40.0, 20.0], [20.0, 10.0, 50.0]])
        # Through the slices 60 mm, 20 steps of 3 mm and one slice more; within them 100 mm, 51 pixels of 2 mm.
        assert fitting_sides(reaches, (3.0, 2.0), (4, 16, 16)) == (20, 48)
        assert fitting_sides(reaches, (3.0, 2.0), (32, 32, 32)) == (32, 64)
        assert fitting_sides(np.full((1, 3), 1.0), (8.0, 2.0), (2, 4, 4)) == (2, 32)
        assert fitting_sides(np.full((1, 3), 1.0), (8.0, 2.0), (1, 32, 32)) == (2, 64)

    def test_middle_and_reach(self):
        mask = np.zeros((4, 6, 8), bool)
        mask[1:3, 2:5, 3] = True
        stack = plain(mask, (8.0, 2.0, 1.0))
        assert middle_of(mask, stack) == (12.0, 6.0, 3.0)
        np.testing.assert_allclose(reach_of(mask, stack, (12.0, 6.0, 3.0)), (4.0, 2.0, 0.0))
        np.testing.assert_allclose(reach_of(mask, stack, (0.0, 6.0, 7.0)), (16.0, 2.0, 4.0))
        assert middle_of(np.zeros_like(mask), stack) is None
        assert reach_of(np.zeros_like(mask), stack, (0.0, 0.0, 0.0)).tolist() == [0, 0, 0]

    def test_as_much_is_kept_around_a_block_through_the_slices_as_within_them(self):
        config = PreprocessConfig(spacing_mm=2.0, crop=64, margin=12, depth=10, slice_mm=8.0)
        assert margin_of(config) == (3, 12, 12)
        assert block_of(config) == Block((10, 64, 64), (8.0, 2.0))
        assert block_of(config, margin=True).shape == (16, 88, 88)
