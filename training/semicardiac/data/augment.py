"""Random views of slices, batched on the device. What is drawn is data, so that any view can be replayed.

Geometry is one sampling grid a view, in crop units: (x, y) with -1 and 1 at the outer edges of the canonical crop. The
same grid moves image, label, pseudo-label and γ, whatever the size of the square that each is stored in. All of this
holds for blocks of slices, too: places are (x, y, z) there, and a view of a block is drawn in `block_views`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..config import AugmentConfig, Shape
from .share import Share

Size = int | Shape
"""The side of a square, or (rows, cols), or (slices, rows, cols)."""


class View(NamedTuple):
    """What was drawn for a batch of B views; float32 where nothing else is said."""

    matrix: Tensor
    """(B, 2, 2): from a place in the view to one in the canonical crop, in crop units (x, y); (B, 3, 3) of blocks."""
    shift: Tensor
    """(B, 2), crop units; (B, 3) of blocks."""
    displacement: Tensor
    """(B, 2, P, P): elastic displacement of the control points, crop units; the same in all slices of a block."""
    flip: Tensor
    """(B, 2) bool: left-right, up-down; contained in `matrix`. (B, 3) of blocks, through the slices last."""
    intensity: Tensor
    """(B, 5): brightness, gain, gamma, standard deviation of the noise, weight of the blur."""
    cutout: Tensor
    """(B, 4): x, y, half width, half height of the blanked rectangle in view units; 0 where there is none."""
    noise_seed: int
    noise: torch.Generator | None = None
    """Of the noise, seeded by whoever replays a recorded step; without it, one is made from `noise_seed`."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What of it are tensors."""
        return self[:6]

    def to(self, device: torch.device) -> View:
        """The view on a device; CUDA takes it in one copy that nothing waits for."""
        if device.type != "cuda":
            return self._replace(**{name: getattr(self, name).to(device) for name in self._fields[:6]})
        packed = torch.cat([part.flatten().float() for part in self.tensors])
        parts = packed.pin_memory().to(device, non_blocking=True).split([part.numel() for part in self.tensors])
        moved = [new.view(old.shape).to(old.dtype) for new, old in zip(parts, self.tensors, strict=True)]
        return View._make((*moved, self.noise_seed, self.noise))

    def part(self, cut: slice) -> View:
        """Some of the views; the noise is drawn for all of them, see `recolor`."""
        return View._make((*(each[cut] for each in self.tensors), self.noise_seed, self.noise))


def draw(config: AugmentConfig, batch: int, generator: torch.Generator) -> View:
    """Draws the parameters of `batch` views, on the CPU, whatever the device that will use them."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    def happens(probability: float, *shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator) < probability

    angle = uniform(-math.radians(config.rotation), math.radians(config.rotation))
    scale = torch.exp(uniform(math.log(config.scale[0]), math.log(config.scale[1])))
    flip = happens(config.flip, 2)
    crop_zoom = torch.where(happens(config.crop), uniform(0.7, 1.0), 1.0)
    crop_shift = uniform(-1, 1, 2) * (1 - crop_zoom).unsqueeze(1)
    size = (crop_zoom / scale).unsqueeze(1)
    sign = torch.where(flip, -1.0, 1.0)
    rows = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), dim=1).view(batch, 2, 2)
    matrix = rows * (size * sign).unsqueeze(1)
    shift = uniform(-2 * config.shift, 2 * config.shift, 2) + crop_shift
    points = config.elastic_points
    displacement = 2 * config.elastic * torch.randn(batch, 2, points, points, generator=generator)
    intensity = torch.stack(
        (
            uniform(*config.brightness),
            uniform(*config.gain),
            torch.exp(uniform(math.log(config.gamma[0]), math.log(config.gamma[1]))),
            uniform(0, config.noise) * happens(0.5),
            uniform(0, 1) * happens(config.blur),
        ),
        dim=1,
    )
    cutout = torch.cat((uniform(-0.8, 0.8, 2), uniform(0.1, 0.35, 2)), dim=1) * happens(config.cutout, 1)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    return View(matrix, shift, displacement, flip, intensity, cutout, seed)


def grid_of(view: View, size: Size) -> Tensor:
    """The sampling grid of a batch of views, (B, rows, cols, 2) or (B, slices, rows, cols, 3) in crop units."""
    shape = shape_of(size)
    place = plain_grid(1, size, view.matrix.device).reshape(1, -1, len(shape))
    grid = (place @ view.matrix.transpose(1, 2) + view.shift.unsqueeze(1)).view(-1, *shape, len(shape))
    bend = F.interpolate(view.displacement, shape[-2:], mode="bicubic", align_corners=True).movedim(1, -1)
    if len(shape) == 3:
        bend = F.pad(bend, (0, 1)).unsqueeze(1)
    return grid + bend


def plain_grid(batch: int, size: Size, device: torch.device) -> Tensor:
    """The grid of the canonical crop itself."""
    shape = shape_of(size)
    axes = [(torch.arange(side, device=device) * 2 + 1) / side - 1 for side in shape]
    places = torch.meshgrid(*axes, indexing="ij")
    return torch.stack(places[::-1], dim=-1).expand(batch, *shape, len(shape))


def shape_of(size: Size) -> Shape:
    """Slices, rows and columns; of a square given by its side, rows and columns."""
    return (size, size) if isinstance(size, int) else size


def warp(
    stored: Tensor,
    grid: Tensor,
    *,
    crop: Size,
    offset: Tensor | None = None,
    mode: str = "bilinear",
    outside: str = "zeros",
) -> Tensor:
    """Samples squares of any side, or blocks, along grids in crop units.

    Args:
        stored: (B, K, S, S) or (B, K, T, S, S) float; the middle of the square is the middle of the canonical crop but
            for `offset`.
        grid: (B, H, W, 2) or (B, D, H, W, 3) in crop units.
        crop: Of the canonical crop, in pixels of `stored`.
        offset: (B, 2): where the crop's middle lies from the square's, (row, col) in pixels; (B, 3) of blocks.
        mode: `bilinear` (between slices, too) or `nearest`.
        outside: `zeros` or `border`.

    Returns:
        (B, K, H, W) or (B, K, D, H, W).
    """
    sides = stored.shape[2:]
    grid = _scaled(grid, [part / side for part, side in zip(shape_of(crop), sides, strict=True)])
    if offset is not None:
        moved = _scaled(offset.flip(1), [2 / side for side in sides])
        grid = grid + moved.view(-1, *[1] * len(sides), len(sides))
    return F.grid_sample(stored, grid, mode=mode, padding_mode=outside, align_corners=False)


def _scaled(places: Tensor, factors: list[float]) -> Tensor:
    """Places (..., (x, y)) or (..., (x, y, z)) times a factor for each axis, given in the order of an array's axes."""
    if len(set(factors)) == 1:
        return places * factors[0]
    return torch.stack([at * by for at, by in zip(places.unbind(-1), factors[::-1], strict=True)], dim=-1)


def clean_crops(image: Tensor, offset: Tensor, size: Size) -> Tensor:
    """The canonical crops (B, 1, size, size) of squares (B, 1, S, S), or those of blocks; `offset`: see `warp`."""
    grid = plain_grid(len(image), size, image.device)
    return warp(image, grid, crop=size, offset=offset, outside="border")


def recolor(image: Tensor, view: View, clip: tuple[float, float], share: Share | None = None) -> Tensor:
    """Brightness, gamma, gain, blur, noise and cutout.

    Args:
        image: (B, 1, H, W) or (B, 1, D, H, W) float32 within `clip`.
        view: What was drawn.
        clip: Bounds of the intensities; brightness and gamma work on the range between them as 0 to 1.
        share: Which of the views that were drawn together these are, where processes share them.
    """
    low, high = clip
    single = [1] * (image.dim() - 1)
    brightness, gain, gamma, noise, blur = (value.view(-1, *single) for value in view.intensity.unbind(1))
    unit = ((image - low) / (high - low)).clamp(1e-4, 1) * brightness
    image = unit.pow(gamma) * (high - low) + low
    mean = image.mean(dim=tuple(range(2, image.dim())), keepdim=True)
    image = mean + (image - mean) * gain
    image = torch.lerp(image, _blurred(image), blur)
    generator = view.noise or torch.Generator(image.device).manual_seed(view.noise_seed)
    drawn = image.shape if share is None else (share.slices, *image.shape[1:])
    grain = torch.randn(drawn, device=image.device, generator=generator)
    image = image + noise * (grain if share is None else grain[share.cut])
    size = image.shape[-1]
    axis = (torch.arange(size, device=image.device) * 2 + 1) / size - 1
    x, y, half_width, half_height = (value.view(-1, *single) for value in view.cutout.unbind(1))
    inside = ((axis - x).abs() < half_width) & ((axis.view(-1, 1) - y).abs() < half_height)
    return torch.where(inside, low, image.clamp(low - 2, high + 2))


def _blurred(image: Tensor) -> Tensor:
    """Means of 3 x 3 pixels, slice by slice."""
    slices = image.flatten(1, -3)
    pooled = F.avg_pool2d(F.pad(slices, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return pooled.reshape(image.shape)


def flip_like(features: Tensor, flip: Tensor) -> Tensor:
    """Feature maps (B, F, h, w) of the canonical crop, flipped as the views were; `flip`: (B, 2), see `View`.

    Those of blocks (B, F, d, h, w) with `flip` (B, 3).
    """
    for axis, flipped in enumerate(flip.unbind(1), start=1):
        features = torch.where(flipped.view(-1, *[1] * (features.dim() - 1)), features.flip(-axis), features)
    return features
