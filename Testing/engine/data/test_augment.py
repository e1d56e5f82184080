"""Views: replay, one grid for all that belongs together, and each change against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from semicardiac.config import AugmentConfig
from semicardiac.data.augment import View, clean_crops, draw, flip_like, grid_of, plain_grid, recolor, warp
from torch import Tensor
from torch.nn import functional as F

from Testing.engine.networks import STILL

CLIP = (-3.0, 4.0)
STRONG = AugmentConfig(rotation=60, shift=0.2, elastic=0.05, cutout=0.5, crop=0.5)


def views(config: AugmentConfig, count: int = 4, seed: int = 0) -> View:
    return draw(config, count, torch.Generator().manual_seed(seed))


def still(**changes: float | tuple[float, float]) -> AugmentConfig:
    """Views that change one thing only."""
    return STILL.model_copy(update=changes)


def smooth(count: int, side: int, seed: int = 0) -> Tensor:
    """Pictures without sharp edges, within CLIP: (count, 1, side, side)."""
    coarse = torch.randn(count, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (side, side), mode="bicubic", align_corners=True).clamp(-2.5, 3.5)


def disk(side: int, row: float, col: float, radius: float) -> Tensor:
    """(1, 1, side, side)."""
    axis = torch.arange(side)
    return (((axis.view(-1, 1) - row) ** 2 + (axis - col) ** 2) < radius**2).float().view(1, 1, side, side)


def place_of(mask: Tensor) -> tuple[float, float]:
    """The middle of a mask from the picture's middle, (x, y) in pixels."""
    rows, cols = mask.squeeze().nonzero().float().mean(0)
    middle = (mask.shape[-1] - 1) / 2
    return float(cols) - middle, float(rows) - middle


class TestReplay:
    def test_the_same_view_gives_the_same_picture_to_the_last_bit(self):
        view, square = views(STRONG), smooth(4, 48)
        pictures = [recolor(warp(square, grid_of(view, 32), crop=32, outside="border"), view, CLIP) for _ in range(2)]
        assert torch.equal(*pictures)

    def test_a_view_survives_as_plain_numbers(self):
        view, square = views(STRONG), smooth(4, 48)
        stored = [part.tolist() for part in view.tensors]
        again = View(*(torch.tensor(part) for part in stored), view.noise_seed)
        pictures = [recolor(warp(square, grid_of(each, 32), crop=32), each, CLIP) for each in (view, again)]
        assert torch.equal(*pictures)

    def test_the_generator_decides(self):
        first, second, other = views(STRONG, seed=1), views(STRONG, seed=1), views(STRONG, seed=2)
        assert all(torch.equal(a, b) for a, b in zip(first.tensors, second.tensors, strict=True))
        assert first.noise_seed == second.noise_seed != other.noise_seed
        assert not torch.equal(first.matrix, other.matrix)

    def test_the_global_random_state_is_neither_read_nor_moved(self):
        results = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            view = views(STRONG)
            results.append(recolor(warp(smooth(4, 48), grid_of(view, 32), crop=32), view, CLIP))
            assert torch.equal(before, torch.get_rng_state())
        assert torch.equal(*results)

    def test_the_images_of_a_batch_get_views_of_their_own(self):
        view = views(STRONG, 8)
        assert len({tuple(row) for row in view.intensity[:, :3].tolist()}) == 8
        grids = grid_of(view, 32)
        assert all(not torch.equal(grids[0], other) for other in grids[1:])


class TestOneGrid:
    def test_the_identity_view_is_the_middle_of_the_square(self):
        view, square = views(still()), smooth(4, 48)
        seen = recolor(warp(square, grid_of(view, 32), crop=32), view, CLIP)
        torch.testing.assert_close(seen, square[:, :, 8:40, 8:40], atol=1e-4, rtol=0)
        plain = warp(square, plain_grid(4, 32, torch.device("cpu")), crop=32)
        torch.testing.assert_close(plain, square[:, :, 8:40, 8:40], atol=1e-5, rtol=0)

    @pytest.mark.parametrize("seed", range(3))
    def test_image_and_label_move_alike(self, seed: int):
        label = torch.randint(0, 4, (4, 1, 48, 48), generator=torch.Generator().manual_seed(seed)).float()
        grid = grid_of(views(STRONG, seed=seed), 32)
        image = warp(label * 0.5 + 1, grid, crop=32, mode="nearest", outside="border")
        moved = warp(label, grid, crop=32, mode="nearest", outside="border")
        assert torch.equal((image - 1) / 0.5, moved)

    @pytest.mark.parametrize("seed", range(3))
    def test_what_lies_in_the_square_and_what_lies_in_the_crop_move_alike(self, seed: int):
        # Images and labels are stored in the bank's square, pseudo-labels and γ in the crop in its middle.
        square = smooth(4, 56, seed)
        crop = square[:, :, 12:44, 12:44]
        grid = grid_of(views(STRONG.model_copy(update={"scale": (1.0, 1.6)}), seed=seed), 32)
        inside = (grid.abs() < 1 - 1 / 32).all(-1, keepdim=True).movedim(-1, 1)
        assert 0.2 < inside.float().mean() < 1
        difference = warp(square, grid, crop=32) - warp(crop, grid, crop=32)
        assert difference[inside].abs().max() < 1e-4
        labels = [warp(each.round(), grid, crop=32, mode="nearest") for each in (square, crop)]
        assert (labels[0] == labels[1])[inside].float().mean() > 0.999  # but for ties between two pixels

    def test_pseudo_label_and_gamma_move_with_the_image(self):
        label = (smooth(4, 32) > 0).float()
        gamma = 0.9 * label
        grid = grid_of(views(STRONG), 32)
        moved_label, moved_gamma = warp(label, grid, crop=32, mode="nearest"), warp(gamma, grid, crop=32)
        image = warp(label, grid, crop=32)  # bilinear, as the image is
        torch.testing.assert_close(moved_gamma, 0.9 * image, atol=1e-5, rtol=0)
        assert ((moved_label == 1) != (image > 0.5)).float().mean() < 0.03  # the edge within a pixel
        sure = (image < 0.01) | (image > 0.99)
        assert torch.equal(moved_label[sure], image[sure].round())

    def test_an_offset_moves_the_crop_within_the_square(self):
        square = smooth(3, 48)
        offset = torch.tensor([[0.0, 0.0], [3.0, -5.0], [-8.0, 8.0]])  # (row, col)
        grid = plain_grid(3, 32, torch.device("cpu"))
        seen = warp(square, grid, crop=32, offset=offset)
        for image, (row, col) in enumerate(offset.int().tolist()):
            torch.testing.assert_close(
                seen[image], square[image, :, 8 + row : 40 + row, 8 + col : 40 + col], atol=1e-5, rtol=0
            )

    def test_an_offset_moves_every_view_as_if_the_crop_had_been_there(self):
        square, grid = smooth(2, 64), grid_of(views(STRONG, 2), 32)
        offset = torch.tensor([[4.0, -6.0], [4.0, -6.0]])
        there = square[:, :, 4 + 4 : 60 + 4, 4 - 4 : 60 - 4]  # 56 of 64, its middle moved by (4, -4)
        moved = warp(square, grid, crop=32, offset=offset)
        same = warp(there, grid, crop=32, offset=offset - torch.tensor([4.0, -4.0]))
        inside = warp(torch.ones_like(there), grid, crop=32, offset=offset - torch.tensor([4.0, -4.0])) > 0.999
        assert inside.float().mean() > 0.9
        torch.testing.assert_close(moved[inside], same[inside], atol=1e-4, rtol=0)

    def test_outside_gamma_is_zero_and_an_image_goes_on(self):
        view = views(still())._replace(shift=torch.tensor([[1.0, 0.0]]).repeat(4, 1))  # half a crop to the right
        ones = torch.ones(4, 1, 32, 32)
        gamma, image = (warp(ones, grid_of(view, 32), crop=32, outside=outside) for outside in ("zeros", "border"))
        assert gamma[..., :16].eq(1).all()
        assert gamma[..., 16:].eq(0).all()
        assert image.eq(1).all()


class TestGeometry:
    """What is drawn does what its name says, seen on a disk."""

    @pytest.mark.parametrize("scale", [0.7, 1.3])
    def test_scale_enlarges(self, scale: float):
        seen = warp(disk(64, 31.5, 31.5, 12), grid_of(views(still(scale=(scale, scale)), 1), 64), crop=64)
        assert float((seen > 0.5).sum()) == pytest.approx(math.pi * (12 * scale) ** 2, rel=0.03)

    def test_rotation_keeps_distances_and_the_middle(self):
        config = still(rotation=180)
        for seed in range(5):
            grid = grid_of(views(config, 1, seed), 64)
            x, y = place_of(warp(disk(64, 31.5, 47.5, 6), grid, crop=64) > 0.5)
            assert math.hypot(x, y) == pytest.approx(16, abs=0.2)
            middle = place_of(warp(disk(64, 31.5, 31.5, 9), grid, crop=64) > 0.5)
            assert middle == pytest.approx((0, 0), abs=0.2)

    def test_matrix_and_shift_lead_from_the_view_to_the_crop(self):
        view = views(STRONG.model_copy(update={"elastic": 0.0}), 3)
        grid, plain = grid_of(view, 8), plain_grid(3, 8, torch.device("cpu"))
        expected = torch.einsum("bij,bhwj->bhwi", view.matrix, plain) + view.shift.view(3, 1, 1, 2)
        torch.testing.assert_close(grid, expected, atol=1e-6, rtol=0)

    def test_shift_is_a_share_of_the_crop(self):
        shifts = views(still(shift=0.25), 2000).shift
        assert shifts.abs().max() <= 0.5  # crop units: the side is 2
        assert shifts.amax(0).tolist() == pytest.approx([0.5, 0.5], abs=0.01)
        assert shifts.amin(0).tolist() == pytest.approx([-0.5, -0.5], abs=0.01)
        assert abs(np.corrcoef(*shifts.T)[0, 1]) < 0.1  # along x and y by chances of their own
        view = views(still(), 1)._replace(shift=torch.tensor([[0.25, -0.5]]))
        assert place_of(warp(disk(64, 31.5, 31.5, 6), grid_of(view, 64), crop=64) > 0.5) == pytest.approx(
            (-8, 16), abs=0.1
        )

    @pytest.mark.parametrize(("flip", "axes"), [((True, False), [3]), ((False, True), [2]), ((True, True), [2, 3])])
    def test_flips(self, flip: tuple[bool, bool], axes: list[int]):
        drawn = views(still(flip=0.5), 64)
        chosen = drawn.flip.eq(torch.tensor(flip)).all(1).nonzero()[0]
        view = View(*(part[chosen] for part in drawn.tensors), drawn.noise_seed)
        image = smooth(1, 32)
        torch.testing.assert_close(warp(image, grid_of(view, 32), crop=32), image.flip(axes), atol=1e-5, rtol=0)

    def test_the_drawn_numbers_keep_to_their_bounds_and_use_them(self):
        config = AugmentConfig(rotation=40, scale=(0.8, 1.5), shift=0, flip=0.5)
        view = views(config, 4000)
        determinant = torch.det(view.matrix)
        scale = determinant.abs().rsqrt()
        assert scale.min() == pytest.approx(0.8, abs=0.01)
        assert scale.max() == pytest.approx(1.5, abs=0.01)
        assert (scale < 1).float().mean() == pytest.approx(
            math.log(1.25) / math.log(1.5 / 0.8), abs=0.03
        )  # even in logarithm
        mirrored = view.flip[:, 0] ^ view.flip[:, 1]
        assert torch.equal(determinant < 0, mirrored)
        assert view.flip.float().mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.04)
        unflipped = view.matrix[~view.flip.any(1)]
        angle = torch.atan2(unflipped[:, 1, 0], unflipped[:, 0, 0]).rad2deg()
        assert (angle.min(), angle.max()) == pytest.approx((-40, 40), abs=1)
        assert angle.abs().max() <= 40.01

    def test_elastic_moves_by_a_share_of_the_side(self):
        displacement = views(still(elastic=0.05), 500).displacement
        assert displacement.std() == pytest.approx(2 * 0.05, rel=0.03)
        assert not torch.equal(displacement[:, 0], displacement[:, 1])
        assert views(still(), 5).displacement.eq(0).all()

    def test_elastic_bends_the_grid_by_what_was_drawn_at_the_control_points(self):
        view = views(still(elastic=0.05, elastic_points=5), 3)
        bend = grid_of(view, 33) - plain_grid(3, 33, torch.device("cpu"))
        points = bend[:, ::8, ::8].movedim(-1, 1)  # x is moved by the first map, y by the second
        torch.testing.assert_close(points, view.displacement, atol=1e-5, rtol=0)

    def test_elastic_bends_without_kinks(self):
        displacement = torch.zeros(1, 2, 6, 6)
        displacement[0, :, 3, 2] = 1.0
        grid = grid_of(views(still(), 1)._replace(displacement=displacement), 201)
        bend = (grid - plain_grid(1, 201, torch.device("cpu"))).double()
        for axis in (1, 2):  # a tent of 40 pixels has a kink of 2 / 40 at its top
            assert bend.diff(n=2, dim=axis).abs().max() < 0.2 * 2 / 40

    def test_a_random_crop_shows_a_part_of_the_plain_view(self):
        view = views(still(crop=1.0), 500)
        reach = torch.diagonal(view.matrix, dim1=1, dim2=2) + view.shift.abs()
        assert reach.max() <= 1 + 1e-5
        assert 0.7 <= view.matrix[:, 0, 0].min() < 0.72
        assert view.shift.amax(0).min() > 0.2  # anywhere: at the left or right, at the top or bottom
        assert view.shift.amin(0).max() < -0.2
        assert abs(np.corrcoef(*view.shift.T)[0, 1]) < 0.2


class TestCleanCrops:
    def test_beyond_the_square_the_image_goes_on(self):
        square = smooth(2, 40) + 5  # nowhere 0
        seen = clean_crops(square, torch.tensor([[0.0, 0.0], [10.0, -9.0]]), 32)
        torch.testing.assert_close(seen[0], square[0, :, 4:36, 4:36], atol=1e-5, rtol=0)
        expected = F.pad(square[1:], (5, 0, 0, 6), mode="replicate")[0, :, 14:46, 0:32]
        torch.testing.assert_close(seen[1], expected, atol=1e-5, rtol=0)


class TestFlipLike:
    @pytest.mark.parametrize("seed", range(3))
    def test_it_flips_features_as_the_view_flips_the_image(self, seed: int):
        view, image = views(still(flip=0.5), 8, seed), smooth(8, 32, seed)
        features = F.avg_pool2d(image, 8)  # an encoder that knows no left and right
        of_the_view = F.avg_pool2d(warp(image, grid_of(view, 32), crop=32), 8)
        torch.testing.assert_close(flip_like(features, view.flip), of_the_view, atol=1e-5, rtol=0)

    def test_without_flips_it_changes_nothing(self):
        features = torch.randn(4, 3, 5, 5)
        assert torch.equal(flip_like(features, views(still()).flip), features)


class TestIntensity:
    """Each change alone, against its formula; `unit` is the range between the clip bounds as 0 to 1."""

    image = smooth(2, 32)
    unit = (image + 3) / 7

    @staticmethod
    def with_values(**values: float) -> View:
        order = ("brightness", "gain", "gamma", "noise", "blur")
        row = [values.get(name, 1.0 if name in order[:3] else 0.0) for name in order]
        return views(still(), 2)._replace(intensity=torch.tensor([row, row]))

    def test_nothing_drawn_changes_nothing(self):
        torch.testing.assert_close(recolor(self.image, views(still(), 2), CLIP), self.image, atol=1e-5, rtol=0)

    def test_brightness_multiplies(self):
        seen = recolor(self.image, self.with_values(brightness=0.7), CLIP)
        torch.testing.assert_close(seen, self.unit * 0.7 * 7 - 3, atol=1e-5, rtol=0)

    def test_gamma_bends(self):
        seen = recolor(self.image, self.with_values(gamma=1.6), CLIP)
        torch.testing.assert_close(seen, self.unit**1.6 * 7 - 3, atol=1e-5, rtol=0)

    def test_gain_stretches_around_the_mean_of_each_image(self):
        seen = recolor(self.image, self.with_values(gain=1.4), CLIP)
        mean = self.image.mean((1, 2, 3), keepdim=True)
        torch.testing.assert_close(seen, (mean + 1.4 * (self.image - mean)).clamp(-5, 6), atol=1e-5, rtol=0)

    def test_blur_is_a_share_of_the_mean_of_nine(self):
        seen = recolor(self.image, self.with_values(blur=0.25), CLIP)
        row, col = 11, 20
        nine = self.image[0, 0, row - 1 : row + 2, col - 1 : col + 2].mean()
        assert seen[0, 0, row, col].item() == pytest.approx(
            float(0.75 * self.image[0, 0, row, col] + 0.25 * nine), abs=1e-4
        )

    def test_noise_has_the_deviation_that_was_drawn(self):
        big = torch.zeros(2, 1, 128, 128)
        seen = recolor(big, self.with_values(noise=0.2), CLIP)
        assert seen.std().item() == pytest.approx(0.2, rel=0.02)
        assert abs(np.corrcoef(seen[0].flatten(), seen[1].flatten())[0, 1]) < 0.05  # each image its own

    def test_noise_stays_near_the_range(self):
        ends = torch.tensor(CLIP).view(2, 1, 1, 1).expand(2, 1, 32, 32)
        seen = recolor(ends, self.with_values(noise=3.0), CLIP)
        assert (seen[0].min(), seen[1].max()) == (-5, 6)  # 2 standard deviations of the volume beyond it

    def test_half_of_the_views_have_noise_of_any_deviation_up_to_the_largest(self):
        noise = views(AugmentConfig(noise=0.2), 3000).intensity[:, 3]
        assert noise.ne(0).float().mean() == pytest.approx(0.5, abs=0.03)
        assert 0.19 < noise.max() <= 0.2
        assert noise[noise > 0].mean() == pytest.approx(0.1, abs=0.01)

    def test_brightness_gain_and_gamma_keep_to_their_bounds_and_use_them(self):
        view = views(AugmentConfig(brightness=(0.6, 1.4), gain=(0.8, 1.5), gamma=(0.5, 1.7)), 4000)
        for values, bounds in zip(view.intensity.T, ((0.6, 1.4), (0.8, 1.5), (0.5, 1.7)), strict=False):
            assert (values.min(), values.max()) == pytest.approx(bounds, abs=0.01)
        even = math.log(1 / 0.5) / math.log(1.7 / 0.5)
        assert (view.intensity[:, 2] < 1).float().mean() == pytest.approx(even, abs=0.03)  # even in logarithm

    def test_cutouts_lie_anywhere_and_are_of_any_size(self):
        x, y, *halves = views(AugmentConfig(cutout=1), 3000).cutout.T
        for values, bounds in ((x, (-0.8, 0.8)), (y, (-0.8, 0.8)), *((half, (0.1, 0.35)) for half in halves)):
            assert (values.min(), values.max()) == pytest.approx(bounds, abs=0.01)
        assert not torch.equal(x, y)
        assert not torch.equal(*halves)

    def test_blur_goes_on_at_the_edges(self):
        seen = recolor(self.image, self.with_values(blur=1.0), CLIP)
        around = F.pad(self.image, (1, 1, 1, 1), mode="replicate")[0, 0, :3, :3]
        assert seen[0, 0, 0, 0].item() == pytest.approx(float(around.mean()), abs=1e-4)

    def test_cutout_blanks_a_rectangle(self):
        view = self.with_values()._replace(cutout=torch.tensor([[0.0, -0.5, 0.25, 0.125], [0.0, 0.0, 0.0, 0.0]]))
        seen = recolor(self.image, view, CLIP)
        blank = torch.zeros(32, 32, dtype=torch.bool)
        for row in range(32):
            for col in range(32):
                x, y = (col * 2 + 1) / 32 - 1, (row * 2 + 1) / 32 - 1
                blank[row, col] = abs(x) < 0.25 and abs(y + 0.5) < 0.125
        assert seen[0, 0][blank].eq(CLIP[0]).all()
        torch.testing.assert_close(seen[0, 0][~blank], self.image[0, 0][~blank], atol=1e-5, rtol=0)
        torch.testing.assert_close(seen[1], self.image[1], atol=1e-5, rtol=0)

    def test_the_result_is_finite_at_both_ends_of_the_range(self):
        ends = torch.tensor([-3.0, 4.0]).view(2, 1, 1, 1).expand(2, 1, 32, 32)
        for values in ({"gamma": 0.6, "brightness": 1.3}, {"gamma": 1.6, "brightness": 0.7, "gain": 1.4}):
            seen = recolor(ends, self.with_values(**values), CLIP)
            assert torch.isfinite(seen).all()
            assert seen.min() >= -5
            assert seen.max() <= 6

    def test_how_often_things_happen(self):
        view = views(AugmentConfig(blur=0.3, cutout=0.4, crop=0.2, shift=0), 3000)
        assert (view.intensity[:, 4] > 0).float().mean() == pytest.approx(0.3, abs=0.03)
        assert (view.cutout[:, 2] > 0).float().mean() == pytest.approx(0.4, abs=0.03)
        assert view.shift.ne(0).any(1).float().mean() == pytest.approx(0.2, abs=0.03)
        assert views(AugmentConfig(cutout=0), 50).cutout.eq(0).all()
