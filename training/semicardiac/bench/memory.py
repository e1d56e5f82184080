"""Memory: what a network keeps for its gradients, and what a pool of any size takes."""

from __future__ import annotations

import statistics
import subprocess
import sys

import torch
from torch import Tensor, nn

from ..config import NetworkConfig
from ..models.networks import build_network
from .timing import Measured, Setting, Unmeasured, ratios

SIZE, WIDTHS, CLASSES = 256, (16, 32, 64, 128, 256), 4
SMALL, LARGE = 1_300, 130_000
"""Slices in the pools."""


def activations(setting: Setting) -> dict[str, Measured]:
    """Of our U-Net, in full precision."""
    network = build_network(NetworkConfig(widths=WIDTHS), CLASSES)
    return {"activation_mb_per_slice": Measured([saved_mb(network)], "our U-Net, in float32, weights left out")}


def saved_mb(network: nn.Module) -> float:
    """What a network keeps for the gradients of one slice of 256 x 256 pixels, in MB; its own weights do not count."""
    own = {each.untyped_storage().data_ptr() for each in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(torch.zeros(1, 1, SIZE, SIZE))  # alive while it is counted, and all that it keeps with it
    del output
    return sum(kept.values()) / 2**20


def pools(setting: Setting) -> dict[str, Measured]:
    """Batches drawn from a small and from a large pool, each in a process of its own, in turn."""
    if sys.platform != "linux":
        raise Unmeasured("only Linux tells a process's own memory from the files that it has mapped")
    found: dict[int, list[list[float]]] = {SMALL: [], LARGE: []}
    for _ in range(setting.rounds):
        for slices, rounds in found.items():
            rounds.append(_drawing(slices, setting))
    own, seconds, resident = (
        ratios(*([each[column] for each in found[slices]] for slices in (LARGE, SMALL))) for column in range(3)
    )
    mapped = f"{max(resident):.2f} times, with the pages of the bank that the system has kept in memory for it"
    small, large = (1000 * statistics.median(each[1] for each in found[slices]) for slices in (SMALL, LARGE))
    return {
        "pool_memory_ratio": Measured(own, mapped),
        "pool_time_ratio": Measured(seconds, f"{large:.1f} over {small:.1f} ms; nearly all slices for the first time"),
    }


def _drawing(slices: int, setting: Setting) -> list[float]:
    """Own memory in MB, seconds a batch, and resident memory in MB, of a process that draws from so many slices."""
    command = [sys.executable, "-m", f"{__package__}.drawing", str(slices), str(setting.folder)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return [float(each) for each in done.stdout.split()]
