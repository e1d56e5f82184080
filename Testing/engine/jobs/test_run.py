"""Who may run a job, how it ends and how it is stopped."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from semicardiac.base import events
from semicardiac.base.errors import Stopped, UserError
from semicardiac.base.events import Done, Failed, Started, StoppedEvent, read_events
from semicardiac.base.locks import exclusive
from semicardiac.base.settings import parse_assignments
from semicardiac.config import make_config
from semicardiac.data.discover import discover
from semicardiac.jobs import run, stop
from semicardiac.jobs.job import TrainJob, create_job
from semicardiac.models.compute import leave_a_core

from Testing.engine.jobs.support import train_job, work_is
from Testing.engine.support import ACDC, QUICK, engine_environment


@pytest.fixture
def works(monkeypatch) -> None:
    """Jobs whose work is to do nothing."""
    monkeypatch.setattr(run, "_work", lambda job, folder, log, stop: {"steps": 3})


class TestEnds:
    """How a run ends: exit status, last event, and what is left in the folder."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return create_job(tmp_path / "job", train_job(tmp_path / "job"))

    def test_done(self, folder: Path, works):
        heard = []
        assert run.run_job(folder, heard.append) == 0
        assert [event.event for event in heard] == ["started", "done"]
        assert read_events(folder / "events.jsonl") == heard
        assert heard[-1].summary == {"steps": 3}
        assert heard[0].kind == "train"
        assert not heard[0].resumed

    def test_a_second_run_says_that_it_goes_on(self, folder: Path, works):
        run.run_job(folder)
        run.run_job(folder)
        started = [event for event in read_events(folder / "events.jsonl") if isinstance(event, Started)]
        assert [event.resumed for event in started] == [False, True]

    @pytest.mark.parametrize("error", [Stopped(), KeyboardInterrupt()])
    def test_stopped(self, folder: Path, monkeypatch, error: BaseException):
        def work(*_) -> None:
            raise error

        work_is(monkeypatch, work)
        assert run.run_job(folder) == 130
        assert isinstance(read_events(folder / "events.jsonl")[-1], StoppedEvent)

    @pytest.mark.parametrize(
        ("error", "what"),
        [
            (UserError("this is wrong", where="a.nii.gz", hint="Fix it"), "this is wrong"),
            (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
            (OSError(errno.EROFS, "Read-only file system", "/there/a.csv"), "not writable"),
            (OSError(errno.EFBIG, "File too large"), "no file may grow this large"),
            (OSError(errno.ESTALE, "Stale file handle", "/there/a.nii.gz"), "does not answer"),
            (PermissionError(errno.EACCES, "Permission denied", "/there/a.nii.gz"), "permission is denied"),
            (FileNotFoundError(errno.ENOENT, "No such file or directory", "/there/a.nii.gz"), "not there any more"),
            (MemoryError(), "memory does not suffice"),
        ],
    )
    def test_what_the_user_can_fix(self, folder: Path, monkeypatch, error: Exception, what: str):
        def work(*_) -> None:
            raise error

        work_is(monkeypatch, work)
        assert run.run_job(folder) == 2
        end = read_events(folder / "events.jsonl")[-1]
        assert isinstance(end, Failed)
        assert what in end.what
        assert end.fault == "user"
        assert not (folder / "crash-report.txt").exists()

    def test_a_full_disk_is_told_to_listeners_though_no_event_can_be_written(self, folder: Path, monkeypatch):
        def fill(*_) -> None:
            def write(self, event) -> None:
                if self._path is not None:
                    raise OSError(errno.ENOSPC, "No space left on device")
                for listener in self._listeners:
                    listener(event)

            monkeypatch.setattr(events.EventLog, "emit", write)
            raise OSError(errno.ENOSPC, "No space left on device")

        work_is(monkeypatch, fill)
        heard = []
        assert run.run_job(folder, heard.append) == 2
        assert "the disk is full" in heard[-1].what

    def test_our_fault_leaves_a_report_and_a_success_removes_it(self, folder: Path, monkeypatch):
        def crash(*_) -> None:
            raise ZeroDivisionError("division by zero")

        work_is(monkeypatch, crash)
        assert run.run_job(folder) == 1
        end = read_events(folder / "events.jsonl")[-1]
        assert end.fault == "engine"
        assert "crash-report.txt" in end.hint
        assert "ZeroDivisionError: division by zero" in (folder / "crash-report.txt").read_text()
        work_is(monkeypatch, lambda *_: {})
        assert run.run_job(folder) == 0
        assert not (folder / "crash-report.txt").exists()

    def test_a_job_that_cannot_be_read(self, folder: Path):
        (folder / "job.json").write_text("{")
        heard = []
        assert run.run_job(folder, heard.append) == 2
        assert "not a readable JSON file" in heard[-1].what

    def test_a_folder_that_is_no_job_stays_as_it_was(self, tmp_path: Path):
        heard = []
        assert run.run_job(tmp_path, heard.append) == 2
        assert "not a job folder" in heard[-1].what
        assert not list(tmp_path.iterdir())

    def test_a_job_that_runs_already_keeps_its_events(self, folder: Path, works):
        run.run_job(folder)
        before = (folder / "events.jsonl").read_bytes()
        heard = []
        with exclusive(folder / "lock"):
            assert run.run_job(folder, heard.append) == 2
        assert f"process {os.getpid()}" in heard[-1].what
        assert (folder / "events.jsonl").read_bytes() == before


class TestStop:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return create_job(tmp_path / "job", train_job(tmp_path / "job"))

    @pytest.fixture(autouse=True)
    def _heard(self) -> Iterator[None]:
        """A shell has what it starts in the background ignore SIGINT, and so do we: not in these tests."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    @staticmethod
    def until_stopped(monkeypatch, act) -> None:
        """Work that acts once and then waits to be stopped."""

        def work(job, folder, log, stop) -> dict:
            assert not stop()
            act(folder)
            end = time.monotonic() + 5
            while not stop():
                assert time.monotonic() < end, "nobody stopped it"
                time.sleep(0.01)
            raise Stopped

        work_is(monkeypatch, work)

    def test_a_file_stop(self, folder: Path, monkeypatch):
        self.until_stopped(monkeypatch, lambda folder: (folder / "STOP").touch())
        assert run.run_job(folder) == 130

    def test_the_file_of_an_earlier_run_does_not_count(self, folder: Path, works):
        (folder / "STOP").touch()
        assert run.run_job(folder) == 0
        assert not (folder / "STOP").exists()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal(self, folder: Path, monkeypatch, number: int):
        before = signal.getsignal(number)
        self.until_stopped(monkeypatch, lambda folder: signal.raise_signal(number))
        assert run.run_job(folder) == 130
        assert signal.getsignal(number) is before

    def test_the_second_signal_does_not_wait(self, folder: Path, monkeypatch):
        def work(*_) -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("it went on")

        work_is(monkeypatch, work)
        assert run.run_job(folder) == 130

    @pytest.mark.parametrize("number", [str(1 << 63), "9" * 5000, "\u00b2", "0", "me"])
    def test_a_starter_that_no_process_can_be_is_told(self, folder: Path, works, monkeypatch, number: str):
        monkeypatch.setenv(stop.STARTER, number)
        assert run.run_job(folder) == 2
        assert "not the number of a process" in read_events(folder / "events.jsonl")[-1].what

    def test_the_end_of_the_starter(self, folder: Path, monkeypatch):
        starter = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        monkeypatch.setenv(stop.STARTER, str(starter.pid))
        self.until_stopped(monkeypatch, lambda folder: starter.communicate(b"\n"))
        assert run.run_job(folder) == 130


class TestThreads:
    @pytest.fixture(autouse=True)
    def _three(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(3)
        yield
        torch.set_num_threads(before)

    @pytest.mark.parametrize(("window", "asked", "expected"), [(False, "", 3), (True, "", 2), (True, "3", 3)])
    def test_a_window_that_started_the_job_keeps_a_core(
        self, tmp_path: Path, monkeypatch, window: bool, asked: str, expected: int
    ):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if window:
            monkeypatch.setenv(stop.STARTER, str(os.getpid()))
        if asked:
            monkeypatch.setenv("OMP_NUM_THREADS", asked)
        seen = []
        monkeypatch.setattr("semicardiac.jobs.train.run_train", lambda *_: seen.append(torch.get_num_threads()) or {})
        assert run.run_job(create_job(tmp_path / "job", train_job(tmp_path / "job"))) == 0
        assert seen == [expected]

    def test_one_thread_stays_one(self, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        torch.set_num_threads(1)
        leave_a_core()
        assert torch.get_num_threads() == 1


@pytest.mark.slow
class TestTraining:
    """A whole job in a process of its own, killed and stopped as it happens in life."""

    @pytest.fixture
    def folder(self, tmp_path: Path, study: Path) -> Path:
        # Fixed steps, no timing of candidates: the same numbers in every run.
        settings = parse_assignments([*QUICK, "deterministic=true", "schedule.steps=40", "schedule.checkpoint_s=0.05"])
        job = TrainJob(cases=discover([study]), labels=ACDC, config=make_config("default", settings), device="cpu")
        return create_job(tmp_path / "job", job)

    @staticmethod
    def start(folder: Path, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "semicardiac", "run", str(folder)]
        return subprocess.Popen(
            command, env=engine_environment(**environment), stdout=subprocess.PIPE, encoding="utf-8"
        )

    @staticmethod
    def wait_for_training(process: subprocess.Popen) -> None:
        for line in process.stdout:
            event = events.parse_line(line)
            assert not isinstance(event, Failed), event
            if isinstance(event, events.Progress) and event.step >= 20 and event.loss is not None and event.total == 40:
                return
        pytest.fail("the training never began")

    def test_killed_and_resumed_gives_the_same_weights(self, folder: Path, tmp_path: Path):
        whole = tmp_path / "whole"
        shutil.copytree(folder, whole)
        assert self.start(whole).wait(120) == 0
        process = self.start(folder)
        self.wait_for_training(process)
        process.kill()
        process.communicate()
        assert not (folder / "model").exists()
        assert self.start(folder).wait(120) == 0
        same = [(each / "model" / "model.safetensors").read_bytes() for each in (whole, folder)]
        assert same[0] == same[1]

    def test_stopped_by_signal_then_by_file_then_done(self, folder: Path):
        process = self.start(folder)
        self.wait_for_training(process)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 130
        assert isinstance(read_events(folder / "events.jsonl")[-1], StoppedEvent)
        assert self.start(folder).wait(120) == 0
        assert isinstance(read_events(folder / "events.jsonl")[-1], Done)
        assert (folder / "model" / "model.safetensors").exists()
