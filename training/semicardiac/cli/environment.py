"""The machine that a training would run on, in words."""

from __future__ import annotations

import importlib.metadata
import os
import platform

_PACKAGES = ("semicardiac", "torch", "numpy", "SimpleITK", "nibabel", "scipy", "scikit-image", "pydantic", "monai")


def check_environment(device: str = "auto") -> dict[str, str]:
    """What a training would run on here, in words, for a person or a bug report.

    Raises:
        UserError: If the device is not known or not there.
    """
    import torch  # here, so that volumes can be checked without it

    from ..models.compute import pick_device

    chosen = pick_device(device)
    found = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    found["processors"] = f"{os.cpu_count()}, of which PyTorch uses {torch.get_num_threads()}"
    found["memory"] = _memory()
    found["device"] = chosen
    if torch.device(chosen).type == "cuda":
        free, total = torch.cuda.mem_get_info(chosen)
        found["device"] += f", {torch.cuda.get_device_name(chosen)}, CUDA {torch.version.cuda}"
        found["device memory"] = f"{free / 2**30:.1f} GB free of {total / 2**30:.1f} GB"
    return found


def _memory() -> str:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        free, total = (page * os.sysconf(name) / 2**30 for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows and macOS do not tell
        return "unknown"
    return f"{free:.1f} GB free of {total:.1f} GB"
