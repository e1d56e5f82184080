"""Backbones from MONAI, which is imported only when one is asked for."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor, nn

from .levels import Triple, plan_levels, whole_stride


class MonaiBackbone(nn.Module):
    """A MONAI network with the two outputs of `UNet` or `UNet3d`; the bottleneck is caught on its way."""

    def __init__(self, network: nn.Module, bottleneck: nn.Module, stride: int | Triple) -> None:
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


def build_monai(name: str, widths: tuple[int, ...], classes: int, anisotropy: float | None = None) -> MonaiBackbone:
    """A network of MONAI, one of `BUILDERS`.

    Args:
        name: Of the builder.
        widths: Channels of each level.
        classes: Channels of the logits, background included.
        anisotropy: None for slices; for blocks, the distance of slices over that of pixels. Kernels and strides of
            `dynunet` follow it; those of the others are the same in all directions.

    Raises:
        ImportError: If MONAI, or what it needs, is not installed.
    """
    import monai.networks.nets as nets

    if name == "swinunetr":
        import einops  # noqa: F401 - MONAI would miss it at the first image
    return BUILDERS[name](nets, widths, classes, anisotropy)


def _dynunet(nets: ModuleType, widths: tuple[int, ...], classes: int, anisotropy: float | None) -> MonaiBackbone:
    count, flat = len(widths), anisotropy is None
    levels = plan_levels(anisotropy or 1.0, count, full_first=True)
    kernels = [3 if flat else level.kernel for level in levels]
    strides = [level.stride[2] if flat else level.stride for level in levels]
    network = nets.DynUNet(2 if flat else 3, 1, classes, kernels, strides, strides[1:], filters=list(widths))
    return MonaiBackbone(network, network.bottleneck, 2 ** (count - 1) if flat else whole_stride(levels))


def _segresnet(nets: ModuleType, widths: tuple[int, ...], classes: int, anisotropy: float | None) -> MonaiBackbone:
    flat = anisotropy is None
    norm = ("GROUP", {"num_groups": min(8, widths[0])})
    network = nets.SegResNet(2 if flat else 3, widths[0], 1, classes, norm=norm)
    return MonaiBackbone(network, network.down_layers[-1], 8 if flat else (8, 8, 8))


def _swinunetr(nets: ModuleType, widths: tuple[int, ...], classes: int, anisotropy: float | None) -> MonaiBackbone:
    flat = anisotropy is None
    feature_size = max(12, widths[0] // 12 * 12)
    network = nets.SwinUNETR(1, classes, feature_size=feature_size, spatial_dims=2 if flat else 3, norm_name="instance")
    return MonaiBackbone(network, network.encoder10, 32 if flat else (32, 32, 32))


BUILDERS = {"dynunet": _dynunet, "segresnet": _segresnet, "swinunetr": _swinunetr}
"""By the name in `network.name`."""
