"""What the tests of the Slicer side share: a scene of slicer-core, new for each test."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT / "training", ROOT / "SemiCardiacSeg", Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@pytest.fixture
def scene():
    """An empty `slicer.mrmlScene`, with `slicer.app` and `slicer.modules` that belong to it."""
    slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")
    from boot import boot

    app = boot()
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(True)
    shutil.rmtree(app.temporaryPath, ignore_errors=True)
