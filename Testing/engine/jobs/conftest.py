"""Fixtures of the tests of jobs."""

from __future__ import annotations

import pytest
from semicardiac import runner


@pytest.fixture
def works(monkeypatch) -> None:
    """Jobs whose work is to do nothing."""
    monkeypatch.setattr(runner, "_work", lambda job, folder, log, stop: {"steps": 3})
