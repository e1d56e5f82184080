"""Our inference over the reference's, of a volume in memory to its labels on its own grid."""

from __future__ import annotations

import numpy as np
import torch
from semicardiac.bench.timing import Measured, Setting, Work, ratios, take_turns
from semicardiac.bench.trainee import LABELS
from semicardiac.bench.volumes import phantom_model
from semicardiac.config import make_config
from semicardiac.data.intensities import normalize
from semicardiac.data.slices import as_stack, restore_probabilities
from semicardiac.images.volumes import Volume, read_volume
from semicardiac.jobs.segment import inference_plan
from semicardiac.methods import registry
from semicardiac.methods.method import Facts
from semicardiac.models import predict
from semicardiac.models.compute import ComputePlan
from semicardiac.models.find_heart import find_heart
from semicardiac.models.model import Model, load_model
from semicardiac.models.predict import predict_square, segment

from Testing.bench import reference
from Testing.bench.full_resolution import FullResolutionUNet


def over_slicewise(setting: Setting) -> dict[str, Measured]:
    """Class probabilities of a square of 256 x 256 pixels in all slices, against the reference's labels."""
    volume, plan, theirs = _volume(setting), inference_plan(setting.device), _their_network(setting)
    config = make_config("default", {"preprocess": {"crop": reference.SIZE}, "network": {"widths": reference.WIDTHS}})
    network = plan.place(FullResolutionUNet(LABELS.classes, reference.WIDTHS)).eval()
    method = registry.build(config, Facts(LABELS.classes, reference.SIZE, lambda: network))
    model = Model(network, None, method, config, LABELS, (0.0, 0.0))
    stack = as_stack(volume, "acquired")
    works = {
        "theirs": lambda: reference.predict(theirs, volume.array, setting.device),
        "ours": lambda: predict_square(model, stack, stack.middle, plan, flips=False).argmax(axis=1),
    }
    images = torch.randn(len(stack.array), 1, reference.SIZE, reference.SIZE)

    def run(network: torch.nn.Module, batch: int) -> None:
        with torch.no_grad(), plan.autocast():
            for part in plan.place(images).split(batch):
                network(part)

    networks = {"their network": lambda: run(theirs, 1), "our network": lambda: run(network, predict.CPU_BATCH)}
    times = take_turns(setting, {**works, **networks})
    note = f"ours has our blocks from full resolution down, {plan.dtype}; {_seconds(volume, times)}"
    return {"inference_over_slicewise": Measured(ratios(times["theirs"], times["ours"]), note)}


def default_over_reference(setting: Setting) -> dict[str, Measured]:
    """What `semicardiac segment` does to a volume, finding the heart included, against the reference."""
    volume, plan, theirs = _volume(setting), inference_plan(setting.device), _their_network(setting)
    model = load_model(phantom_model(setting)[0]).to(plan.device)
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
    square = predict_square(model, stack, center, plan, flips=False)
    return {
        "reading intensities": lambda: normalize(stack.array),
        "finding the heart": lambda: find_heart(model.locator, stack, model.config, plan, model.heart_area_mm2),
        "a square": lambda: predict_square(model, stack, center, plan, flips=False),
        "back onto the grid": lambda: restore_probabilities(square, stack, center, settings.spacing_mm),
    }


def _seconds(volume: Volume, times: dict[str, list[float]]) -> str:
    """How long each took, in words."""
    told = ", ".join(f"{name} {1000 * np.median(each):.0f}" for name, each in times.items())
    return f"ms for {' x '.join(map(str, volume.array.shape))} voxels: {told}"


def _volume(setting: Setting) -> Volume:
    """A phantom patient that no training saw."""
    return read_volume(phantom_model(setting)[1][-1].image)


def _their_network(setting: Setting) -> torch.nn.Module:
    return reference.UNet(LABELS.classes).to(setting.device).eval()
