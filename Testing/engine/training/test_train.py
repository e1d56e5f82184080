"""The training as a job: what it leaves behind."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from semicardiac.base.errors import UserError
from semicardiac.base.events import Preview, Progress, Result, Validation, Warned, parse_line
from semicardiac.data.batches import DeviceBank
from semicardiac.data.cases import Case
from semicardiac.data.slice_bank import SliceBank
from semicardiac.images.labels import get_label_set
from semicardiac.images.volumes import read_volume
from semicardiac.models.model import load_model
from semicardiac.models.predict import segment
from semicardiac.training.checkpoint import load_checkpoint
from semicardiac.training.recenter import recenter
from torch import Tensor

from Testing.engine.networks import CPU, Thresholder, same_weights, tiny_config
from Testing.engine.training.support import STEPS, config_of, events, history, run, weights


class TestWhatItLeaves:
    def test_every_line_is_an_event_of_the_vocabulary(self, job: Path):
        lines = (job / "events.jsonl").read_text(encoding="ascii").splitlines()
        told = [parse_line(line) for line in lines]
        assert [event.time for event in told] == sorted(event.time for event in told)
        kinds = [event.event for event in told]
        assert kinds.count("device") == 1
        assert kinds[-1] == "result"
        assert [(event.kind, event.path) for event in told if isinstance(event, Result)] == [("model", "model")]
        assert "warning" not in kinds

    def test_progress_tells_of_every_stage(self, job: Path):
        told = events(job, Progress)
        stages = list(dict.fromkeys(event.stage for event in told))
        assert stages[:3] == ["checking inputs", "reading volumes", "preparing slices"]
        assert "semi-supervised" in stages
        steps = [event for event in told if event.loss is not None and event.losses]
        assert [event.step for event in steps] == [20, 40]
        for event in steps:
            assert event.total == STEPS
            assert math.isfinite(event.loss)
            assert event.losses["unsupervised"] > 0
            assert 0 < event.figures["threshold_mean"] < 1
            assert set(event.pass_rate) <= {"background", "RV cavity", "LV myocardium", "LV cavity"}
            assert all(0 <= rate <= 1 for rate in event.pass_rate.values())
            assert event.images_per_s > 0
        assert steps[-1].figures["lambda_u"] == pytest.approx(1.0)
        assert steps[-1].learning_rate < 0.01 < steps[0].learning_rate

    def test_history_has_a_row_for_each_look(self, job: Path):
        rows = history(job)
        assert [int(row["step"]) for row in rows] == [20, 40]
        assert {"seconds", "cpu_seconds", "loss", "lambda_u", "threshold_mean", "pass_rate/LV cavity"} <= set(rows[0])
        parts = [float(rows[1][name]) for name in ("loss_supervised", "loss_unsupervised", "loss_contrast")]
        assert float(rows[1]["loss"]) == pytest.approx(parts[0] + parts[1] + 0.1 * parts[2], rel=1e-3)  # λ1 is 1 by now

    def test_the_model_segments_what_it_was_trained_on(self, job: Path, cases: tuple[Case, ...]):
        model = load_model(job)
        assert model.about["training_steps"] == STEPS
        assert model.about["labeled_volumes"] == model.about["unlabeled_volumes"] == 2
        assert model.method.threshold.shape == (32, 32)
        assert (model.method.threshold > 0.25).any()
        volume = read_volume(cases[0].image)
        assert segment(model, volume).labels.array.shape == volume.array.shape

    def test_previews_are_pictures(self, job: Path):
        told = events(job, Preview)
        assert [event.step for event in told] == [20, 40]
        for event in told:
            picture = np.asarray(Image.open(job / event.path))
            assert picture.shape[1] == 4 * 224
            assert picture.std() > 5

    def test_validation_is_told_at_the_end(self, tmp_path: Path, validated: tuple[Case, ...]):
        folder = tmp_path / "job"
        run(folder, validated, config_of(schedule={"steps": 2}))
        (told,) = events(folder, Validation)
        assert told.step == 2
        assert set(told.dice) == {"RV cavity", "LV myocardium", "LV cavity"}
        assert load_model(folder).about["validation_mean_dice"] == told.mean_dice
        with open(folder / "validation.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["case"] for row in rows] == [validated[-1].name] * 3

    def test_nothing_is_written_outside_the_job(self, tmp_path: Path, cases: tuple[Case, ...]):
        data = cases[0].image.parent
        before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
        run(tmp_path / "job", cases, config_of(schedule={"steps": 2}))
        assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
        assert [path.name for path in tmp_path.iterdir()] == ["job"]

    def test_a_short_training_has_a_history_too(self, tmp_path: Path, cases: tuple[Case, ...]):
        run(tmp_path / "job", cases, config_of(schedule={"steps": 25}))
        assert [int(row["step"]) for row in history(tmp_path / "job")] == [20, 25]


class TestWithoutUnlabeledCases:
    def test_it_is_supervised_training_and_says_so(self, tmp_path: Path, cases: tuple[Case, ...]):
        run(
            tmp_path / "job",
            tuple(case for case in cases if case.role != "unlabeled"),
            config_of(schedule={"steps": 20}),
        )
        (told,) = events(tmp_path / "job", Warned)
        assert "no unlabeled cases" in told.warning
        assert [row["stage"] for row in history(tmp_path / "job")] == ["supervised"]

    def test_the_supervised_preset_never_looks_at_them(self, tmp_path: Path, cases: tuple[Case, ...]):
        config = config_of("supervised", schedule={"steps": 20})
        run(tmp_path / "with", cases, config)
        assert events(tmp_path / "with", Warned) == []
        assert [row["stage"] for row in history(tmp_path / "with")] == ["supervised"]
        assert load_model(tmp_path / "with").config.method.name == "supervised"

    def test_without_labeled_cases_there_is_nothing_to_learn(self, tmp_path: Path, cases: tuple[Case, ...]):
        with pytest.raises(UserError, match="no labeled case"):
            run(tmp_path / "job", tuple(case for case in cases if case.role == "unlabeled"))


class TestPresets:
    def test_paper_mixes_from_the_first_step(self, tmp_path: Path, cases: tuple[Case, ...]):
        config = config_of("paper", schedule={"steps": 20}, optim={"batch_labeled": 2, "batch_mixed": (2, 2)})
        run(tmp_path / "job", cases, config)
        (row,) = history(tmp_path / "job")
        assert row["stage"] == "semi-supervised"
        assert float(row["lambda_u"]) == 1.0
        assert load_checkpoint(tmp_path / "job" / "checkpoint.pt", get_label_set("acdc").names).method[
            "_extra_state"
        ] == {"alpha": 0.99}

    def test_alpha_is_chosen_from_the_steps_that_are_left(self, job: Path):
        # Mixed from step 14 of 40 on: 26 are left, α = 0.05 ** (10 / 26), and at least 0.5
        state = load_checkpoint(job / "checkpoint.pt", get_label_set("acdc").names)
        assert state.mixed_since == (14, pytest.approx(0.35))
        assert state.method["_extra_state"] == {"alpha": 0.5}


class TestRecentering:
    def test_crops_of_the_pool_move_onto_the_prediction_by_at_most_the_margin(self):
        size, margin = 48, 8
        images = np.full((6, size, size), -1, np.float16)
        images[0:2, 20:26, 20:26] = 3  # labeled: left alone
        images[2:4, 20:26, 27:33] = 3  # middle (22.5, 29.5): from 23.5 by (-1, 6)
        images[4:6, 8:13, 8:13] = 3  # middle (10, 10): by (-13.5, -13.5)
        bank = SliceBank(images, np.zeros((2, size, size), np.uint8), {"a": (0, 2), "b": (2, 4), "c": (4, 6)}, {}, size)
        on_device = DeviceBank(bank, "cpu")
        recenter(on_device, bank, Thresholder(above=1.0), tiny_config(), CPU)
        assert on_device.offsets.tolist() == [[0, 0]] * 2 + [[-1, 6]] * 2 + [[-margin, -margin]] * 2
        recenter(on_device, bank, Thresholder(above=1.0), tiny_config(), CPU)
        assert on_device.offsets[2:4].tolist() == [[-1, 6]] * 2  # where it is right it stays

    @pytest.mark.parametrize(("most", "looked_at"), [(100, 12), (12, 12), (8, 6), (4, 4), (1, 2)])
    def test_of_a_large_pool_only_some_slices_tell_where(
        self, monkeypatch: pytest.MonkeyPatch, most: int, looked_at: int
    ):
        class Counting(Thresholder):
            slices = 0

            def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
                self.slices += len(image)
                return super().forward(image)

        size, network = 48, Counting(above=1.0)
        images = np.full((12, size, size), -1, np.float16)
        images[:, 20:26, 27:33] = 3
        bank = SliceBank(images, np.zeros((0, size, size), np.uint8), {"a": (0, 6), "b": (6, 12)}, {}, size)
        on_device = DeviceBank(bank, "cpu")
        monkeypatch.setattr("semicardiac.training.recenter.MOST_SLICES", most)
        recenter(on_device, bank, network, tiny_config(), CPU)
        assert network.slices == looked_at
        assert on_device.offsets.tolist() == [[-1, 6]] * 12

    def test_a_volume_without_a_prediction_stays(self):
        bank = SliceBank(np.zeros((2, 48, 48), np.float16), np.zeros((0, 48, 48), np.uint8), {"a": (0, 2)}, {}, 48)
        on_device = DeviceBank(bank, "cpu")
        recenter(on_device, bank, Thresholder(above=1.0), tiny_config(), CPU)
        assert on_device.offsets.eq(0).all()


def test_the_model_is_the_teacher(job: Path):
    state = load_checkpoint(job / "checkpoint.pt", get_label_set("acdc").names)
    kept = {name.removeprefix("network."): value for name, value in weights(job).items() if name.startswith("network.")}
    assert same_weights(kept, dict(state.teacher))
    assert not same_weights(kept, dict(state.student))
