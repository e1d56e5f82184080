"""Going on from the model of an earlier training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from semicardiac.base.errors import UserError
from semicardiac.data.cases import Case
from semicardiac.images.labels import get_label_set
from semicardiac.models.model import load_model

from Testing.engine.networks import same_weights
from Testing.engine.training.support import config_of, run, weights


def test_a_training_without_motion_keeps_the_model_that_it_began_with(
    tmp_path: Path, cases: tuple[Case, ...], job: Path
):
    still = {"learning_rate": 1e-30, "weight_decay": 0.0}
    config = config_of(schedule={"steps": 2, "warmup": 1.0}, optim=still, locate={"learning_rate": 1e-30})
    run(tmp_path / "next", cases, config, start_from=job)
    before, after = load_model(job), load_model(tmp_path / "next")
    for part in ("network", "locator"):
        ours, theirs = getattr(after, part).state_dict(), getattr(before, part).state_dict()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.method.threshold, before.method.threshold)


def test_it_learns_on_from_there(tmp_path: Path, cases: tuple[Case, ...], job: Path):
    config = config_of(schedule={"steps": 2})
    run(tmp_path / "new", cases, config)
    run(tmp_path / "next", cases, config, start_from=job)
    assert not same_weights(weights(tmp_path / "next"), weights(job))
    assert not same_weights(weights(tmp_path / "next"), weights(tmp_path / "new"))


def test_a_resumed_job_no_longer_needs_the_model(tmp_path: Path, cases: tuple[Case, ...], job: Path):
    config = config_of(schedule={"steps": 2})
    run(tmp_path / "next", cases, config, start_from=job)
    run(tmp_path / "next", cases, config_of(schedule={"steps": 4}), start_from=tmp_path / "deleted")


def test_another_label_set_is_an_error(tmp_path: Path, cases: tuple[Case, ...], job: Path):
    with pytest.raises(UserError, match="segments RV cavity, LV myocardium, LV cavity, not") as caught:
        run(tmp_path / "next", cases, labels=get_label_set("mmwhs"), start_from=job)
    assert caught.value.where == str(job)
    assert list((tmp_path / "next").iterdir()) == []


def test_another_network_is_an_error(tmp_path: Path, cases: tuple[Case, ...], job: Path):
    with pytest.raises(UserError, match="has the network") as caught:
        run(tmp_path / "next", cases, config_of(network={"widths": (8, 8, 8)}), start_from=job)
    assert caught.value.hint
