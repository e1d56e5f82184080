"""Who may run a job, how it ends and how it is stopped."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from platform import node

import pytest
import torch
from helpers import ACDC, QUICK, engine_environment
from helpers_jobs import train_job, work_is
from semicardiac import events, files, processes, runner
from semicardiac.cases import Case, discover
from semicardiac.compute import leave_a_core
from semicardiac.config import make_config, parse_assignments
from semicardiac.crash import crash_report
from semicardiac.errors import Stopped, UserError
from semicardiac.events import Done, Failed, Started, StoppedEvent, read_events
from semicardiac.jobs import (
    TrainJob,
    create_job,
)
from semicardiac.processes import exclusive, gone_check, is_held


@pytest.fixture
def works(monkeypatch) -> None:
    """Jobs whose work is to do nothing."""
    monkeypatch.setattr(runner, "_work", lambda job, folder, log, stop: {"steps": 3})


class TestEnds:
    """How a run ends: exit status, last event, and what is left in the folder."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return create_job(tmp_path / "job", train_job(tmp_path / "job"))

    def test_done(self, folder: Path, works):
        heard = []
        assert runner.run_job(folder, heard.append) == 0
        assert [event.event for event in heard] == ["started", "done"]
        assert read_events(folder / "events.jsonl") == heard
        assert heard[-1].summary == {"steps": 3}
        assert heard[0].kind == "train"
        assert not heard[0].resumed

    def test_a_second_run_says_that_it_goes_on(self, folder: Path, works):
        runner.run_job(folder)
        runner.run_job(folder)
        started = [event for event in read_events(folder / "events.jsonl") if isinstance(event, Started)]
        assert [event.resumed for event in started] == [False, True]

    @pytest.mark.parametrize("error", [Stopped(), KeyboardInterrupt()])
    def test_stopped(self, folder: Path, monkeypatch, error: BaseException):
        def work(*_) -> None:
            raise error

        work_is(monkeypatch, work)
        assert runner.run_job(folder) == 130
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
        assert runner.run_job(folder) == 2
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
        assert runner.run_job(folder, heard.append) == 2
        assert "the disk is full" in heard[-1].what

    def test_our_fault_leaves_a_report_and_a_success_removes_it(self, folder: Path, monkeypatch):
        def crash(*_) -> None:
            raise ZeroDivisionError("division by zero")

        work_is(monkeypatch, crash)
        assert runner.run_job(folder) == 1
        end = read_events(folder / "events.jsonl")[-1]
        assert end.fault == "engine"
        assert "crash-report.txt" in end.hint
        assert "ZeroDivisionError: division by zero" in (folder / "crash-report.txt").read_text()
        work_is(monkeypatch, lambda *_: {})
        assert runner.run_job(folder) == 0
        assert not (folder / "crash-report.txt").exists()

    def test_a_job_that_cannot_be_read(self, folder: Path):
        (folder / "job.json").write_text("{")
        heard = []
        assert runner.run_job(folder, heard.append) == 2
        assert "not a readable JSON file" in heard[-1].what

    def test_a_folder_that_is_no_job_stays_as_it_was(self, tmp_path: Path):
        heard = []
        assert runner.run_job(tmp_path, heard.append) == 2
        assert "not a job folder" in heard[-1].what
        assert not list(tmp_path.iterdir())

    def test_a_job_that_runs_already_keeps_its_events(self, folder: Path, works):
        runner.run_job(folder)
        before = (folder / "events.jsonl").read_bytes()
        heard = []
        with exclusive(folder / "lock"):
            assert runner.run_job(folder, heard.append) == 2
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
        assert runner.run_job(folder) == 130

    def test_the_file_of_an_earlier_run_does_not_count(self, folder: Path, works):
        (folder / "STOP").touch()
        assert runner.run_job(folder) == 0
        assert not (folder / "STOP").exists()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal(self, folder: Path, monkeypatch, number: int):
        before = signal.getsignal(number)
        self.until_stopped(monkeypatch, lambda folder: signal.raise_signal(number))
        assert runner.run_job(folder) == 130
        assert signal.getsignal(number) is before

    def test_the_second_signal_does_not_wait(self, folder: Path, monkeypatch):
        def work(*_) -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("it went on")

        work_is(monkeypatch, work)
        assert runner.run_job(folder) == 130

    @pytest.mark.parametrize("number", [str(1 << 63), "9" * 5000, "\u00b2", "0", "me"])
    def test_a_starter_that_no_process_can_be_is_told(self, folder: Path, works, monkeypatch, number: str):
        monkeypatch.setenv(runner.STARTER, number)
        assert runner.run_job(folder) == 2
        assert "not the number of a process" in read_events(folder / "events.jsonl")[-1].what

    def test_the_end_of_the_starter(self, folder: Path, monkeypatch):
        starter = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        monkeypatch.setenv(runner.STARTER, str(starter.pid))
        self.until_stopped(monkeypatch, lambda folder: starter.communicate(b"\n"))
        assert runner.run_job(folder) == 130


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
            monkeypatch.setenv(runner.STARTER, str(os.getpid()))
        if asked:
            monkeypatch.setenv("OMP_NUM_THREADS", asked)
        seen = []
        monkeypatch.setattr("semicardiac.train_job.run_train", lambda *_: seen.append(torch.get_num_threads()) or {})
        assert runner.run_job(create_job(tmp_path / "job", train_job(tmp_path / "job"))) == 0
        assert seen == [expected]

    def test_one_thread_stays_one(self, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        torch.set_num_threads(1)
        leave_a_core()
        assert torch.get_num_threads() == 1


class TestProcesses:
    def test_a_lock_of_a_killed_process_is_taken_over(self, tmp_path: Path):
        code = (
            "import pathlib, sys, time\nfrom semicardiac.processes import exclusive\n"
            f"with exclusive(pathlib.Path({str(tmp_path / 'lock')!r})):\n"
            "    print('held', flush=True)\n    time.sleep(60)"
        )
        holder = subprocess.Popen([sys.executable, "-c", code], env=engine_environment(), stdout=subprocess.PIPE)
        assert holder.stdout.readline().strip() == b"held"
        lock = exclusive(tmp_path / "lock")
        with pytest.raises(UserError, match=f"process {holder.pid}"), lock:
            pass
        holder.kill()
        holder.communicate()
        with exclusive(tmp_path / "lock"):
            assert (tmp_path / "lock").read_text() == f"process {os.getpid()}\n"

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
    def test_where_the_file_system_has_no_locks_a_file_tells_who_runs_the_job(
        self, tmp_path: Path, monkeypatch, number: int
    ):
        def refuse(_) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(processes, "_lock", refuse)
        lock = tmp_path / "lock"
        with exclusive(lock):
            assert is_held(lock)
            again = exclusive(lock)
            with pytest.raises(UserError, match=f"process {os.getpid()}") as caught, again:
                pass
            assert "delete lock-holder" in caught.value.hint
        assert not is_held(lock)
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]

        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        (tmp_path / "lock-holder").write_text(f"{gone.pid} {node()}\n")
        assert not is_held(lock)
        with exclusive(lock):
            assert is_held(lock)
        (tmp_path / "lock-holder").write_text(f"{gone.pid} another-machine\n")
        assert is_held(lock)
        elsewhere = exclusive(lock)
        with pytest.raises(UserError, match="another-machine"), elsewhere:
            pass

    def test_a_lock_that_fails_otherwise_is_not_called_taken(self, tmp_path: Path, monkeypatch):
        def fail(_) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(processes, "_lock", fail)
        lock = exclusive(tmp_path / "lock")
        with pytest.raises(OSError, match=os.strerror(errno.EIO)), lock:
            pass

    def test_a_lock_is_free_again_after_its_block(self, tmp_path: Path):
        for _ in range(2):
            with exclusive(tmp_path / "lock"):
                pass

    def test_the_end_of_a_process_is_seen(self):
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        gone = gone_check(process.pid)
        assert not gone()
        process.communicate(b"\n")
        assert gone()
        assert gone_check(process.pid)()
        assert not gone_check(os.getpid())()
        assert gone_check(1 << 40)()


def report_of(error: Exception, job=None) -> str:
    try:
        raise error
    except type(error) as caught:
        return crash_report(caught, job)


class TestCrashReport:
    NAME = 'J\u00fcrgen\tO\'Neil\\"Mar\u00eda"'
    """With what `repr` escapes, and letters that have another Unicode form."""

    @pytest.mark.parametrize(
        "error",
        [
            ValueError(f"invalid literal for int() with base 10: {NAME!r}"),
            ValueError(unicodedata.normalize("NFD", NAME)),
            KeyError(NAME),
            KeyError(NAME.encode()),
            SyntaxError("invalid syntax", (f"/home/{NAME}.py", 1, 2, f"{NAME} = 1")),
            OSError(5, "Input/output error", f"/home/{NAME}/scan.nii.gz"),
            type("Group", (Exception,), {"exceptions": property(lambda self: (ValueError(self.args[0]),))})(NAME),
            type("Rude", (Exception,), {"__str__": lambda self: self.args[1]})(NAME),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_holds_nothing_of_the_text_of_an_exception_that_may_come_from_a_file(self, error: Exception):
        error.__cause__ = RuntimeError(f"cannot use {self.NAME}")
        error.__notes__ = [f"while reading {self.NAME}"]
        report = report_of(error)
        assert type(error).__name__ in report
        assert not re.search(r"rgen|O.?Neil|Mar[^k]?.?a\b|home|scan", report), report

    def test_holds_what_stands_in_the_source(self):
        try:
            try:
                parse_assignments(["Jane Doe"])
            except UserError as error:
                raise IndexError("list index out of range") from error
        except IndexError as error:
            report = crash_report(error)
        assert "Jane" not in report
        assert "is not of the form section.key=value" in report
        assert "IndexError: <...>index out of range" in report
        assert "in parse_assignments" in report

    def test_a_division_by_zero_says_so(self):
        assert "ZeroDivisionError: division by zero" in report_of(ZeroDivisionError("division by zero"))

    def test_tells_versions_settings_and_the_place_of_the_error(self):
        case = Case(name="jane", patient="jane", image=Path("jane.nrrd"))
        job = TrainJob(cases=(case,), labels=ACDC, config=make_config("paper"))
        try:
            files.read_json(None)
        except TypeError as error:
            report = crash_report(error, job)
        assert "torch " in report
        assert '"preset": "paper"' in report
        assert "File semicardiac/files.py, line" in report
        assert "in read_json" in report
        assert "read_text(" in report
        assert "jane" not in report

    def test_names_no_file_of_code_that_is_not_ours(self, tmp_path: Path):
        path = tmp_path / "jane_doe.py"
        path.write_text("def jane():\n    doe = 1 / 0\n")
        space: dict = {}
        exec(compile(path.read_text(), str(path), "exec"), space)
        try:
            space["jane"]()
        except ZeroDivisionError as error:
            report = crash_report(error)
        assert "division by zero" in report
        assert "jane" not in report
        assert "doe" not in report


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
