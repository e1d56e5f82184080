"""Jobs of drawn hearts that the real engine does in seconds, and a stand-in for Slicer's launcher PythonSlicer."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from Testing.engine.support import TINY, draw_heart, write_itk, write_study

ROOT = Path(__file__).resolve().parents[2]


def trainingJob(folder: Path, **schedule) -> Path:
    """A job folder of a training of a tiny network on two labeled and two unlabeled volumes."""
    from semicardiac.config import make_config
    from semicardiac.data.discover import discover
    from semicardiac.images.labels import get_label_set
    from semicardiac.jobs.job import TrainJob, create_job

    labels = get_label_set("acdc")
    study = write_study(folder.parent / f"{folder.name} study")
    config = make_config("default", {**TINY, "schedule": {**TINY["schedule"], **schedule}})
    job = TrainJob(cases=tuple(discover([study])), labels=labels, config=config, device="cpu")
    return create_job(folder, job)


def evaluationJob(folder: Path) -> Path:
    """A job folder that the engine is done with in a second: a segmentation compared with itself."""
    from semicardiac.images.labels import get_label_set
    from semicardiac.jobs.job import EvaluateJob, create_job

    data = folder.parent / f"{folder.name} data"
    write_itk(data / "a.nii.gz", draw_heart(1)[1])
    return create_job(folder, EvaluateJob(predictions=data, reference=data, labels=get_label_set("acdc")))


def modelPackage(folder: Path) -> Path:
    """The package of a model that was never trained, written as a training does."""
    from semicardiac.models.model import save_model

    from Testing.engine.networks import Thresholder, model_of

    model = model_of(Thresholder())
    model.about = {"labeled_volumes": 2, "validation_mean_dice": 0.81}
    save_model(folder, model)
    return folder


def workingPackage(folder: Path, about: dict) -> Path:
    """The package of a small network that can segment, and knows nothing yet."""
    from dataclasses import replace

    import torch
    from semicardiac.models.model import save_model
    from semicardiac.models.networks import build_network

    from Testing.engine.networks import model_of, tiny_config
    from Testing.engine.support import ACDC

    torch.manual_seed(0)
    config = tiny_config(locate={"method": "center"})
    model = replace(model_of(build_network(config.network, ACDC.classes)), config=config)
    model.about = about
    save_model(folder, model)
    return folder


def launcher(folder: Path, script: str) -> Path:
    """A program PythonSlicer in a folder, to be put on PATH; `$PYTHON` is the Python that runs this."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "PythonSlicer"
    path.write_text(f"#!/bin/sh\nPYTHON='{sys.executable}'\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def exists(pid: int) -> bool:
    """Whether a process is there and not only waits to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Files as an ordinary user sees them: for root nothing is read-only."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
