"""No interruption changes the result of a training."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from semicardiac.base.errors import Stopped, UserError
from semicardiac.base.events import Validation
from semicardiac.data.cases import Case
from semicardiac.images.labels import get_label_set
from semicardiac.training.checkpoint import load_checkpoint

from Testing.engine.networks import same_weights, stop_after
from Testing.engine.support import engine_environment
from Testing.engine.training.support import STEPS, config_of, events, history, run, weights


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
from Testing.engine.networks import Spec, tiny_config
from semicardiac.data.cases import Case
from semicardiac.base.events import EventLog
from semicardiac.training.train import train
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
            encoding="utf-8",
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
        folder, method = tmp_path / "job", {"lambda_u": 2.0}
        schedule = {"warmup": 0.5, "ramp": 0.1}
        run(folder, cases, config_of(schedule={**schedule, "steps": 20}, method=method))
        run(
            folder, cases, config_of(schedule={**schedule, "steps": 100}, method=method)
        )  # back at a fifth, less than 0.5
        later = [row for row in history(folder) if int(row["step"]) > 20]
        assert later
        assert {row["stage"] for row in later} == {"semi-supervised"}
        assert {float(row["lambda_u"]) for row in later} == {2.0}

    def test_rows_behind_the_checkpoint_are_cut_off(self, tmp_path: Path, cases: tuple[Case, ...], job: Path):
        folder = tmp_path / "job"
        with pytest.raises(Stopped):
            run(folder, cases, stop=stop_after(55))
        step = load_checkpoint(folder / "checkpoint.pt", get_label_set("acdc").names).step
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
