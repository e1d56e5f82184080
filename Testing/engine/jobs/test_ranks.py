"""A training that torchrun starts in two processes: it gives what one process gives, whatever happens on the way."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from semicardiac.base.events import Done, Failed, Started, StoppedEvent, read_events
from semicardiac.data.cases import Case
from semicardiac.jobs.job import EVENTS, LOCK, STOP, TrainJob, create_job
from semicardiac.jobs.run import DONE, USER_CAN_FIX, run_job
from torch.testing import assert_close

from Testing.engine.networks import tiny_config, write_cases
from Testing.engine.support import ACDC, NO_TORCHRUN, NO_TORCHRUN_REASON, rank_environment

STEPS = 150
pytestmark = pytest.mark.skipif(NO_TORCHRUN, reason=NO_TORCHRUN_REASON)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, ...]:
    return write_cases(tmp_path_factory.mktemp("study"), validation=1)


def new_job(folder: Path, cases: tuple[Case, ...]) -> Path:
    """A training that saves after every step."""
    schedule = {"steps": STEPS, "checkpoint_s": 0.0, "warmup": 0.3, "validate_every": 0.5}
    return create_job(folder, TrainJob(cases=cases, labels=ACDC, config=tiny_config(schedule=schedule), device="cpu"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, cases: tuple[Case, ...]) -> Iterator[Path]:
    """What one process has made of the job."""
    folder = new_job(tmp_path_factory.mktemp("alone") / "job", cases)
    threads = torch.get_num_threads()
    assert run_job(folder) == DONE
    yield folder
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@contextmanager
def torchrun(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Two processes that run a job; it is killed if it has not ended."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    process = subprocess.Popen(
        [sys.executable, *command, "-m", "semicardiac", "run", str(folder)], env=rank_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
    )  # fmt: skip
    try:
        yield process
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []:
            each.kill()
        process.communicate()


def begun_before(moment: float, folder: Path) -> int:
    """How many runs of a job began before a moment, if the last one did."""
    begun = [event.time for event in told(folder, Started)]
    return len(begun) if begun[-1] < moment else 0


def wait_for_step(folder: Path, process: subprocess.Popen[str], runs: int = 1) -> None:
    """Until the job has saved a step of its run of this number."""
    saved, deadline = folder / "checkpoint.pt", time.monotonic() + 120
    while not (saved.exists() and begun_before(saved.stat().st_mtime, folder) == runs):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def require_same_model(one: Path, other: Path) -> None:
    theirs, ours = (load_file(folder / "model" / "model.safetensors") for folder in (other, one))
    assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


def told(folder: Path, kind: type) -> list:
    return [event for event in read_events(folder / EVENTS) if isinstance(event, kind)]


def test_a_stop_ends_both_and_one_process_continues(tmp_path: Path, cases: tuple[Case, ...], alone: Path):
    folder = new_job(tmp_path / "job", cases)
    with torchrun(folder, "--max-restarts", "3") as process:
        wait_for_step(folder, process)
        failed: list[Failed] = []
        assert run_job(folder, failed.append) == USER_CAN_FIX  # the lock is held against others
        assert "another engine runs this job" in failed[0].what
        (folder / STOP).touch()
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output  # else torchrun would have started them again
    assert len(told(folder, StoppedEvent)) == len(told(folder, Started)) == 1
    assert not (folder / "model").exists()
    assert run_job(folder) == DONE
    require_same_model(folder, alone)


def test_after_lost_processes_torchrun_continues_from_the_checkpoint(
    tmp_path: Path, cases: tuple[Case, ...], alone: Path
):
    folder = new_job(tmp_path / "job", cases)
    with torchrun(folder, "--max-restarts", "2") as process:
        for run, first_is_lost in enumerate((False, True), start=1):
            wait_for_step(folder, process, run)
            first = int((folder / LOCK).read_text().split()[1])
            lost = next(each for each in psutil.Process(process.pid).children() if (each.pid == first) == first_is_lost)
            lost.kill()
        output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert [event.resumed for event in told(folder, Started)] == [False, True, True]
    assert len(told(folder, Done)) == 1
    for failed in told(folder, Failed):
        assert "no longer reached" in failed.what
        assert "--max-restarts" in failed.hint
    assert not list(folder.glob("crash-report*"))
    require_same_model(folder, alone)
    assert (folder / "history.csv").read_text().count("\n") == (alone / "history.csv").read_text().count("\n")


def test_an_error_of_the_first_ends_both(tmp_path: Path, cases: tuple[Case, ...]):
    folder = new_job(tmp_path / "job", cases)
    cases[-1].image.rename(tmp_path / "away")
    try:
        with torchrun(folder) as process:
            output, _ = process.communicate(timeout=120)
    finally:
        (tmp_path / "away").rename(cases[-1].image)
    assert process.returncode != 0
    (failed,) = told(folder, Failed)
    assert failed.fault == "user"
    assert output.count(failed.what) == 1  # told once, not by each process
