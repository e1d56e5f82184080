"""A trained model, written into and loaded from a package (see package.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from .. import __version__
from ..base.errors import UserError
from ..base.files import sha256, write_json, write_text
from ..base.swap import folder_beside, replaced_folder
from ..config import TrainConfig
from ..images.labels import LabelSet
from ..methods import registry
from ..methods.method import Facts, Method
from .networks import build_network
from .package import CARD, CHECKSUMS, CONTENT, FORMAT, LARGEST, LICENCE, SETTINGS, WEIGHTS, open_package
from .weights import LOCATOR_CLASSES, load_part, locator_config, read_weights, tensors_of, write_tensors


@dataclass(eq=False)
class Model:
    """What segments a volume.

    Attributes:
        network: The teacher, which predicts.
        locator: Finds the heart; None where the middle of the image is taken.
        method: With its state at the end of training, for looking at and to start from.
        heart_area_mm2: Plausible areas of the heart when all slices are looked through, lowest and highest.
        about: Provenance and metrics, for the card.
    """

    network: nn.Module
    locator: nn.Module | None
    method: Method
    config: TrainConfig
    labels: LabelSet
    heart_area_mm2: tuple[float, float]
    about: dict[str, Any] = field(default_factory=dict)

    def to(self, device: str) -> Model:
        self.network.to(device)
        self.method.to(device)
        if self.locator is not None:
            self.locator.to(device)
        return self


def build_locator(config: TrainConfig) -> nn.Module:
    """The small network that finds the heart: two classes, heart or not."""
    return build_network(locator_config(config), LOCATOR_CLASSES)


def save_model(folder: Path, model: Model) -> None:
    """Writes the package, beside an earlier one, which it replaces whole; see swap.py.

    Raises:
        UserError: If it cannot be written or would not be read again: the network cannot be saved, or is too large.
    """
    with replaced_folder(folder) as new:
        _write(new, model)


def rehearse_saving(folder: Path, model: Model) -> None:
    """Writes the package that a training will end with beside its place, reads it, and deletes it.

    Raises:
        UserError: If the training would end without a model that can be used.
    """
    with folder_beside(folder) as trial:
        _write(trial, model)
        load_model(trial)


def load_model(path: Path, device: str = "cpu") -> Model:
    """The model of a package (folder or zip) or of a finished job (a folder that holds `model/`).

    Raises:
        UserError: If it is none of these, is damaged, or was written by a newer version.
    """
    package = open_package(path)
    digests = package.verify()
    try:
        settings = package.settings
        tensors = read_weights(package, settings, digests)
    except UserError:
        if package.digests() == digests:
            raise
        return load_model(path, device)  # a successor took its place meanwhile
    config, labels = settings.config, settings.labels
    network = load_part(build_network(config.network, labels.classes), tensors, "network.")
    locator = load_part(build_locator(config), tensors, "locator.") if settings.locator else None
    facts = Facts(labels.classes, config.shape, lambda: build_network(config.network, labels.classes))
    method = load_part(registry.build(config, facts), tensors, "method.")
    return Model(network, locator, method, config, labels, settings.heart_area_mm2, settings.about).to(device)


def _write(folder: Path, model: Model) -> None:
    tensors = {f"network.{key}": value for key, value in tensors_of(model.network).items()}
    if model.locator is not None:
        tensors |= {f"locator.{key}": value for key, value in tensors_of(model.locator).items()}
    tensors |= {f"method.{key}": value for key, value in tensors_of(model.method).items()}
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
    for name in CONTENT:
        if (size := (folder / name).stat().st_size) > LARGEST[name]:
            what = f"{name} would take {size >> 20} MB, more than the {LARGEST[name] >> 20} MB that can be read again"
            raise UserError(what, where="network.widths" if name == WEIGHTS else "labels", hint="Choose fewer of them")
    write_text(folder / CHECKSUMS, "".join(f"{sha256(folder / name)}  {name}\n" for name in CONTENT))


def _card(model: Model) -> str:
    about = model.about
    lines = [
        "# A SemiCardiacSeg model",
        "",
        f"Segments: {', '.join(model.labels.names)} (label set `{model.labels.name}`).",
        f"Trained by SemiCardiacSeg {__version__}, preset `{model.config.preset}`, seed {model.config.seed}.",
        f"Method: `{model.config.method.name}`.",
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
