"""Weights as safetensors, and their comparison with what a configuration needs before anything large is read or built.

Weights are never unpickled.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as serialize_safetensors
from torch import Tensor, nn

from ..base.errors import UserError
from ..base.files import atomic_path
from ..base.printable import on_one_line
from ..base.text import listed
from ..config import NetworkConfig, TrainConfig
from ..methods import registry
from ..methods.method import Facts
from .container import AGAIN
from .networks import misfit, shapes_of
from .package import SETTINGS, WEIGHTS, Package, Settings, require_digest
from .tensor_file import Entry

Network = TypeVar("Network", bound=nn.Module)

LOCATOR_CLASSES = 2
"""Heart or not."""

_FIELDS = {
    "network": "config.network", "locator": "config.locate.widths", "method": "config.method",
}  # fmt: skip
"""By the first word of a tensor's name: what in config.json decides on its shape."""
_EARLIER = {"threshold": "method.threshold", "ratio": "method.ratio"}
"""Names of tensors in packages of earlier versions, and as they are now."""
_EARLIER_OF = {now: before for before, now in _EARLIER.items()}


def locator_config(config: TrainConfig) -> NetworkConfig:
    """What the locator is built from."""
    return NetworkConfig(widths=config.locate.widths)


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers by name, each once: MONAI's DynUNet holds its layers under two names."""
    kept: dict[int, tuple[str, Tensor]] = {}
    for name, value in network.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor):
            kept.setdefault(id(value), (name, value))
    return dict(kept.values())


def serialize(tensors: dict[str, Tensor]) -> bytes:
    """Tensors as float32 safetensors.

    Raises:
        UserError: If safetensors cannot hold them.
    """
    try:
        return serialize_safetensors(
            {name: value.detach().float().cpu().contiguous() for name, value in tensors.items()}
        )
    except (SafetensorError, RuntimeError, ValueError) as error:
        what = f"this network cannot be saved ({error})"
        raise UserError(what, where="network.name", hint="Choose another network") from None


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes tensors as float32 safetensors, atomically."""
    content = serialize(tensors)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)  # save_file would not tell a full disk as such


def read_weights(package: Package, settings: Settings, digests: dict[str, str]) -> dict[str, Tensor]:
    """The tensors of a package, each of them as its configuration needs it.

    Args:
        package: That was verified.
        settings: Its settings.
        digests: What it was verified with.

    Raises:
        UserError: If one is missing, too many, of another shape or type or not finite, or if the file is damaged.
    """
    needed = _needed(package, settings)
    header = package.tensors()
    if _EARLIER.keys() <= header.entries.keys():  # a package of the time when there was one method
        needed = {_EARLIER_OF.get(name, name): shape for name, shape in needed.items()}
    _require_fit(package, header.entries, needed)
    content = package.read(WEIGHTS, header.own + 4 * sum(shape.numel() for shape in needed.values()))
    require_digest(package, WEIGHTS, hashlib.sha256(content).hexdigest(), digests)
    try:
        tensors = parse_safetensors(content)
    except SafetensorError as error:
        raise UserError(f"{WEIGHTS} is damaged ({error})", where=package.place, hint=AGAIN) from None
    for name, value in tensors.items():
        if not value.isfinite().all():
            what = f"{WEIGHTS} holds values in {name} that are no numbers"
            raise UserError(what, where=package.place, hint=AGAIN)
    return {_EARLIER.get(name, name): value for name, value in tensors.items()}


def load_part(network: Network, tensors: dict[str, Tensor], part: str) -> Network:
    """Puts the tensors of `network.`, `locator.` or `method.` into a module of that shape."""
    network.load_state_dict(
        {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)},
        strict=False,  # the second names of what is held twice are not there
    )
    return network.eval().requires_grad_(False)


def _needed(package: Package, settings: Settings) -> dict[str, torch.Size]:
    """The shape of every tensor that a configuration needs."""
    config, classes = settings.config, settings.labels.classes
    where = f"{package.place}: {SETTINGS}: config"
    try:
        network = shapes_of(config.network, classes)
    except UserError as error:
        raise UserError(error.what, where=f"{where}.{error.where}", hint=error.hint) from None
    needs: dict[str, float | None] = {"preprocess.crop": config.preprocess.crop}
    if config.volumetric:
        needs |= {"preprocess.depth": config.preprocess.depth, "preprocess.slice_mm": config.preprocess.slice_mm}
        needs |= {"network.anisotropy": config.network.anisotropy}
    for name, value in needs.items():
        if value is None:
            raise UserError("got None, and a model has it chosen", where=f"{where}.{name}", hint=AGAIN)
    if fault := misfit(network, config.preprocess):
        raise UserError(fault[1], where=f"{where}.{fault[0]}", hint=AGAIN)
    needed = {f"network.{name}": value.shape for name, value in tensors_of(network).items()}
    if settings.locator:
        try:
            locator = shapes_of(locator_config(config), LOCATOR_CLASSES)
        except UserError as error:
            raise UserError(error.what, where=f"{where}.locate.widths", hint=error.hint) from None
        needed |= {f"locator.{name}": value.shape for name, value in tensors_of(locator).items()}
    facts = Facts(classes, config.shape, lambda: shapes_of(config.network, classes))
    method = registry.build(config, facts, where=f"{package.place}: {SETTINGS}", inside=("config", "method"))
    return needed | {f"method.{name}": value.shape for name, value in tensors_of(method).items()}


def _require_fit(package: Package, stored: dict[str, Entry], needed: dict[str, torch.Size]) -> None:
    misfits = {name: "is missing" for name in needed if name not in stored}
    misfits |= {name: "has no place in it" for name in stored if name not in needed}
    for name in needed.keys() & stored.keys():
        found, wanted = stored[name], tuple(needed[name])
        if found.shape != wanted:
            misfits[name] = f"has the shape {list(found.shape)} instead of {list(wanted)}"
        elif found.dtype != "F32":
            misfits[name] = f"is of type {found.dtype[:20]!r} instead of 'F32'"
    if misfits:
        name = min(misfits)
        each = (f"{on_one_line(other[:80])} {misfits[other]}" for other in sorted(misfits))
        what = f"the weights do not fit the configuration: {listed(each, 1)}"
        field = _FIELDS.get(name.partition(".")[0], "config.network")
        raise UserError(what, where=f"{package.place}: {SETTINGS}: {field}", hint=AGAIN)
