"""Our inference over the reference's, of a volume in memory to its labels on its own grid."""

from __future__ import annotations

import numpy as np
import torch
from semicardiac.bench.timing import Measured, Setting, Work, ratios, take_turns
from semicardiac.bench.trainee import LABELS
from semicardiac.bench.volumes import ready_model, unseen
from semicardiac.config import PreprocessConfig
from semicardiac.data.intensities import normalize
from semicardiac.data.slices import as_stack, restore_probabilities, sample_images
from semicardiac.images.volumes import Volume, read_volume
from semicardiac.models.compute import ComputePlan
from semicardiac.models.find_heart import find_heart
from semicardiac.models.forward import class_probabilities, inference_plan
from semicardiac.models.model import Model
from semicardiac.models.predict import segment

from Testing.bench import reference
from Testing.bench.full_resolution import FullResolutionUNet


def over_slicewise(setting: Setting) -> dict[str, Measured]:
    """Classes on a square of 256 x 256 pixels in all slices, against the reference's labels."""
    volume, theirs, settings = read_volume(unseen(setting).image), _their_network(setting), PreprocessConfig()
    network = FullResolutionUNet(LABELS.classes, reference.WIDTHS).eval()
    plan = inference_plan(network, reference.SIZE, setting.device)
    plan.place(network)
    stack = as_stack(volume, "acquired")

    def squares() -> torch.Tensor:
        sampled = sample_images(stack, stack.middle, settings.spacing_mm, reference.SIZE, settings.clip)
        return torch.from_numpy(sampled).unsqueeze(1)

    @torch.inference_mode()
    def their_network() -> None:
        for each in images.to(setting.device).split(1):
            theirs(each)

    images = squares()
    works = {
        "theirs": lambda: reference.predict(theirs, volume.array, setting.device),
        "ours": lambda: class_probabilities(network, squares(), plan).argmax(1).cpu(),
        "their network": their_network,
        "our network": lambda: class_probabilities(network, images, plan),
    }
    times = take_turns(setting, works)
    note = f"ours has our blocks from full resolution down, {plan.dtype}; {_seconds(volume, times)}"
    return {"inference_over_slicewise": Measured(ratios(times["theirs"], times["ours"]), note)}


def default_over_reference(setting: Setting) -> dict[str, Measured]:
    """What `semicardiac segment` does to a volume, finding the heart included, against the reference."""
    volume, theirs = read_volume(unseen(setting).image), _their_network(setting)
    model, plan = ready_model(setting)
    works = {
        "theirs": lambda: reference.predict(theirs, volume.array, setting.device),
        "ours": lambda: segment(model, volume, plan, flips=False),
        "flips": lambda: segment(model, volume, plan, flips=True),
    }
    times = take_turns(setting, {**works, **_parts(model, volume, plan)})
    return {
        "inference_default_over_reference": Measured(ratios(times["theirs"], times["ours"]), _seconds(volume, times)),
        "inference_flips_over_reference": Measured(ratios(times["theirs"], times["flips"])),
    }


def _parts(model: Model, volume: Volume, plan: ComputePlan) -> dict[str, Work]:
    """What ours does with a volume, each by itself."""
    stack, settings = as_stack(volume, "acquired"), model.config.preprocess
    center = stack.middle
    images = sample_images(stack, center, settings.spacing_mm, settings.side, settings.clip)
    probability = class_probabilities(model.network, torch.from_numpy(images).unsqueeze(1), plan)
    on_square = probability.cpu().numpy()
    return {
        "reading intensities": lambda: normalize(stack.array),
        "finding the heart": lambda: find_heart(model.locator, stack, model.config, plan, model.heart_area_mm2),
        "cutting squares": lambda: sample_images(stack, center, settings.spacing_mm, settings.side, settings.clip),
        "the network once": lambda: class_probabilities(model.network, torch.from_numpy(images).unsqueeze(1), plan),
        "back onto the grid": lambda: restore_probabilities(on_square, stack, center, settings.spacing_mm),
    }


def _seconds(volume: Volume, times: dict[str, list[float]]) -> str:
    """How long each took, in words."""
    told = ", ".join(f"{name} {1000 * np.median(each):.0f}" for name, each in times.items())
    return f"ms for {' x '.join(map(str, volume.array.shape))} voxels: {told}"


def _their_network(setting: Setting) -> torch.nn.Module:
    return reference.UNet(LABELS.classes).to(setting.device).eval()
