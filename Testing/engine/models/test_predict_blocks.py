"""From a volume to its segmentation by a network of three dimensions: where it looks, and how parts are joined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from semicardiac.base.errors import UserError
from semicardiac.data.blocks import Block, sample_block
from semicardiac.data.slices import as_stack
from semicardiac.images.volumes import Volume
from semicardiac.models import predict_blocks
from semicardiac.models.model import Model
from semicardiac.models.predict import segment
from semicardiac.models.predict_blocks import Region, grown, keep_continuations, predict_region, tiles, weights_of
from torch import nn

from Testing.engine.networks import (
    ACDC,
    CPU,
    Thresholder,
    ball,
    dice,
    ijk_to_ras,
    middle_of,
    new_method,
    tiny_volumes,
)

SPACING = (1.5, 1.5, 5.0)
SHAPE = (18, 60, 66)


def model_of(network: nn.Module, locator: nn.Module | None = None, **preprocess) -> Model:
    sides = {"depth": 8, "slice_mm": 5.0, "spacing_mm": 2.0, "clip": (-30.0, 30.0), **preprocess}
    config = tiny_volumes(preprocess=sides, network={"anisotropy": 2.5})
    return Model(network, locator, new_method(config, 4, threshold=0.5), config, ACDC, (100.0, 1e5))


def volume_with_ball(
    radius_mm: float, away_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> tuple[Volume, np.ndarray]:
    """A bright ball in an oblique volume, somewhere from its middle (col, row, slice)."""
    matrix = ijk_to_ras(SPACING, (20, -35, 15), (10.0, 20.0, -30.0), mirror=(True, False, False))
    place = middle_of(SHAPE, matrix) + matrix[:3, :3] @ (np.array(away_mm) / SPACING)
    mask = ball(SHAPE, matrix, place, radius_mm)
    return Volume((mask * 100.0).astype(np.float32), matrix), mask


def halfway(image: Volume) -> Thresholder:
    """Finds what is brighter than half of the ball."""
    return Thresholder(above=(50 - image.array.mean()) / image.array.std())


class TestSegment:
    @pytest.mark.parametrize("flips", [False, True])
    def test_a_bright_ball_is_found_on_the_volumes_own_grid(self, flips: bool):
        image, mask = volume_with_ball(14.0)
        found = segment(model_of(halfway(image)), image, flips=flips)
        assert found.labels.array.shape == SHAPE
        assert found.labels.array.dtype == np.uint8
        np.testing.assert_array_equal(found.labels.ijk_to_ras, image.ijk_to_ras)
        assert dice(found.labels.array == 1, mask) > 0.95
        assert found.doubt == ""

    def test_the_block_moves_onto_what_it_sees(self):
        image, mask = volume_with_ball(14.0, (18.0, -15.0, 15.0))
        network = halfway(image)
        found = segment(model_of(network), image, flips=False)
        assert dice(found.labels.array == 1, mask) > 0.95
        assert network.calls > 1

    def test_what_does_not_fit_into_a_block_is_predicted_in_several(self):
        image, mask = volume_with_ball(38.0)  # 76 mm in a block of 64 x 64 x 40
        network = halfway(image)
        found = segment(model_of(network), image, flips=False)
        assert dice(found.labels.array == 1, mask) > 0.97
        assert network.calls > 8

    def test_a_region_of_interest_says_where_to_look(self):
        image, mask = volume_with_ball(10.0, (20.0, 20.0, 25.0))
        place = image.ijk_to_ras[:3, :3] @ np.argwhere(mask).mean(0)[::-1] + image.ijk_to_ras[:3, 3]
        roi = tuple(float(bound) for at in place for bound in (at - 8, at + 8))
        found = segment(model_of(halfway(image)), image, flips=False, roi=roi)
        assert dice(found.labels.array == 1, mask) > 0.9
        with pytest.raises(UserError, match="outside the volume"):
            segment(model_of(Thresholder()), image, roi=(900, 901, 900, 901, 900, 901))

    def test_a_locator_of_slices_says_which_slices(self):
        image, mask = volume_with_ball(9.0, (24.0, 24.0, 30.0))  # beyond the block in the middle of the volume
        model = model_of(halfway(image), Thresholder(2, above=1.0))
        assert dice(segment(model, image, flips=False).labels.array == 1, mask) > 0.9

    def test_where_there_is_nothing_it_says_so(self):
        image = Volume(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), ijk_to_ras(SPACING))
        found = segment(model_of(Thresholder(above=50.0)), image, flips=False)
        assert not found.labels.array.any()
        assert found.doubt

    def test_flips_are_averaged_only_if_the_training_saw_some(self):
        image, _ = volume_with_ball(14.0)
        calls = []
        for flip in (0.5, 0.0):
            model = model_of(halfway(image))
            augment = model.config.augment.model_copy(update={"flip": flip})
            model.config = model.config.model_copy(update={"augment": augment})
            segment(model, image, flips=True)
            calls.append(model.network.calls)
        assert calls[0] == calls[1] + 4

    def test_a_single_slice_is_an_error(self):
        image = Volume(np.random.default_rng(0).normal(size=(1, 40, 40)).astype(np.float32), ijk_to_ras(SPACING))
        with pytest.raises(UserError, match="single slice") as caught:
            segment(model_of(Thresholder()), image)
        assert "network.dimensions=2" in caught.value.hint

    def test_the_maps(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(predict_blocks, "PIXELS", 1)  # one slice at a time
        image, mask = volume_with_ball(14.0)
        kinds = ("confidence", "entropy", "threshold", "pseudo_labels")
        maps = segment(model_of(halfway(image)), image, flips=False, maps=kinds).maps
        assert {kind: found.array.shape for kind, found in maps.items()} == dict.fromkeys(kinds, SHAPE)
        sure = maps["confidence"].array > 0.999
        assert sure.mean() > 0.9
        assert maps["entropy"].array[sure].max() < 0.01
        assert dice(maps["pseudo_labels"].array == 1, mask) > 0.95
        inside = maps["threshold"].array[mask]
        np.testing.assert_allclose(inside, 0.95 if inside.max() > 0.9 else 0.5, atol=1e-6)


class Pointwise(nn.Module):
    """Each voxel's classes depend on its own intensity alone."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = torch.cat([torch.zeros_like(image), image, 0.5 * image - 1, -image], dim=1)
        return logits, image


class TestParts:
    def test_a_pointwise_network_gives_in_parts_what_it_gives_at_once(self):
        image, _ = volume_with_ball(20.0)
        image.array[:] += np.random.default_rng(1).normal(size=SHAPE) * 10
        stack, model = as_stack(image, "acquired"), model_of(Pointwise())
        region = Region(Block((17, 48, 40), (5.0, 2.0)), (40.0, 45.0, 48.0))
        parts = predict_region(model, stack, region, CPU, flips=True)
        whole = sample_block(stack, region.middle, region.grid, model.config.preprocess.clip)
        expected = Pointwise()(torch.from_numpy(whole)[None, None])[0].softmax(1)[0]
        torch.testing.assert_close(torch.from_numpy(parts), expected, atol=1e-6, rtol=0)

    def test_tiles_cover_everything_and_overlap_by_half(self):
        starts = sorted({tile[1].start for tile in tiles((8, 56, 32), (8, 32, 32))})
        assert starts == [0, 16, 24]
        seen = np.zeros((9, 40, 33), int)
        for tile in tiles(seen.shape, (4, 16, 16)):
            assert seen[tile].shape == (4, 16, 16)
            seen[tile] += 1
        assert seen.min() == 1
        assert len(list(tiles((4, 8, 8), (4, 8, 8)))) == 1

    def test_a_voxel_counts_most_in_the_middle(self):
        weight = weights_of((8, 32, 32))
        assert weight.max() == 1
        assert weight.min() > 0
        assert float(weight[4, 16, 16]) == pytest.approx(1.0)
        torch.testing.assert_close(weight, weight.flip(0, 1, 2))
        # A standard deviation from the middle, 4 of 32 columns: exp(-1/2), both seen from the middle's half voxel.
        assert float(weight[4, 16, 20] / weight[4, 16, 16]) == pytest.approx(np.exp(-(4.5**2 - 0.5**2) / 32), rel=1e-4)


class TestGrowing:
    block = Block((8, 32, 32), (5.0, 2.0))

    def stack(self, shape=(40, 100, 100)):
        return as_stack(Volume(np.zeros(shape, np.float32), ijk_to_ras((2.0, 2.0, 5.0))), "acquired")

    def test_only_where_the_heart_reaches_a_face(self):
        heart, home = np.zeros((8, 32, 32), bool), Region(self.block, (100.0, 100.0, 100.0))
        assert grown(heart, home, self.block, self.stack()) == home
        heart[3, 10, 31] = True  # the last column
        # The first column stays where it is: 16 more of 2 mm lie behind the last one.
        assert grown(heart, home, self.block, self.stack()) == Region(
            Block((8, 32, 48), (5.0, 2.0)), (100.0, 100.0, 116.0)
        )
        heart[0, 10, 10] = True  # the first slice
        assert grown(heart, home, self.block, self.stack()) == Region(
            Block((12, 32, 48), (5.0, 2.0)), (90.0, 100.0, 116.0)
        )

    def test_not_beyond_the_volume(self):
        home = Region(self.block, (17.5, 31.0, 31.0))
        assert grown(np.ones((8, 32, 32), bool), home, self.block, self.stack((8, 32, 32))) == home


def test_beyond_the_block_only_what_continues_from_it_is_kept():
    probability = np.zeros((3, 4, 4, 12), np.float32)
    probability[0] = 1
    home = (slice(0, 4), slice(0, 4), slice(0, 6))
    for value, columns in ((1, slice(3, 8)), (1, slice(10, 12)), (2, slice(8, 9))):
        probability[:, 1, 1, columns] = 0
        probability[value, 1, 1, columns] = 1
    keep_continuations(probability, home)
    assert probability.argmax(axis=0)[1, 1].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    np.testing.assert_array_equal(probability.sum(axis=0), 1)
