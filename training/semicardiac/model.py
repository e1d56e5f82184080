"""A trained model, written into and loaded from a package (see package.py). Weights are never unpickled."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as serialize_safetensors
from torch import Tensor, nn

from . import __version__
from .config import TrainConfig, parse
from .errors import UserError
from .files import atomic_path, sha256, write_json, write_text
from .labels import LabelSet
from .network import build_network
from .package import CARD, CHECKSUMS, CONTENT, FORMAT, LICENCE, SETTINGS, WEIGHTS, open_package


@dataclass(eq=False)
class Model:
    """What segments a volume.

    Attributes:
        network: The teacher, which predicts.
        locator: Finds the heart; None where the middle of the image is taken.
        threshold: The threshold map M (H, W) and k (C,) at the end of training, for looking at.
        heart_area_mm2: Plausible areas of the heart when all slices are looked through, lowest and highest.
        about: Provenance and metrics, for the card.
    """

    network: nn.Module
    locator: nn.Module | None
    config: TrainConfig
    labels: LabelSet
    threshold: Tensor
    ratio: Tensor
    heart_area_mm2: tuple[float, float]
    about: dict[str, Any] = field(default_factory=dict)

    def to(self, device: str) -> Model:
        self.network.to(device)
        if self.locator is not None:
            self.locator.to(device)
        return self


def build_locator(config: TrainConfig) -> nn.Module:
    """The small network that finds the heart: two classes, heart or not."""
    return build_network(config.network.model_copy(update={"name": "unet", "widths": config.locate.widths}), 2)


def save_model(folder: Path, model: Model) -> None:
    """Writes the package. Files of an earlier one are replaced one by one, the checksums last."""
    tensors = {f"network.{key}": value for key, value in model.network.state_dict().items()}
    if model.locator is not None:
        tensors |= {f"locator.{key}": value for key, value in model.locator.state_dict().items()}
    tensors |= {"threshold": model.threshold, "ratio": model.ratio}
    write_tensors(folder / WEIGHTS, tensors)
    settings = {
        "format": FORMAT,
        "version": __version__,
        "config": model.config.model_dump(mode="json"),
        "labels": model.labels.model_dump(mode="json"),
        "locator": model.locator is not None,
        "heart_area_mm2": list(model.heart_area_mm2),
        "about": model.about,
    }
    write_json(folder / SETTINGS, settings)
    write_text(folder / CARD, _card(model))
    write_text(folder / LICENCE, LICENCE_TEXT)
    write_text(folder / CHECKSUMS, "".join(f"{sha256(folder / name)}  {name}\n" for name in CONTENT))


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes tensors as float32 safetensors, atomically."""
    tensors = {key: value.detach().float().cpu().contiguous() for key, value in tensors.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(serialize_safetensors(tensors))  # save_file would not tell a full disk as such


def load_model(path: Path, device: str = "cpu") -> Model:
    """The model of a package (folder or zip) or of a finished job (a folder that holds `model/`).

    Raises:
        UserError: If it is none of these, is damaged, or was written by a newer version.
    """
    package = open_package(path)
    package.verify()
    settings, labels = package.settings, package.labels
    config = parse(TrainConfig, settings["config"], where=f"{package.place}: {SETTINGS}: config")
    try:
        tensors = parse_safetensors(package.read(WEIGHTS))
        network = build_network(config.network, labels.classes)
        network.load_state_dict(_part(tensors, "network."))
        locator = None
        if settings["locator"]:
            locator = build_locator(config)
            locator.load_state_dict(_part(tensors, "locator."))
        threshold, ratio = tensors["threshold"], tensors["ratio"]
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise UserError(
            f"the weights do not fit the configuration ({error})", where=package.place, hint="Get the package again"
        ) from None
    model = Model(
        network.eval().requires_grad_(False),
        locator.eval().requires_grad_(False) if locator is not None else None,
        config, labels, threshold, ratio, tuple(settings["heart_area_mm2"]), settings["about"],
    )  # fmt: skip
    return model.to(device)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _card(model: Model) -> str:
    about = model.about
    lines = [
        "# A SemiCardiacSeg model",
        "",
        f"Segments: {', '.join(model.labels.names)} (label set `{model.labels.name}`).",
        f"Trained by SemiCardiacSeg {__version__}, preset `{model.config.preset}`, seed {model.config.seed}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key.replace('_', ' ')} | {value} |" for key, value in about.items()),
        "",
        "Method: Mi et al., PLOS ONE 2026, doi:10.1371/journal.pone.0342567.",
        "For research. Not a medical device; not for clinical use.",
        "The terms of the data that it was trained on may bind its weights too.",
    ]
    return "\n".join(lines) + "\n"


LICENCE_TEXT = """The software that made and reads this package is licensed under the Apache License, Version 2.0.
The weights in it were trained on data of whoever trained them: they decide on the licence of the weights,
within the terms of that data. Replace this text by theirs before the package is passed on.
"""
