"""A network over many slices: its batches, its flips, and how it is decided what it computes in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from semicardiac.models import forward
from semicardiac.models.compute import ComputePlan
from semicardiac.models.forward import FLIPS, class_probabilities, inference_plan
from semicardiac.models.unet import UNet
from torch import Tensor, nn

from Testing.engine.networks import CPU

SPEEDS = ("float32 contiguous", "float32 channels_last", "bfloat16 contiguous", "bfloat16 channels_last")


class Small(nn.Module):
    """A network whose memory holds so many slices at a time; it notes how many it was given."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.given: list[int] = []
        self.network = UNet(3, (4, 8))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        self.given.append(len(image))
        if len(image) > self.room:
            raise torch.OutOfMemoryError
        return self.network(image)


@pytest.mark.parametrize("flips", [FLIPS[:1], FLIPS])
def test_where_the_memory_is_too_small_the_batches_are_halved(flips: tuple):
    images = torch.rand(11, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    large, small = Small(1000), Small(5)
    small.load_state_dict(large.state_dict())
    found = class_probabilities(small, images, CPU, flips)
    np.testing.assert_allclose(found, class_probabilities(large, images, CPU, flips), atol=1e-4)
    done = [count for count in small.given if count <= small.room]
    assert sum(done) == 11 * len(flips)  # none twice
    assert max(done) > small.room / 2
    assert len(small.given) - len(done) <= 2


def test_a_slice_that_never_fits_is_said():
    with pytest.raises(torch.OutOfMemoryError):
        class_probabilities(Small(0), torch.rand(3, 1, 16, 16), CPU)


def test_without_gradients_the_network_gives_the_same_numbers():
    network, image = UNet(3, (4, 8, 16)), torch.rand(2, 1, 32, 32)
    expected = network(image)
    with torch.no_grad():
        found = network(image)
    assert all(map(torch.equal, found, expected))


class TestPlan:
    def plan(self, monkeypatch, speeds: tuple[float, ...], **options) -> tuple[ComputePlan, list[str]]:
        """The plan where the candidates reach these speeds, and which were tried."""
        tried: list[str] = []

        def speed(network: nn.Module, image: Tensor, plan: ComputePlan) -> float:
            name = f"{plan.dtype} {'channels_last' if plan.channels_last else 'contiguous'}"
            tried.append(name)
            return dict(zip(SPEEDS, speeds, strict=True))[name]

        monkeypatch.setattr(forward, "_slices_per_second", speed)
        return inference_plan(UNet(3, (4, 8)), 16, "cpu", **options), tried

    @pytest.mark.parametrize(
        ("speeds", "dtype", "channels_last"),
        [
            ((100, 60, 3, 3), "float32", False),
            ((100, 108, 3, 3), "float32", False),  # within the noise
            ((100, 150, 3, 3), "float32", True),
            ((100, 150, 200, 160), "bfloat16", False),
            ((100, 90, 180, 220), "bfloat16", True),
            ((100, 150, 140, 120), "float32", True),
        ],
    )
    def test_the_fastest_is_taken(self, monkeypatch, speeds: tuple, dtype: str, channels_last: bool):
        plan, _ = self.plan(monkeypatch, speeds)
        assert (plan.dtype, plan.channels_last) == (dtype, channels_last)
        assert plan.images_per_s[f"{dtype} {'channels_last' if channels_last else 'contiguous'}"] in speeds

    def test_without_units_for_bfloat16_it_is_tried_once(self, monkeypatch):
        plain, last, *bfloat16 = SPEEDS
        assert self.plan(monkeypatch, (100, 90, 3, 3))[1] == [plain, last, *bfloat16, plain, last, plain, last]

    def test_deterministic_models_keep_full_precision(self, monkeypatch):
        plan, tried = self.plan(monkeypatch, (100, 200, 300, 400), fixed=True)
        assert (plan.dtype, plan.channels_last, tried) == ("float32", False, [])

    def test_what_is_timed_is_the_network_itself(self):
        plan = inference_plan(UNet(3, (4, 8)), 16, "cpu")
        assert min(plan.images_per_s.values()) > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_all_candidates_give_nearly_the_same(dtype: str, channels_last: bool):
    torch.manual_seed(0)
    network, images = UNet(3, (8, 16)), torch.rand(3, 1, 32, 32)
    expected = class_probabilities(network, images, CPU, FLIPS)
    plan = CPU.model_copy(update={"dtype": dtype, "channels_last": channels_last})
    found = class_probabilities(plan.place(network), images, plan, FLIPS)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max()) < (2e-2 if dtype == "bfloat16" else 1e-5)
