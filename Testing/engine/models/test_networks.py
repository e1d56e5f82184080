"""The backbones: shapes, and that training and evaluation, alone and in a batch, compute the same."""

from __future__ import annotations

import sys

import pytest
import torch
from semicardiac.base.errors import UserError
from semicardiac.config import NetworkConfig
from semicardiac.methods.ema import Teacher
from semicardiac.models.networks import build_network, shapes_of
from semicardiac.models.unet import UNet
from torch import nn

from Testing.engine.networks import BACKBONES


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_network(NetworkConfig(name=name, widths=(8, 16, 16)), 3)


class TestUNet:
    @pytest.mark.parametrize(
        ("widths", "classes", "size"), [((4,), 2, (16, 16)), ((4, 8), 4, (32, 48)), ((4, 8, 8, 16, 16), 8, (64, 32))]
    )
    def test_shapes(self, widths: tuple[int, ...], classes: int, size: tuple[int, int]):
        network = UNet(classes, widths)
        logits, bottleneck = network(noise(2, 1, *size))
        assert logits.shape == (2, classes, *size)
        assert network.stride == 2 ** len(widths)
        assert bottleneck.shape == (2, widths[-1], size[0] // network.stride, size[1] // network.stride)

    def test_every_weight_gets_a_gradient(self):
        network = UNet(3, (4, 8, 8))
        logits, bottleneck = network(noise(2, 1, 32, 32))
        (logits.square().mean() + bottleneck.mean()).backward()
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())

    def test_no_dropout_and_no_batch_statistics(self):
        network = UNet(3, (4, 8, 8))
        kinds = {type(module) for module in network.modules()}
        assert not kinds & {nn.Dropout, nn.Dropout2d, nn.BatchNorm2d}
        assert not list(network.buffers())
        assert not any(
            conv.bias is not None
            for conv in network.modules()
            if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3)
        )

    def test_the_norm_is_that_of_an_instance_norm(self):
        norm = next(module for module in UNet(2, (4, 8)).modules() if isinstance(module, nn.GroupNorm))
        x = noise(3, norm.num_channels, 9, 9)
        torch.testing.assert_close(norm(x), nn.InstanceNorm2d(norm.num_channels)(x))

    def test_an_image_does_not_see_the_others_of_its_batch(self):
        network, batch = UNet(3, (4, 8, 8)), noise(3, 1, 32, 32)
        together, alone = network(batch), network(batch[1:2])
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[1:2], b, atol=1e-5, rtol=1e-5)

    def test_logits_are_float32_under_autocast(self):
        network, batch = UNet(3, (4, 8)), noise(1, 1, 16, 16)
        with torch.autocast("cpu", torch.bfloat16):
            logits, bottleneck = network(batch)
        assert logits.dtype == torch.float32
        assert bottleneck.dtype == torch.bfloat16
        torch.testing.assert_close(logits, network(batch)[0], atol=0.1, rtol=0.1)

    def test_the_input_is_left_as_it_was(self):
        network, batch = UNet(3, (4, 8)), noise(1, 1, 16, 16)
        before = batch.clone()
        network(batch)  # activations work in place
        assert torch.equal(batch, before)

    def test_channels_last_computes_the_same(self):
        network, batch = UNet(3, (4, 8)), noise(2, 1, 32, 32)
        expected = network(batch)[0]
        layout = torch.channels_last
        torch.testing.assert_close(
            network.to(memory_format=layout)(batch.to(memory_format=layout))[0], expected, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("name", BACKBONES)
class TestEveryBackbone:
    def test_it_learns_from_gray_squares_and_gives_logits_and_bottleneck(self, name: str):
        network = small(name)
        assert 64 % network.stride == 0
        logits, bottleneck = network(noise(2, 1, 64, 64))
        assert logits.shape == (2, 3, 64, 64)
        assert logits.dtype == torch.float32
        assert bottleneck.shape[0] == 2
        assert bottleneck.shape[2:] == (64 // network.stride, 64 // network.stride)
        bottleneck.float().square().mean().backward()
        assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())

    def test_training_and_evaluation_compute_the_same(self, name: str):
        network, batch = small(name), noise(2, 1, 64, 64)
        with torch.no_grad():
            for a, b in zip(network.train()(batch), network.eval()(batch), strict=True):
                torch.testing.assert_close(a, b)

    def test_a_teacher_has_features_of_its_own(self, name: str):
        student = small(name)
        teacher = Teacher(student, 0.9)
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.mul_(1.5)
            batch = noise(2, 1, 64, 64)
            own, followed = teacher.network(batch), student(batch)
            expected = small(name)(batch)
        for a, b, c in zip(own, expected, followed, strict=True):
            torch.testing.assert_close(a, b)
            assert not torch.equal(a, c)


@pytest.mark.parametrize("name", BACKBONES)
def test_shapes_take_no_memory(name: str):
    config = NetworkConfig(name=name, widths=(8, 16, 16))
    built, told = build_network(config, 3).state_dict(), shapes_of(config, 3).state_dict()
    assert {key: value.shape for key, value in told.items()} == {key: value.shape for key, value in built.items()}
    assert all(value.is_meta for value in told.values() if value.is_floating_point())
    shapes_of(NetworkConfig(name=name, widths=(60_000, 60_000, 60_000)), 3)  # 100 GB for each of its larger layers


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "widths"),
        [
            ("unet", (10**9, 10**9)), ("unet", (10**30, 10**30)),
            pytest.param("dynunet", (8, 8), marks=pytest.mark.slow),
            pytest.param("segresnet", (9, 9), marks=pytest.mark.slow),
        ],
    )  # fmt: skip
    def test_widths_that_make_no_network(self, name: str, widths: tuple[int, ...]):
        if name != "unet":
            pytest.importorskip("monai")
        with pytest.raises(UserError, match=f"'{name}' cannot be built with the widths") as caught:
            build_network(NetworkConfig(name=name, widths=widths), 2)
        assert caught.value.where == "network.widths"

    def test_a_network_too_large_for_a_model_takes_no_memory(self):
        with pytest.raises(UserError, match=r"would take \d{3}\.\d GB") as caught:
            build_network(NetworkConfig(widths=(20_000, 20_000, 20_000)), 2)
        assert caught.value.where == "network.widths"

    def test_an_unknown_name_brings_the_nearest_one(self):
        with pytest.raises(UserError, match="segresnt") as caught:
            build_network(NetworkConfig(name="segresnt"), 2)
        assert caught.value.where == "network.name"
        assert "segresnet" in caught.value.hint

    def test_monai_that_is_not_installed_can_be(self, monkeypatch: pytest.MonkeyPatch):
        for name in [name for name in sys.modules if name.split(".")[0] == "monai"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "monai", None)
        with pytest.raises(UserError, match="monai") as caught:
            build_network(NetworkConfig(name="dynunet"), 2)
        assert "pip install" in caught.value.hint

    @pytest.mark.slow
    def test_what_a_swin_needs_beside_monai_is_told_before_its_first_image(self, monkeypatch: pytest.MonkeyPatch):
        pytest.importorskip("monai.networks.nets")
        monkeypatch.setitem(sys.modules, "einops", None)
        with pytest.raises(UserError, match="einops"):
            build_network(NetworkConfig(name="swinunetr"), 2)
