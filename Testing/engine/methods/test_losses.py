"""The losses against loops over pixels, values computed by hand and MONAI."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from semicardiac.methods import losses
from semicardiac.models.unet import UNet
from torch import Tensor, nn

UNIFORM = torch.zeros(2, 4, 3, 3)


def random_logits(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


def random_labels(seed: int, classes: int, *shape: int) -> Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def random_gamma(seed: int, *shape: int) -> Tensor:
    """Confidences, 0 where the gate is closed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator) * (torch.rand(*shape, generator=generator) > 0.4)


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def pixels(logits: Tensor):
    """Every pixel as (image, row, col, its logits)."""
    for i in range(logits.shape[0]):
        for h in range(logits.shape[2]):
            for w in range(logits.shape[3]):
                yield i, h, w, logits[i, :, h, w].tolist()


class TestSupervised:
    def test_cross_entropy_of_uniform_logits_is_log_c(self):
        assert losses.supervised(UNIFORM, random_labels(0, 4, 2, 3, 3), "ce").item() == pytest.approx(math.log(4))

    def test_cross_entropy_by_hand(self):
        logits = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1)
        for label, expected in ((0, math.log(1 + math.exp(-2))), (1, 2 + math.log(1 + math.exp(-2)))):
            assert losses.supervised(logits, torch.tensor([[[label]]]), "ce").item() == pytest.approx(expected)

    def test_soft_dice_by_hand(self):
        # Two pixels, both of class 1, one seen with p = 0.5, one with p = 0.25: 2 (0.75) / (0.75 + 2)
        logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]]).view(1, 2, 1, 2)
        label = torch.ones(1, 1, 2, dtype=torch.int64)
        assert losses.soft_dice(logits, label).item() == pytest.approx(1 - 1.5 / 2.75, abs=1e-5)

    @pytest.mark.parametrize(("classes", "seed"), [(2, 0), (4, 1), (8, 2)])
    def test_both_against_a_loop(self, classes: int, seed: int):
        logits, label = random_logits(seed, 3, classes, 4, 5), random_labels(seed, classes, 3, 4, 5)
        entropy, count = 0.0, 0
        overlap, size = [0.0] * classes, [0.0] * classes
        for i, h, w, z in pixels(logits):
            p, truth = softmax(z), int(label[i, h, w])
            entropy -= math.log(p[truth])
            count += 1
            for c in range(classes):
                overlap[c] += p[c] * (truth == c)
                size[c] += p[c] + (truth == c)
        dice = sum((2 * overlap[c] + 1e-5) / (size[c] + 1e-5) for c in range(1, classes)) / (classes - 1)
        assert losses.supervised(logits, label, "ce").item() == pytest.approx(entropy / count, rel=1e-5)
        assert losses.soft_dice(logits, label).item() == pytest.approx(1 - dice, rel=1e-5)
        assert losses.supervised(logits, label).item() == pytest.approx(0.5 * (entropy / count + 1 - dice), rel=1e-5)

    def test_background_does_not_count_in_dice(self):
        label = random_labels(0, 3, 2, 8, 8)
        perfect = nn.functional.one_hot(label, 3).movedim(-1, 1) * 60.0
        assert losses.soft_dice(perfect, label).item() == pytest.approx(0, abs=1e-5)
        swapped = perfect[:, [0, 2, 1]]  # background right, both structures wrong
        assert losses.soft_dice(swapped, label).item() == pytest.approx(1, abs=1e-4)

    def test_no_foreground_at_all_is_a_finite_loss_with_a_finite_gradient(self):
        logits = random_logits(0, 2, 3, 4, 4).requires_grad_()
        loss = losses.supervised(logits, torch.zeros(2, 4, 4, dtype=torch.int64))
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()


class TestRobustEntropy:
    def test_by_hand(self):
        # -1/N Σ γ log q(ŷ) over two pixels: γ = 0.8 with q = 1/4, and a closed one; N counts both.
        logits, label = torch.zeros(1, 4, 1, 2), torch.tensor([[[1, 2]]])
        gamma = torch.tensor([[[0.8, 0.0]]])
        assert losses.robust_entropy(logits, label, gamma).item() == pytest.approx(0.8 * math.log(4) / 2)

    @pytest.mark.parametrize(("classes", "tau", "seed"), [(2, 1.0, 0), (4, 0.5, 1), (8, 2.0, 2)])
    def test_against_a_loop(self, classes: int, tau: float, seed: int):
        logits, label = random_logits(seed, 3, classes, 4, 5), random_labels(seed, classes, 3, 4, 5)
        gamma = random_gamma(2, 3, 4, 5)
        images = [0.0] * 3
        for i, h, w, z in pixels(logits):
            q = softmax([value / tau for value in z])
            images[i] -= float(gamma[i, h, w]) * math.log(q[int(label[i, h, w])]) / 20
        assert losses.robust_entropy(logits, label, gamma, tau).item() == pytest.approx(sum(images) / 3, rel=1e-5)

    def test_with_an_open_gate_it_is_cross_entropy(self):
        logits, label = random_logits(0, 2, 4, 5, 5), random_labels(0, 4, 2, 5, 5)
        torch.testing.assert_close(
            losses.robust_entropy(logits, label, torch.ones(2, 5, 5)), losses.supervised(logits, label, "ce")
        )

    def test_closed_pixels_get_no_gradient(self):
        logits = random_logits(0, 1, 3, 4, 4).requires_grad_()
        gamma = torch.zeros(1, 4, 4)
        gamma[0, 1, 2] = 0.9
        losses.robust_entropy(logits, random_labels(0, 3, 1, 4, 4), gamma).backward()
        touched = logits.grad.abs().sum(1)[0].nonzero().tolist()
        assert touched == [[1, 2]]


class TestGatedConsistency:
    def test_against_a_loop(self):
        logits, target = random_logits(0, 2, 4, 3, 5), random_logits(1, 2, 4, 3, 5).softmax(1)
        gamma = random_gamma(2, 2, 3, 5)
        total = 0.0
        for i, h, w, z in pixels(logits):
            if gamma[i, h, w] > 0:  # whether it is open counts, not how far
                total += sum((a - b) ** 2 for a, b in zip(softmax(z), target[i, :, h, w].tolist(), strict=True))
        assert losses.gated_consistency(logits, target, gamma).item() == pytest.approx(total / 30, rel=1e-5)

    def test_the_student_that_agrees_loses_nothing(self):
        logits = random_logits(0, 2, 4, 3, 3)
        assert losses.gated_consistency(logits, logits.softmax(1), torch.ones(2, 3, 3)).item() == 0


def naive_nt_xent(query: np.ndarray, key: np.ndarray, temperature: float) -> float:
    """Eqs. 13 and 14 over all ordered pairs of the 2B views."""
    views = [row / np.linalg.norm(row) for row in (*query, *key)]
    total = 0.0
    for i in range(len(views)):
        positive = (i + len(query)) % len(views)
        others = sum(math.exp(views[i] @ views[j] / temperature) for j in range(len(views)) if j != i)
        total -= math.log(math.exp(views[i] @ views[positive] / temperature) / others)
    return total / len(views)


class TestContrast:
    def test_by_hand(self):
        # Two images whose views agree and are orthogonal to the other's: e^5 against e^5 + 2 e^0
        eye = torch.eye(2, 3)
        expected = math.log((math.exp(5) + 2) / math.exp(5))
        assert losses.nt_xent(eye, 7 * eye, temperature=0.2).item() == pytest.approx(expected, rel=1e-4)

    def test_features_that_are_all_the_same_are_chance(self):
        ones = torch.ones(5, 7)
        assert losses.nt_xent(ones, ones, 0.2).item() == pytest.approx(math.log(9))

    @pytest.mark.parametrize(("batch", "width", "temperature"), [(2, 3, 0.2), (5, 16, 0.5), (8, 40, 0.07)])
    def test_against_a_loop(self, batch: int, width: int, temperature: float):
        query, key = random_logits(0, batch, width), random_logits(1, batch, width) + random_logits(0, batch, width)
        expected = naive_nt_xent(query.double().numpy(), key.double().numpy(), temperature)
        assert losses.nt_xent(query, key, temperature).item() == pytest.approx(expected, rel=1e-4)
        assert losses.nt_xent(key, query, temperature).item() == pytest.approx(expected, rel=1e-4)  # symmetric

    @pytest.mark.slow
    def test_against_monai(self):
        monai = pytest.importorskip("monai.losses")
        query, key = random_logits(0, 6, 24), random_logits(1, 6, 24) + 0.5 * random_logits(0, 6, 24)
        theirs = monai.ContrastiveLoss(temperature=0.2)(query, key)
        torch.testing.assert_close(losses.nt_xent(query, key, 0.2), theirs, rtol=1e-4, atol=1e-5)

    def test_a_single_image_has_no_negatives(self):
        query = random_logits(0, 1, 8).requires_grad_()
        loss = losses.nt_xent(query, random_logits(1, 1, 8), 0.2)
        loss.backward()
        assert loss.item() == 0
        assert query.grad.eq(0).all()

    def test_pooling_keeps_a_grid_of_means(self):
        features = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
        pooled = losses.pool_features(features, 2)
        expected = [features[1, c, h : h + 2, w : w + 2].mean() for c in range(3) for h in (0, 2) for w in (0, 2)]
        assert pooled.shape == (2, 12)
        assert pooled[1].tolist() == expected


def toy_training(grid: int, steps: int = 30) -> tuple[float, float]:
    """Trains a small encoder on pictures of blobs to tell them apart; the loss at the end, and chance."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = UNet(2, (4, 8, 8))
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    axis = torch.linspace(-1, 1, 32)
    ends = []
    for _ in range(steps):
        place, radius = (
            torch.rand(8, 2, 1, 1, generator=generator) * 1.2 - 0.6,
            0.15 + 0.3 * torch.rand(8, 1, 1, generator=generator),
        )
        blobs = torch.exp(-(((axis - place[:, 0]) ** 2 + (axis.view(-1, 1) - place[:, 1]) ** 2) / radius**2)).unsqueeze(
            1
        )
        views = [blobs + 0.1 * torch.randn(blobs.shape, generator=generator) for _ in range(2)]
        query, key = (losses.pool_features(network(view)[1], grid) for view in views)
        loss = losses.nt_xent(query, key.detach(), 0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ends.append(loss.item())
    return float(np.mean(ends[-10:])), math.log(15)


class TestContrastLearns:
    def test_on_a_grid_it_falls_far_below_chance(self):
        end, chance = toy_training(grid=3)
        assert end < 0.6 * chance

    def test_one_cell_behind_an_instance_norm_is_blind(self):
        # The mean of a normalized channel is the same for all images, whatever the weights.
        normalized = nn.InstanceNorm2d(16)(random_logits(0, 8, 16, 12, 12))
        other_view = nn.InstanceNorm2d(16)(random_logits(1, 8, 16, 12, 12))
        blind = [losses.pool_features(each, 1) for each in (normalized, other_view)]
        assert max(each.abs().max() for each in blind) < 1e-6
        end, chance = toy_training(grid=1)
        assert end > 0.98 * chance


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: losses.supervised(z, random_labels(0, 4, 2, 6, 6)),
        lambda z: losses.robust_entropy(z, random_labels(0, 4, 2, 6, 6), torch.full((2, 6, 6), 0.7)),
        lambda z: losses.gated_consistency(z, torch.full((2, 4, 6, 6), 0.25), torch.ones(2, 6, 6)),
        lambda z: losses.nt_xent(z.flatten(1), z.flatten(1).roll(1, 1), 0.2),
        lambda z: losses.pool_features(z, 3).square().mean(),
    ],
    ids=["supervised", "robust_entropy", "gated_consistency", "nt_xent", "pool_features"],
)
def test_bfloat16_inputs_are_computed_in_float32(loss):
    coarse = random_logits(0, 2, 4, 6, 6).bfloat16()
    value = loss(coarse)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(coarse.float()))
