"""A training that a test plays: its events, and a folder with the lock that the engine would hold."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack

from PIL import Image
from semicardiac.base.locks import exclusive
from semicardiac.data.cases import Case
from semicardiac.images.labels import get_label_set
from semicardiac.jobs.job import TrainJob, write_job

NOW = time.time()


STARTED = {"event": "started", "kind": "train", "version": "0.1.0", "pid": 1234}


DEVICE = {
    "event": "device", "device": "cuda", "name": "NVIDIA X", "dtype": "bfloat16", "channels_last": True, "threads": 4,
}  # fmt: skip


STOPPED = {"event": "stopped", "step": 3720}


FAILED = {"event": "error", "what": "the disk is full", "where": "/data/job", "hint": "Make room on the disk"}


DONE = {"event": "done", "seconds": 600.0, "cpu_seconds": 590.0, "summary": {}}


def progress(step=3720, **fields) -> dict:
    told = {
        "event": "progress", "stage": "semi-supervised", "step": step, "total": 6000, "eta_s": 245.0, "loss": 0.31,
        "losses": {"supervised": 0.2, "unsupervised": 0.1, "contrast": 0.7}, "figures": {"threshold_mean": 0.9},
        "pass_rate": {"LV cavity": 0.9, "RV cavity": 0.8}, "gpu_memory_mb": 2150.0,
    }  # fmt: skip
    return told | fields


def validation(step=3000) -> dict:
    dice = {"RV cavity": 0.84, "LV myocardium": 0.83, "LV cavity": None}
    return {"event": "validation", "step": step, "dice": dice, "mean_dice": 0.838}


class Training:
    """The folder of a training whose engine is played by the test: it writes the events and holds the lock."""

    def __init__(self, folder) -> None:
        self.folder = folder
        (folder / "previews").mkdir(parents=True)
        self._lock = ExitStack()
        case = Case(name="a", patient="a", image=folder / "a.nii.gz", labels=folder / "a_gt.nii.gz", role="labeled")
        write_job(folder, TrainJob(cases=(case,), labels=get_label_set("acdc")))

    def begin(self) -> None:
        self._lock.enter_context(exclusive(self.folder / "lock"))

    def tell(self, *events: dict) -> None:
        with open(self.folder / "events.jsonl", "a", encoding="ascii") as file:
            file.writelines(json.dumps({"time": NOW} | event) + "\n" for event in events)

    def preview(self, name="step003000.png") -> dict:
        Image.new("RGB", (896, 470), (60, 80, 120)).save(self.folder / "previews" / name)
        return {"event": "preview", "step": 3000, "path": f"previews/{name}"}

    def end(self, *events: dict) -> None:
        if events:
            self.tell(*events)
        self._lock.close()
