"""A lean 3D U-Net that gives logits and its bottleneck features: `unet.UNet` for volumes, whatever their spacing."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from .levels import Triple, plan_levels, whole_stride


class UNet3d(nn.Module):
    """U-Net that folds blocks of voxels into channels on the way in and unfolds them on the way out.

    As in two dimensions no convolution runs at full resolution, where a volume has eight times the voxels of the next
    level.

    Args:
        classes: Channels of the logits, background included.
        widths: Channels of each level, from half resolution down.
        anisotropy: Distance of slices over that of pixels: decides on kernels and strides, see `plan_levels`.

    Attributes:
        stride: What slices, rows and columns of the input must be multiples of.
    """

    def __init__(self, classes: int, widths: tuple[int, ...], anisotropy: float) -> None:
        super().__init__()
        levels = plan_levels(anisotropy, len(widths))
        self.stride = whole_stride(levels)
        self.strides = [level.stride for level in levels]
        self.down = nn.ModuleList()
        folded = channels = _volume(self.strides[0])
        for width, level in zip(widths, levels, strict=True):
            self.down.append(_double_convolution(channels, width, level.kernel))
            channels = width
        self.up = nn.ModuleList()
        self.merge = nn.ModuleList()
        for (finer, coarser), width in zip(reversed(list(itertools.pairwise(levels))), widths[-2::-1], strict=True):
            self.up.append(nn.ConvTranspose3d(channels, width, coarser.stride, stride=coarser.stride))
            self.merge.append(_double_convolution(2 * width, width, finer.kernel))
            channels = width
        self.head = nn.Conv3d(channels, folded * classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=0.01, nonlinearity="leaky_relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and bottleneck of volumes.

        Args:
            image: (B, 1, D, H, W) float.

        Returns:
            Logits (B, C, D, H, W) float32 and the deepest level's features (B, F, D / stride, H / stride, W / stride).
        """
        skips = []
        features = fold(image, self.strides[0])
        for level, block in enumerate(self.down):
            if level:
                features = functional.max_pool3d(features, self.strides[level])
            features = block(features)
            skips.append(features)
        bottleneck = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            features = merge(torch.cat((skips.pop(), up(features)), dim=1))
        # The head in full precision: its logits are thresholded.
        with torch.autocast(features.device.type, enabled=False):
            return unfold(self.head(features.float()), self.strides[0]), bottleneck


def fold(volume: Tensor, block: Triple) -> Tensor:
    """Blocks of voxels as channels: (B, C, D, H, W) to (B, C * a * b * c, D / a, H / b, W / c); block: (a, b, c)."""
    (batch, channels, depth, rows, cols), (a, b, c) = volume.shape, block
    parts = volume.reshape(batch, channels, depth // a, a, rows // b, b, cols // c, c)
    return parts.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch, -1, depth // a, rows // b, cols // c)


def unfold(volume: Tensor, block: Triple) -> Tensor:
    """The inverse of `fold`."""
    (batch, channels, depth, rows, cols), (a, b, c) = volume.shape, block
    parts = volume.reshape(batch, channels // _volume(block), a, b, c, depth, rows, cols)
    return parts.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, -1, depth * a, rows * b, cols * c)


def _volume(block: Triple) -> int:
    return block[0] * block[1] * block[2]


def _double_convolution(inputs: int, outputs: int, kernel: Triple) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv3d(channels, outputs, kernel, padding=padding, bias=False),
            nn.GroupNorm(outputs, outputs),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)
