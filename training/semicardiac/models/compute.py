"""Where and in which precision to compute: measured on this machine with the real network, never guessed by name."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ..base.errors import UserError
from ..data.augment import Size, shape_of

Placed = TypeVar("Placed", bound=Tensor | nn.Module)

#: How often each candidate takes its turn, and how much faster than the first it has to be.
TURNS, CLEARLY = 3, 1.1

#: A batch fills a device that has so much of its best speed with it.
MOST_OF_SPEED = 0.7


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
    batch_times: int = 1
    """How many times larger than the settings say the batches of a training are, where they leave that open."""

    @property
    def kind(self) -> str:
        """Precision and memory layout in words."""
        return f"{self.dtype} {'channels_last' if self.channels_last else 'contiguous'}"

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


def choose_plan(
    network: nn.Module, size: Size, device: str, *, slices: int = 6, processes: int = 1, fixed: bool = False
) -> ComputePlan:
    """Times a few training steps of each candidate and takes the fastest; on a GPU, then finds the batch that fills it.

    Args:
        network: One like that which will be trained; it is moved about, and thrown away.
        size: Of its input.
        device: From `pick_device`.
        slices: In a batch, as the settings say.
        processes: That will share a batch, each on a GPU of its own.
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
    batch = 1 if len(shape_of(size)) == 3 else 4 if kind == "cpu" else 16  # a block is dozens of slices
    speed = speeds_by_turns(plans, lambda plan: _images_per_second(plan, network, size, batch))
    best = fastest(plans, speed)
    speed, times = {name: round(value, 1) for name, value in speed.items()}, 1
    if kind == "cuda":
        reached = _speeds_of_batches(best, network, size, slices)
        times = fitting_batch(reached)
        speed |= {f"{slices * each} slices": round(value, 1) for each, value in reached.items()}
        times *= processes
    return best.model_copy(update={"images_per_s": speed, "batch_times": times})


def fastest(plans: Sequence[ComputePlan], images_per_s: dict[str, float]) -> ComputePlan:
    """The fastest of some candidates; the first, unless another one is clearly faster: noise must not decide."""
    best = max(plans, key=lambda plan: images_per_s[plan.kind])
    return best if images_per_s[best.kind] > CLEARLY * images_per_s[plans[0].kind] else plans[0]


def speeds_by_turns(plans: Sequence[ComputePlan], images_per_s: Callable[[ComputePlan], float]) -> dict[str, float]:
    """The best that each candidate reaches in some turns: one alone might be that in which another program computed.

    What is less than a quarter as fast as the best has no further turn.
    """
    reached = dict.fromkeys((plan.kind for plan in plans), 0.0)
    for turn in range(TURNS):
        for plan in plans:
            if turn == 0 or reached[plan.kind] > max(reached.values()) / 4:
                reached[plan.kind] = max(reached[plan.kind], images_per_s(plan))
    return reached


def fitting_batch(images_per_s: dict[int, float]) -> int:
    """The smallest batch with which a device has most of its speed: a larger one would cost steps and gain little.

    Args:
        images_per_s: Images a second by how many times larger the batch is.
    """
    enough = MOST_OF_SPEED * max(images_per_s.values())
    return min(times for times, speed in images_per_s.items() if speed >= enough)


def _speeds_of_batches(plan: ComputePlan, network: nn.Module, size: Size, slices: int) -> dict[int, float]:
    """Images a second of batches twice as large each time, as long as that pays and there is memory."""
    reached: dict[int, float] = {}
    for times in (1, 2, 4, 8, 16, 32, 64):
        try:
            reached[times] = _images_per_second(plan, network, size, slices * times)
        except torch.OutOfMemoryError:
            break
        if times > 1 and reached[times] < 1.1 * reached[times // 2]:
            break
    return reached


def record(work: Callable[[], None], generators: Sequence[torch.Generator] = ()) -> torch.cuda.CUDAGraph:
    """Records what CUDA computes in `work`, without computing it; the graph's `replay` does, as often as it is called.

    Args:
        work: Has run some times before. What it reads and writes has to stay where it is.
        generators: All that it draws from but PyTorch's own; seeded anew before a replay, they draw accordingly.

    Raises:
        RuntimeError: If something in it cannot be recorded, such as waiting for the device.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph


def _images_per_second(plan: ComputePlan, network: nn.Module, size: Size, batch: int) -> float:
    network = plan.place(network)
    image = plan.place(torch.zeros(batch, 1, *shape_of(size)))

    def work() -> None:
        with plan.autocast():
            logits, _features = network(image)
        logits.square().mean().backward()
        network.zero_grad(set_to_none=True)

    with tuned_kernels(plan):
        run = _recorded(work) if image.is_cuda else work
    elapsed = []
    for _ in range(3):
        _wait(image)
        start = time.perf_counter()
        run()
        _wait(image)
        elapsed.append(time.perf_counter() - start)
        if elapsed[-1] > 3:  # bfloat16 without units for it: no need to try again
            break
    return batch / min(elapsed)


def _recorded(work: Callable[[], None]) -> Callable[[], None]:
    """Work as a recording, in which launching does not count, or as it is where it cannot be recorded."""
    for _ in range(3):
        work()
    try:
        return record(work).replay
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return work


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


@contextlib.contextmanager
def tuned_kernels(plan: ComputePlan) -> Iterator[None]:
    """cuDNN tries its kernels for each new shape and keeps the fastest: for many calls with inputs of one shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = (
        torch.device(plan.device).type == "cuda" and not torch.are_deterministic_algorithms_enabled()
    )
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def gpu_memory_mb(device: str) -> float | None:
    """The most memory that this process has had at once on a CUDA device, in MB."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if torch.device(device).type == "cuda" else None


def make_deterministic() -> None:
    """Deterministic kernels from here on; PyTorch warns where it has none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
