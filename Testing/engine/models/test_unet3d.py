"""Networks on volumes: kernels and strides by the spacing, shapes, and MONAI's beside our own."""

from __future__ import annotations

import pytest
import torch
from semicardiac.base.errors import UserError
from semicardiac.config import NetworkConfig, PreprocessConfig
from semicardiac.models.levels import plan_levels, whole_stride
from semicardiac.models.networks import build_network, misfit, shapes_of, strides_of
from semicardiac.models.unet3d import UNet3d, fold, unfold
from torch import nn

from Testing.engine.networks import BACKBONES

FLAT, FULL = (1, 3, 3), (3, 3, 3)
HALF, ALL = (1, 2, 2), (2, 2, 2)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class TestLevels:
    @pytest.mark.parametrize(
        ("anisotropy", "kernels", "strides"),
        [
            (1.0, [FULL, FULL, FULL, FULL], [ALL, ALL, ALL, ALL]),
            (2.0, [FULL, FULL, FULL, FULL], [ALL, ALL, ALL, ALL]),
            (2.5, [FULL, FULL, FULL, FULL], [HALF, ALL, ALL, ALL]),  # halved within slices, 1.25 is left
            (6.7, [FLAT, FULL, FULL, FULL], [HALF, HALF, ALL, ALL]),  # 3.35, 1.675
            (10.0, [FLAT, FLAT, FULL, FULL], [HALF, HALF, HALF, ALL]),  # 5, 2.5, 1.25
        ],
    )
    def test_flat_until_the_distances_are_alike(self, anisotropy: float, kernels: list, strides: list):
        levels = plan_levels(anisotropy, 4)
        assert [level.kernel for level in levels] == kernels
        assert [level.stride for level in levels] == strides

    def test_from_full_resolution(self):
        levels = plan_levels(5.0, 4, full_first=True)  # 5, 2.5, 1.25, 1.25
        assert [level.kernel for level in levels] == [FLAT, FLAT, FULL, FULL]
        assert [level.stride for level in levels] == [(1, 1, 1), HALF, HALF, ALL]
        assert whole_stride(levels) == (2, 8, 8)


class TestUNet3d:
    @pytest.mark.parametrize(("anisotropy", "stride"), [(1.0, (8, 8, 8)), (3.0, (4, 8, 8)), (20.0, (1, 8, 8))])
    def test_shapes(self, anisotropy: float, stride: tuple[int, int, int]):
        network = UNet3d(3, (4, 8, 8), anisotropy)
        assert network.stride == stride
        logits, bottleneck = network(noise(2, 1, 8, 16, 32))
        assert logits.shape == (2, 3, 8, 16, 32)
        assert bottleneck.shape == (2, 8, 8 // stride[0], 2, 4)

    def test_its_convolutions_are_as_planned(self):
        network = UNet3d(2, (4, 8, 8), 5.0)  # 2.5, then 1.25
        kernels = [[layer.kernel_size for layer in block if isinstance(layer, nn.Conv3d)] for block in network.down]
        assert kernels == [[FLAT] * 2, [FULL] * 2, [FULL] * 2]
        assert [layer.kernel_size for layer in network.up] == [ALL, HALF]

    def test_folding_and_back_changes_nothing_and_keeps_blocks_together(self):
        volume = torch.arange(2 * 4 * 4 * 6).view(1, 2, 4, 4, 6)
        folded = fold(volume, ALL)
        assert folded.shape == (1, 16, 2, 2, 3)
        assert folded[0, :8, 0, 0, 0].tolist() == volume[0, 0, :2, :2, :2].flatten().tolist()
        assert torch.equal(unfold(folded, ALL), volume)
        assert torch.equal(unfold(fold(volume, HALF), HALF), volume)

    def test_every_weight_gets_a_gradient(self):
        network = UNet3d(3, (4, 8), 1.0)
        logits, bottleneck = network(noise(1, 1, 8, 16, 16))
        (logits.square().mean() + bottleneck.mean()).backward()
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())

    def test_a_flat_network_sees_each_slice_alone(self):
        network, volume = UNet3d(2, (4, 8), 100.0), noise(1, 1, 4, 16, 16)
        changed = volume.clone()
        changed[:, :, 2] += 1
        for norm in [module for module in network.modules() if isinstance(module, nn.GroupNorm)]:
            norm.forward = lambda features: features  # which is over all slices
        before, after = network(volume)[0], network(changed)[0]
        assert torch.equal(before[:, :, [0, 1, 3]], after[:, :, [0, 1, 3]])
        assert not torch.equal(before[:, :, 2], after[:, :, 2])

    def test_logits_are_float32_under_autocast_in_both_layouts(self):
        network, volume = UNet3d(3, (4, 8), 1.0), noise(1, 1, 8, 16, 16)
        expected = network(volume)[0]
        with torch.autocast("cpu", torch.bfloat16):
            logits, bottleneck = network(volume)
        assert (logits.dtype, bottleneck.dtype) == (torch.float32, torch.bfloat16)
        layout = torch.channels_last_3d
        found = network.to(memory_format=layout)(volume.to(memory_format=layout))[0]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("anisotropy", [1.0, 4.0])
def test_every_backbone_learns_from_volumes(name: str, anisotropy: float):
    torch.manual_seed(0)
    config = NetworkConfig(name=name, widths=(8, 8, 8), dimensions=3, anisotropy=anisotropy)
    network = build_network(config, 3)
    shape = tuple(2 * side for side in strides_of(network))
    logits, bottleneck = network(noise(1, 1, *shape))
    assert logits.shape == (1, 3, *shape)
    assert logits.dtype == torch.float32
    assert bottleneck.shape[2:] == (2, 2, 2)
    logits.square().mean().backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    told = shapes_of(config, 3).state_dict()
    assert {key: value.shape for key, value in told.items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }


@pytest.mark.slow
def test_kernels_of_monai_follow_the_spacing():
    pytest.importorskip("monai")
    network = build_network(NetworkConfig(name="dynunet", widths=(8, 8, 8), dimensions=3, anisotropy=4.0), 2)
    kernels = {tuple(layer.kernel_size) for layer in network.modules() if isinstance(layer, nn.Conv3d)}
    assert kernels == {FLAT, FULL, (1, 1, 1)}
    assert network.stride == (2, 4, 4)


def test_sides_that_do_not_suit_the_network():
    network = UNet3d(2, (4, 8, 8), 3.0)
    assert strides_of(network) == (4, 8, 8)
    assert misfit(network, PreprocessConfig(crop=32, depth=8)) is None
    assert misfit(network, PreprocessConfig()) is None
    where, what = misfit(network, PreprocessConfig(crop=32, depth=6))
    assert where == "preprocess.depth"
    assert "6" in what
    assert "4" in what


def test_widths_that_make_no_network():
    with pytest.raises(UserError, match="'unet' cannot be built with the widths") as caught:
        build_network(NetworkConfig(widths=(10**9, 10**9), dimensions=3), 2)
    assert caught.value.where == "network.widths"
