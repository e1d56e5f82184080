"""Whether two processes train faster than one."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from ..base.tables import read_csv
from ..config import make_config
from ..images.labels import get_label_set
from ..jobs.job import TrainJob, create_job
from ..phantom.study import MILD, write_study
from ..training.state import HISTORY
from .timing import Measured, Setting, Unmeasured, ratios

STEPS = 80
PROCESSES = 2


def measure(setting: Setting) -> dict[str, Measured]:
    """The same training with the same global batch in one process and in two, of one thread each, in turn."""
    if (cores := os.cpu_count() or 1) < PROCESSES:
        raise Unmeasured(f"{PROCESSES} processes need as many cores; here is {cores}")
    job = _job(setting.folder / "ranks")
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
    speeds: dict[str, list[float]] = {"two": [], "one": []}
    for number in range(setting.rounds):
        for name, command in (("two", [*launched, "-m"]), ("one", [sys.executable, "-m"])):
            speeds[name].append(_images_per_s(command, job, setting.folder / f"{name}-{number}"))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    note = f"by the clock, on {cores} cores{load}: one process does {statistics.median(speeds['one']):.1f} images/s"
    return {"two_processes_speedup": Measured(ratios(speeds["two"], speeds["one"]), note)}


def _job(folder: Path) -> Path:
    """The job of a training on phantoms in which the unlabeled ones take part from the first step on."""
    cases = write_study(folder / "study", labeled=1, unlabeled=2, test=0, difficulty=MILD)
    schedule = {"steps": STEPS, "warmup": 0.0, "warmup_steps": 0, "preview_every": 1.0}
    config = make_config("default", {"schedule": schedule, "locate": {"method": "center"}})
    return create_job(
        folder / "job", TrainJob(cases=tuple(cases), labels=get_label_set("acdc"), config=config, device="cpu")
    )


def _images_per_s(command: list[str], job: Path, folder: Path) -> float:
    """The median speed of a training, as its history tells it."""
    shutil.copytree(job, folder)
    command = [*command, "semicardiac", "run", str(folder), "--jsonl"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        told = [event["what"] for event in events if event["event"] == "error"]
        raise Unmeasured(f"the training did not come to its end: {told[0] if told else done.stderr.strip()[-200:]}")
    return statistics.median(row["images_per_s"] for row in read_csv(folder / HISTORY, ["stage"], ["images_per_s"]))
