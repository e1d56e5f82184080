"""The backbone: a lean 2D U-Net that gives logits and its bottleneck features.

Without dropout and batch statistics, so that training and evaluation compute the same; the norm is a group norm
with one channel a group, which is the arithmetic of an instance norm and the fastest of the two on CPUs.
Other 2D backbones come from MONAI, which is imported only when one is asked for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..base.errors import UserError, nearest
from ..config import NetworkConfig
from .package import LARGEST, WEIGHTS


class UNet(nn.Module):
    """U-Net that folds 2 x 2 pixels into channels on the way in and unfolds them on the way out.

    The convolutions never run at full resolution, where a U-Net spends half of its time on a CPU; each place of the
    last layer decides on its four pixels. In a short training more steps are worth more than more channels: on ACDC
    with 7 labeled patients, 200 CPU-seconds of supervised training reach a Dice of 0.871 with widths 16 to 128
    (3,100 steps of 6 slices), 0.857 with 24 to 192 (1,860), and 0.813 with a level at full resolution, widths 16 to
    256 (510 steps of 12).

    Args:
        classes: Channels of the logits, background included.
        widths: Channels of each level, from half resolution down; the input's sides must be multiples of
            2 ** levels.
    """

    def __init__(self, classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stride = 2 ** len(widths)
        self.down = nn.ModuleList()
        channels = 4
        for width in widths:
            self.down.append(_double_convolution(channels, width))
            channels = width
        self.up = nn.ModuleList()
        self.merge = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.up.append(nn.ConvTranspose2d(channels, width, 2, stride=2))
            self.merge.append(_double_convolution(2 * width, width))
            channels = width
        self.head = nn.Conv2d(channels, 4 * classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, a=0.01, nonlinearity="leaky_relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and bottleneck of images.

        Args:
            image: (B, 1, H, W) float.

        Returns:
            Logits (B, C, H, W) float32 and the deepest level's features (B, F, H / stride, W / stride).
        """
        skips = []
        features = functional.pixel_unshuffle(image, 2)
        for level, block in enumerate(self.down):
            if level:
                features = functional.max_pool2d(features, 2)
            features = block(features)
            skips.append(features)
        bottleneck = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            features = merge(torch.cat((skips.pop(), up(features)), dim=1))
        # The head in full precision: its logits are thresholded.
        with torch.autocast(features.device.type, enabled=False):
            return functional.pixel_shuffle(self.head(features.float()), 2), bottleneck


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
        return logits.float(), features

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | list[Tensor]) -> None:
        self._features = output[-1] if isinstance(output, list | tuple) else output


def build_network(config: NetworkConfig, classes: int) -> UNet | MonaiBackbone:
    """The network that a configuration names.

    Raises:
        UserError: For a name that is not known, widths that make no such network or one too large for a model, or a
            MONAI network where MONAI is not installed.
    """
    network = shapes_of(config, classes)
    size = 4 * sum(each.numel() for each in (*network.parameters(), *network.buffers()))
    if size > LARGEST[WEIGHTS]:
        what = f"'{config.name}' with the widths {list(config.widths)} would take {size / 1e9:.1f} GB"
        hint = f"Choose smaller widths: a model has at most {LARGEST[WEIGHTS] / 1e9:.1f} GB"
        raise UserError(what, where="network.widths", hint=hint)
    return _build(config, classes)


def shapes_of(config: NetworkConfig, classes: int) -> UNet | MonaiBackbone:
    """The network of a configuration without the memory for its weights, to look at the shapes of its tensors.

    Raises:
        UserError: As `build_network`, but for its size.
    """
    with _Unallocated():
        return _build(config, classes)


class _Unallocated(TorchFunctionMode):
    """Weights are made on the meta device and not filled; unlike there, what MONAI reckons with has its values."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn):
            kwargs = {**kwargs, "device": "meta"}
        name, filled = getattr(func, "__name__", ""), args[0] if args else kwargs.get("tensor")
        if name.endswith("_") and not name.startswith("_") and isinstance(filled, Tensor) and filled.is_meta:
            return filled  # PyTorch would do nothing either, but import modules for a second
        return func(*args, **kwargs)


def _build(config: NetworkConfig, classes: int) -> UNet | MonaiBackbone:
    builders = {"dynunet": _dynunet, "segresnet": _segresnet, "swinunetr": _swinunetr}
    if config.name not in ("unet", *builders):
        raise UserError(
            f"there is no network '{config.name}'", where="network.name", hint=nearest(config.name, ["unet", *builders])
        )
    try:
        if config.name == "unet":
            return UNet(classes, config.widths)
        import monai.networks.nets as nets

        if config.name == "swinunetr":
            import einops  # noqa: F401 - MONAI would miss it at the first image
        return builders[config.name](nets, config.widths, classes)
    except ImportError as error:
        what = f"this network needs {error.name}, which is not installed"
        raise UserError(what, where="network.name", hint="Install it with: pip install monai einops") from None
    except (ValueError, TypeError, RuntimeError, OverflowError, IndexError, AssertionError) as error:
        what = f"'{config.name}' cannot be built with the widths {list(config.widths)} ({error})"
        raise UserError(what, where="network.widths", hint="Choose other widths, or leave them out") from None


def _double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(outputs, outputs),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


def _dynunet(nets, widths: tuple[int, ...], classes: int) -> MonaiBackbone:
    levels = len(widths)
    strides = [1] + [2] * (levels - 1)
    network = nets.DynUNet(2, 1, classes, [3] * levels, strides, strides[1:], filters=list(widths))
    return MonaiBackbone(network, network.bottleneck, 2 ** (levels - 1))


def _segresnet(nets, widths: tuple[int, ...], classes: int) -> MonaiBackbone:
    network = nets.SegResNet(2, widths[0], 1, classes, norm=("GROUP", {"num_groups": min(8, widths[0])}))
    return MonaiBackbone(network, network.down_layers[-1], 8)


def _swinunetr(nets, widths: tuple[int, ...], classes: int) -> MonaiBackbone:
    feature_size = max(12, widths[0] // 12 * 12)
    network = nets.SwinUNETR(1, classes, feature_size=feature_size, spatial_dims=2, norm_name="instance")
    return MonaiBackbone(network, network.encoder10, 32)
