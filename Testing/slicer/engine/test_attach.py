"""A job that somebody else started is found and followed."""

from __future__ import annotations

from pathlib import Path

import pytest
from semicardiac.base.errors import UserError
from semicardiac.base.locks import _lock, exclusive
from SemiCardiacSegLib.engine import job
from SemiCardiacSegLib.engine.job import Job

from Testing.slicer.engine.support import event, write


class TestAttach:
    """A job that another process works on."""

    def test_it_runs_as_long_as_that_process_lives(self, folder: Path, holder):
        write(folder, event("started"))
        found = Job(folder)
        found.poll()
        assert found.state == "running"
        holder()
        found.poll()
        assert found.state == "interrupted"

    def test_the_state_is_final_only_when_the_process_has_ended(self, folder: Path, holder):
        write(folder, event("started"), event("done", summary={}))
        found = Job(folder)
        found.poll()
        assert found.state == "running"
        holder()
        found.poll()
        assert found.state == "done"

    def test_looking_neither_breaks_nor_takes_the_lock(self, folder: Path, holder):
        before = (folder / job.LOCK).read_bytes()
        found = Job(folder)
        assert all(found.isAlive() for _ in range(5))
        with pytest.raises(UserError, match="another engine runs this job"), exclusive(folder / job.LOCK):
            pass
        assert (folder / job.LOCK).read_bytes() == before
        holder()
        assert not found.isAlive()
        with exclusive(folder / job.LOCK):
            assert found.isAlive()
        assert not found.isAlive()

    def test_a_lock_found_free_is_left_alone_until_an_engine_writes_into_it(self, folder: Path):
        """An engine that begins must not meet somebody who only looks."""
        with exclusive(folder / job.LOCK):
            pass
        found = Job(folder)
        assert not found.isAlive()
        with open(folder / job.LOCK, "ab") as file:
            _lock(file.fileno())
            assert not found.isAlive()
            file.write(b"process 1\n")
            file.flush()
            assert found.isAlive()

    def test_it_is_asked_to_stop_and_never_killed(self, folder: Path, holder):
        write(folder, event("started"))
        found = Job(folder, graceSeconds=0)
        found.poll()
        found.stop()
        for _ in range(3):
            found.poll()
        assert found.state == "stopping"
        assert (folder / job.STOP).exists()
        with pytest.raises(ValueError, match="Another program"):
            found.kill()
        assert found.isAlive()
        holder()
        found.poll()
        assert found.state == "interrupted"
        assert not (folder / job.STOP).exists()

    def test_it_is_not_started_twice(self, folder: Path, holder):
        with pytest.raises(ValueError, match="runs already"):
            Job.start(folder)
        assert not (folder / job.OUTPUT).exists()

    def test_one_that_ended_is_not_asked_to_stop(self, folder: Path):
        write(folder, event("started"), event("done"))
        found = Job(folder)
        found.poll()
        found.stop()
        assert found.state == "done"
        assert not (folder / job.STOP).exists()
