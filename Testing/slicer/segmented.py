"""Volumes with hearts in the scene, and jobs that segment them without a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from semicardiac.base.events import EventLog
from semicardiac.jobs import segment
from semicardiac.jobs.job import EVENTS, load_job
from torch import Tensor, nn

from Testing.engine.networks import model_of
from Testing.engine.support import draw_heart
from Testing.slicer.scenes import makeVolume, obliqueMatrix

MATRIX = obliqueMatrix(1, (2.0, 2.0, 8.0))
"""Left-handed, and along none of the patient's axes."""


class Bands(nn.Module):
    """A network that takes the class by the brightness: good enough for `draw_heart`."""

    CENTERS = (-0.5, 2.0, 0.6, 2.7)
    """Background, RV, myocardium, LV, in standard deviations."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        centers = torch.tensor(self.CENTERS).reshape(1, -1, 1, 1)
        return -3 * (image - centers) ** 2, image


def heartVolume(name: str = "scan", seed: int = 1, matrix: np.ndarray = MATRIX):
    """A volume node with a heart."""
    return makeVolume(name, draw_heart(seed)[0], matrix)


def runHere(folder: Path) -> Path:
    """Does a segment job in this process: all of the engine's own but the network, which needs no training."""
    job = load_job(folder)
    (folder / EVENTS).touch()
    patch = pytest.MonkeyPatch()
    with patch.context():
        patch.setattr(segment, "load_model", lambda path: model_of(Bands()))
        segment.run_segment(job, folder, EventLog(folder / EVENTS), lambda: False)
    return folder
