"""The training as a job: what it leaves behind, and that no interruption changes its result."""

from __future__ import annotations

import csv
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import engine_environment
from helpers_engine import CPU, Spec, Thresholder, same_weights, stop_after, tiny_config, write_study
from PIL import Image
from safetensors.torch import load_file
from semicardiac import files, trainer
from semicardiac.cases import Case
from semicardiac.checkpoint import load_checkpoint
from semicardiac.config import TrainConfig
from semicardiac.dataset import SliceBank
from semicardiac.device_bank import DeviceBank
from semicardiac.errors import Stopped, UserError
from semicardiac.events import EventLog, Preview, Progress, Result, Validation, Warned, parse_line, read_events
from semicardiac.inference import segment
from semicardiac.labels import get_label_set
from semicardiac.model import load_model
from semicardiac.trainer import rate_factor, train
from semicardiac.volumes import read_volume
from torch import Tensor

STEPS = 40  # two looks at the device


@pytest.fixture(scope="module", autouse=True)
def _restored() -> Iterator[None]:
    """Deterministic trainings switch PyTorch as a whole."""
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _plain_previews(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than a whole training here; only the job below draws them."""
    monkeypatch.setattr(trainer, "write_preview", lambda path, *rest: files.write_text(path, ""))


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, ...]:
    """Two labeled and two unlabeled patients, and one for validation."""
    return write_study(tmp_path_factory.mktemp("study"), validation=1)


@pytest.fixture(scope="module")
def cases(validated: tuple[Case, ...]) -> tuple[Case, ...]:
    """The same without validation."""
    return validated[:-1]


def config_of(preset: str = "default", **changes) -> TrainConfig:
    return tiny_config(preset, **{"schedule": {"steps": STEPS}, **changes})


def run(folder: Path, cases: tuple[Case, ...], config: TrainConfig | None = None, stop=lambda: False, **spec) -> dict:
    folder.mkdir(exist_ok=True)
    return train(folder, Spec(cases, config or config_of(), **spec), EventLog(folder / "events.jsonl"), stop)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def history(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def events(folder: Path, kind: type) -> list:
    return [event for event in read_events(folder / "events.jsonl") if isinstance(event, kind)]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, cases: tuple[Case, ...]) -> Path:
    """A job that ran through without interruption."""
    folder = tmp_path_factory.mktemp("job")
    summary = run(folder, cases, config_of(schedule={"steps": STEPS, "preview_every": 0.5}))
    assert summary["steps"] == STEPS
    return folder


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
        assert stages[:2] == ["reading volumes", "preparing slices"]
        assert "semi-supervised" in stages
        steps = [event for event in told if event.loss is not None and event.loss_supervised is not None]
        assert [event.step for event in steps] == [20, 40]
        for event in steps:
            assert event.total == STEPS
            assert math.isfinite(event.loss)
            assert event.loss_unsupervised > 0
            assert 0 < event.threshold_mean < 1
            assert set(event.pass_rate) <= {"background", "RV cavity", "LV myocardium", "LV cavity"}
            assert all(0 <= rate <= 1 for rate in event.pass_rate.values())
            assert event.images_per_s > 0
        assert steps[-1].lambda_u == pytest.approx(1.0)
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
        assert model.threshold.shape == (32, 32)
        assert (model.threshold > 0.25).any()
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


class TestTheSameResult:
    """All on one thread in float32: bit for bit."""

    def test_looking_on_changes_nothing(self, tmp_path: Path, validated: tuple[Case, ...], job: Path):
        schedule = {"steps": STEPS, "preview_every": 0.3, "validate_every": 0.25, "checkpoint_s": 0.0}
        run(tmp_path / "job", validated, config_of(schedule=schedule))
        assert same_weights(weights(tmp_path / "job"), weights(job))
        assert [event.step for event in events(tmp_path / "job", Validation)] == [10, 20, 30, 40]

    def test_another_seed_gives_another_model(self, tmp_path: Path, cases: tuple[Case, ...], job: Path):
        run(tmp_path / "job", cases, config_of(seed=1))
        assert not same_weights(weights(tmp_path / "job"), weights(job))

    @pytest.mark.parametrize("calls", [[3], [12], [17, 9], [25], [30, 12, 14]])
    def test_after_stops_and_resumes(self, tmp_path: Path, cases: tuple[Case, ...], job: Path, calls: list[int]):
        folder = tmp_path / "job"
        for call in calls:
            with pytest.raises(Stopped):
                run(folder, cases, stop=stop_after(call))
            assert not (folder / "model").exists()
        run(folder, cases)
        assert same_weights(weights(folder), weights(job))
        for ours, theirs in zip(history(folder), history(job), strict=True):
            for name in (
                "step",
                "loss",
                "loss_supervised",
                "loss_unsupervised",
                "lambda_u",
                "threshold_mean",
                "pass_rate/LV cavity",
            ):
                assert ours[name] == theirs[name], name

    @pytest.mark.parametrize("attempt", range(2))
    def test_after_kill_minus_nine(self, tmp_path: Path, cases: tuple[Case, ...], job: Path, attempt: int):
        folder = tmp_path / "job"
        folder.mkdir()
        dice = random.Random()  # any moment will do
        script = f"""
import sys, pickle
from pathlib import Path
sys.path[:0] = [{str(Path(__file__).parent)!r}]
from helpers_engine import Spec, tiny_config
from semicardiac.cases import Case
from semicardiac.events import EventLog
from semicardiac.trainer import train
import torch
torch.set_num_threads(1)
cases = tuple(Case.model_validate_json(line) for line in sys.stdin.read().splitlines())
config = tiny_config(schedule=dict(steps={STEPS}, checkpoint_s=0.0))
folder = Path({str(folder)!r})
print("ready", flush=True)
train(folder, Spec(cases, config), EventLog(folder / "events.jsonl"), lambda: False)
"""
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=engine_environment(),
            text=True,
        )
        try:
            process.stdin.write("\n".join(case.model_dump_json() for case in cases))
            process.stdin.close()
            assert process.stdout.readline() == "ready\n"
            if attempt:  # not before the first step
                deadline = time.monotonic() + 60
                while not (folder / "checkpoint.pt").exists() and time.monotonic() < deadline:
                    time.sleep(0.002)
            time.sleep(dice.uniform(0, 0.5))
            os.kill(process.pid, signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        run(folder, cases)
        assert same_weights(weights(folder), weights(job))
        assert [row["step"] for row in history(folder)] == ["20", "40"]


class TestResume:
    def test_a_finished_job_stays_what_it_is(self, tmp_path: Path, cases: tuple[Case, ...]):
        folder, config = tmp_path / "job", config_of(schedule={"steps": 20})
        run(folder, cases, config)
        before, rows = weights(folder), history(folder)
        summary = run(folder, cases, config)
        assert summary["steps"] == 20
        assert same_weights(weights(folder), before)
        assert history(folder) == rows

    def test_more_steps_go_on_from_the_checkpoint(self, tmp_path: Path, cases: tuple[Case, ...]):
        folder = tmp_path / "job"
        run(folder, cases, config_of(schedule={"steps": 20}))
        before = weights(folder)
        assert run(folder, cases)["steps"] == STEPS
        assert not same_weights(weights(folder), before)
        assert [row["step"] for row in history(folder)] == ["20", "40"]

    def test_a_prolonged_job_keeps_its_unlabeled_slices_and_their_weight(self, tmp_path: Path, cases: tuple[Case, ...]):
        folder, loss = tmp_path / "job", {"lambda_u": 2.0}
        schedule = {"warmup": 0.5, "ramp": 0.1}
        run(folder, cases, config_of(schedule={**schedule, "steps": 20}, loss=loss))
        run(folder, cases, config_of(schedule={**schedule, "steps": 100}, loss=loss))  # back at a fifth, less than 0.5
        later = [row for row in history(folder) if int(row["step"]) > 20]
        assert later
        assert {row["stage"] for row in later} == {"semi-supervised"}
        assert {float(row["lambda_u"]) for row in later} == {2.0}

    def test_rows_behind_the_checkpoint_are_cut_off(self, tmp_path: Path, cases: tuple[Case, ...], job: Path):
        folder = tmp_path / "job"
        with pytest.raises(Stopped):
            run(folder, cases, stop=stop_after(55))
        step = load_checkpoint(folder / "checkpoint.pt", get_label_set("acdc").names)["step"]
        assert 20 < step < STEPS
        lines = (folder / "history.csv").read_text().splitlines()
        later = lines[1].replace("20", str(STEPS), 1)
        (folder / "history.csv").write_text("\n".join([*lines, later, later[:7]]))  # the last one cut short by a kill
        run(folder, cases)
        assert [row["loss"] for row in history(folder)] == [row["loss"] for row in history(job)]

    def test_a_damaged_checkpoint_is_an_error(self, tmp_path: Path, cases: tuple[Case, ...]):
        folder = tmp_path / "job"
        with pytest.raises(Stopped):
            run(folder, cases, stop=stop_after(30))
        content = (folder / "checkpoint.pt").read_bytes()
        (folder / "checkpoint.pt").write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match="damaged"):
            run(folder, cases)

    def test_other_settings_do_not_fit_the_checkpoint(self, tmp_path: Path, cases: tuple[Case, ...]):
        folder = tmp_path / "job"
        with pytest.raises(Stopped):
            run(folder, cases, stop=stop_after(30))
        with pytest.raises(UserError, match="does not fit") as caught:
            run(folder, cases, config_of(network={"widths": (8, 8)}))
        assert caught.value.hint


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
        assert load_model(tmp_path / "with").threshold.eq(0.25).all()

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
        assert load_checkpoint(tmp_path / "job" / "checkpoint.pt", get_label_set("acdc").names)["alpha"] == 0.99

    def test_alpha_is_chosen_from_the_steps_that_are_left(self, job: Path):
        # Mixed from step 14 of 40 on: 26 are left, α = 0.05 ** (10 / 26), and at least 0.5
        state = load_checkpoint(job / "checkpoint.pt", get_label_set("acdc").names)
        assert state["mixed_since"] == [14, pytest.approx(0.35)]
        assert state["alpha"] == 0.5


class Clock:
    """Stands in for the time on the wall: a step takes a twentieth of a second, and nothing else any time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        real = trainer.train_step

        def step(*args) -> Tensor:
            self.now += 0.05
            return real(*args)

        monkeypatch.setattr(trainer, "train_step", step)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


class TestMinutes:
    CONFIG = config_of(schedule={"steps": None, "minutes": 0.05}, locate={"refine": 0.0})  # three seconds

    def test_the_schedule_fits_itself_to_the_speed(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        Clock(monkeypatch)
        summary = run(tmp_path / "job", cases, self.CONFIG)
        assert summary["steps"] == pytest.approx(60, abs=1)
        assert summary["seconds"] == pytest.approx(3, abs=0.1)
        told = [event for event in events(tmp_path / "job", Progress) if event.loss is not None]
        assert [event.total for event in told] == pytest.approx([60] * len(told), abs=1)
        assert told[0].eta_s == pytest.approx(2, abs=0.1)  # after 20 steps
        state = load_checkpoint(tmp_path / "job" / "checkpoint.pt", get_label_set("acdc").names)
        assert state["mixed_since"] == [pytest.approx(21, abs=1), pytest.approx(0.35, abs=0.02)]

    def test_a_second_run_has_what_the_first_left(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        clock = Clock(monkeypatch)
        with pytest.raises(Stopped):
            run(tmp_path / "job", cases, self.CONFIG, stop=lambda: clock.now > 1001.99)
        clock.now += 5000  # a night in between
        summary = run(tmp_path / "job", cases, self.CONFIG)
        assert summary["steps"] == pytest.approx(60, abs=1)
        assert summary["seconds"] == pytest.approx(3, abs=0.1)

    def test_looking_on_takes_no_time_from_the_training(
        self, tmp_path: Path, validated: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        clock = Clock(monkeypatch)

        def slow(path: Path, *rest) -> None:
            clock.now += 100
            files.write_text(path, "")

        monkeypatch.setattr(trainer, "write_preview", slow)
        monkeypatch.setattr(
            trainer, "validate", lambda *args: slow(tmp_path / "validated") or [("a", "LV cavity", 0.5)]
        )
        schedule = {"steps": None, "minutes": 0.05, "preview_every": 0.4, "validate_every": 0.4}
        summary = run(tmp_path / "job", validated, config_of(schedule=schedule, locate={"refine": 0.0}))
        assert summary["steps"] == pytest.approx(60, abs=1)

    def test_on_the_wall(self, tmp_path: Path, cases: tuple[Case, ...]):
        begin = time.monotonic()
        summary = run(tmp_path / "job", cases, config_of(schedule={"steps": None, "minutes": 0.02}))
        assert 1.2 <= summary["seconds"] <= time.monotonic() - begin + 0.1

    def test_time_for_not_a_single_step_is_not_passed_over_in_silence(self, tmp_path: Path, cases: tuple[Case, ...]):
        try:
            run(
                tmp_path / "job",
                cases,
                config_of(schedule={"steps": None, "minutes": 1e-6}, locate={"method": "center"}),
            )
        except UserError:
            return
        assert events(tmp_path / "job", Warned)


class TestTrouble:
    def test_out_of_memory_halves_the_batch_once_and_says_so(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        real, failed = trainer.train_step, []

        def scarce(learner, *args):
            if learner.step == 3 and not failed:
                failed.append(learner.chunks)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(learner, *args)

        monkeypatch.setattr(trainer, "train_step", scarce)
        summary = run(tmp_path / "job", cases, config_of(schedule={"steps": 20}))
        assert summary["steps"] == 20
        assert failed == [1]
        (told,) = events(tmp_path / "job", Warned)
        assert "2 parts" in told.warning
        assert load_checkpoint(tmp_path / "job" / "checkpoint.pt", get_label_set("acdc").names)["chunks"] == 2

    def test_memory_that_never_suffices_is_an_error(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        def hopeless(*args):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(trainer, "train_step", hopeless)
        with pytest.raises(UserError, match="memory"):
            run(tmp_path / "job", cases)

    def test_whatever_the_memory_no_weight_becomes_nan(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        """Batches of 2 labeled and 4 unlabeled slices, on a device that holds two slices at a time."""
        real = trainer.train_step

        def scarce(learner, config, plan, labeled, unlabeled, *args):
            if sum(len(batch.image) for batch in (labeled, unlabeled) if batch is not None) / learner.chunks > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(learner, config, plan, labeled, unlabeled, *args)

        monkeypatch.setattr(trainer, "train_step", scarce)
        try:
            run(tmp_path / "job", cases, config_of(schedule={"steps": 20}))
        except UserError as error:  # it may give up, saying so
            if "memory" not in error.what:
                raise
        else:
            assert all(torch.isfinite(value).all() for value in weights(tmp_path / "job").values())

    @pytest.mark.parametrize("steps", [25, 33])
    def test_a_loss_that_is_no_number_ends_it(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch, steps: int
    ):
        real = trainer.train_step

        def diverging(learner, *args):
            if learner.step == 22:
                with torch.no_grad():
                    next(iter(learner.student.parameters())).fill_(math.nan)
            return real(learner, *args)

        monkeypatch.setattr(trainer, "train_step", diverging)
        with pytest.raises(UserError, match="no longer a number") as caught:
            run(tmp_path / "job", cases, config_of(schedule={"steps": steps}))
        assert "learning_rate" in caught.value.hint
        assert not (tmp_path / "job" / "model").exists()

    def test_a_gate_that_stays_shut_is_told_once(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(trainer, "LOOK_EVERY", 2)
        config = config_of(loss={"dptm": False, "fixed_threshold": 1.0}, schedule={"steps": 20, "warmup": 0.0})
        run(tmp_path / "job", cases, config)
        (told,) = events(tmp_path / "job", Warned)
        assert "no foreground" in told.warning


class TestRecentering:
    def test_crops_of_the_pool_move_onto_the_prediction_by_at_most_the_margin(self):
        size, margin = 48, 8
        images = np.full((6, size, size), -1, np.float16)
        images[0:2, 20:26, 20:26] = 3  # labeled: left alone
        images[2:4, 20:26, 27:33] = 3  # middle (22.5, 29.5): from 23.5 by (-1, 6)
        images[4:6, 8:13, 8:13] = 3  # middle (10, 10): by (-13.5, -13.5)
        bank = SliceBank(images, np.zeros((2, size, size), np.uint8), {"a": (0, 2), "b": (2, 4), "c": (4, 6)}, {}, size)
        on_device = DeviceBank(bank, "cpu")
        on_device.recenter(Thresholder(above=1.0), tiny_config(), CPU, bank)
        assert on_device.offsets.tolist() == [[0, 0]] * 2 + [[-1, 6]] * 2 + [[-margin, -margin]] * 2
        on_device.recenter(Thresholder(above=1.0), tiny_config(), CPU, bank)
        assert on_device.offsets[2:4].tolist() == [[-1, 6]] * 2  # where it is right it stays

    def test_a_volume_without_a_prediction_stays(self):
        bank = SliceBank(np.zeros((2, 48, 48), np.float16), np.zeros((0, 48, 48), np.uint8), {"a": (0, 2)}, {}, 48)
        on_device = DeviceBank(bank, "cpu")
        on_device.recenter(Thresholder(above=1.0), tiny_config(), CPU, bank)
        assert on_device.offsets.eq(0).all()


class TestSchedule:
    @pytest.mark.parametrize(
        ("share", "hold", "expected"),
        [
            (0, 0.35, 1),
            (0.35, 0.35, 1),
            (0.675, 0.35, 0.5),
            (1, 0.35, 0),
            (0.5, 0, 0.5),
            (1, 1, 1),
            (0.25, 0, 0.853553),
        ],
    )
    def test_the_rate_is_held_and_then_a_cosine(self, share: float, hold: float, expected: float):
        assert rate_factor(share, hold) == pytest.approx(expected, abs=1e-6)

    def test_lambda_u_rises_along_its_sigmoid(
        self, tmp_path: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        real, seen = trainer.train_step, []

        def noting(learner, config, plan, labeled, unlabeled, lambda_u, alpha):
            seen.append((learner.step, unlabeled is not None, lambda_u))
            return real(learner, config, plan, labeled, unlabeled, lambda_u, alpha)

        monkeypatch.setattr(trainer, "train_step", noting)
        run(
            tmp_path / "job",
            cases,
            config_of(schedule={"steps": 20, "warmup": 0.3, "ramp": 0.5}, loss={"lambda_u": 2.0}),
        )
        assert len(seen) == 20
        for step, mixed, lambda_u in seen:
            assert mixed == (step >= 6)
            x = min(1, (step - 6) / 10)
            assert lambda_u == pytest.approx(2 * math.exp(-5 * (1 - x) ** 2) if mixed else 0)


def test_the_model_is_the_teacher(job: Path):
    state = load_checkpoint(job / "checkpoint.pt", get_label_set("acdc").names)
    kept = {name.removeprefix("network."): value for name, value in weights(job).items() if name.startswith("network.")}
    assert same_weights(kept, dict(state["teacher"]))
    assert not same_weights(kept, dict(state["student"]))
