"""Our inference over the reference's, of a volume in memory to its labels on its own grid."""

from __future__ import annotations

import numpy as np
import torch
from semicardiac.bench.timing import Measured, Setting, ratios, take_turns
from semicardiac.bench.trainee import LABELS
from semicardiac.bench.volumes import phantom_model
from semicardiac.config import make_config
from semicardiac.data.slices import as_stack
from semicardiac.images.volumes import read_volume
from semicardiac.jobs.segment import inference_plan
from semicardiac.methods import registry
from semicardiac.methods.method import Facts
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
    times = take_turns(setting, works)
    note = f"{len(stack.array)} slices, our blocks from full resolution down, {plan.dtype}"
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
    times = take_turns(setting, works)
    shape = " x ".join(map(str, volume.array.shape))
    told = ", ".join(f"{name} {np.median(each):.2f}" for name, each in times.items())
    return {
        "inference_default_over_reference": Measured(
            ratios(times["theirs"], times["ours"]), f"seconds for {shape} voxels: {told}"
        ),
        "inference_flips_over_reference": Measured(ratios(times["theirs"], times["flips"])),
    }


def _volume(setting: Setting):
    """A phantom patient that no training saw."""
    return read_volume(phantom_model(setting)[1][-1].image)


def _their_network(setting: Setting) -> torch.nn.Module:
    return reference.UNet(LABELS.classes).to(setting.device).eval()
