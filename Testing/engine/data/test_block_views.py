"""Views of blocks: one view for all their slices, and how they move through them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from semicardiac.config import AugmentConfig
from semicardiac.data import augment
from semicardiac.data.block_views import draw_blocks, draw_view
from torch import Tensor
from torch.nn import functional as F

from Testing.engine.networks import STILL, tiny_config, tiny_volumes

SHAPE = (12, 32, 32)
CLIP = (-3.0, 4.0)


def drawn(config: AugmentConfig, count: int = 4, tilt: float = 0.0, thick: float = 1.0, seed: int = 0) -> augment.View:
    return draw_blocks(config, (thick, 1.0), tilt, count, torch.Generator().manual_seed(seed))


def still(**changes) -> AugmentConfig:
    return STILL.model_copy(update=changes)


def smooth(count: int, shape: tuple[int, int, int]) -> Tensor:
    coarse = torch.randn(count, 1, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, shape, mode="trilinear", align_corners=True).clamp(-2.5, 3.5)


def seen(stored: Tensor, view: augment.View) -> Tensor:
    return augment.warp(stored, augment.grid_of(view, SHAPE), crop=SHAPE)


class TestStill:
    def test_the_identity_view_is_the_middle_of_what_is_stored(self):
        stored = smooth(4, (20, 48, 48))
        view = drawn(still())
        middle = stored[:, :, 4:16, 8:40, 8:40]
        torch.testing.assert_close(augment.recolor(seen(stored, view), view, CLIP), middle, atol=1e-4, rtol=0)
        torch.testing.assert_close(augment.clean_crops(stored, torch.zeros(4, 3), SHAPE), middle, atol=1e-5, rtol=0)

    def test_an_offset_is_one_of_slice_row_and_column(self):
        stored = smooth(2, (20, 48, 48))
        found = augment.clean_crops(stored, torch.tensor([[3.0, -5.0, 2.0], [0.0, 8.0, -8.0]]), SHAPE)
        torch.testing.assert_close(found[0], stored[0, :, 7:19, 3:35, 10:42], atol=1e-4, rtol=0)
        torch.testing.assert_close(found[1], stored[1, :, 4:16, 16:48, 0:32], atol=1e-4, rtol=0)

    def test_slices_are_drawn_as_ever(self):
        config = tiny_config()
        ours = draw_view(config, 3, torch.Generator().manual_seed(5))
        theirs = augment.draw(config.augment, 3, torch.Generator().manual_seed(5))
        assert all(torch.equal(a, b) for a, b in zip(ours.tensors, theirs.tensors, strict=True))


class TestMoved:
    @pytest.mark.parametrize("axis", range(3))
    def test_flips(self, axis: int):
        view = drawn(still(flip=0.5), 64)
        wanted = torch.zeros(3, dtype=torch.bool)
        wanted[axis] = True
        chosen = view.flip.eq(wanted).all(1).nonzero()[0]
        one = augment.View(*(part[chosen] for part in view.tensors), view.noise_seed)
        image = smooth(1, SHAPE)
        torch.testing.assert_close(seen(image, one), image.flip(-1 - axis), atol=1e-4, rtol=0)

    def test_features_are_flipped_like_the_image(self):
        view, image = drawn(still(flip=0.5), 16), smooth(16, SHAPE)
        pooled = F.avg_pool3d(image, 4)
        of_the_view = F.avg_pool3d(seen(image, view), 4)
        torch.testing.assert_close(augment.flip_like(pooled, view.flip), of_the_view, atol=1e-4, rtol=0)

    def test_a_shift_through_the_slices(self):
        view = drawn(still(), 1)._replace(shift=torch.tensor([[0.0, 0.0, 2 * 3 / 12]]))
        image = smooth(1, SHAPE)
        torch.testing.assert_close(seen(image, view)[:, :, :9], image[:, :, 3:], atol=1e-4, rtol=0)

    def test_all_slices_of_a_block_move_alike_where_it_is_not_tilted(self):
        view = drawn(AugmentConfig(), 8)
        grid = augment.grid_of(view, SHAPE)
        assert torch.equal(grid[:, :1, ..., :2].expand(-1, 12, -1, -1, -1), grid[..., :2])
        assert view.matrix[:, 2, :2].eq(0).all()
        assert view.matrix[:, :2, 2].eq(0).all()

    def test_it_is_scaled_through_the_slices_as_within_them(self):
        view = drawn(AugmentConfig(), 50)
        within = view.matrix[:, :2, :2].det().abs().sqrt()
        torch.testing.assert_close(view.matrix[:, 2, 2].abs(), within)
        assert torch.equal(view.matrix[:, 2, 2] < 0, view.flip[:, 2])

    def test_a_tilt_is_a_rotation_in_mm(self):
        thick = 0.4
        view = drawn(still(), 200, tilt=15.0, thick=thick)
        unit = torch.diag(torch.tensor([1.0, 1.0, thick]))
        in_mm = unit @ view.matrix @ unit.inverse()
        torch.testing.assert_close(in_mm @ in_mm.transpose(1, 2), torch.eye(3).expand(200, 3, 3), atol=1e-5, rtol=0)
        torch.testing.assert_close(in_mm.det(), torch.ones(200), atol=1e-5, rtol=0)
        leaning = torch.rad2deg(torch.acos(in_mm[:, 2, 2].clamp(-1, 1)))
        assert 15 < float(leaning.max()) < 15 * np.sqrt(2) + 0.1


class TestWhichAreTilted:
    @pytest.mark.parametrize(("slice_mm", "tilted"), [(2.0, True), (8.0, False)])
    def test_thick_slices_stay_in_their_plane(self, slice_mm: float, tilted: bool):
        config = tiny_volumes(preprocess={"depth": 8, "slice_mm": slice_mm})
        matrix = draw_view(config, 20, torch.Generator().manual_seed(0)).matrix
        assert bool(matrix[:, 2, :2].ne(0).all()) == tilted

    def test_who_wants_no_rotation_gets_no_tilt(self):
        config = tiny_volumes(preprocess={"depth": 8, "slice_mm": 2.0}, augment={"rotation": 0.0})
        assert draw_view(config, 20, torch.Generator().manual_seed(0)).matrix[:, 2, :2].eq(0).all()


def test_a_blur_stays_within_slices():
    image = torch.zeros(1, 1, *SHAPE)
    image[:, :, 6] = 2.0
    view = drawn(still(), 1)._replace(intensity=torch.tensor([[1.0, 1.0, 1.0, 0.0, 1.0]]))
    torch.testing.assert_close(augment.recolor(image, view, CLIP), image, atol=1e-4, rtol=0)
