"""A segmentation that several processes share: nothing is lost, nothing is done twice, and one stream tells of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from semicardiac.base.events import AnyEvent, EventLog, Result, Warned, read_events
from semicardiac.base.ranks import Rank
from semicardiac.base.tables import read_csv
from semicardiac.evaluation.heart_function import COLUMNS
from semicardiac.images.volumes import Volume, write_series
from semicardiac.jobs import segment, shares
from semicardiac.jobs.job import EVENTS, STOP, SegmentJob, create_job, load_job
from semicardiac.jobs.run import DONE, USER_CAN_FIX, run_job
from semicardiac.jobs.shares import log_of, share_of
from semicardiac.models.model import save_model
from semicardiac.models.networks import build_network

from Testing.engine.networks import Thresholder, model_of
from Testing.engine.support import ACDC, draw_heart, engine_environment

GRID = np.diag([2.0, 2.0, 8.0, 1.0])
NAMES = [f"p{number}" for number in range(7)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", model_of(build_network(model_of(Thresholder()).config.network, ACDC.classes)))
    return tmp_path / "model"


@pytest.fixture
def folder(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job of seven volumes; what its model would predict is replaced by a threshold on the intensity."""
    monkeypatch.setattr(segment, "load_model", lambda _: model_of(Thresholder()))
    monkeypatch.setattr(shares, "LOOK_S", 0.02)
    monkeypatch.setattr(segment, "LOOK_S", 0.02)
    return new_job(tmp_path, model)


def new_job(place: Path, model: Path) -> Path:
    for seed, name in enumerate(NAMES):
        write_series(place / "in" / f"{name}.nrrd", [Volume(draw_heart(seed, shape=(3, 40, 40))[0], GRID)])
    return create_job(place / "job", SegmentJob(model=model, inputs=(place / "in",), out=place / "out"))


class Process:
    """A process but the first, played by a thread: its share of the job."""

    def __init__(self, folder: Path, number: int, count: int, *listeners: Callable[[AnyEvent], None]) -> None:
        log = log_of(folder, number)
        log.parent.mkdir(exist_ok=True)
        self.events, self.error = EventLog(log, *listeners), None
        self._work = (load_job(folder), folder, self.events, lambda: False, Rank(number, count, number))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            segment.run_segment(*self._work)
        except BaseException as error:
            self.error = error

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def first_of(count: int, folder: Path, monkeypatch: pytest.MonkeyPatch, *listeners: Callable[[AnyEvent], None]) -> int:
    """The exit status of the first process of several."""
    with monkeypatch.context() as patched:
        for name, value in (("RANK", 0), ("WORLD_SIZE", count), ("LOCAL_RANK", 0)):
            patched.setenv(name, str(value))
        return run_job(folder, *listeners)


def require_all_done(folder: Path) -> None:
    """Every volume has its one result, the events tell of each once, and the table holds all."""
    out = folder.parent / "out"
    assert {path.name for path in out.iterdir()} == {f"{name}.nii.gz" for name in NAMES} | {"volumes.csv"}
    told = Counter(event.path for event in read_events(folder / EVENTS) if isinstance(event, Result))
    assert told == Counter((out / name).as_posix() for name in [*(f"{name}.nii.gz" for name in NAMES), "volumes.csv"])
    rows = read_csv(out / "volumes.csv", {"case", "phase", "structure", "measure", "unit", "implausible"}, COLUMNS)
    assert {row["case"] for row in rows} == set(NAMES)


def results_in(log: Path) -> list[str]:
    return [str(event.case) for event in read_events(log) if isinstance(event, Result) and event.case]


@pytest.mark.parametrize("count", [2, 3])
def test_each_process_segments_its_share_and_one_stream_tells_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch, count: int
):
    others: list[Process] = []

    def hold(event: AnyEvent) -> None:  # the first process is slow, so that all have something to do
        if isinstance(event, Result) and event.case == NAMES[0]:
            for other in others:
                other.join()

    others += [Process(folder, number, count) for number in range(1, count)]
    assert first_of(count, folder, monkeypatch, hold) == DONE
    assert [other.error for other in others] == [None] * (count - 1)
    for number in range(1, count):
        assert results_in(log_of(folder, number)) == NAMES[number::count]
    require_all_done(folder)
    assert run_job(folder) == DONE  # alone: nothing is left to do
    require_all_done(folder)


def test_a_process_that_never_comes_is_done_without(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert first_of(3, folder, monkeypatch) == DONE
    require_all_done(folder)
    late = Process(folder, 1, 3)
    late.join()
    assert late.error is None
    require_all_done(folder)


def test_what_a_lost_process_leaves_is_done_by_the_first(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def lost(event: AnyEvent) -> None:
        if isinstance(event, Result):
            raise KeyboardInterrupt

    others = [Process(folder, 1, 2, lost)]

    def hold(event: AnyEvent) -> None:
        if isinstance(event, Result) and event.case == NAMES[0]:
            others[0].join()

    assert first_of(2, folder, monkeypatch, hold) == DONE
    assert isinstance(others[0].error, KeyboardInterrupt)
    assert results_in(log_of(folder, 1)) == NAMES[1:2]
    require_all_done(folder)


def test_what_only_a_lost_first_process_did_not_pass_on_is_known_later(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def lost(event: AnyEvent) -> None:
        if isinstance(event, Result):
            raise KeyboardInterrupt

    other = Process(folder, 1, 2)
    assert first_of(2, folder, monkeypatch, lost) == DONE  # stopped, see run_job
    other.join()
    written = {path: path.stat().st_mtime_ns for path in (folder.parent / "out").glob("*.nii.gz")}
    assert run_job(folder) == DONE
    assert {path: path.stat().st_mtime_ns for path in written} == written
    require_all_done(folder)


def test_a_stop_ends_the_others_too(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def ask(event: AnyEvent) -> None:
        if isinstance(event, Result):
            (folder / STOP).touch()

    other = Process(folder, 1, 2, ask)
    first_of(2, folder, monkeypatch)
    other.join()
    assert type(other.error).__name__ == "Stopped"
    assert run_job(folder) == DONE
    require_all_done(folder)


def test_what_no_process_can_use_is_told_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    bad = folder.parent / "in" / "p1.nrrd"
    write_series(bad, [Volume(np.zeros((3, 40, 40), np.int16), GRID)])
    other = Process(folder, 1, 2)
    told: list[AnyEvent] = []
    assert first_of(2, folder, monkeypatch, told.append) == USER_CAN_FIX
    other.join()
    assert other.error is None
    assert "1 of 7 volumes could not be segmented (p1)" in told[-1].what
    assert [event.where for event in told if isinstance(event, Warned)] == [str(bad)]


def test_a_share_is_worked_on_by_one(tmp_path: Path):
    with share_of(tmp_path, 1) as mine, share_of(tmp_path, 1) as theirs, share_of(tmp_path, 2) as other:
        assert (mine, theirs, other) == (True, False, True)
    with share_of(tmp_path, 1) as free:
        assert free


@pytest.mark.slow
def test_torchrun_starts_them(tmp_path: Path, model: Path):
    folder = new_job(tmp_path, model)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "semicardiac", "run"]
    done = subprocess.run(
        [sys.executable, *command, str(folder)], env=engine_environment(), capture_output=True, encoding="utf-8",
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    require_all_done(folder)
