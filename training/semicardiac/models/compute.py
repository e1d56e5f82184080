"""Where and in which precision to compute: measured on this machine with the real network, never guessed by name."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import time
from typing import Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ..base.errors import UserError
from ..data.augment import Size, shape_of

Placed = TypeVar("Placed", bound=Tensor | nn.Module)


class ComputePlan(BaseModel):
    """A choice that a resumed job keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    device: str
    name: str
    dtype: Literal["float32", "bfloat16", "float16"]
    channels_last: bool
    threads: int
    images_per_s: dict[str, float] = {}
    """What the candidates reached."""

    def place(self, tensor_or_module: Placed) -> Placed:
        """Moves a network or an image batch to the device in the chosen memory layout."""
        layout = torch.contiguous_format
        if self.channels_last:
            layout = torch.channels_last_3d if _is_volumetric(tensor_or_module) else torch.channels_last
        # PyTorch's types know memory_format of tensors alone, its modules take it, too.
        return tensor_or_module.to(self.device, memory_format=layout)  # type: ignore[call-overload, return-value]

    def autocast(self) -> torch.autocast:
        """Mixed precision as chosen; networks compute inside it, losses outside."""
        return torch.autocast(
            torch.device(self.device).type, dtype=getattr(torch, self.dtype), enabled=self.dtype != "float32"
        )


def _is_volumetric(tensor_or_module: Tensor | nn.Module) -> bool:
    """Whether an image batch holds blocks of slices, or a network has weights for such."""
    if isinstance(tensor_or_module, Tensor):
        return tensor_or_module.dim() == 5
    return any(parameter.dim() == 5 for parameter in tensor_or_module.parameters())


def pick_device(asked: str) -> str:
    """The device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UserError: If it is not known or not there.
    """
    if asked == "auto":  # an Apple GPU has to be asked for by name: nobody has tried one yet
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise UserError(
            f"there is no device '{asked}'", where="device", hint="Use auto, cpu, cuda, cuda:0 or mps"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        cure = "Compute on the CPU (device cpu), or install a PyTorch build for your GPU and driver"
        raise UserError("CUDA was asked for, but PyTorch sees no CUDA device here", where="device", hint=cure)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"CUDA devices here: {torch.cuda.device_count()}, numbered from 0", where=f"device {asked}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("PyTorch sees no Apple GPU here", where="device", hint="Compute on the CPU (device cpu)")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"'{asked}' is not supported", where="device", hint="Use auto, cpu, cuda, cuda:0 or mps")
    return asked


def choose_plan(network: nn.Module, size: Size, device: str, *, fixed: bool = False) -> ComputePlan:
    """Times a few training steps of each candidate and takes the fastest.

    Args:
        network: One like that which will be trained; it is moved about, and thrown away.
        size: Of its input.
        device: From `pick_device`.
        fixed: Take float32 without timing anything: for deterministic runs, the same on every machine.
    """
    kind = torch.device(device).type
    name = torch.cuda.get_device_name(device) if kind == "cuda" else platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    candidates = {"cpu": ["float32", "bfloat16"], "mps": ["float32"], "cuda": ["float16"]}[kind]
    if kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        candidates = ["bfloat16"]
    layouts = (False, True) if kind != "mps" else (False,)
    plans = [
        ComputePlan(device=device, name=name, dtype=dtype, channels_last=layout, threads=threads)
        for dtype in candidates
        for layout in layouts
    ]
    if fixed:
        return ComputePlan(device=device, name=name, dtype="float32", channels_last=False, threads=threads)
    speed = {}
    for plan in plans:
        layout = "channels_last" if plan.channels_last else "contiguous"
        speed[f"{plan.dtype} {layout}"] = round(_images_per_second(plan, network, size), 1)
    best = plans[max(range(len(plans)), key=list(speed.values()).__getitem__)]
    return best.model_copy(update={"images_per_s": speed})


def _images_per_second(plan: ComputePlan, network: nn.Module, size: Size) -> float:
    shape, on_cpu = shape_of(size), torch.device(plan.device).type == "cpu"
    batch = 4 if on_cpu else 16
    if len(shape) == 3:  # a block is as much work as dozens of slices
        batch = 1
    network = plan.place(network)
    image = plan.place(torch.zeros(batch, 1, *shape))
    elapsed = []
    for _ in range(3):
        _wait(image)
        start = time.perf_counter()
        with plan.autocast():
            logits, _features = network(image)
        logits.square().mean().backward()
        _wait(image)
        elapsed.append(time.perf_counter() - start)
        network.zero_grad(set_to_none=True)
        if elapsed[-1] > 3:  # bfloat16 without units for it: no need to try again
            break
    return batch / min(elapsed)


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def leave_a_core() -> None:
    """One thread fewer than PyTorch would take, for a program beside this one that people work in.

    The threads of a step wait for one another: a core that is busy with something else holds all of them up (on two
    cores, one of them busy, one thread trains more than twice as fast as two). A number of threads that the user has
    asked for by OMP_NUM_THREADS stays.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))


def keep_freed_memory() -> None:
    """Lets glibc keep large freed blocks: a step frees and takes the same ones, and would fault in each page anew."""
    if platform.system() != "Linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc has nothing to set
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
        if not libc.mallopt(mmap_threshold, 1 << 30):  # older ones take no more than this
            libc.mallopt(mmap_threshold, 32 << 20)
        libc.mallopt(trim_threshold, 2**31 - 1)


def gpu_memory_mb(device: str) -> float | None:
    """Memory in use by this process on a CUDA device, in MB."""
    return torch.cuda.memory_allocated(device) / 2**20 if torch.device(device).type == "cuda" else None


def make_deterministic() -> None:
    """Deterministic kernels from here on; PyTorch warns where it has none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
