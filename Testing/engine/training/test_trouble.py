"""What a training does when memory, numbers or pseudo-labels fail it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from semicardiac.base.errors import UserError
from semicardiac.base.events import Warned
from semicardiac.data.cases import Case
from semicardiac.images.labels import get_label_set
from semicardiac.training import loop, recorded, state
from semicardiac.training.checkpoint import load_checkpoint

from Testing.engine.training.support import config_of, events, run, weights


class TestTrouble:
    def test_out_of_memory_halves_the_batch_once_and_says_so(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        real, failed = recorded.train_step, []

        def scarce(learner, *args):
            if learner.step == 3 and not failed:
                failed.append(learner.chunks)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(learner, *args)

        monkeypatch.setattr(recorded, "train_step", scarce)
        summary = run(tmp_path / "job", cases, config_of(schedule={"steps": 20}))
        assert summary["steps"] == 20
        assert failed == [1]
        (told,) = events(tmp_path / "job", Warned)
        assert "2 parts" in told.warning
        assert load_checkpoint(tmp_path / "job" / "checkpoint.pt", get_label_set("acdc").names).chunks == 2

    def test_memory_that_never_suffices_is_an_error(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        def hopeless(*args):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(recorded, "train_step", hopeless)
        with pytest.raises(UserError, match="memory"):
            run(tmp_path / "job", cases)

    def test_a_batch_in_more_parts_than_it_has_labeled_slices_trains(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        """Batches of 2 labeled and 4 unlabeled slices, on a device that holds two slices at a time."""
        real = recorded.train_step

        def scarce(learner, config, plan, labeled, unlabeled, *args):
            if sum(len(batch.image) for batch in (labeled, unlabeled) if batch is not None) / learner.chunks > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(learner, config, plan, labeled, unlabeled, *args)

        monkeypatch.setattr(recorded, "train_step", scarce)
        run(tmp_path / "job", cases, config_of(schedule={"steps": 20}))
        assert all(torch.isfinite(value).all() for value in weights(tmp_path / "job").values())
        assert load_checkpoint(tmp_path / "job" / "checkpoint.pt", get_label_set("acdc").names).chunks == 4
        assert [told.warning.split(":")[0] for told in events(tmp_path / "job", Warned)] == ["out of memory"] * 2

    @pytest.mark.parametrize("steps", [25, 33])
    def test_a_loss_that_is_no_number_ends_it(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch, steps: int
    ):
        real = recorded.train_step

        def diverging(learner, *args):
            if learner.step == 22:
                with torch.no_grad():
                    next(iter(learner.student.parameters())).fill_(math.nan)
            return real(learner, *args)

        monkeypatch.setattr(recorded, "train_step", diverging)
        with pytest.raises(UserError, match="no longer a number") as caught:
            run(tmp_path / "job", cases, config_of(schedule={"steps": steps}))
        assert "learning_rate" in caught.value.hint
        assert not (tmp_path / "job" / "model").exists()

    def test_a_gate_that_stays_shut_is_told_once(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(loop, "EVERY", 2)
        config = config_of(method={"dptm": False, "fixed_threshold": 1.0}, schedule={"steps": 20, "warmup": 0.0})
        run(tmp_path / "job", cases, config)
        (told,) = events(tmp_path / "job", Warned)
        assert "no foreground" in told.warning

    def test_slices_that_are_not_numbers_are_named_not_the_learning_rate(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        real = state.DeviceBank

        def spoilt(bank, device):
            first, last = bank.ranges[cases[2].name]
            bank.images[first:last] = math.nan
            return real(bank, device)

        monkeypatch.setattr(state, "DeviceBank", spoilt)
        with pytest.raises(UserError, match="not numbers") as caught:
            run(tmp_path / "job", cases)
        assert caught.value.where == cases[2].name
        assert "learning_rate" not in caught.value.hint
