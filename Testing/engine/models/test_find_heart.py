"""Finding the heart: the arithmetic of the place and what makes it plausible."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from semicardiac.base.errors import Stopped
from semicardiac.base.events import EventLog, Progress
from semicardiac.config import TrainConfig
from semicardiac.data.cases import Case
from semicardiac.data.slice_bank import SliceBank
from semicardiac.data.slices import Stack, as_stack
from semicardiac.images.volumes import Volume
from semicardiac.models.find_heart import Found, area_bounds, find_heart, find_in_coarse, heart_area, reconcile
from semicardiac.models.model import build_locator
from semicardiac.training.context import Context
from semicardiac.training.locator import Course, train_locator
from semicardiac.training.schedule import Budget
from torch import nn

from Testing.engine.networks import (
    ACDC,
    CPU,
    Thresholder,
    ijk_to_ras,
    mass_center,
    same_weights,
    stop_after,
    tiny_config,
    weights_of,
)

CONFIG = tiny_config()  # the locator sees 32 x 32 pixels of 4 mm
ANY_AREA = (0.0, 1e9)


def stack_of(array: np.ndarray, spacing: tuple[float, float, float] = (8.0, 2.0, 2.0)) -> Stack:
    return Stack(array, spacing, (0, 1, 2), (False, False, False))


def coarse(*boxes: tuple[slice, slice, slice], slices: int = 3) -> np.ndarray:
    """Dark slices with bright boxes."""
    images = np.full((slices, 32, 32), -1.0, np.float32)
    for box in boxes:
        images[box] = 3
    return images


def find(
    images: np.ndarray, area: tuple[float, float] = ANY_AREA, middle: tuple[float, float] = (100.0, 80.0)
) -> Found:
    return find_in_coarse(Thresholder(2, above=1.0), images, middle, CONFIG, CPU, area)


class TestPlace:
    def test_by_hand(self):
        # Rows 4..7 and columns 20..29 of 32: 10 and 9 pixels of 4 mm from the middle at 15.5
        found = find(coarse((slice(None), slice(4, 8), slice(20, 30))))
        assert found.center == pytest.approx((100 - 10 * 4, 80 + 9 * 4), abs=1e-3)
        assert found.doubt == ""

    def test_what_all_slices_show_wins_over_what_one_shows_far_away(self):
        larger_in_one_slice = (slice(0, 1), slice(2, 8), slice(2, 8))  # 36 pixels
        smaller_in_all = (slice(None), slice(24, 29), slice(24, 29))  # 25 pixels in each of three slices
        found = find(coarse(larger_in_one_slice, smaller_in_all))
        assert found.center == pytest.approx((100 + 10.5 * 4, 80 + 10.5 * 4), abs=1e-3)

    def test_of_two_alike_the_one_nearer_to_the_middle_is_taken(self):
        near, far = (slice(None), slice(9, 14), slice(9, 14)), (slice(None), slice(27, 32), slice(27, 32))
        assert find(coarse(near, far)).center == pytest.approx((100 - 4.5 * 4, 80 - 4.5 * 4), abs=1e-3)

    def test_slices_count_by_how_much_of_the_heart_they_show(self):
        base, apex = (slice(0, 2), slice(10, 18), slice(10, 18)), (slice(2, 3), slice(14, 18), slice(14, 18))
        rows = (2 * 64 * 13.5 + 16 * 15.5) / (2 * 64 + 16)
        assert find(coarse(base, apex)).center[0] == pytest.approx(100 + (rows - 15.5) * 4, abs=0.01)

    @pytest.mark.parametrize(
        "matrix", [ijk_to_ras((1.3, 1.6, 8), (20, -35, 50)), ijk_to_ras((2, 2, 9), mirror=(True, False, False))]
    )
    def test_in_a_volume_it_is_in_the_plane_of_the_stack(self, matrix: np.ndarray):
        labels = np.zeros((4, 70, 64), bool)
        labels[:, 40:60, 12:30] = True
        volume = Volume(np.where(labels, 200, 20).astype(np.int16), matrix)
        stack = as_stack(volume, "acquired")
        center = find_heart(Thresholder(2, above=0.0), stack, CONFIG, CPU, ANY_AREA).center
        row, col = center[0] / stack.spacing[1], center[1] / stack.spacing[2]
        there = matrix[:3, :3] @ (col, row, 1.5) + matrix[:3, 3]
        assert np.linalg.norm(there - mass_center(labels, matrix)) < 1.0

    def test_without_a_locator_it_is_the_middle(self):
        stack = stack_of(np.zeros((2, 11, 21)))
        assert find_heart(None, stack, CONFIG, CPU, ANY_AREA) == Found((10.0, 20.0), "")

    def test_more_slices_than_the_network_takes_at_once(self):
        found = find(coarse((slice(None), slice(4, 8), slice(20, 30)), slices=21))
        assert found.center == pytest.approx((60, 116), abs=1e-3)


class TestDoubt:
    def test_nothing_found(self):
        found = find(coarse())
        assert found.center == (100.0, 80.0)
        assert "no heart" in found.doubt

    @pytest.mark.parametrize(("area", "doubt"), [((1.0, 500.0), True), ((700.0, 1e4), True), ((600.0, 700.0), False)])
    def test_an_implausible_area_falls_back_to_the_middle(self, area: tuple[float, float], doubt: bool):
        found = find(coarse((slice(None), slice(4, 8), slice(20, 30))), area)  # 40 pixels of 16 mm²: 640 mm²
        assert bool(found.doubt) == doubt
        assert (found.center == (100.0, 80.0)) == doubt

    def test_areas_by_hand(self):
        labels = np.zeros((3, 10, 10), np.uint8)
        labels[0, 2:4, 2:4], labels[1, 3:6, 3:6] = 1, 3  # together 12 pixels when looked through
        assert heart_area(stack_of(labels, (8.0, 1.5, 2.0))) == pytest.approx(12 * 3)
        low, high = area_bounds([3000.0, 6000.0])
        assert low < 3000 / 2
        assert high > 6000 * 2

    @staticmethod
    def case(name: str) -> Case:
        return Case(name=name, patient=name.split("_")[0], image=Path(f"{name}.nii.gz"))

    def test_volumes_of_a_patient_that_disagree_take_the_place_of_the_one_with_most_to_go_by(self):
        cases = [self.case(name) for name in ("a_ed", "a_es", "b_ed", "b_es")]
        found = {
            "a_ed": Found((50.0, 50.0), "", 30.0), "a_es": Found((90.0, 50.0), "", 10.0),
            "b_ed": Found((50.0, 50.0), "", 10.0), "b_es": Found((60.0, 50.0), "", 30.0),  # 10 mm: a heart that beats
        }  # fmt: skip
        moved = reconcile(found, cases, dict.fromkeys(found, (60.0, 60.0)))
        assert set(moved) == {"a_es"}
        assert moved["a_es"].center == (50.0, 50.0)
        assert "40 mm" in moved["a_es"].doubt

    def test_volumes_on_different_grids_are_not_compared(self):
        cases = [self.case("a_ed"), self.case("a_es")]
        found = {"a_ed": Found((50.0, 50.0), "", 30.0), "a_es": Found((90.0, 50.0), "", 10.0)}
        assert reconcile(found, cases, {"a_ed": (60.0, 60.0), "a_es": (80.0, 60.0)}) == {}


def disks(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noisy slices with one bright disk each, its mask, and its middle as (row, col)."""
    rng = np.random.default_rng(seed)
    middles = rng.uniform(11, 20, (count, 2))
    rows, cols = np.mgrid[:32, :32]
    masks = np.hypot(rows - middles[:, :1, None], cols - middles[:, 1:, None]) < 4.5
    return (masks * 2.0 - 0.5 + rng.normal(0, 0.3, masks.shape)).astype(np.float16), masks.astype(np.uint8), middles


def learn(
    network: nn.Module,
    bank: SliceBank,
    config: TrainConfig,
    share_done: Callable[[int], float],
    told: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Trains a locator outside of any training."""
    context = Context(Path(), [], ACDC, config, Budget(config.schedule), EventLog(None, told), stop)
    train_locator(network, bank, CPU, context, Course("finding the heart", 0, share_done))


class TestTraining:
    def test_it_learns_to_find_disks(self):
        images, masks, _ = disks(24, 0)
        torch.manual_seed(0)
        network = build_locator(CONFIG)
        config = tiny_config(locate={"batch": 6})
        told: list[Progress] = []
        learn(network, SliceBank(images, masks, {}, {}, 32), config, lambda step: step / 100, told.append)
        assert len(told) == 2
        assert told[1].loss < 0.7 * told[0].loss
        assert not network.training
        unseen, _, middles = disks(10, 1)
        for image, middle in zip(unseen.astype(np.float32), middles, strict=True):
            found = find_in_coarse(network, image[None], (0.0, 0.0), config, CPU, ANY_AREA)
            assert math.dist(found.center, (middle - 15.5) * 4) < 6  # 1.5 pixels

    def test_a_stop_comes_through(self):
        images, masks, _ = disks(4, 0)
        bank = SliceBank(images, masks, {}, {}, 32)
        with pytest.raises(Stopped):
            learn(build_locator(CONFIG), bank, CONFIG, lambda step: 0.0, stop=stop_after(2))

    def test_the_same_seed_gives_the_same_weights(self):
        images, masks, _ = disks(8, 0)
        weights = []
        for _ in range(2):
            torch.manual_seed(0)
            network = build_locator(CONFIG)
            learn(network, SliceBank(images, masks, {}, {}, 32), CONFIG, lambda step: step / 5)
            weights.append(weights_of(network))
        assert same_weights(*weights)
