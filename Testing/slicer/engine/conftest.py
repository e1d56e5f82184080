"""What the tests of jobs share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from SemiCardiacSegLib.engine import job

from Testing.slicer.engine_jobs import ROOT, launcher


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job folder in a place whose name is none for the careless."""
    path = tmp_path / "Hérz & früh 心" / "my job"
    path.mkdir(parents=True)
    (path / job.JOB).write_text("{}", encoding="utf-8")
    return path


@pytest.fixture
def asLauncher(tmp_path: Path, monkeypatch):
    """Runs the engine by way of a launcher: PythonSlicer does what a shell script says."""

    def put(script: str) -> None:
        program = launcher(tmp_path / "bin", script)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return put


@pytest.fixture
def holder(folder: Path):
    """Another process that works on the job; a function that kills it."""
    code = (
        "import sys, time; from pathlib import Path; from semicardiac.base.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n"
        "    print('holds', flush=True); time.sleep(300)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / job.LOCK)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "training")},
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline().strip() == b"holds"

    def kill() -> None:
        process.kill()
        process.wait()

    yield kill
    kill()
    process.stdout.close()
