"""What only a CUDA device can be asked: how fast it is, whether it is waited for, and what memory it takes."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable

import torch

from ..config import NetworkConfig
from ..models.forward import class_probabilities, inference_plan
from ..models.networks import build_network
from .memory import CLASSES, SIZE, WIDTHS
from .timing import Measured, Setting, take_turns
from .trainee import Trainee

MIXES = ((8, 16), (32, 64), (64, 128))
"""Labeled and unlabeled slices in the batches that are tried."""
BATCHES = (32, 128, 512)
STEPS = 10
"""Steps over which waits are counted."""


def training_speed(setting: Setting) -> dict[str, Measured]:
    """Whole steps of our default, but of 256 x 256 pixels and with widths of 16 to 256, in the best of some batches."""

    def per_second(mix: tuple[int, int]) -> list[float]:
        optim = {"batch_mixed": mix, "batch_times": 1}
        trainee = Trainee(setting, {"network": {"widths": WIDTHS}, "preprocess": {"crop": SIZE}, "optim": optim})
        images = trainee.images_of_a_step()
        return [images / each for each in take_turns(setting, {"step": trainee.step})["step"]]

    return {"train_images_s_256": _best({f"a batch of {sum(mix)}": _tried(per_second, mix) for mix in MIXES})}


def inference_speed(setting: Setting) -> dict[str, Measured]:
    """Slices that lie on the device become labels there: resampling and files are left out."""
    network = build_network(NetworkConfig(widths=WIDTHS), CLASSES).eval()
    plan = inference_plan(network, SIZE, setting.device)
    plan.place(network)

    def per_second(batch: int) -> list[float]:
        images = plan.place(torch.randn(batch, 1, SIZE, SIZE))
        works = {"batch": lambda: class_probabilities(network, images, plan).argmax(1).to(torch.uint8)}
        return [batch / each for each in take_turns(setting, works)["batch"]]

    return {"infer_slices_s_256": _best({f"a batch of {batch}": _tried(per_second, batch) for batch in BATCHES})}


def waits_and_memory(setting: Setting) -> dict[str, Measured]:
    """Of steps of our default, after some to warm up."""
    torch.cuda.reset_peak_memory_stats(setting.device)
    trainee = Trainee(setting, {})
    for _ in range(STEPS):
        trainee.step()
    torch.cuda.synchronize(setting.device)
    waits: list[float] = []
    for _ in range(setting.rounds):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                for _ in range(STEPS):
                    trainee.step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchroniz" in str(each.message) for each in caught) / STEPS)
    peak = torch.cuda.max_memory_allocated(setting.device) / 2**20
    reserved = torch.cuda.max_memory_reserved(setting.device) / 2**20
    return {
        "host_waits_per_step": Measured(waits, "; ".join(trainee.warnings)),
        "peak_gpu_mb": Measured([peak], f"{reserved:.0f} MB are kept by PyTorch"),
    }


def _tried(per_second: Callable[..., list[float]], batch: object) -> list[float]:
    """What a batch reaches; nothing where the memory does not hold it."""
    try:
        return per_second(batch)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return []


def _best(found: dict[str, list[float]]) -> Measured:
    """The fastest of them, and what the others reached."""
    middles = {name: statistics.median(rounds) for name, rounds in found.items() if rounds}
    best = max(middles, key=middles.__getitem__)
    return Measured(found[best], ", ".join(f"{name}: {value:.0f}" for name, value in middles.items()))
