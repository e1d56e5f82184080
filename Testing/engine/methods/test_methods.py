"""What every method has to keep, whatever it does; and our own against the modules that it is made of."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path

import pytest
import torch
from semicardiac.config import TrainConfig
from semicardiac.data import augment
from semicardiac.methods import losses, registry
from semicardiac.training.checkpoint import load_checkpoint
from semicardiac.training.step import Learner, Moment, see, train_step
from torch import Tensor

from Testing.engine.methods import two_students
from Testing.engine.networks import ACDC, CPU, new_batch, new_learner, same_weights, tiny_config, waits, weights_of


@pytest.fixture(params=[*registry.METHODS, two_students.NAME])
def config(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """A tiny training with each method; all pixels are sure, so that every loss is at work."""
    for place, added in ((sys.modules, two_students.MODULES), (registry.METHODS, two_students.METHODS)):
        for name, value in added.items():
            monkeypatch.setitem(place, name, value)
    sure = {"fixmatch": {"threshold": 0.0}, "dptm_rem_cc": {"threshold_floor": 0.0, "class_floor": 4}}
    # Noise is drawn for a whole batch, and the soft Dice is one of the whole batch.
    method = {"name": request.param, "supervised": "ce", **sure.get(request.param, {})}
    return registry.complete(tiny_config(method=method, augment={"noise": 0.0}))


def batches(config: TrainConfig, learner: Learner) -> tuple:
    if not registry.METHODS[config.method.name].unlabeled:
        return new_batch(config, 4, 1, labeled=True), None
    unlabeled = new_batch(config, 4, 2, labeled=False, views=learner.method.views)
    return new_batch(config, 4, 1, labeled=True), unlabeled


def begun(config: TrainConfig) -> Learner:
    learner = new_learner(config)
    learner.method.begin(100)
    return learner


def test_a_step_moves_the_student_and_what_it_logs_is_finite(config: TrainConfig):
    learner = begun(config)
    before = weights_of(learner.student)
    log = train_step(learner, config, CPU, *batches(config, learner), Moment(0.7, 0.5))
    assert not same_weights(before, weights_of(learner.student))
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in log.values())
    assert {"loss", "loss_supervised"} <= log.keys()


def test_gradients_reach_all_of_the_student_and_the_method_and_nothing_of_the_teacher(config: TrainConfig):
    learner = begun(config)
    train_step(learner, config, CPU, *batches(config, learner), Moment(0.7, 0.5))
    for network in (learner.student, learner.method):
        assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in learner.teacher.network.parameters())


def test_the_terms_sum_up_to_the_loss(config: TrainConfig):
    learner = begun(config)
    labeled, unlabeled = batches(config, learner)
    step = see(learner, config, CPU, labeled, unlabeled, Moment(0.7, 0.5))
    if unlabeled is None:
        terms = learner.method.warm_up(step)
    else:
        with torch.no_grad():
            target = learner.method.teach(step).target
        terms = learner.method.losses(step, target)
    log = train_step(learner, config, CPU, labeled, unlabeled, Moment(0.7, 0.5))
    assert {f"loss_{name}" for name in terms} == {name for name in log if name.startswith("loss_")}
    expected = sum(term.weight * term.value for term in terms.values())
    torch.testing.assert_close(log["loss"], expected.detach(), rtol=1e-5, atol=1e-6)


def test_nothing_waits_for_the_device(config: TrainConfig):
    learner = begun(config)
    labeled, unlabeled = batches(config, learner)
    with waits() as found:
        train_step(learner, config, CPU, labeled, unlabeled, Moment(0.7, 0.5))
    assert found == []


@pytest.mark.parametrize("chunks", [2, 4])
def test_a_batch_in_parts_gives_the_same_update(config: TrainConfig, chunks: int):
    if config.method.name == "dptm_rem_cc":  # fewer images in a part are fewer negatives of the contrast
        config = config.model_copy(
            update={"method": config.method.model_copy(update={"contrast": False})},
        )
    learners = [begun(config) for _ in range(2)]
    learners[1].chunks = chunks
    logs = [train_step(each, config, CPU, *batches(config, each), Moment(0.7, 0.5)) for each in learners]
    torch.testing.assert_close(logs[1], logs[0], rtol=1e-4, atol=1e-5)
    for network in ("student", "method"):
        whole, parts = (getattr(each, network).state_dict() for each in learners)
        for name, value in whole.items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-5)


def test_out_of_memory_leaves_the_method_as_it_was(config: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    learner = begun(config)
    labeled, unlabeled = batches(config, learner)
    before = {name: copy.deepcopy(value) for name, value in learner.method.state_dict().items()}
    monkeypatch.setattr(losses, "supervised", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    with pytest.raises(torch.OutOfMemoryError):
        train_step(learner, config, CPU, labeled, unlabeled, Moment(0.7, 0.5))
    after = learner.method.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(torch.as_tensor(before[name]), torch.as_tensor(after[name])) for name in before
               if isinstance(before[name], Tensor))  # fmt: skip
    assert learner.step == 0


def test_a_stop_and_a_second_run_give_what_one_run_gives(config: TrainConfig, tmp_path: Path):
    """The method's networks, buffers and numbers are in the checkpoint, and in the model's package."""
    from semicardiac.base.errors import Stopped
    from semicardiac.models.model import load_model

    from Testing.engine.networks import stop_after, write_cases
    from Testing.engine.training.support import run

    cases = write_cases(tmp_path / "study")
    config = config.model_copy(update={"schedule": config.schedule.model_copy(update={"steps": 10, "warmup": 0.3})})
    run(tmp_path / "whole", cases, config)
    with pytest.raises(Stopped):
        run(tmp_path / "parts", cases, config, stop=stop_after(25))
    run(tmp_path / "parts", cases, config)
    one, two = (load_checkpoint(tmp_path / name / "checkpoint.pt", ACDC.names) for name in ("whole", "parts"))
    assert one.step == two.step == 10
    assert same_weights(one.student, two.student)
    for name, value in one.method.items():
        assert torch.equal(value, two.method[name]) if isinstance(value, Tensor) else value == two.method[name]
    loaded = load_model(tmp_path / "parts").method.state_dict()
    for name, value in two.method.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(loaded[name].float(), value.float(), rtol=0, atol=0)


def test_limits_are_those_of_the_labels_that_teach(config: TrainConfig):
    learner = begun(config)
    limits = learner.method.limits()
    if limits is not None:
        assert limits.shape == (4, 32, 32)
        assert 0 <= float(limits.min()) <= float(limits.max()) <= 1


class TestByHand:
    """One step of each method against a loop over pixels, written from its formula."""

    def terms(self, config: TrainConfig, ramp: float = 0.7) -> tuple[dict[str, float], Learner, tuple, dict]:
        learner = begun(config)
        labeled, unlabeled = batches(config, learner)
        step = see(learner, config, CPU, labeled, unlabeled, Moment(ramp))
        log = train_step(copy.deepcopy(learner), config, CPU, labeled, unlabeled, Moment(ramp))
        with torch.no_grad():
            seen = {
                "student": learner.student(step.unlabeled.seen[0])[0].softmax(1),
                "clean": learner.student(step.unlabeled.clean)[0].softmax(1),
                "teacher": learner.teacher.network(step.unlabeled.clean)[0].softmax(1),
            }
        return {name: float(value) for name, value in log.items() if name.startswith("loss")}, learner, unlabeled, seen

    def test_fixmatch(self):
        config = registry.complete(tiny_config(method={"name": "fixmatch", "threshold": 0.3, "lambda_u": 2.0}))
        log, _, batch, seen = self.terms(config)
        grid = augment.grid_of(batch.views[0], 32)
        total, pixels = 0.0, 0
        confidence, label = seen["clean"].max(1)
        sure = augment.warp((confidence > 0.3).float().unsqueeze(1), grid, crop=32)[:, 0]
        label = augment.warp(label.float().unsqueeze(1), grid, crop=32, mode="nearest")[:, 0].long()
        for image in range(4):
            for row in range(32):
                for col in range(32):
                    q = seen["student"][image, label[image, row, col], row, col]
                    total -= float(sure[image, row, col]) * math.log(float(q))
                    pixels += 1
        assert 0 < float(sure.mean()) < 1
        assert log["loss_unsupervised"] == pytest.approx(total / pixels, rel=1e-4)
        assert log["loss"] == pytest.approx(log["loss_supervised"] + 0.7 * 2.0 * log["loss_unsupervised"], rel=1e-5)

    def test_mean_teacher(self):
        config = registry.complete(tiny_config(method={"name": "mean_teacher", "lambda_u": 3.0}))
        log, _, batch, seen = self.terms(config)
        grid = augment.grid_of(batch.views[0], 32)
        target = augment.warp(seen["teacher"], grid, crop=32)
        inside = augment.warp(torch.ones(4, 1, 32, 32), grid, crop=32)[:, 0] > 0
        total = 0.0
        for image in range(4):
            for row in range(32):
                for col in range(32):
                    if inside[image, row, col]:
                        difference = seen["student"][image, :, row, col] - target[image, :, row, col]
                        total += float((difference**2).sum())
        assert log["loss_unsupervised"] == pytest.approx(total / (4 * 32 * 32), rel=1e-4)
        assert log["loss"] == pytest.approx(log["loss_supervised"] + 0.7 * 3.0 * log["loss_unsupervised"], rel=1e-5)
