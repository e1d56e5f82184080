"""Our U-Net with its first level at full resolution, as the reference has it: the same arithmetic, our blocks."""

from __future__ import annotations

import torch
from semicardiac.models.unet import UNet
from torch import Tensor, nn
from torch.nn import functional as F


class FullResolutionUNet(UNet):
    """As `UNet`, without folding pixels into channels.

    Args:
        classes: Channels of the logits.
        widths: Channels of each level, from full resolution down.
    """

    def __init__(self, classes: int, widths: tuple[int, ...]) -> None:
        super().__init__(classes, widths)
        self.stride //= 2
        self.down[0][0] = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        levels = [self.down[0](image)]
        for block in self.down[1:]:
            levels.append(block(F.max_pool2d(levels[-1], 2)))
        bottleneck = features = levels.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            features = merge(torch.cat((levels.pop(), up(features)), dim=1))
        return self.head(features).float(), bottleneck
