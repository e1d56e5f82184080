"""From a volume to labels on its own grid, with networks made by hand whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from semicardiac.base.errors import UserError
from semicardiac.data.names import MAPS
from semicardiac.data.slices import as_stack, restore_probabilities, sample_images
from semicardiac.images.volumes import Volume
from semicardiac.models import predict
from semicardiac.models.components import keep_largest
from semicardiac.models.forward import FLIPS, class_probabilities
from semicardiac.models.predict import Prediction, square_centroid
from torch import Tensor, nn

from Testing.engine.networks import (
    CPU,
    Thresholder,
    ball,
    dice,
    ijk_to_ras,
    mass_center,
    middle_of,
    model_of,
    ras_of_voxels,
)

OBLIQUE = ijk_to_ras((1.3, 1.6, 8.0), (20, -35, 50), (-40, 25, 310))
LEFT_HANDED = ijk_to_ras((1.3, 1.6, 8.0), (-10, 140, 75), (60, -25, -10), (False, True, False))
THIN_COLUMNS_LAST = ijk_to_ras((8.0, 1.3, 1.6), (5, 15, -30), (0, 0, 0))
FAR = 1000.0
segment = partial(predict.segment, maps=MAPS)


def bright_ball(
    matrix: np.ndarray,
    *,
    shape: tuple[int, int, int] = (5, 60, 64),
    aside: tuple[float, float, float] = (0, 0, 0),
    radius: float = 15,
) -> tuple[Volume, np.ndarray]:
    """A volume with a bright ball, `aside` mm (along columns, rows, slices) from its middle; and where the ball is."""
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    mask = ball(shape, matrix, middle_of(shape, matrix) + axes @ np.array(aside), radius)
    noise = np.random.default_rng(0).normal(0, 5, shape)
    return Volume((np.where(mask, 300, 50) + noise).astype(np.int16), matrix), mask


def model(network: nn.Module | None = None, locator: nn.Module | None = None, **preprocess):
    return model_of(network or Thresholder(above=1.0), locator=locator, **preprocess)


def checked(prediction: Prediction, volume: Volume) -> Prediction:
    """What holds of every prediction."""
    assert set(prediction.maps) == set(MAPS)
    for part in (prediction.labels, *prediction.maps.values()):
        assert part.array.shape == volume.array.shape
        np.testing.assert_array_equal(part.ijk_to_ras, volume.ijk_to_ras)
    assert prediction.labels.array.dtype == np.uint8
    assert prediction.maps["confidence"].array.dtype == prediction.maps["entropy"].array.dtype == np.float32
    assert prediction.maps["confidence"].array.min() >= 1 / 4 - 1e-5
    assert prediction.maps["confidence"].array.max() <= 1 + 1e-5
    assert prediction.maps["entropy"].array.min() >= 0
    assert prediction.maps["entropy"].array.max() <= 1
    return prediction


class TestWhereItLands:
    @pytest.mark.parametrize("matrix", [OBLIQUE, LEFT_HANDED], ids=["oblique", "left-handed"])
    @pytest.mark.parametrize(
        "aside", [(0, 0, 0), (14, -11, 6), (-35, 4, 0)], ids=["middle", "aside", "half out of the square"]
    )
    @pytest.mark.parametrize("flips", [True, False])
    def test_on_the_object_in_the_patient(self, matrix: np.ndarray, aside: tuple, flips: bool):
        volume, mask = bright_ball(matrix, aside=aside)
        found = checked(segment(model(), volume, flips=flips), volume).labels.array
        assert set(np.unique(found)) == {0, 1}
        assert dice(found == 1, mask) > 0.93
        assert np.linalg.norm(mass_center(found == 1, matrix) - mass_center(mask, matrix)) < 0.5

    @pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal", "acquired"])
    def test_whatever_the_plane_and_the_order_of_the_axes(self, plane: str):
        shape = (60, 64, 12)
        volume, mask = bright_ball(THIN_COLUMNS_LAST, shape=shape)
        found = checked(segment(model(plane=plane), volume), volume).labels.array
        assert dice(found == 1, mask) > 0.85
        assert np.linalg.norm(mass_center(found == 1, THIN_COLUMNS_LAST) - mass_center(mask, THIN_COLUMNS_LAST)) < 1.0

    def test_a_single_slice(self):
        volume, mask = bright_ball(OBLIQUE, shape=(1, 60, 64), aside=(10, 10, 0))
        found = checked(segment(model(), volume), volume).labels.array
        assert dice(found == 1, mask) > 0.93

    def test_more_slices_than_are_restored_at_a_time(self):
        volume, mask = bright_ball(ijk_to_ras((1.3, 1.6, 3.0), (20, -35, 50)), shape=(19, 60, 64))
        found = checked(segment(model(), volume), volume).labels.array
        assert dice(found == 1, mask) > 0.93

    def test_a_volume_smaller_than_the_square(self):
        volume, mask = bright_ball(OBLIQUE, shape=(3, 21, 17), radius=9)
        found = checked(segment(model(), volume), volume).labels.array
        assert dice(found == 1, mask) > 0.85

    def test_the_center_is_that_of_the_object(self):
        volume, mask = bright_ball(OBLIQUE, aside=(14, -11, 0))
        rows, cols = np.nonzero(mask.any(axis=0))
        expected = (rows.mean() * 1.6, cols.mean() * 1.3)
        assert segment(model(), volume).center == pytest.approx(expected, abs=3)


class TestThresholdMap:
    def test_it_lies_where_the_square_lies_and_is_scaled_by_the_class(self):
        trained = model()
        size, spacing = trained.config.preprocess.crop, trained.config.preprocess.spacing_mm
        trained.method.threshold = 0.2 + 0.6 * torch.rand(size, size, generator=torch.Generator().manual_seed(0))
        trained.method.ratio = torch.tensor([1.0, 0.75, 1.0, 1.0])
        volume, _ = bright_ball(OBLIQUE, aside=(14, -11, 0))
        found = segment(trained, volume, largest_component=False)
        rows, cols = np.mgrid[:60, :64]  # 1.6 and 1.3 mm apart
        half = (size - 1) / 2
        at = [(rows * 1.6 - found.center[0]) / spacing + half, (cols * 1.3 - found.center[1]) / spacing + half]
        inside = np.all([(place >= 0) & (place <= size - 1) for place in at], axis=0)
        naive = map_coordinates(trained.method.threshold.numpy(), at, order=1, mode="nearest")
        for labels, threshold in zip(found.labels.array, found.maps["threshold"].array, strict=True):
            expected = naive * np.where(labels == 1, 0.75, 1.0)
            np.testing.assert_allclose(threshold[inside], expected[inside], atol=1e-4)
        beyond = np.any([(place < -1) | (place > size) for place in at], axis=0)
        assert beyond.any()
        assert not found.maps["threshold"].array[:, beyond].any()

    def test_pseudo_labels_are_the_labels_that_pass(self):
        trained = model(Says(torch.tensor([0.1, 0.2, 0.6, 0.1]).log().view(1, 4, 1, 1)))
        trained.method.threshold[:, : trained.method.threshold.shape[1] // 2] = (
            0.7  # more than 0.6: the left half does not pass
        )
        volume, _ = bright_ball(OBLIQUE)
        found = segment(trained, volume, largest_component=False)
        middle = round(found.center[1] / 1.3)
        np.testing.assert_array_equal(found.labels.array[2, 30, middle - 9 : middle + 10], 2)
        np.testing.assert_array_equal(found.maps["pseudo_labels"].array[2, 30, middle - 9 : middle - 1], 0)
        np.testing.assert_array_equal(found.maps["pseudo_labels"].array[2, 30, middle + 2 : middle + 10], 2)

    @pytest.mark.parametrize("dptm", [True, False])
    def test_what_does_not_exceed_the_least_threshold_is_no_pseudo_label(self, dptm: bool):
        trained = model(Says(torch.tensor([0.1, 0.2, 0.6, 0.1]).log().view(1, 4, 1, 1)))
        name = "threshold_floor" if dptm else "fixed_threshold"
        trained.method.settings = trained.method.settings.model_copy(update={"dptm": dptm, name: 0.7})
        found = segment(trained, bright_ball(OBLIQUE)[0], largest_component=False)
        inside = found.maps["threshold"].array > 0
        assert inside.any()
        np.testing.assert_allclose(found.maps["threshold"].array[inside], 0.7, rtol=1e-6)
        assert not found.maps["pseudo_labels"].array.any()


class Counting:
    """A function of maps of slices that remembers how many it was given."""

    def __init__(self, function: Callable[..., np.ndarray]) -> None:
        self.function, self.slices = function, []

    def __call__(self, maps: np.ndarray, *arguments: object) -> np.ndarray:
        self.slices.append(len(maps))
        return self.function(maps, *arguments)


class Says(nn.Module):
    """Gives the same logits for whatever it sees."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits.expand(len(image), -1, *image.shape[2:]).clone(), image


class TestSureness:
    def test_confidence_and_entropy_by_hand(self):
        probability = torch.tensor([0.1, 0.2, 0.6, 0.1])
        volume, _ = bright_ball(OBLIQUE)
        found = segment(model(Says(probability.log().view(1, 4, 1, 1))), volume, largest_component=False)
        middle = (2, 30, 32)
        assert found.labels.array[middle] == 2
        assert found.maps["confidence"].array[middle] == pytest.approx(0.6, abs=1e-5)
        entropy = -sum(p * math.log(p) for p in probability.tolist()) / math.log(4)
        assert found.maps["entropy"].array[middle] == pytest.approx(entropy, abs=1e-5)

    def test_the_largest_entropy_is_one(self):
        volume, _ = bright_ball(OBLIQUE)
        found = checked(segment(model(Says(torch.zeros(1, 4, 1, 1))), volume), volume)
        assert found.maps["entropy"].array.max() == pytest.approx(1)
        assert found.maps["confidence"].array.min() == pytest.approx(0.25)

    def test_outside_the_square_it_is_background_for_sure(self):
        volume, _ = bright_ball(OBLIQUE, shape=(2, 120, 120))
        found = segment(model(Says(torch.tensor([0.0, 9.0, 0.0, 0.0]).view(1, 4, 1, 1))), volume)
        assert found.labels.array[0, 0, 0] == 0
        assert found.maps["confidence"].array[0, 0, 0] == 1
        assert found.maps["entropy"].array[0, 0, 0] == pytest.approx(0, abs=1e-4)
        covered = (found.labels.array == 1).sum(axis=(1, 2)) * 1.3 * 1.6
        np.testing.assert_allclose(covered, 64 * 64, rtol=0.03)  # the square is 32 pixels of 2 mm

    def test_edges_are_less_sure_than_the_inside(self):
        volume, mask = bright_ball(OBLIQUE)
        found = segment(model(Thresholder(above=1.0, sharpness=2.0)), volume)
        inside = ball(volume.array.shape, OBLIQUE, middle_of(volume.array.shape, OBLIQUE), 11)
        edge = mask & ~ball(volume.array.shape, OBLIQUE, middle_of(volume.array.shape, OBLIQUE), 14)
        assert found.maps["confidence"].array[edge].mean() < found.maps["confidence"].array[inside].mean() - 0.02
        assert found.maps["entropy"].array[edge].mean() > found.maps["entropy"].array[inside].mean() + 0.02


class Tilted(nn.Module):
    """Prefers class 1 at the left and class 2 at the top: not the same for a flipped image."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        size = image.shape[-1]
        across = torch.linspace(2, -2, size).expand(len(image), size, size)
        zero = torch.zeros(len(image), size, size)
        return torch.stack((image[:, 0], across, 1.5 * across.mT, zero), dim=1), image


class TestFlips:
    def test_probabilities_are_averaged_over_the_four_flips(self):
        volume, _ = bright_ball(OBLIQUE, aside=(7, -9, 0))
        stack, network = as_stack(volume, "acquired"), Tilted()
        images = torch.from_numpy(sample_images(stack, stack.middle, 2.0, 32, (-3.0, 4.0))).unsqueeze(1)
        expected = torch.zeros(5, 4, 32, 32)
        for axes in ([], [2], [3], [2, 3]):
            expected += network(images.flip(axes))[0].softmax(1).flip(axes) / 4
        found = class_probabilities(network, images, CPU, FLIPS)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        plain = class_probabilities(network, images, CPU)
        np.testing.assert_allclose(plain, network(images)[0].softmax(1), atol=1e-5)
        assert float((plain - found).abs().max()) > 0.1

    def test_the_final_prediction_is_the_averaged_one(self):
        volume, _ = bright_ball(OBLIQUE)
        found = [
            segment(model(Tilted()), volume, flips=flips, largest_component=False).labels.array
            for flips in (True, False)
        ]
        assert (found[0] != found[1]).any()


class TestLargestComponent:
    def test_by_hand(self):
        labels = np.zeros((2, 6, 8), np.uint8)
        labels[0, 0:2, 0:2] = 1  # 4 voxels and, touching at a corner of the next slice, one more
        labels[1, 2, 2] = 1
        labels[0, 5, 4:8] = 1  # 4 voxels on their own
        labels[0, 3, 6] = 2  # the only one of its kind
        kept = keep_largest(labels)
        expected = labels.copy()
        expected[0, 5, 4:8] = 0
        np.testing.assert_array_equal(kept, expected)
        assert kept.dtype == np.uint8

    def test_structures_do_not_lend_each_other_voxels(self):
        labels = np.zeros((1, 3, 9), np.uint8)
        labels[0, 1] = [1, 1, 0, 2, 2, 2, 1, 1, 1]
        assert keep_largest(labels)[0, 1].tolist() == [0, 0, 0, 2, 2, 2, 1, 1, 1]

    def test_the_heart_wins_over_a_larger_part_of_one_structure_elsewhere(self):
        labels = np.zeros((1, 4, 12), np.uint8)
        labels[0, 0] = [1, 1, 2, 2, 0, 1, 1, 1, 1, 1, 1, 1]  # two structures side by side; fat taken for the first
        labels[0, 3, 9:11] = 3  # a structure that has no part there
        kept = keep_largest(labels)
        assert kept[0, 0].tolist() == [1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0]
        assert kept[0, 3].tolist() == labels[0, 3].tolist()

    def test_of_two_places_with_as_many_structures_the_larger_wins(self):
        labels = np.array([[[1, 2, 0, 1, 1, 2, 0, 2, 1]]], np.uint8)
        assert keep_largest(labels)[0, 0].tolist() == [0, 0, 0, 1, 1, 2, 0, 0, 0]

    def test_nothing_stays_nothing(self):
        assert not keep_largest(np.zeros((2, 3, 4), np.uint8)).any()

    @pytest.mark.parametrize("largest_component", [True, False])
    def test_it_can_be_left_out(self, largest_component: bool):
        volume, mask = bright_ball(OBLIQUE)
        array = volume.array.copy()
        array[0, 16:20, 16:20] = 300  # a second bright thing within the square
        found = segment(model(), volume.with_array(array), largest_component=largest_component).labels.array
        assert found[2, 30, 32] == 1
        assert (found[0, 17:19, 17:19] == 1).any() != largest_component
        assert not mask[0, 16:20, 16:20].any()


class TestWhereItLooks:
    def test_nothing_found_is_said(self):
        volume, _ = bright_ball(OBLIQUE)
        found = checked(segment(model(Thresholder(above=FAR)), volume), volume)
        assert not found.labels.array.any()
        assert "no structure" in found.doubt

    def test_what_is_found_without_doubt_has_none(self):
        assert segment(model(), bright_ball(OBLIQUE)[0]).doubt == ""

    @pytest.mark.parametrize("plane", ["acquired", "axial", "sagittal"])
    @pytest.mark.parametrize("matrix", [OBLIQUE, LEFT_HANDED], ids=["oblique", "left-handed"])
    def test_an_roi_leads_to_an_object_that_cannot_be_seen_from_the_middle(self, matrix: np.ndarray, plane: str):
        shape = (12, 140, 150)
        volume, mask = bright_ball(matrix, shape=shape, aside=(-70, 75, 8))
        assert not segment(model(plane="acquired"), volume).labels.array.any()
        center = mass_center(mask, matrix)
        roi = tuple(float(x) for bound in zip(center - 20, center + 20, strict=True) for x in bound)
        found = segment(model(plane=plane), volume, roi=roi).labels.array
        assert dice(found == 1, mask) > 0.8

    def test_an_roi_spares_the_search(self):
        class Unused(nn.Module):
            def forward(self, image: Tensor) -> None:
                raise AssertionError("the locator was asked")

        volume, mask = bright_ball(OBLIQUE)
        center = mass_center(mask, OBLIQUE)
        roi = tuple(float(x) for bound in zip(center - 20, center + 20, strict=True) for x in bound)
        assert segment(model(locator=Unused()), volume, roi=roi).labels.array.any()
        with pytest.raises(AssertionError, match="locator"):
            segment(model(locator=Unused()), volume)

    def test_an_roi_outside_the_volume_is_an_error(self):
        volume, _ = bright_ball(OBLIQUE)
        with pytest.raises(UserError, match="outside the volume") as caught:
            segment(model(), volume, roi=(500, 520, 500, 520, 500, 520))
        assert caught.value.where == "roi"
        assert "RAS" in caught.value.hint

    def test_the_locator_brings_the_square_to_an_object_far_away(self):
        volume, mask = bright_ball(OBLIQUE, shape=(4, 140, 150), aside=(-45, 40, 0))
        assert not segment(model(), volume).labels.array.any()
        found = segment(model(locator=Thresholder(2, above=1.0)), volume)
        assert dice(found.labels.array == 1, mask) > 0.9
        assert found.doubt == ""

    def test_a_locator_in_doubt_falls_back_to_the_middle_and_says_why(self):
        volume, mask = bright_ball(OBLIQUE, aside=(8, 0, 0))
        found = segment(model(locator=Thresholder(2, above=FAR)), volume)
        assert found.doubt
        assert dice(found.labels.array == 1, mask) > 0.9

    def test_the_middle_of_a_prediction_by_hand(self):
        labels = np.zeros((2, 8, 8), np.uint8)
        labels[0, 2, 6], labels[1, 3, 6] = 1, 2
        labels[1, 7, 0] = 3  # apart from the heart
        # From the middle at 3.5, in pixels of 1.5 mm; structure 3 has no other place
        rows, cols = (2 + 3 + 7) / 3 - 3.5, (6 + 6 + 0) / 3 - 3.5
        assert square_centroid(labels, (100.0, 50.0), 1.5) == pytest.approx((100 + rows * 1.5, 50 + cols * 1.5))
        labels[1, 7, 0] = 2  # of a structure that has its place in the heart: does not count
        assert square_centroid(labels, (100.0, 50.0), 1.5) == pytest.approx((100 - 1.0 * 1.5, 50 + 2.5 * 1.5))
        assert square_centroid(np.zeros((1, 8, 8), np.uint8), (0.0, 0.0), 1.5) is None


class Counted(Thresholder):
    """Notes how many slices it was given in each call."""

    def __init__(self) -> None:
        super().__init__(above=1.0)
        self.slices: list[int] = []

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        self.slices.append(len(image))
        return super().forward(image)


@pytest.mark.parametrize(("flips", "passes"), [(False, 1), (True, 4)])
def test_no_slice_is_predicted_twice_where_the_center_was_right(flips: bool, passes: int):
    network = Counted()
    predict.segment(model(network), bright_ball(OBLIQUE)[0], flips=flips)
    assert sum(network.slices) == 5 * passes


def test_half_of_the_slices_tell_where_to_look():
    network = Counted()
    volume, _ = bright_ball(OBLIQUE, aside=(14, -11, 0))
    predict.segment(model(network), volume, flips=False)
    assert network.slices[0] == 3
    assert sum(network.slices) == 3 + 5


def test_positions_are_read_from_the_matrix_alone():
    """The same voxels under another matrix: the same labels, elsewhere in the patient."""
    volume, _ = bright_ball(OBLIQUE)
    moved = Volume(volume.array, LEFT_HANDED)
    first, second = (segment(model(), each).labels for each in (volume, moved))
    np.testing.assert_array_equal(first.array, second.array)
    assert not np.allclose(ras_of_voxels((1, 1, 1), first.ijk_to_ras), ras_of_voxels((1, 1, 1), second.ijk_to_ras))


@pytest.mark.parametrize("spacing", [1e-3, 1e4])
def test_an_absurd_spacing_is_segmented_to_something(spacing: float):
    volume, _ = bright_ball(OBLIQUE)
    absurd = Volume(volume.array, np.diag([spacing, spacing, 8.0, 1.0]))
    assert checked(segment(model(), absurd), absurd).labels.array.max() <= 3


@pytest.mark.parametrize("shape", [(30_000, 2, 2), (5, 1, 400)])
def test_slices_that_cannot_be_are_refused_before_the_network_runs(shape: tuple[int, int, int]):
    network = Thresholder()
    with pytest.raises(UserError, match="voxels"):
        segment(model(network), Volume(np.zeros(shape, np.int16), np.diag([1.5, 1.5, 8.0, 1.0])))
    assert network.calls == 0


def test_large_slices_come_back_one_at_a_time(monkeypatch):
    volume, _ = bright_ball(OBLIQUE)
    whole = segment(model(), volume)
    monkeypatch.setattr(predict, "PIXELS", 1)
    monkeypatch.setattr(predict, "restore_probabilities", one := Counting(restore_probabilities))
    parts = segment(model(), volume)
    assert one.slices == [1] * 5
    np.testing.assert_array_equal(parts.labels.array, whole.labels.array)
    for name in MAPS:
        np.testing.assert_array_equal(parts.maps[name].array, whole.maps[name].array)


@pytest.mark.parametrize("wanted", [(), *((name,) for name in MAPS), ("pseudo_labels", "entropy")])
def test_only_what_is_asked_for_is_computed(monkeypatch, wanted: tuple[str, ...]):
    volume, _ = bright_ball(OBLIQUE)
    whole = segment(model(), volume)
    if not {"threshold", "pseudo_labels"} & set(wanted):
        monkeypatch.delattr(predict, "restore_maps")
        monkeypatch.delattr(predict, "_limits")
    kinds, real = set(), predict.map_of
    monkeypatch.setattr(predict, "map_of", lambda kind, *rest: kinds.add(kind) or real(kind, *rest))
    found = predict.segment(model(), volume, maps=wanted)
    assert set(found.maps) == kinds == set(wanted)
    np.testing.assert_array_equal(found.labels.array, whole.labels.array)
    for name in wanted:
        np.testing.assert_array_equal(found.maps[name].array, whole.maps[name].array)
