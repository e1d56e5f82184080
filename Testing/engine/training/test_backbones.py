"""Every backbone is trained, interrupted, finished and used; what cannot be saved is said before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
from semicardiac.base.errors import Stopped, UserError
from semicardiac.data.cases import Case
from semicardiac.models import weights
from semicardiac.models.model import load_model
from semicardiac.models.predict import segment
from semicardiac.training import recorded
from torch import Tensor

from Testing.engine.networks import BACKBONES, heart
from Testing.engine.training.support import config_of, history, run


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that were done, one entry each."""
    real, done = recorded.train_step, []

    def noting(learner, *rest) -> Tensor:
        done.append(learner.step)
        return real(learner, *rest)

    monkeypatch.setattr(recorded, "train_step", noting)
    return done


@pytest.mark.parametrize("name", BACKBONES)
def test_from_the_first_step_to_a_segmentation(tmp_path: Path, cases: tuple[Case, ...], steps: list[int], name: str):
    network = {"name": name, "widths": (8, 8, 8)}
    config = config_of(network=network, schedule={"steps": 3}, locate={"refine": 0.0}, preprocess={"crop": 64})
    with pytest.raises(Stopped):
        run(tmp_path / "job", cases, config, stop=lambda: len(steps) == 2)
    assert run(tmp_path / "job", cases, config)["steps"] == 3
    assert steps == [0, 1, 2]
    image = heart(0)[0]
    prediction = segment(load_model(tmp_path / "job"), image, flips=False, maps=["confidence"])
    assert prediction.labels.array.shape == image.array.shape
    assert prediction.maps["confidence"].array.max() > 0.25  # of four classes the first one has more than chance


def test_what_cannot_be_saved_is_said_before_the_first_step(
    tmp_path: Path, cases: tuple[Case, ...], steps: list[int], monkeypatch: pytest.MonkeyPatch
):
    real, folder = weights.serialize_safetensors, tmp_path / "job"

    def shared(tensors: dict[str, Tensor]) -> bytes:
        if "method.threshold" in tensors:  # the first stage saves weights, too
            raise RuntimeError("Some tensors share memory")
        return real(tensors)

    monkeypatch.setattr(weights, "serialize_safetensors", shared)
    with pytest.raises(UserError, match=r"cannot be saved \(Some tensors share memory\)") as caught:
        run(folder, cases)
    assert caught.value.where == "network.name"
    assert steps == []
    assert not (folder / "history.csv").exists() or not history(folder)
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".model")) == []
