"""Standard streams that are closed, full, or without a reader."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from semicardiac.base.events import Done, read_events

from Testing.engine.support import draw_heart, engine_environment, write_itk


@pytest.mark.skipif(sys.platform == "win32", reason="the shell and the terminal are those of Unix")
class TestClosedStreams:
    """A stream that is closed or whose reader is gone makes a command quiet; its work and exit status stay."""

    @pytest.fixture
    def command(self, tmp_path: Path) -> list[str]:
        for name in ("results", "reference"):
            for number in range(3):
                write_itk(tmp_path / name / f"patient00{number}.nii.gz", draw_heart(number)[1])
        arguments = ["evaluate", tmp_path / "results", tmp_path / "reference", "--out", tmp_path / "tables"]
        return [sys.executable, "-m", "semicardiac", *map(str, arguments)]

    @pytest.mark.parametrize(
        ("options", "redirection"),
        [
            ("", "2>&1 | head -1"),
            ("--jsonl", "| true"),  # which is gone at once
            ("", "2>&-"),
            ("--jsonl", ">&- 2>&- <&-"),
        ],
    )
    def test_the_work_is_done(self, command: list[str], tmp_path: Path, options: str, redirection: str):
        line = f"set -o pipefail; {shlex.join(command)} {options} {redirection}"
        done = subprocess.run(["bash", "-c", line], env=engine_environment(), timeout=120, capture_output=True)
        assert done.returncode == 0
        assert not done.stdout.count(b"Traceback") + done.stderr.count(b"Traceback") + done.stderr.count(b"Exception")
        assert (tmp_path / "tables" / "metrics.csv").exists()
        assert isinstance(read_events(tmp_path / "tables" / "events.jsonl")[-1], Done)

    def test_a_terminal_that_vanishes_does_not_end_the_work(self, command: list[str], tmp_path: Path):
        import pty

        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["nohup", *command], env=engine_environment(), stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True, cwd=tmp_path,
        )  # fmt: skip
        os.close(theirs)
        said = b""
        while not said.endswith(b"\n"):  # nohup has said where the output goes; until then it would end
            said += os.read(ours, 100)
        os.close(ours)  # each write says EIO from now on
        assert process.wait(120) == 0
        assert isinstance(read_events(tmp_path / "tables" / "events.jsonl")[-1], Done)

    def test_a_failure_keeps_its_status(self, command: list[str], tmp_path: Path):
        (tmp_path / "results" / "patient000.nii.gz").write_text("no volume")
        line = f"set -o pipefail; {shlex.join(command)} 2>&1 | true"
        assert subprocess.run(["bash", "-c", line], env=engine_environment(), timeout=120).returncode == 2

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
    def test_a_full_disk_is_told(self):
        line = f"{shlex.quote(sys.executable)} -m semicardiac --version > /dev/full"
        done = subprocess.run(["bash", "-c", line], env=engine_environment(), timeout=60, capture_output=True)
        assert done.returncode == 0
        assert done.stderr.decode().startswith("warning: not all that was printed could be written")
        assert len(done.stderr.splitlines()) == 1
