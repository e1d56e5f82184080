"""What the tests of the Slicer side share: a scene of slicer-core, new for each test."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture
def scene():
    """An empty `slicer.mrmlScene`, with `slicer.app` and `slicer.modules` that belong to it."""
    slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")
    from Testing.slicer.boot import boot

    app = boot()
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(True)
    shutil.rmtree(app.temporaryPath, ignore_errors=True)
