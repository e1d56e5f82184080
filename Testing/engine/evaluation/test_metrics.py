"""Overlap and surface distances against hand-computed values, brute force and MONAI."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist
from semicardiac.base.errors import UserError
from semicardiac.evaluation import metrics
from semicardiac.images.labels import get_label_set
from semicardiac.images.volumes import Volume

ACDC = get_label_set("acdc")
SPACINGS = st.tuples(*[st.floats(0.3, 12.0)] * 3)


def _box(shape: tuple[int, ...], *bounds: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*bound) for bound in bounds)] = True
    return mask


def _volume(array: np.ndarray, spacing=(1.25, 1.5, 8.0)) -> Volume:
    return Volume(array.astype(np.uint8), np.diag([*spacing, 1.0]))


def _surface(mask: np.ndarray) -> np.ndarray:
    """Indices of voxels with a face neighbour outside the mask, voxel by voxel; axes of length one do not count."""
    padded = np.pad(mask, 1)
    found = []
    for index in np.argwhere(mask):
        for axis in (axis for axis, length in enumerate(mask.shape) if length > 1):
            for step in (-1, 1):
                neighbour = index + 1
                neighbour[axis] += step
                if not padded[tuple(neighbour)]:
                    found.append(tuple(index))
    return np.array(sorted(set(found)))


def _brute_force(a: np.ndarray, b: np.ndarray, spacing) -> np.ndarray:
    apart = cdist(_surface(a) * np.array(spacing), _surface(b) * np.array(spacing))
    return np.concatenate([apart.min(1), apart.min(0)])


def _hd95(a: np.ndarray, b: np.ndarray, spacing) -> float:
    return metrics.hd95(metrics.surface_distances(a, b, spacing))


def _asd(a: np.ndarray, b: np.ndarray, spacing) -> float:
    return metrics.asd(metrics.surface_distances(a, b, spacing))


class TestOverlap:
    @pytest.mark.parametrize(
        ("a", "b", "dice", "jaccard"),
        [
            ([1, 1, 0, 0], [1, 1, 0, 0], 1.0, 1.0),
            ([1, 1, 0, 0], [0, 1, 1, 0], 0.5, 1 / 3),
            ([1, 1, 1, 0], [0, 0, 1, 0], 0.5, 1 / 3),
            ([1, 0, 0, 0], [0, 0, 1, 0], 0.0, 0.0),
            ([1, 0, 0, 0], [0, 0, 0, 0], 0.0, 0.0),
            ([0, 0, 0, 0], [1, 0, 0, 0], 0.0, 0.0),
            ([0, 0, 0, 0], [0, 0, 0, 0], math.nan, math.nan),
        ],
    )
    def test_hand_computed(self, a, b, dice, jaccard):
        a, b = np.array(a, bool).reshape(1, 2, 2), np.array(b, bool).reshape(1, 2, 2)
        assert metrics.dice(a, b) == pytest.approx(dice, nan_ok=True)
        assert metrics.jaccard(a, b) == pytest.approx(jaccard, nan_ok=True)

    @given(hnp.arrays(bool, (2, 3, 4)), hnp.arrays(bool, (2, 3, 4)))
    def test_jaccard_follows_from_dice(self, a, b):
        dice = metrics.dice(a, b)
        assert metrics.jaccard(a, b) == pytest.approx(dice / (2 - dice), nan_ok=True)
        assert metrics.dice(b, a) == pytest.approx(dice, nan_ok=True)


class TestSurfaceDistances:
    def test_one_voxel_each_counts_the_spacing_of_its_axis(self):
        for axis, expected in enumerate((10.0, 1.5, 2.0)):
            index = [1, 1, 1]
            index[axis] += 2
            a, b = np.zeros((5, 5, 5), bool), np.zeros((5, 5, 5), bool)
            a[1, 1, 1] = b[tuple(index)] = True
            assert _hd95(a, b, (10.0, 1.5, 2.0)) == 2 * expected
            assert _asd(a, b, (10.0, 1.5, 2.0)) == 2 * expected

    def test_two_planes_computed_by_hand(self):
        # Planes of 3 x 3 voxels, one slice (8 mm) and one column (2 mm) apart: from either, two columns of 3 voxels see
        # the other straight ahead at 8 mm, and the third obliquely at sqrt(8² + 2²) mm. The rows (1.5 mm) do not count.
        a = _box((4, 5, 6), (1, 2), (1, 4), (1, 4))
        b = _box((4, 5, 6), (2, 3), (1, 4), (2, 5))
        oblique = math.sqrt(68)
        assert _asd(a, b, (8.0, 1.5, 2.0)) == pytest.approx((12 * 8 + 6 * oblique) / 18)
        assert _hd95(a, b, (8.0, 1.5, 2.0)) == pytest.approx(oblique)  # 95 % of 18 distances lies among the 6 largest

    def test_hd95_lies_between_two_distances(self):
        a, b = _box((5, 3, 3), (1, 2), (1, 2), (1, 2)), _box((5, 3, 3), (1, 4), (1, 2), (1, 2))
        # a sees b at 0; the three voxels of b see a at 0, 8 and 16 mm. Rank 0.95 * 3 = 2.85 of (0, 0, 8, 16).
        assert _hd95(a, b, (8.0, 1.5, 2.0)) == pytest.approx(8 + 0.85 * 8)
        assert _asd(a, b, (8.0, 1.5, 2.0)) == pytest.approx(24 / 4)

    def test_shifted_square_in_a_single_slice(self):
        a, b = _box((1, 12, 12), (0, 1), (2, 6), (2, 6)), _box((1, 12, 12), (0, 1), (2, 6), (4, 8))
        # Of 12 boundary pixels a side: the 2 x 2 shared ones and the two columns inside or beside the other square.
        distances = np.sort(metrics.surface_distances(a, b, (8.0, 1.0, 1.0)))
        np.testing.assert_allclose(distances, np.sort(_brute_force(a, b, (8.0, 1.0, 1.0))))
        assert distances.max() == 2.0

    def test_a_single_slice_is_measured_in_its_plane(self):
        disk, point = _box((1, 9, 9), (0, 1), (2, 7), (2, 7)), _box((1, 9, 9), (0, 1), (4, 5), (4, 5))
        assert metrics.surface_distances(disk, point, (8.0, 1.0, 1.0)).min() == 2.0  # its inside is no surface

    @pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (8.0, 1.5, 0.7)])
    def test_hd95_is_the_percentile_of_the_pool_not_the_larger_percentile(self, spacing):
        a = _box((1, 40, 40), (0, 1), (0, 20), (0, 20))
        b = a.copy()
        b[0, 39, 39] = True
        pool = _brute_force(a, b, spacing)
        assert _hd95(a, b, spacing) == pytest.approx(np.percentile(pool, 95))
        assert _hd95(a, b, spacing) == 0.0  # 1 far voxel of 153; of one direction it would be 1 of 77

    @settings(max_examples=60, deadline=None)
    @given(hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)), st.data(), SPACINGS)
    def test_equals_brute_force(self, a, data, spacing):
        b = data.draw(hnp.arrays(bool, a.shape))
        found = metrics.surface_distances(a, b, spacing)
        if not (a.any() and b.any()):
            assert len(found) == 0
            return
        if max(a.shape) == 1:
            assert found.tolist() == [0, 0]
            return
        np.testing.assert_allclose(np.sort(found), np.sort(_brute_force(a, b, spacing)), atol=1e-9)

    @settings(max_examples=30, deadline=None)
    @given(hnp.arrays(bool, (3, 5, 6)), hnp.arrays(bool, (3, 5, 6)), SPACINGS, st.integers(0, 2), st.floats(0.1, 10))
    def test_knows_no_order_no_place_and_scales_with_the_spacing(self, a, b, spacing, axis, factor):
        expected = _hd95(a, b, spacing)
        assert _hd95(b, a, spacing) == pytest.approx(expected, nan_ok=True)
        assert _asd(b, a, spacing) == pytest.approx(_asd(a, b, spacing), nan_ok=True)
        flipped = np.flip(a, axis), np.flip(b, axis)
        assert _hd95(*flipped, spacing) == pytest.approx(expected, nan_ok=True)
        moved = np.pad(a, ((1, 3), (2, 2), (5, 1))), np.pad(b, ((1, 3), (2, 2), (5, 1)))
        assert _hd95(*moved, spacing) == pytest.approx(expected, nan_ok=True)
        larger = [step * factor for step in spacing]
        assert _hd95(a, b, larger) == pytest.approx(expected * factor, nan_ok=True)

    def test_the_same_mask_is_at_no_distance(self):
        ball = np.linalg.norm(np.indices((9, 9, 9)) - 4, axis=0) < 3.5
        assert _hd95(ball, ball, (8.0, 1.0, 1.0)) == _asd(ball, ball, (8.0, 1.0, 1.0)) == 0.0

    @pytest.mark.parametrize("filled", [(False, False), (True, False), (False, True)])
    def test_empty_is_nan_never_zero(self, filled):
        a, b = (np.full((2, 3, 3), value) for value in filled)
        assert math.isnan(_hd95(a, b, (1, 1, 1)))
        assert math.isnan(_asd(a, b, (1, 1, 1)))

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match=r"\(1, 2, 3\) and \(1, 3, 2\)"):
            metrics.surface_distances(np.ones((1, 2, 3), bool), np.ones((1, 3, 2), bool), (1, 1, 1))


class TestAgainstMonai:
    """MONAI takes the larger of the two directed percentiles, so its HD95 itself is another number."""

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    @pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (10.0, 1.37, 1.37), (5.0, 0.7, 1.9)])
    def test_pooled_distances_mean_and_maximum(self, spacing):
        monai_metrics = pytest.importorskip("monai.metrics")
        utils = pytest.importorskip("monai.metrics.utils")
        torch = pytest.importorskip("torch")
        rng = np.random.default_rng(4)
        grid = np.indices((8, 24, 24)) * np.array(spacing)[:, None, None, None]
        centre = np.array([4, 12, 12]) * spacing
        a, b = (
            np.linalg.norm((grid - (centre + rng.normal(0, 1.5, 3))[:, None, None, None]), axis=0) < radius
            for radius in (7.0, 8.5)
        )
        ours = metrics.surface_distances(a, b, spacing)
        edges = utils.get_mask_edges(torch.from_numpy(a), torch.from_numpy(b))
        directed = [np.asarray(utils.get_surface_distance(*pair, spacing=spacing)) for pair in (edges, edges[::-1])]
        np.testing.assert_allclose(np.sort(ours), np.sort(np.concatenate(directed)), atol=1e-5)

        batch = [torch.from_numpy(mask)[None, None].float() for mask in (a, b)]
        options = {"include_background": True, "spacing": spacing}
        average = monai_metrics.compute_average_surface_distance(*batch, symmetric=True, **options)
        assert _asd(a, b, spacing) == pytest.approx(average.item(), rel=1e-5)
        largest = monai_metrics.compute_hausdorff_distance(*batch, **options)
        assert ours.max() == pytest.approx(largest.item(), rel=1e-5)
        worse = monai_metrics.compute_hausdorff_distance(*batch, percentile=95, **options)
        assert _hd95(a, b, spacing) <= worse.item() + 1e-5


class TestEvaluatePair:
    def test_millimeters_voxels_and_milliliters(self):
        prediction, reference = np.zeros((4, 10, 12)), np.zeros((4, 10, 12))
        reference[1:3, 2:6, 2:6] = 1
        prediction[1:3, 2:6, 4:8] = 1  # two columns of 1.25 mm to the right
        reference[0, 8, 8] = 3
        rows = {row["structure"]: row for row in metrics.evaluate_pair(_volume(prediction), _volume(reference), ACDC)}
        assert list(rows) == ["RV cavity", "LV myocardium", "LV cavity"]
        right = rows["RV cavity"]
        assert right["dice"] == 0.5
        assert right["hd95_mm"] == pytest.approx(2.5)
        assert right["hd95_voxels"] == pytest.approx(2.0)
        assert right["prediction_ml"] == right["reference_ml"] == pytest.approx(32 * 1.25 * 1.5 * 8.0 / 1000)
        assert all(math.isnan(rows["LV myocardium"][metric]) for metric in metrics.METRICS)
        assert rows["LV cavity"]["dice"] == 0.0
        assert math.isnan(rows["LV cavity"]["asd_mm"])

    def test_spacing_is_taken_in_the_order_of_the_axes(self):
        prediction, reference = np.zeros((6, 6, 6)), np.zeros((6, 6, 6))
        reference[1, 2, 2], prediction[2, 2, 2] = 3, 3
        row = metrics.evaluate_pair(_volume(prediction), _volume(reference), ACDC)[2]
        assert row["hd95_mm"] == pytest.approx(8.0)

    def test_other_grid_is_an_error_that_says_by_how_much(self):
        array = np.ones((3, 4, 5))
        with pytest.raises(UserError, match=r"voxels lie up to 1 mm apart.*1.25 x 1.5 x 8 and 1.5 x 1.5 x 8 mm"):
            metrics.evaluate_pair(_volume(array), _volume(array, spacing=(1.5, 1.5, 8.0)), ACDC)
