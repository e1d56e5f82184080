"""The benchmark still runs; what it measures is no matter of tests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from Testing.engine.support import NO_TORCHRUN, NO_TORCHRUN_REASON, REPOSITORY, engine_environment, rank_environment


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


@pytest.mark.skipif(NO_TORCHRUN, reason=NO_TORCHRUN_REASON)
def test_the_benchmark_of_two_processes_runs():
    command = [sys.executable, str(REPOSITORY / "Testing/bench/ranks.py"), "--rounds", "1", "--steps", "1"]
    done = subprocess.run(command, env=rank_environment(), capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "images/s" in line]
    (rate, _, *ratios), same, twice = (row[row.index("images/s") - 1 :] for row in rows)
    assert float(rate) > 0
    assert [float(ratio) for ratio in ratios] == [1.0, 1.0]
    assert all(float(value) > 0 for row in (same, twice) for value in (row[0], *row[2:]))
