"""The bench measures what its rows say, tells what it cannot measure, and its reference does what is usual."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from semicardiac.base.errors import UserError
from semicardiac.bench import modules, rows, run, timing, trainee
from semicardiac.bench.memory import saved_mb
from semicardiac.bench.rows import Measurement, Row
from semicardiac.bench.timing import Measured, Setting, Unmeasured, take_turns
from semicardiac.bench.trainee import Trainee
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from Testing.bench import metrics, reference, training
from Testing.bench.full_resolution import FullResolutionUNet
from Testing.engine.support import NO_TORCHRUN, NO_TORCHRUN_REASON, REPOSITORY, rank_environment

ASKED = {
    "modules_over_mean_teacher", "modules_parts_share", "train_over_reference", "default_over_reference",
    "augment_over_reference", "inference_over_slicewise", "inference_default_over_reference",
    "inference_flips_over_reference", "activation_mb_per_slice", "metrics_over_brute_force", "import_s", "help_s",
    "pool_memory_ratio", "two_processes_speedup", "segment_volume_cpu_s", "train_images_s_256", "infer_slices_s_256",
    "host_waits_per_step", "peak_gpu_mb",
}  # fmt: skip


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting("cpu", 2, tmp_path)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops and slices of 32 pixels."""
    monkeypatch.setattr(trainee, "CROP", 32)
    monkeypatch.setattr(reference, "SIZE", 32)
    monkeypatch.setattr(training, "STORED", (24, 40))


class TestRows:
    def test_every_row_that_was_asked_for_is_there_once(self):
        ids = [row.id for measurement in rows.MEASUREMENTS for row in measurement.rows]
        assert set(ids) >= ASKED
        assert len(set(ids)) == len(ids)

    @pytest.mark.parametrize("place", [each.place for each in rows.MEASUREMENTS])
    def test_what_measures_a_row_exists(self, place: str):
        module, _, name = place.partition(":")
        found = import_module(module if module.startswith("Testing.") else f"semicardiac.bench.{module}")
        assert callable(getattr(found, name))

    def test_a_single_row_is_measured_without_its_neighbours(self):
        (chosen,) = rows.select(["help_s"])
        assert [row.id for row in chosen.rows] == ["help_s"]

    def test_an_unknown_row_is_named_with_the_nearest(self):
        with pytest.raises(UserError, match=r"'import'.*Did you mean 'import_s'"):
            rows.select(["import"])

    @pytest.mark.parametrize(
        ("better", "value", "met"),
        [("lower", 1.5, True), ("lower", 2.5, False), ("higher", 1.5, False), ("higher", 2.0, True)],
    )
    def test_a_bar_is_met_from_its_good_side(self, better, value: float, met: bool):
        assert Row("id", "", 2.0, better).meets(value) is met


class TestTime:
    def test_works_take_turns_and_warm_up_uncounted(self, setting: Setting, monkeypatch: pytest.MonkeyPatch):
        clock, order = [0.0], []
        monkeypatch.setattr(timing.time, "process_time", lambda: clock[0])

        def work(name: str, first: float, later: float) -> None:
            clock[0] += first if name not in order else later
            order.append(name)

        works = {"a": lambda: work("a", 50, 1), "b": lambda: work("b", 70, 2)}
        times = take_turns(setting, works, turns=2)
        assert times == {"a": [1, 1], "b": [2, 2]}
        assert "".join(order) == "ab" + "abba" * 2

    def test_what_is_short_is_repeated(self, setting: Setting, monkeypatch: pytest.MonkeyPatch):
        clock = itertools.count(0, 0.03)  # each look at it is a tick later
        monkeypatch.setattr(timing.time, "process_time", lambda: next(clock))
        calls = []
        take_turns(Setting("cpu", 1, setting.folder), {"short": lambda: calls.append(0)})
        assert len(calls) == 1 + 1 + 4  # of 0.03 s each, to take 0.1 s


class TestRun:
    """The table and the file, with measurements of a row or two each."""

    @pytest.fixture
    def bench(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        def make(**found):
            measurements = [Measurement(name, (Row(name, "what", 2.0),)) for name in found]
            monkeypatch.setattr(run, "select", lambda only: measurements)

            def function(measurement: Measurement):
                def measure(setting: Setting) -> dict[str, Measured]:
                    result = found[measurement.place]
                    if isinstance(result, Exception):
                        raise result
                    return {measurement.place: result}

                return measure

            monkeypatch.setattr(run, "_function", function)
            said: list[str] = []
            passed = run.run_bench(
                {"python": "3"}, device="cpu", rounds=3, json=tmp_path / "bench.json", say=said.append
            )
            return passed, json.loads((tmp_path / "bench.json").read_text(encoding="utf-8")), "\n".join(said)

        return make

    def test_the_value_is_the_median_of_the_rounds(self, bench):
        passed, written, said = bench(good=Measured([1.5, 9.0, 1.0], "as it is"), bad=Measured([3.0]))
        good, bad = written["rows"]
        assert passed
        assert good == {
            "id": "good", "about": "what", "value": 1.5, "unit": "", "bar": 2.0, "better": "lower", "met": True,
            "rounds": [1.5, 9.0, 1.0], "note": "as it is",
        }  # fmt: skip
        assert (bad["value"], bad["met"]) == (3.0, False)
        assert written["machine"]["python"] == "3"
        assert {"threads", "load", "processor"} <= set(written["machine"])
        assert "≤ 2 ! what" in said
        assert "3 rounds: 1.000 to 9.000" in said

    def test_what_cannot_be_measured_has_a_reason_and_no_number(self, bench):
        passed, written, said = bench(row=Unmeasured("this takes two cores"))
        assert passed
        assert written["rows"][0]["value"] is None
        assert written["rows"][0]["note"] == "this takes two cores"
        assert "this takes two cores" in said

    def test_a_measurement_that_fails_keeps_no_other_from_its_turn(self, bench):
        passed, written, _ = bench(broken=RuntimeError("no memory"), good=Measured([1.0]))
        assert not passed
        assert [row["value"] for row in written["rows"]] == [None, 1.0]
        assert written["rows"][0]["note"] == "failed: RuntimeError: no memory"

    def test_without_a_checkout_it_says_where_the_reference_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(run, "CHECKOUT", tmp_path)
        said: list[str] = []
        assert run.run_bench({}, device="cpu", rounds=1, only=["metrics_over_brute_force"], say=said.append)
        assert run.NO_CHECKOUT in "\n".join(said)

    def test_a_row_of_a_gpu_waits_for_one(self, setting: Setting):
        (measurement,) = rows.select(["peak_gpu_mb"])
        found, failed = run._measured(measurement, setting)
        assert (found["peak_gpu_mb"].rounds, failed) == ([], False)

    def test_no_rounds_are_refused(self):
        with pytest.raises(UserError, match="--rounds"):
            run.run_bench({}, rounds=0)

    def test_the_command_measures_and_writes(self, semicardiac, tmp_path: Path):
        done = semicardiac("bench", "--only", "import_s", "--rounds", 2, "--json", "found.json", "--device", "cpu")
        assert done.returncode == 0, done.stderr
        (row,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["rows"]
        assert row["value"] == sum(row["rounds"]) / 2 > 0


class TestMeasurements:
    def test_a_trainee_trains_on_labeled_and_unlabeled_slices(self, setting: Setting, small):
        trained = Trainee(setting, {})
        learner = trained.training.learner
        before = [each.clone() for each in learner.student.parameters()]
        assert trained.images_of_a_step() == sum(trained.training.config.optim.batch_mixed)
        assert learner.step == 1
        assert not all(map(torch.equal, before, learner.student.parameters()))
        assert "loss_unsupervised" in trained.training.log.window.sums

    def test_a_batch_that_had_to_be_cut_is_not_timed(self, setting: Setting, small):
        trained = Trainee(setting, {})
        trained.training.learner.chunks = 2
        with pytest.raises(torch.OutOfMemoryError):
            trained.step()

    def test_a_trainee_trains_another_network(self, setting: Setting, small):
        network = nn.Conv2d(1, 4, 1)
        network.forward = lambda image, conv=network.forward: (conv(image), image[:, :, ::4, ::4])
        before = network.weight.detach().clone()
        trained = Trainee(setting, {}, network=network)
        trained.step()
        assert not torch.equal(before, network.weight)

    @pytest.mark.slow
    def test_modules_and_parts(self, setting: Setting, small, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(modules, "TURNS", 1)
        found = modules.measure(setting)
        assert all(len(found[row].rounds) == 2 for row in ("modules_over_mean_teacher", "modules_parts_share"))
        assert all(0 < share < 1 for share in found["modules_parts_share"].rounds)
        assert all(name in found["modules_over_mean_teacher"].note for name in ("DPTM", "REM", "contrast"))
        assert "student" in found["modules_parts_share"].note

    def test_a_convolution_keeps_its_input_for_the_gradients(self):
        image = 256 * 256 * 4 / 2**20  # float32
        assert saved_mb(nn.Conv2d(1, 1, 3, padding=1)) == image
        assert saved_mb(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1))) == 3 * image

    @pytest.mark.slow
    @pytest.mark.parametrize("measure", [training.over_reference, training.augment_over_reference])
    def test_training_beside_the_reference(self, setting: Setting, small, measure):
        for measured in measure(setting).values():
            assert len(measured.rounds) == 2
            assert min(measured.rounds) > 0

    def test_both_ways_to_measure_a_segmentation_agree(self):
        truth = np.zeros((4, 40, 40), np.uint8)
        for value, side in ((2, 12), (3, 8)):
            truth[:, 20 - side : 20 + side, 20 - side : 20 + side] = value
        truth[1:3, 2:6, 4:20] = 1
        found = np.roll(truth, (2, 1), axis=(1, 2))
        ours, theirs = (score(found, truth, (8.0, 1.5, 1.5)) for score in (metrics.our_scores, metrics.their_scores))
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name])


class TestReference:
    def test_it_has_the_arithmetic_of_our_blocks_at_full_resolution(self):
        counts = []
        for network in (reference.UNet(4), FullResolutionUNet(4, reference.WIDTHS)):
            with FlopCounterMode(display=False) as counter:
                network(torch.zeros(1, 1, 64, 64))
            counts.append(counter.get_total_flops())
        assert counts[1] == pytest.approx(counts[0], rel=0.02)

    def test_a_step_moves_the_teacher_by_its_share(self):
        torch.manual_seed(0)
        learner = reference.MeanTeacher(4)
        before = [each.detach().clone() for each in learner.teacher.parameters()]
        images, labels = torch.randn(3, 1, 32, 32), torch.randint(4, (3, 32, 32))
        losses = learner.step(images, labels, 2, 0.5)
        assert {type(value) for value in losses.values()} == {float}
        for old, kept, followed in zip(before, learner.teacher.parameters(), learner.student.parameters(), strict=True):
            torch.testing.assert_close(kept, (old + followed) / 2)  # the first of 1 - 1 / (t + 1)

    def test_it_learns(self):
        torch.manual_seed(0)
        learner = reference.MeanTeacher(2)
        images = torch.zeros(4, 1, 32, 32)
        images[:, :, 8:24, 8:24] = 1
        losses = [learner.step(images, images[:, 0].long(), 2, 0.0)["loss"] for _ in range(20)]
        assert losses[-1] < 0.7 * losses[0]

    def test_an_image_and_its_labels_move_together(self):
        random.seed(0)
        image = np.random.default_rng(0).normal(size=(48, 64)).astype(np.float32) + 5
        turned = []
        for _ in range(20):
            moved, label = reference.augmented(image, (image > 5).astype(np.uint8))
            assert moved.shape == label.shape == (reference.SIZE, reference.SIZE)
            np.testing.assert_array_equal(label, moved > 5)
            turned.append(not np.array_equal(moved, reference.stretched(image, moved.shape)))
        assert 0 < sum(turned) < len(turned)

    def test_a_batch_holds_labeled_slices_first_and_each_in_turn(self):
        batches = list(itertools.islice(reference.TwoStreams(4, 10, (2, 3)), 4))
        assert all(max(batch[:2]) < 4 <= min(batch[2:]) for batch in batches)
        assert sorted(number for batch in batches[:2] for number in batch) == list(range(10))

    def test_a_volume_is_predicted_on_its_own_grid(self):
        class Bright(nn.Module):
            def forward(self, image: torch.Tensor) -> torch.Tensor:
                return torch.cat((0.5 - image, image - 0.5), dim=1)

        image = np.zeros((2, 128, 64))
        image[1, 30:80, 10:50] = 7
        np.testing.assert_array_equal(reference.predict(Bright(), image), image > 0)


@pytest.mark.skipif(NO_TORCHRUN, reason=NO_TORCHRUN_REASON)
def test_the_benchmark_of_two_processes_runs():
    command = [sys.executable, str(REPOSITORY / "Testing/bench/ranks.py"), "--rounds", "1", "--steps", "1"]
    done = subprocess.run(command, env=rank_environment(), capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "images/s" in line]
    (rate, _, *ratios), same, twice = (row[row.index("images/s") - 1 :] for row in rows)
    assert float(rate) > 0
    assert [float(ratio) for ratio in ratios] == [1.0, 1.0]
    assert all(float(value) > 0 for row in (same, twice) for value in (row[0], *row[2:]))
