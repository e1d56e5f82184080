"""The benchmark still runs; what it measures is no matter of tests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from Testing.engine.support import REPOSITORY, engine_environment


def test_the_benchmark_of_the_step_runs():
    command = [sys.executable, str(REPOSITORY / "Testing/bench/step.py"), "--rounds", "1", "--device", "cpu"]
    done = subprocess.run(command, env=engine_environment(), capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if " ms " in line and not line.endswith("step")]
    measured = {" ".join(line[:-3]): (float(line[-3]), float(line[-1])) for line in lines}
    assert {"labeled slices alone", "DPTM", "REM", "contrast", "DPTM + REM + contrast"} <= set(measured)
    plain, _ = measured["plain mean teacher"]
    for milliseconds, ratio in measured.values():
        assert milliseconds > 0
        assert ratio == pytest.approx(milliseconds / plain, rel=0.05)
