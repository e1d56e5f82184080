"""Job folders as an engine would leave them, for tests of what follows them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from SemiCardiacSegLib.engine import job

posix = pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for Slicer's launcher")


def write(folder: Path, *events: dict | str, mode: str = "a") -> None:
    """Appends events, or any text, to a job's events."""
    text = "".join(event if isinstance(event, str) else json.dumps(event) + "\n" for event in events)
    with open(folder / job.EVENTS, mode, encoding="utf-8", newline="\n") as file:
        file.write(text)


def event(kind: str, **fields) -> dict:
    return {"event": kind, "time": 1.0, **fields}
