"""Backbones from MONAI, which is imported only when one is asked for."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor, nn


class MonaiBackbone(nn.Module):
    """A MONAI network with the two outputs of `UNet`; the bottleneck is caught on its way."""

    def __init__(self, network: nn.Module, bottleneck: nn.Module, stride: int) -> None:
        super().__init__()
        self.network = network
        self.stride = stride
        self._features: Tensor | None = None
        bottleneck.register_forward_hook(self._keep)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(image)
        features, self._features = self._features, None
        assert features is not None
        return logits.float(), features

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | list[Tensor]) -> None:
        self._features = output[-1] if isinstance(output, list | tuple) else output


def build_monai(name: str, widths: tuple[int, ...], classes: int) -> MonaiBackbone:
    """A network of MONAI, one of `BUILDERS`.

    Raises:
        ImportError: If MONAI, or what it needs, is not installed.
    """
    import monai.networks.nets as nets

    if name == "swinunetr":
        import einops  # noqa: F401 - MONAI would miss it at the first image
    return BUILDERS[name](nets, widths, classes)


def _dynunet(nets: ModuleType, widths: tuple[int, ...], classes: int) -> MonaiBackbone:
    levels = len(widths)
    strides = [1] + [2] * (levels - 1)
    network = nets.DynUNet(2, 1, classes, [3] * levels, strides, strides[1:], filters=list(widths))
    return MonaiBackbone(network, network.bottleneck, 2 ** (levels - 1))


def _segresnet(nets: ModuleType, widths: tuple[int, ...], classes: int) -> MonaiBackbone:
    network = nets.SegResNet(2, widths[0], 1, classes, norm=("GROUP", {"num_groups": min(8, widths[0])}))
    return MonaiBackbone(network, network.down_layers[-1], 8)


def _swinunetr(nets: ModuleType, widths: tuple[int, ...], classes: int) -> MonaiBackbone:
    feature_size = max(12, widths[0] // 12 * 12)
    network = nets.SwinUNETR(1, classes, feature_size=feature_size, spatial_dims=2, norm_name="instance")
    return MonaiBackbone(network, network.encoder10, 32)


BUILDERS = {"dynunet": _dynunet, "segresnet": _segresnet, "swinunetr": _swinunetr}
"""By the name in `network.name`."""
