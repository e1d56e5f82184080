"""Whether another process has ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from semicardiac.base.processes import gone_check, may_run


@pytest.fixture
def waiting() -> Iterator[subprocess.Popen]:
    """A process that waits for a line."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def test_the_end_of_a_process_is_seen(waiting: subprocess.Popen):
    gone = gone_check(waiting.pid)
    assert not gone()
    assert may_run(waiting.pid)
    waiting.communicate(b"\n")
    assert gone()
    assert gone_check(waiting.pid)()
    assert not may_run(waiting.pid)


def test_this_process_runs_and_a_number_that_no_process_can_have_does_not():
    assert not gone_check(os.getpid())()
    for number in (1 << 31, 1 << 40):
        assert gone_check(number)()
        assert not may_run(number)


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no process that has ended")
def test_one_that_has_ended_is_gone_before_its_starter_asks(waiting: subprocess.Popen):
    gone = gone_check(waiting.pid)
    waiting.stdin.close()
    deadline = time.monotonic() + 10
    while not gone():
        assert time.monotonic() < deadline, "a zombie counts as a process"
        time.sleep(0.01)
    assert waiting.returncode is None  # nobody has asked yet
    assert not may_run(waiting.pid)
