"""Jobs that cannot start are told, and those that run are stopped with all that belongs to them."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from SemiCardiacSegLib.engine import job, process
from SemiCardiacSegLib.engine.job import Job

from Testing.slicer.engine.support import event, posix, write
from Testing.slicer.engine_jobs import exists, trainingJob, unprivileged, until


class TestBadStart:
    """Runs that end before they begin."""

    def test_no_job(self, tmp_path: Path):
        with pytest.raises(ValueError, match="is not a job folder"):
            Job.start(tmp_path)
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the permissions of POSIX")
    def test_a_read_only_folder(self):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "job"
            folder.mkdir()
            (folder / job.JOB).write_text("{}", encoding="utf-8")
            Path(place).chmod(0o755)
            folder.chmod(0o555)
            with unprivileged(), pytest.raises(ValueError, match="not writable") as error:
                Job.start(folder)
            assert str(folder) in str(error.value)
            assert [path.name for path in folder.iterdir()] == [job.JOB]
            folder.chmod(0o755)

    def test_no_python(self, folder: Path, monkeypatch):
        monkeypatch.setattr(process, "pythonExecutable", lambda: "/nowhere/PythonSlicer")
        started = Job.start(folder)
        assert started.wait() == "failed"
        assert "/nowhere/PythonSlicer" in started.failure["what"]
        assert started.failure["where"] == str(folder)
        assert job.OUTPUT in started.failure["hint"]
        again = Job(folder)
        again.poll()
        assert again.failure == started.failure

    @posix
    def test_the_requirements_are_missing(self, folder: Path, asLauncher):
        asLauncher('exec "$PYTHON" -I -S "$@"')  # without site-packages
        started = Job.start(folder)
        assert started.wait() == "failed"
        assert "ModuleNotFoundError" in started.failure["what"]
        assert "Set up" in started.failure["hint"]

    @posix
    def test_pytorch_is_missing(self, tmp_path: Path, asLauncher):
        (tmp_path / "hides" / "torch").mkdir(parents=True)
        code = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
        (tmp_path / "hides" / "torch" / "__init__.py").write_text(code, encoding="utf-8")
        asLauncher(f'PYTHONPATH=\'{tmp_path}/hides\' exec "$PYTHON" "$@"')
        started = Job.start(trainingJob(tmp_path / "job", steps=4))
        assert started.wait() == "failed"
        assert "'torch' is not installed" in started.failure["what"]

    @posix
    def test_a_process_that_dies_without_a_word(self, folder: Path, asLauncher):
        asLauncher("exit 7")
        started = Job.start(folder)
        assert started.wait() == "failed"
        assert "exit status 7" in started.failure["what"]

    @posix
    def test_a_failure_that_could_not_be_written_as_an_event(self, folder: Path, asLauncher):
        said = json.dumps(event("error", what="the disk is full", where="x", hint="Free some space"))
        asLauncher(f"echo '{said}'; exit 2")
        started = Job.start(folder)
        assert started.wait() == "failed"
        assert started.failure == {"what": "the disk is full", "where": "x", "hint": "Free some space"}

    @posix
    def test_a_run_that_does_not_begin_is_not_taken_for_the_one_before(self, folder: Path, asLauncher):
        write(folder, event("started"), event("done", summary={}))
        asLauncher("echo 'no such thing' >&2; exit 1")
        started = Job.start(folder)
        assert started.wait() == "failed"
        assert "no such thing" in started.failure["what"]

    @posix
    def test_a_crash_in_the_middle_is_an_interruption_with_its_reason(self, folder: Path, asLauncher):
        asLauncher(f"echo '{json.dumps(event('started'))}' >> \"$3/{job.EVENTS}\"; kill -9 $$")
        started = Job.start(folder)
        assert started.wait() == "interrupted"
        assert "exit status -9" in started.failure["what"]
        assert "Resume" in started.failure["hint"]


@posix
class TestStop:
    """A process that does not stop, and one that was found again."""

    @pytest.fixture
    def deaf(self, asLauncher, tmp_path: Path) -> Path:
        """An engine that does not look at STOP, and a process that it started; where that one's number is written."""
        started = json.dumps(event("started"))
        asLauncher(f"sleep 300 & echo $! > '{tmp_path}/pid'; echo '{started}' >> \"$3/{job.EVENTS}\"; wait")
        return tmp_path / "pid"

    def test_after_the_time_of_grace_the_tree_is_killed(self, folder: Path, deaf: Path):
        started = Job.start(folder, graceSeconds=0.5)
        until(lambda: started.poll() or started.state == "running")
        until(lambda: started.poll() is not None and started.state == "running")
        grandchild = int(deaf.read_text())
        started.stop()
        assert (folder / job.STOP).exists()
        started.poll()
        assert started.state == "stopping"
        assert exists(grandchild)
        assert started.wait() == "interrupted"
        until(lambda: not exists(grandchild), seconds=5)
        assert not (folder / job.STOP).exists()

    def test_a_stop_before_the_engine_looks_is_not_lost(self, folder: Path, deaf: Path):
        """The engine removes the STOP of an earlier run when it begins."""
        started = Job.start(folder)
        started.stop()
        (folder / job.STOP).unlink()
        started.poll()
        assert (folder / job.STOP).exists()
        started.kill()
        assert started.wait() == "interrupted"

    def test_what_an_ended_engine_leaves_behind_is_ended(self, folder: Path, asLauncher, tmp_path: Path):
        events = f"{json.dumps(event('started'))}\n{json.dumps(event('done'))}"
        asLauncher(f"sleep 300 & echo $! > '{tmp_path}/pid'; echo '{events}' >> \"$3/{job.EVENTS}\"; exit 0")
        assert Job.start(folder).wait() == "done"
        until(lambda: not exists(int((tmp_path / "pid").read_text())), seconds=5)

    def test_an_engine_that_does_not_end_after_its_last_word_is_ended(self, folder: Path, asLauncher):
        events = f"{json.dumps(event('started'))}\n{json.dumps(event('done'))}"
        asLauncher(f"echo '{events}' >> \"$3/{job.EVENTS}\"; sleep 300")
        assert Job.start(folder, graceSeconds=0.3).wait() == "done"

    def test_a_job_of_this_process_is_found_again(self, folder: Path, deaf: Path):
        """As after the scene was closed: also while its run has not begun, and another one lies in the folder."""
        write(folder, event("started"), event("stopped"))
        Job.start(folder)
        again = Job(folder, graceSeconds=0)
        again.poll()
        assert again.state in ("waiting", "running")
        until(lambda: again.poll() is not None and again.state == "running")
        again.stop()
        assert again.wait() == "interrupted"
        assert not exists(int(deaf.read_text()))

    def test_a_run_that_ended_unseen_does_not_hide_the_next_one(self, folder: Path, asLauncher):
        asLauncher("exit 0")
        first = Job.start(folder)
        until(lambda: first._process.poll() is not None)
        asLauncher("sleep 300")
        second = Job.start(folder)
        first.poll()
        assert Job(folder).isAlive()
        second.kill()
        assert not Job(folder).isAlive()
