"""Locks, with and without a file system that has them, and whether a process lives."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from platform import node

import pytest
from semicardiac.base import locks
from semicardiac.base.errors import UserError
from semicardiac.base.locks import exclusive, gone_check, is_held

from Testing.engine.support import engine_environment


class TestProcesses:
    def test_a_lock_of_a_killed_process_is_taken_over(self, tmp_path: Path):
        code = (
            "import pathlib, sys, time\nfrom semicardiac.base.locks import exclusive\n"
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

        monkeypatch.setattr(locks, "_lock", refuse)
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

        monkeypatch.setattr(locks, "_lock", fail)
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
