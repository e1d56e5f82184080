"""The threshold map against loops over pixels, values computed by hand and FreeMatch's self-adaptive threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from semicardiac.methods.threshold_map import MapState, gate, initial_state, limits, settle_alpha, update
from torch import Tensor


def random_probability(seed: int, *shape: int, sharpness: float = 2.0) -> Tensor:
    """Softmax outputs (B, C, H, W)."""
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * sharpness).softmax(1)


def naive_update(threshold: np.ndarray, ratio: np.ndarray, p: np.ndarray, alpha: float, class_floor: int):
    """Eqs. 5 to 8, pixel by pixel; what is not finite does not count."""
    images, classes, rows, cols = p.shape
    new = threshold.copy()
    sums, counts = [0.0] * classes, [0] * classes
    for h in range(rows):
        for w in range(cols):
            seen = []
            for i in range(images):
                if not np.isfinite(p[i, :, h, w]).all():
                    continue
                best = int(np.argmax(p[i, :, h, w]))
                seen.append(p[i, best, h, w])
                sums[best] += p[i, best, h, w]
                counts[best] += 1
            if seen:
                new[h, w] = alpha * threshold[h, w] + (1 - alpha) * sum(seen) / len(seen)
    means = {c: sums[c] / counts[c] for c in range(classes) if counts[c] >= class_floor}
    k = ratio.copy()
    for c, mean in means.items():
        k[c] = mean / max(means.values())
    return new, k


def naive_gate(threshold: np.ndarray, ratio: np.ndarray, p: np.ndarray, floor: float, kind: str):
    """Eqs. 9 and 10, pixel by pixel, with a least threshold."""
    images, _, rows, cols = p.shape
    label, gamma = np.zeros((images, rows, cols), np.int64), np.zeros((images, rows, cols))
    for i in range(images):
        for h in range(rows):
            for w in range(cols):
                best = int(np.argmax(p[i, :, h, w]))
                label[i, h, w] = best
                if p[i, best, h, w] > max(floor, ratio[best] * threshold[h, w]):
                    gamma[i, h, w] = p[i, best, h, w] if kind == "confidence" else 1
    return label, gamma


#: Two images of one row and two pixels, two classes: (B, C, H, W).
BY_HAND = torch.tensor([[[[0.9, 0.4]], [[0.1, 0.6]]], [[[0.7, 0.2]], [[0.3, 0.8]]]])


class TestByHand:
    def test_the_map_moves_by_one_minus_alpha_towards_the_mean_confidence(self):
        state = update(MapState(torch.full((1, 2), 0.5), torch.ones(2)), BY_HAND, alpha=0.9)
        # m = ((0.9 + 0.7) / 2, (0.6 + 0.8) / 2); M = 0.9 * 0.5 + 0.1 * m
        torch.testing.assert_close(state.threshold, torch.tensor([[0.53, 0.52]]))

    def test_the_ratio_is_the_confidence_over_that_of_the_surest_class(self):
        state = update(initial_state(2, (2, 2))._replace(threshold=torch.full((1, 2), 0.5)), BY_HAND, alpha=0.9)
        # s_0 = (0.9 + 0.7) / 2, s_1 = (0.6 + 0.8) / 2
        torch.testing.assert_close(state.ratio, torch.tensor([1.0, 0.7 / 0.8]))

    def test_the_gate_opens_above_the_threshold_of_its_class_and_place(self):
        state = MapState(torch.full((1, 2), 0.75), torch.tensor([1.0, 0.875]))  # 0.75 for class 0, 0.65625 for class 1
        gated = gate(state, BY_HAND, 0.0)
        assert gated.label.tolist() == [[[0, 1]], [[0, 1]]]
        torch.testing.assert_close(gated.gamma, torch.tensor([[[0.9, 0.0]], [[0.0, 0.8]]]))

    def test_a_binary_gate_has_ones_where_the_other_has_confidence(self):
        state = MapState(torch.full((1, 2), 0.75), torch.tensor([1.0, 0.875]))
        assert gate(state, BY_HAND, 0.0, "binary").gamma.tolist() == [[[1, 0]], [[0, 1]]]

    def test_confidence_equal_to_the_threshold_does_not_pass(self):
        p = torch.tensor([[[[0.75]], [[0.25]]]])
        assert gate(MapState(torch.tensor([[0.75]]), torch.ones(2)), p, 0.0).gamma.item() == 0
        assert gate(initial_state(2, (1, 1)), p, 0.75).gamma.item() == 0

    def test_no_threshold_is_less_than_the_floor(self):
        state = MapState(torch.full((1, 2), 0.75), torch.tensor([1.0, 0.8]))  # 0.75 for class 0, 0.6 for class 1
        label = torch.tensor([[[0, 1]]])
        torch.testing.assert_close(limits(state, label, 0.65), torch.tensor([[[0.75, 0.65]]]))
        assert gate(state, BY_HAND, 0.5, "binary").gamma.tolist() == [[[1, 0]], [[0, 1]]]
        assert gate(state, BY_HAND, 0.85, "binary").gamma.tolist() == [[[1, 0]], [[0, 0]]]

    def test_over_the_first_map_the_floor_is_the_one_threshold_for_all(self):
        first = initial_state(2, (1, 1))
        torch.testing.assert_close(gate(first, BY_HAND, 0.75).gamma, torch.tensor([[[0.9, 0.0]], [[0.0, 0.8]]]))
        assert gate(first, BY_HAND, 0.65, "binary").gamma.tolist() == [[[1, 0]], [[1, 1]]]

    def test_the_first_map_lets_every_pixel_pass(self):
        state = initial_state(4, (8, 8))
        assert state.threshold.eq(0.25).all()
        assert state.ratio.tolist() == [1, 1, 1, 1]
        assert (gate(state, random_probability(0, 3, 4, 8, 8), 0.0).gamma > 0).all()


class TestAgainstALoop:
    @pytest.mark.parametrize(
        ("classes", "alpha", "class_floor", "floor", "kind"),
        [(2, 0.9, 1, 0.0, "confidence"), (4, 0.5, 6, 0.6, "binary"), (8, 0.99, 3, 0.4, "confidence")],
    )
    def test_three_batches_one_after_the_other(
        self, classes: int, alpha: float, class_floor: int, floor: float, kind: str
    ):
        state = initial_state(classes, (5, 5))
        threshold, ratio = np.full((5, 5), 1 / classes), np.ones(classes)
        for seed in range(3):  # the map is carried over: every batch starts from what the one before left
            p = random_probability(seed, 3, classes, 5, 5)
            state = update(state, p, alpha, class_floor)
            threshold, ratio = naive_update(threshold, ratio, p.double().numpy(), alpha, class_floor)
            np.testing.assert_allclose(state.threshold, threshold, rtol=1e-6)
            np.testing.assert_allclose(state.ratio, ratio, rtol=1e-5)
            gated = gate(state, p, floor, kind)
            label, gamma = naive_gate(threshold, ratio, p.double().numpy(), floor, kind)
            np.testing.assert_array_equal(gated.label, label)
            np.testing.assert_allclose(gated.gamma, gamma, rtol=1e-6)

    def test_a_pixel_changes_the_map_at_its_own_place_only(self):
        p = random_probability(0, 2, 3, 4, 4)
        changed = p.clone()
        changed[1, :, 2, 3] = torch.tensor([0.98, 0.01, 0.01])
        before, after = (update(initial_state(3, (4, 4)), each, 0.9).threshold for each in (p, changed))
        moved = (before != after).nonzero().tolist()
        assert moved == [[2, 3]]

    def test_the_state_given_is_left_as_it_was(self):
        state = initial_state(3, (4, 4))
        update(state, random_probability(0, 2, 3, 4, 4), 0.5)
        assert state.threshold.eq(1 / 3).all()
        assert state.ratio.eq(1).all()


class FreeMatch:
    """The self-adaptive threshold of FreeMatch (Wang 2023, Eqs. 5 to 7) for N samples of C classes, written anew."""

    def __init__(self, classes: int, momentum: float) -> None:
        self.momentum, self.tau, self.p = momentum, 1 / classes, np.full(classes, 1 / classes)

    def mask(self, q: np.ndarray) -> np.ndarray:
        self.tau = self.momentum * self.tau + (1 - self.momentum) * q.max(axis=1).mean()
        self.p = self.momentum * self.p + (1 - self.momentum) * q.mean(axis=0)
        return q.max(axis=1) > (self.p / self.p.max() * self.tau)[q.argmax(axis=1)]


class TestAgainstFreeMatch:
    """Without a place, DPTM is FreeMatch's rule: one pixel an image, every image a sample."""

    def test_the_map_is_its_global_threshold(self):
        ours, theirs = initial_state(5, (1, 1)), FreeMatch(5, 0.9)
        for seed in range(20):
            p = random_probability(seed, 12, 5, 1, 1)
            ours = update(ours, p, alpha=0.9)
            theirs.mask(p[:, :, 0, 0].double().numpy())
            assert ours.threshold.item() == pytest.approx(theirs.tau, rel=1e-5)

    def test_a_map_over_the_plane_is_the_same_everywhere_if_the_images_are(self):
        ours, theirs = initial_state(5, (4, 4)), FreeMatch(5, 0.9)
        for seed in range(5):
            p = random_probability(seed, 12, 5, 1, 1).expand(12, 5, 4, 4)
            ours = update(ours, p, alpha=0.9)
            theirs.mask(p[:, :, 0, 0].double().numpy())
        np.testing.assert_allclose(ours.threshold, theirs.tau, rtol=1e-5)

    def test_the_gate_is_its_mask_where_its_class_means_have_settled(self):
        # FreeMatch takes the running share of a class in all samples, Eq. 7 its mean confidence in this batch: with as
        # many samples of each class, all mass on the class itself and many equal batches, the two are proportional.
        rng = np.random.default_rng(0)
        confidence = np.array([0.9, 0.75, 0.6])[:, None] + rng.uniform(-0.3, 0.05, (3, 40))
        q = np.zeros((120, 3))
        for c in range(3):
            q[c * 40 : (c + 1) * 40, c] = confidence[c]
        ours, theirs = initial_state(3, (1, 1)), FreeMatch(3, 0.9)
        p = torch.from_numpy(q).float().view(120, 3, 1, 1)
        for _ in range(200):
            ours = update(ours, p, alpha=0.9)
            mask = theirs.mask(q)
        np.testing.assert_allclose(ours.ratio, theirs.p / theirs.p.max(), rtol=1e-5)
        passed = gate(ours, p, 0.0).gamma.flatten().numpy() > 0
        np.testing.assert_array_equal(passed, mask)
        assert all(0.1 < share < 1 for share in passed.reshape(3, 40).mean(axis=1))
        assert (q.max(axis=1) > theirs.tau)[80:].mean() < 0.5 * passed[
            80:
        ].mean()  # one threshold would nearly close class 2


class TestWhatNeverEnters:
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_not_finite_pixels_count_neither_in_the_map_nor_in_the_ratio(self, bad: float):
        p = random_probability(0, 3, 4, 5, 5)
        p[0, 2, 1, 1] = bad
        p[1, :, 3, :] = bad
        state = update(initial_state(4, (5, 5)), p, 0.7)
        threshold, ratio = naive_update(np.full((5, 5), 0.25), np.ones(4), p.double().numpy(), 0.7, 1)
        np.testing.assert_allclose(state.threshold, threshold, rtol=1e-6)
        np.testing.assert_allclose(state.ratio, ratio, rtol=1e-5)

    def test_a_place_without_any_finite_pixel_keeps_its_threshold(self):
        p = random_probability(0, 2, 3, 4, 4)
        p[:, :, 2, 2] = math.nan
        before = MapState(torch.full((4, 4), 0.6), torch.tensor([1.0, 0.9, 0.8]))
        after = update(before, p, 0.5)
        assert after.threshold[2, 2].item() == pytest.approx(0.6)
        assert (after.threshold != 0.6).sum() == 15

    def test_a_batch_without_any_finite_pixel_changes_nothing(self):
        before = MapState(torch.full((4, 4), 0.6), torch.tensor([1.0, 0.9, 0.8]))
        after = update(before, torch.full((2, 3, 4, 4), math.nan), 0.5)
        torch.testing.assert_close(after, before)

    def test_the_gate_is_closed_where_the_teacher_is_not_finite(self):
        p = random_probability(0, 1, 3, 4, 4)
        p[0, :, 0, 0] = math.nan
        assert gate(initial_state(3, (4, 4)), p, 0.0).gamma[0, 0, 0] == 0


class TestRareClasses:
    @staticmethod
    def batch(pixels_of_class_2: int) -> Tensor:
        """Class 0 with 0.9 in all pixels, but for so many of class 2 with 0.6; (1, 3, 4, 4)."""
        p = torch.tensor([0.9, 0.05, 0.05]).repeat(16, 1)
        p[:pixels_of_class_2] = torch.tensor([0.2, 0.2, 0.6])
        return p.T.reshape(1, 3, 4, 4)

    @pytest.mark.parametrize(
        ("pixels", "class_floor", "expected"), [(0, 1, 0.7), (4, 5, 0.7), (5, 5, 2 / 3), (6, 5, 2 / 3), (1, 1, 2 / 3)]
    )
    def test_a_class_with_too_few_pixels_keeps_its_ratio(self, pixels: int, class_floor: int, expected: float):
        before = MapState(torch.full((4, 4), 0.5), torch.tensor([1.0, 0.8, 0.7]))
        after = update(before, self.batch(pixels), 0.9, class_floor)
        torch.testing.assert_close(after.ratio, torch.tensor([1.0, 0.8, expected]))

    def test_the_surest_class_is_sought_among_those_with_enough_pixels(self):
        p = torch.tensor([0.8, 0.1, 0.1]).repeat(16, 1)
        p[0] = torch.tensor([0.0, 0.0, 1.0])  # one very sure pixel must not lower the others' ratio
        after = update(initial_state(3, (4, 4)), p.T.reshape(1, 3, 4, 4), 0.9, class_floor=2)
        torch.testing.assert_close(after.ratio, torch.ones(3))

    def test_no_ratio_ever_becomes_zero(self):
        state = initial_state(6, (4, 4))
        for seed in range(20):
            state = update(state, random_probability(seed, 1, 6, 4, 4, sharpness=5), 0.5)
            assert (state.ratio > 0).all()
            assert (state.ratio <= 1).all()


class TestPrecision:
    def test_the_state_stays_float32_whatever_comes_in(self):
        state = update(initial_state(3, (8, 8)), random_probability(0, 2, 3, 8, 8).bfloat16(), 0.99)
        gated = gate(state, random_probability(0, 2, 3, 8, 8).bfloat16(), 0.5)
        assert {state.threshold.dtype, state.ratio.dtype, gated.gamma.dtype} == {torch.float32}

    def test_a_slow_map_moves_under_bfloat16_outputs(self):
        # 0.9 lies 1e-4 away after one step of α = 0.9999: less than bfloat16 can tell near 0.9.
        p = torch.tensor([0.9, 0.1]).view(1, 2, 1, 1).bfloat16()
        state = MapState(torch.tensor([[0.8]]), torch.ones(2))
        for _ in range(100):
            state = update(state, p, 0.9999)
        assert state.threshold.item() == pytest.approx(0.8 + (float(p[0, 0]) - 0.8) * (1 - 0.9999**100), abs=1e-5)

    def test_class_means_over_many_bfloat16_pixels_are_exact(self):
        # In bfloat16, a count of 30,000 is off by up to 64 and a sum by as much.
        p = torch.tensor([0.75, 0.25]).repeat(4 * 128 * 128, 1)
        p[:30_001] = torch.tensor([0.375, 0.625])
        p = p.view(4, 128, 128, 2).movedim(-1, 1).bfloat16()
        state = update(initial_state(2, (128, 128)), p, 0.9)
        torch.testing.assert_close(state.ratio, torch.tensor([1.0, 0.625 / 0.75]), rtol=1e-6, atol=0)

    def test_nothing_of_it_is_differentiated(self):
        p = random_probability(0, 2, 3, 4, 4).requires_grad_()
        state = update(initial_state(3, (4, 4)), p, 0.9)
        assert not state.threshold.requires_grad
        assert not gate(state, p, 0.0).gamma.requires_grad


class TestAlpha:
    @pytest.mark.parametrize("steps", [50, 200, 1000, 5000])
    def test_the_map_comes_within_five_percent_in_a_tenth_of_the_steps(self, steps: int):
        alpha, p = settle_alpha(steps), torch.tensor([0.95, 0.05]).view(1, 2, 1, 1)
        state = initial_state(2, (1, 1))
        for _ in range(steps // 10):
            state = update(state, p, alpha)
        assert (0.95 - state.threshold.item()) / (0.95 - 0.5) == pytest.approx(0.05, rel=1e-3)

    def test_it_is_bounded(self):
        assert settle_alpha(0) == settle_alpha(1) == 0.5
        assert settle_alpha(10**9) == 0.999
