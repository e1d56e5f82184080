"""What the tests of the engine share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from Testing.engine.support import engine_environment, quick_settings, write_study


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two labeled and two unlabeled patients in ACDC layout."""
    return write_study(tmp_path / "study")


@pytest.fixture
def semicardiac(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in a process of its own, in an empty folder."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "semicardiac", *map(str, arguments)],
            cwd=tmp_path,
            env=engine_environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )

    return run


@pytest.fixture
def quick_train(semicardiac) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `semicardiac train` with a tiny network for a few steps."""

    def run(*arguments: object, steps: int = 6) -> subprocess.CompletedProcess[str]:
        return semicardiac("train", *arguments, "--steps", steps, "--device", "cpu", *quick_settings())

    return run
