"""Locks, with and without a file system that has them."""

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
from semicardiac.base.locks import exclusive, is_held

from Testing.engine.support import engine_environment


class TestExclusive:
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


def test_slicer_can_ask_who_runs_a_job_before_any_package_is_installed(tmp_path: Path):
    """With the standard library alone: Python without its folders of packages."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom semicardiac.base import files\n"
        "from semicardiac.base.locks import exclusive, is_held\n"
        "lock = Path(sys.argv[1]) / 'lock'\n"
        "with exclusive(lock):\n    print(is_held(lock))\n"
        "print(is_held(lock), 'psutil' in sys.modules)"
    )
    command = [sys.executable, "-S", "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=engine_environment(), capture_output=True, encoding="utf-8", timeout=60)
    assert done.stderr == ""
    assert done.stdout.split() == ["True", "False", "False"]


def test_who_cannot_be_asked_whether_he_lives_may_hold_the_lock(tmp_path: Path, monkeypatch):
    """On a file system without locks, before psutil is installed."""

    def refuse(_) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks, "_lock", refuse)
    (tmp_path / "lock").touch()
    (tmp_path / "lock-holder").write_text(f"{1 << 40} {node()}\n")
    assert not is_held(tmp_path / "lock")
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert is_held(tmp_path / "lock")
