"""The wheel that pip builds and installs: all of the engine, with the templates of the report."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from Testing.packaging.support import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> ZipFile:
    """Built from a copy of the sources, without a network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(REPOSITORY / "training", source / "training", ignore=ignored)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out]
    command = [sys.executable, "-m", "pip", "wheel", *options, source]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    with ZipFile(path) as archive:
        yield archive


def test_all_of_the_engine_is_in_it_and_nothing_else(wheel: ZipFile):
    engine = REPOSITORY / "training"
    expected = {
        path.relative_to(engine).as_posix(): path.read_bytes()
        for path in (engine / "semicardiac").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    found = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}
    assert found.keys() == expected.keys()
    assert found == expected
    assert any(Path(name).suffix == ".css" for name in found)
