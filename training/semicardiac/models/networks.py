"""The backbones: a network gives logits and its bottleneck features."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..base.errors import UserError, nearest
from ..config import NetworkConfig, PreprocessConfig, Shape
from .monai_networks import BUILDERS, MonaiBackbone, build_monai
from .package import LARGEST, WEIGHTS
from .unet import UNet
from .unet3d import UNet3d

Backbone = UNet | UNet3d | MonaiBackbone


def strides_of(network: Backbone) -> Shape:
    """What (rows, cols) of slices, or (slices, rows, cols) of blocks, must be multiples of."""
    return (network.stride, network.stride) if isinstance(network.stride, int) else network.stride


def timed_shape(network: nn.Module, shape: Shape, device: str) -> Shape:
    """What of an input is timed to choose how to compute: on a CPU a part of a block tells as much, and sooner."""
    if len(shape) == 2 or torch.device(device).type != "cpu":
        return shape
    return tuple(min(side, 2 * step) for side, step in zip(shape, strides_of(cast(Backbone, network)), strict=True))


def misfit(network: Backbone, preprocess: PreprocessConfig) -> tuple[str, str] | None:
    """Where and what, if a crop or a depth that is given does not suit a network."""
    strides = strides_of(network)
    given = {"preprocess.crop": (preprocess.crop, math.lcm(*strides[-2:]))}
    if len(strides) == 3:
        given["preprocess.depth"] = preprocess.depth, strides[0]
    for where, (side, step) in given.items():
        if side is not None and side % step:
            return where, f"got {side}, which is no multiple of the {step} of this network"
    return None


def build_network(config: NetworkConfig, classes: int) -> Backbone:
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


def shapes_of(config: NetworkConfig, classes: int) -> Backbone:
    """The network of a configuration without the memory for its weights, to look at the shapes of its tensors.

    Raises:
        UserError: As `build_network`, but for its size.
    """
    with _Unallocated():
        return _build(config, classes)


class _Unallocated(TorchFunctionMode):
    """Weights are made on the meta device and not filled; unlike there, what MONAI reckons with has its values."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn):
            kwargs = {**kwargs, "device": "meta"}
        name, filled = getattr(func, "__name__", ""), args[0] if args else kwargs.get("tensor")
        if name.endswith("_") and not name.startswith("_") and isinstance(filled, Tensor) and filled.is_meta:
            return filled  # PyTorch would do nothing either, but import modules for a second
        return func(*args, **kwargs)


def _build(config: NetworkConfig, classes: int) -> Backbone:
    names = ["unet", *BUILDERS]
    if config.name not in names:
        raise UserError(f"there is no network '{config.name}'", where="network.name", hint=nearest(config.name, names))
    anisotropy = None if config.dimensions == 2 else config.anisotropy or 1.0
    try:
        if config.name != "unet":
            return build_monai(config.name, config.widths, classes, anisotropy)
        return UNet(classes, config.widths) if anisotropy is None else UNet3d(classes, config.widths, anisotropy)
    except ImportError as error:
        what = f"this network needs {error.name}, which is not installed"
        raise UserError(what, where="network.name", hint="Install it with: pip install monai einops") from None
    except (ValueError, TypeError, RuntimeError, OverflowError, IndexError, AssertionError) as error:
        what = f"'{config.name}' cannot be built with the widths {list(config.widths)} ({error})"
        raise UserError(what, where="network.widths", hint="Choose other widths, or leave them out") from None
