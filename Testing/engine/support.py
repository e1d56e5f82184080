"""Small studies of drawn hearts that tests train on, and the environment that the engine runs in."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from semicardiac.images.labels import get_label_set

ACDC = get_label_set("acdc")
REPOSITORY = Path(__file__).parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

TINY = {
    "network": {"widths": (4, 8)},
    "preprocess": {"crop": 32, "margin": 8, "spacing_mm": 2.0},
    "locate": {"size": 32, "spacing_mm": 4.0, "widths": (4, 8), "batch": 2, "steps_max": 6},
    "optim": {"batch_labeled": 4, "batch_mixed": (2, 4)},
    "method": {"class_floor": 4, "threshold_floor": 0.0},  # a network of milliseconds is never sure
    "schedule": {"preview_every": 1.0, "warmup_steps": 0},
}
"""Settings with which a training takes milliseconds a step."""
QUICK = tuple(f"{name}.{key}={json.dumps(value)}" for name, section in TINY.items() for key, value in section.items())
"""The same as `--set` takes them."""


def draw_heart(
    seed: int | np.random.Generator, *, shape: tuple[int, int, int] = (6, 40, 40), spacing: tuple[float, float] = (2, 2)
) -> tuple[np.ndarray, np.ndarray]:
    """A right ventricle, a ring and its cavity as columns across the slices, with noise.

    Args:
        seed: Of the place and the noise.
        shape: (slices, rows, cols).
        spacing: Of (col, row), in mm.

    Returns:
        Image float32 and ACDC labels uint8, both [slice,row,col].
    """
    rng = np.random.default_rng(seed)
    rows, cols = (np.arange(side) * step for side, step in zip(shape[1:], spacing[::-1], strict=True))
    middle = np.array([rows[-1], cols[-1]]) / 2 + rng.uniform(-4, 4, 2)
    far = np.hypot(rows[:, None] - middle[0], cols[None] - middle[1])
    right = np.hypot(rows[:, None] - middle[0], cols[None] - middle[1] + 16)
    plane = np.zeros(shape[1:], np.uint8)
    plane[right < 12] = 1
    plane[far < 14] = 2
    plane[far < 8] = 3
    labels = np.repeat(plane[None], shape[0], axis=0)
    image = np.choose(labels, [30, 170, 90, 200]) + rng.normal(0, 10, shape)
    return image.astype(np.float32), labels


def write_itk(path: Path, array: np.ndarray, *, spacing=(2.0, 2.0, 8.0), is_vector: bool = False) -> Path:
    """Writes [slice,row,col] as a file, by SimpleITK alone: what tests read must not come from our own writers."""
    image = sitk.GetImageFromArray(array, isVector=is_vector)
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def write_study(folder: Path, *, labeled: int = 2, unlabeled: int = 2) -> Path:
    """Patients in ACDC layout, one volume each: the first ones with labels."""
    for number in range(1, labeled + unlabeled + 1):
        image, labels = draw_heart(number)
        name = f"patient{number:03d}"
        write_itk(folder / name / f"{name}_frame01.nii.gz", image)
        if number <= labeled:
            write_itk(folder / name / f"{name}_frame01_gt.nii.gz", labels)
    return folder


def engine_environment(**more: str) -> dict[str, str]:
    """The environment of a process that runs the engine of this repository on one thread."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "training"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", **more}


NO_TORCHRUN = sys.platform == "win32"
NO_TORCHRUN_REASON = "PyTorch's builds for Windows lack what processes meet by"


def rank_environment(**more: str) -> dict[str, str]:
    """That of one of several processes on this machine, which find one another whatever the machine is called."""
    return engine_environment(GLOO_SOCKET_IFNAME="lo0" if sys.platform == "darwin" else "lo", **more)


def quick_settings() -> list[str]:
    """The options that make `semicardiac train` quick."""
    return [text for setting in QUICK for text in ("--set", setting)]
