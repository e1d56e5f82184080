"""What the tests of preprocessing, method and training share: small volumes, models made by hand, tiny settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from semicardiac.config import AugmentConfig, TrainConfig, make_config
from semicardiac.data.batches import Batch
from semicardiac.data.block_views import draw_view
from semicardiac.data.blocks import block_of
from semicardiac.data.cases import Case
from semicardiac.images.labels import LabelSet
from semicardiac.images.volumes import Volume, write_labels, write_volume
from semicardiac.methods import registry
from semicardiac.methods.ema import Teacher
from semicardiac.methods.method import Facts, Method
from semicardiac.models.compute import ComputePlan
from semicardiac.models.model import Model
from semicardiac.models.networks import build_network
from semicardiac.training.step import Learner
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from Testing.engine.support import ACDC, TINY, draw_heart

CPU = ComputePlan(device="cpu", name="test", dtype="float32", channels_last=False, threads=1)

#: Views that change nothing.
STILL = AugmentConfig(
    rotation=0, scale=(1, 1), shift=0, elastic=0, flip=0, brightness=(1, 1), gain=(1, 1), gamma=(1, 1), noise=0, blur=0
)

_NEEDS = {"dynunet": ("monai",), "segresnet": ("monai",), "swinunetr": ("monai", "einops")}
BACKBONES = (
    "unet",
    *(
        pytest.param(
            name, marks=[pytest.mark.slow, pytest.mark.skipif(not all(map(find_spec, needs)), reason=f"needs {needs}")]
        )
        for name, needs in _NEEDS.items()
    ),
)
"""All networks to be trained; those of MONAI are slow to import, and skipped visibly where it is not there."""

# Sums depend in their last bits on how many threads share them, and these tests compare bits between processes.
torch.set_num_threads(1)


def merged(base: dict, top: dict) -> dict:
    """Nested settings, `top` over `base`."""
    return {
        key: merged(base.get(key, {}), top[key]) if isinstance(top.get(key), dict) else top.get(key, base.get(key))
        for key in {**base, **top}
    }


def tiny_config(preset: str = "default", **changes: dict | float | bool) -> TrainConfig:
    """The settings of a preset at toy size: `tiny_config(method={"rem": False})`."""
    base = merged(TINY, {"deterministic": True, "schedule": {"steps": 24}})
    if preset == "supervised" or "name" in changes.get("method", {}):  # those of ours are not for another method
        del base["method"]
    return make_config(preset, merged(base, changes))


def tiny_volumes(**changes: dict | float | bool) -> TrainConfig:
    """The settings of a training on volumes at toy size."""
    base = {"network": {"dimensions": 3}, "optim": {"batch_labeled": 2, "batch_mixed": (1, 2)}}
    return tiny_config(**merged(base, changes))


# ----- geometry


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """A rotation about x, then y, then z, (3, 3)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def ijk_to_ras(
    spacing: tuple[float, float, float],
    degrees: tuple[float, float, float] = (0, 0, 0),
    origin: tuple[float, float, float] = (0, 0, 0),
    mirror: tuple[bool, bool, bool] = (False, False, False),
) -> np.ndarray:
    """A grid: spacing of (col, row, slice) in mm, turned, with some of its axes mirrored (left-handed if odd)."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(degrees) @ np.diag(np.where(mirror, -1.0, 1.0) * spacing)
    matrix[:3, 3] = origin
    return matrix


def ras_of_voxels(shape: tuple[int, int, int], matrix: np.ndarray) -> np.ndarray:
    """Where the voxels of an array [slice,row,col] lie: (slices, rows, cols, 3) mm, RAS."""
    index = np.stack(np.meshgrid(*(np.arange(side) for side in shape), indexing="ij"), axis=-1)[..., ::-1]
    return index @ matrix[:3, :3].T + matrix[:3, 3]


def middle_of(shape: tuple[int, int, int], matrix: np.ndarray) -> np.ndarray:
    """The middle of a grid in mm, RAS."""
    return matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2) + matrix[:3, 3]


def ball(shape: tuple[int, int, int], matrix: np.ndarray, center: np.ndarray, radius_mm: float) -> np.ndarray:
    """A ball in RAS space on a grid, bool [slice,row,col]."""
    return np.linalg.norm(ras_of_voxels(shape, matrix) - center, axis=-1) < radius_mm


def mass_center(mask: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The middle of a mask in mm, RAS."""
    return ras_of_voxels(mask.shape, matrix)[mask].mean(axis=0)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


# ----- volumes and cases


def heart(seed: int, *, shape=(3, 36, 40), spacing=(2.0, 2.0, 8.0), degrees=(0.0, 0.0, 0.0)) -> tuple[Volume, Volume]:
    """The heart of `draw_heart` somewhere in a patient: image and training labels."""
    rng = np.random.default_rng(seed)
    matrix = ijk_to_ras(spacing, degrees, tuple(rng.uniform(-50, 50, 3)))
    image, labels = draw_heart(rng, shape=shape, spacing=spacing[:2])
    return Volume(image, matrix), Volume(labels, matrix)


def write_case(
    folder: Path, name: str, image: Volume, labels: Volume | None, role: str, suffix: str = ".nii.gz"
) -> Case:
    """Writes a volume, and its labels if it has some, as the files of a case."""
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(folder / f"{name}{suffix}", image)
    if labels is not None:
        write_labels(folder / f"{name}_gt{suffix}", labels, ACDC)
    return Case(
        name=name, patient=name.split("_")[0], image=folder / f"{name}{suffix}", role=role,
        labels=folder / f"{name}_gt{suffix}" if labels is not None else None,
    )  # fmt: skip


def write_cases(folder: Path, *, labeled: int = 2, unlabeled: int = 2, validation: int = 0) -> tuple[Case, ...]:
    """Cases of drawn hearts, one volume a patient."""
    roles = ["labeled"] * labeled + ["unlabeled"] * unlabeled + ["validation"] * validation
    cases = []
    for number, role in enumerate(roles):
        image, labels = heart(number)
        cases.append(
            write_case(folder, f"patient{number:03d}_ed", image, labels if role != "unlabeled" else None, role)
        )
    return tuple(cases)


@dataclass
class Spec:
    """What `trainer.train` asks for."""

    cases: tuple[Case, ...]
    config: TrainConfig
    labels: LabelSet = ACDC
    device: str = "cpu"
    start_from: Path | None = None


# ----- models and steps


class Thresholder(nn.Module):
    """A network that needs no training: class 1 where the image is above a value. Counts its calls."""

    def __init__(self, classes: int = 4, above: float = 0.0, sharpness: float = 20.0) -> None:
        super().__init__()
        self.classes, self.above, self.sharpness, self.calls = classes, above, sharpness, 0

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        score = (image - self.above) * self.sharpness
        logits = torch.full((len(image), self.classes, *image.shape[2:]), -30.0)
        logits[:, 0], logits[:, 1] = 0, score[:, 0]
        return logits, image


def model_of(network: nn.Module, *, locator: nn.Module | None = None, labels: LabelSet = ACDC, **preprocess) -> Model:
    """A model with this network."""
    config = tiny_config(preprocess=preprocess)
    return Model(network, locator, new_method(config, labels.classes, threshold=0.5), config, labels, (100.0, 1e5))


def new_method(config: TrainConfig, classes: int = 4, threshold: float | None = None) -> Method:
    """The method of a configuration; with ours, M may be the same everywhere."""
    facts = Facts(classes, config.shape, lambda: build_network(config.network, classes))
    method = registry.build(config, facts)
    if threshold is not None:
        method.threshold.fill_(threshold)
    return method


def new_learner(config: TrainConfig, classes: int = 4, seed: int = 0) -> Learner:
    """Student, teacher and the rest at the beginning of a training."""
    torch.manual_seed(seed)
    student = build_network(config.network, classes).train()
    optim = config.optim
    method = new_method(config, classes)
    optimizer = torch.optim.SGD(
        [*student.parameters(), *method.parameters()], optim.learning_rate, momentum=optim.momentum,
        nesterov=optim.nesterov, weight_decay=optim.weight_decay,
    )  # fmt: skip
    return Learner(
        student=student, teacher=Teacher(student, optim.ema), method=method, optimizer=optimizer,
        scaler=torch.amp.GradScaler("cpu", enabled=False), generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def new_batch(config: TrainConfig, count: int, seed: int, *, labeled: bool, classes: int = 4, views: int = 1) -> Batch:
    """Random squares, or blocks, with smooth content, and views of them."""
    generator = torch.Generator().manual_seed(seed)
    side = config.preprocess.crop + 2 * config.preprocess.margin
    shape = block_of(config.preprocess, margin=True).shape if config.volumetric else (side, side)
    coarse = torch.randn(count, 1, *(max(2, side // 8) for side in shape), generator=generator)
    image = nn.functional.interpolate(coarse, shape, mode="trilinear" if config.volumetric else "bilinear")
    label = ((image + 2).clamp(0, classes - 1)).floor() if labeled else None
    offset = torch.randint(-3, 4, (count, len(shape)), generator=generator).float()
    views = tuple(draw_view(config, count, generator) for _ in range(views))
    return Batch(image, label, offset, views)


class _Operations(TorchDispatchMode):
    """Notes what of ATen reads a value back to the host, or gives shapes that depend on values."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal.default", "is_nonzero", "bincount")

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        indexed_by_mask = "aten.index" in name and any(
            isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8)
            for arg in args if isinstance(arg, list | tuple) for part in arg
        )  # fmt: skip
        if any(word in name for word in self.WAITS) or indexed_by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    """Notes what copies a tensor to the host without an operation that ATen would see on a CPU."""

    WAITS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__")

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in self.WAITS:
            self.found.append(f"Tensor.{name}")
        return func(*args, **(kwargs or {}))


@contextmanager
def waits() -> Iterator[list[str]]:
    """Gives a list of everything done inside that would make the host wait for a device."""
    found: list[str] = []
    with _Methods(found), _Operations(found):
        yield found


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same_weights(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are equal to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stop_after(calls: int) -> Callable[[], bool]:
    """Asks for a stop at the call of this number and ever after."""
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count >= calls

    return stop
