"""The script for a day with a GPU: what it notes, on a CPU; what it is for is measured where there is a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from Testing.engine.support import REPOSITORY, engine_environment

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the check is a bash script")


def run_check(out: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = engine_environment() | {"PYTHON": sys.executable}
    command = ["bash", str(REPOSITORY / "Testing/gpu/check.sh"), str(out), "--device", "cpu", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)


def test_a_part_that_fails_is_noted_and_the_next_one_begins(tmp_path: Path):
    data = tmp_path / "acdc"
    data.mkdir()
    done = run_check(tmp_path / "out", "--data", str(data), "--only", "trainings,segmentation")
    assert done.returncode == 1, done.stderr
    found = json.loads((tmp_path / "out" / "check.json").read_text(encoding="utf-8"))
    assert found["data"] == "ACDC"
    assert str(data) in found["trainings"]["error"]  # the engine's own words: there is nothing in it
    assert found["segmentation"]["error"] == "no training has left a model"
    assert all(found[part]["part_seconds"] >= 0 for part in ("trainings", "segmentation"))


def test_a_part_that_is_not_known(tmp_path: Path):
    done = run_check(tmp_path / "out", "--only", "speed")
    assert done.returncode == 2
    assert "there is no part speed; there are tests, bench, trainings, memory, segmentation" in done.stderr
    assert not os.path.exists(tmp_path / "out")
