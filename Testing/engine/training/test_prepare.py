"""What precedes the training: where the hearts are, how large the crop is, and going on after an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from semicardiac.base.errors import Stopped, UserError
from semicardiac.base.events import EventLog, Progress, Warned
from semicardiac.data.cases import Case
from semicardiac.data.slices import Stack
from semicardiac.models.find_heart import Found
from semicardiac.training import prepare as preparing
from semicardiac.training.context import Context
from semicardiac.training.locator import fewness, locator_share, locator_steps
from semicardiac.training.prepare import fitting_crop, prepare, reach_mm
from semicardiac.training.schedule import Budget

from Testing.engine.networks import (
    ACDC,
    CPU,
    heart,
    mass_center,
    same_weights,
    stop_after,
    tiny_config,
    weights_of,
    write_case,
)

CONFIG = tiny_config()


@pytest.fixture
def study(tmp_path: Path) -> list[Case]:
    """A labeled and two unlabeled cases."""
    cases = []
    for number, role in enumerate(("labeled", "unlabeled", "unlabeled")):
        image, labels = heart(number, shape=(3, 50, 56))
        cases.append(write_case(tmp_path / "data", f"p{number}_ed", image, labels if role == "labeled" else None, role))
    return cases


def run_prepare(folder: Path, cases: list[Case], config=CONFIG, stop=lambda: False):
    told: list = []
    ready = prepare(
        Context(folder, cases, ACDC, config, Budget(config.schedule), EventLog(None, told.append), stop), "cpu"
    )
    return ready, told


class TestPrepare:
    def test_labeled_cases_lie_where_their_labels_say(self, tmp_path: Path, study: list[Case]):
        ready, _ = run_prepare(tmp_path / "work", study)
        image, labels = heart(0, shape=(3, 50, 56))
        row, col = ready.bank.centers["p0_ed"]
        there = image.ijk_to_ras[:3, :3] @ (col / 2, row / 2, 1.0) + image.ijk_to_ras[:3, 3]
        assert np.linalg.norm(there - mass_center(labels.array > 0, labels.ijk_to_ras)) < 0.01
        assert ready.bank.size == 32 + 2 * 8
        assert ready.bank.labeled_slices == 3
        assert len(ready.bank.images) == 9

    def test_empty_labels_lie_in_the_middle_of_the_image(self, tmp_path: Path, study: list[Case]):
        image, labels = heart(3, shape=(3, 50, 56))
        empty = labels.with_array(np.zeros_like(labels.array))
        study.append(write_case(tmp_path / "data", "p3_ed", image, empty, "labeled"))
        ready, _ = run_prepare(tmp_path / "work", study)
        assert ready.bank.centers["p3_ed"] == (49.0, 55.0)

    def test_a_crop_that_the_network_cannot_halve_often_enough_is_an_error(self, tmp_path: Path, study: list[Case]):
        config = tiny_config(preprocess={"crop": 48}, network={"widths": (4, 4, 4, 4, 4)})
        with pytest.raises(UserError, match="no multiple of the 32") as caught:
            run_prepare(tmp_path / "work", study, config)
        assert caught.value.where == "preprocess.crop"

    def test_the_crop_is_as_large_as_the_labeled_hearts_need(self, tmp_path: Path, study: list[Case]):
        config = tiny_config(preprocess={"crop": None, "spacing_mm": 1.0})
        ready, _ = run_prepare(tmp_path / "work", study, config)
        assert ready.config.preprocess.crop == 112
        assert ready.bank.size == 112 + 2 * 8

    def test_a_second_run_goes_on_from_what_the_first_found(
        self, tmp_path: Path, study: list[Case], monkeypatch: pytest.MonkeyPatch
    ):
        first, _ = run_prepare(tmp_path / "work", study)
        images = np.array(first.bank.images)
        monkeypatch.setattr(preparing, "train_locator", None)  # would fail if called
        monkeypatch.setattr(preparing, "choose_plan", None)
        second, told = run_prepare(tmp_path / "work", study)
        assert same_weights(weights_of(first.locator), weights_of(second.locator))
        assert second.bank.centers == first.bank.centers
        assert (second.plan, second.config) == (first.plan, first.config)
        np.testing.assert_array_equal(second.bank.images, images)
        assert not [event for event in told if isinstance(event, Progress)]

    @pytest.mark.parametrize(
        ("settings", "labeled", "mixed"),
        [({}, 12, (6, 12)), ({"batch_times": 1}, 4, (2, 4)), ({"batch_times": 5}, 20, (10, 20))],
    )
    def test_a_device_that_takes_larger_batches_gets_them_unless_the_settings_say(
        self, tmp_path: Path, study: list[Case], monkeypatch: pytest.MonkeyPatch, settings, labeled, mixed
    ):
        plan = CPU.model_copy(update={"batch_times": 3})
        monkeypatch.setattr(preparing, "choose_plan", lambda *args, **options: plan)
        for _ in ("first run", "resumed"):
            ready, _told = run_prepare(tmp_path / "work", study, tiny_config(optim=settings))
            assert (ready.config.optim.batch_labeled, ready.config.optim.batch_mixed) == (labeled, mixed)
            assert ready.config.optim.batch_times == 1  # what is written into the model says it once

    @pytest.mark.parametrize("call", [1, 3, 5, 8, 12])
    def test_a_stop_at_any_moment_leaves_what_a_second_run_can_use(self, tmp_path: Path, study: list[Case], call: int):
        with pytest.raises(Stopped):
            run_prepare(tmp_path / "work", study, stop=stop_after(call))
        stopped, _ = run_prepare(tmp_path / "work", study)
        straight, _ = run_prepare(tmp_path / "other", study)
        assert stopped.bank.centers == straight.bank.centers
        np.testing.assert_array_equal(stopped.bank.images, straight.bank.images)

    def test_hearts_that_were_not_found_are_told_in_one_warning(
        self, tmp_path: Path, study: list[Case], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(
            preparing, "find_in_coarse", lambda locator, images, middle, *rest: Found(middle, "no heart was found")
        )
        _, told = run_prepare(tmp_path / "work", study)
        warnings = [event for event in told if isinstance(event, Warned)]
        assert len(warnings) == 1
        assert "2 of 2" in warnings[0].warning
        assert warnings[0].where == "p1_ed (no heart was found) and p2_ed (no heart was found)"

    def test_an_roi_in_the_case_list_is_where_the_heart_is(self, tmp_path: Path, study: list[Case]):
        image, labels = heart(1, shape=(3, 50, 56))
        there = mass_center(labels.array > 0, image.ijk_to_ras) + np.array([10, 14, 0])
        roi = tuple(float(x) for bound in zip(there - 9, there + 9, strict=True) for x in bound)
        study[1] = study[1].model_copy(update={"roi": roi})
        ready, _ = run_prepare(tmp_path / "work", study)
        row, col = ready.bank.centers["p1_ed"]
        found = image.ijk_to_ras[:3, :3] @ (col / 2, row / 2, 1.0) + image.ijk_to_ras[:3, 3]
        assert np.linalg.norm(found - there) < 0.5


class TestSizes:
    def test_how_far_labels_reach(self):
        labels = np.zeros((2, 20, 20), np.uint8)
        labels[0, 5, 10], labels[1, 8, 2] = 1, 2
        stack = Stack(labels, (8.0, 1.5, 2.0), (0, 1, 2), (False, False, False))
        assert reach_mm(stack, (9.0, 16.0)) == 12  # column 2 lies at 4 mm
        assert reach_mm(replace(stack, array=np.zeros((2, 20, 20))), (9.0, 16.0)) == 0

    @pytest.mark.parametrize(("reach", "side"), [(10.0, 112), (76.0, 112), (78.0, 128), (150.0, 224), (1000.0, 320)])
    def test_the_crop_holds_the_largest_heart_with_a_tenth_to_spare(self, reach: float, side: int):
        assert fitting_crop([20.0, reach], 1.5) == side
        assert side * 1.5 / 2 >= min(1.1 * reach, 240)


class TestBudgetShare:
    def test_fewer_patients_get_more(self):
        assert fewness(7) == fewness(100) == 1
        assert fewness(1) == 2
        assert 1 < fewness(3) < 2
        assert locator_share(CONFIG, 1) == pytest.approx(2 * locator_share(CONFIG, 7))

    def test_steps_are_bounded_by_those_of_the_training(self):
        many = tiny_config(locate={"steps_max": 1500}, schedule={"steps": 400})
        assert locator_steps(many, 1) == 200
        timed = tiny_config(locate={"steps_max": 1500}, schedule={"steps": None, "minutes": 1.0})
        assert locator_steps(timed, 1) == 3000
