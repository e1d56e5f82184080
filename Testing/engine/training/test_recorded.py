"""A recorded step does what the step does. Without a GPU the recording is a stand-in that calls the step again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from semicardiac.base.events import EventLog, Warned
from semicardiac.methods import registry
from semicardiac.training import recorded
from semicardiac.training.recorded import WARM, RecordedStep
from semicardiac.training.step import Moment, train_step

from Testing.engine.networks import CPU, new_batch, new_learner, same_weights, tiny_config

STEPS = WARM + 5


class Recorder:
    """In place of a CUDA graph: what was recorded is called at each replay, with the places that it had."""

    def __init__(self) -> None:
        self.recordings = self.replays = 0

    def __call__(self, work, generators=()):
        self.recordings += 1

        def replay() -> None:
            self.replays += 1
            work()

        return SimpleNamespace(replay=replay)


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(recorded, "record", recorder)
    return recorder


def trained(config, step_of, *, unlabeled: bool = True, steps: int = STEPS):
    """A learner after steps with other batches, rates and moments each time; and what each step logged."""
    learner = new_learner(config)
    learner.method.begin(100)
    step = step_of(learner)
    logs = []
    for number in range(steps):
        learner.optimizer.param_groups[0]["lr"] = 0.05 / (1 + number)
        labeled = new_batch(config, 2, number, labeled=True)
        pool = new_batch(config, 3, 50 + number, labeled=False, views=learner.method.views) if unlabeled else None
        log = step(labeled, pool, Moment(number / 10, number / 20))
        logs.append({name: torch.as_tensor(value).clone() for name, value in log.items()})
    return learner, logs


def weights(module) -> dict:
    return {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}


def plain(config):
    return lambda learner: lambda *batch: train_step(learner, config, CPU, *batch)


def recording(config, events=None):
    def step_of(learner) -> RecordedStep:
        step = RecordedStep(learner, config, CPU, events or EventLog())
        step._possible = True  # as on a CUDA device
        return step

    return step_of


@pytest.mark.parametrize("name", registry.METHODS)
def test_recorded_steps_are_the_steps(name: str, recorder: Recorder):
    config = tiny_config(method={"name": name})
    unlabeled = registry.require_method(name).unlabeled
    expected, expected_logs = trained(config, plain(config), unlabeled=unlabeled)
    found, logs = trained(config, recording(config), unlabeled=unlabeled)
    assert recorder.replays == STEPS - WARM
    assert found.step == expected.step == STEPS
    own, other = ((each.student, each.teacher.network, each.method) for each in (found, expected))
    for module, reference in zip(own, other, strict=True):  # rates in float32 and the teacher's three operations round
        torch.testing.assert_close(weights(module), weights(reference), rtol=1e-4, atol=1e-6)
    for log, other in zip(logs, expected_logs, strict=True):
        assert log.keys() == other.keys()
        for key in log:
            torch.testing.assert_close(
                log[key], other[key], check_dtype=False, msg=lambda why, key=key: f"{key}: {why}"
            )
    rates = {type(group["lr"]) for group in found.optimizer.param_groups}
    assert rates == {float}  # what a checkpoint can hold


def test_each_size_of_batch_is_recorded_anew(recorder: Recorder):
    config = tiny_config()
    learner = new_learner(config)
    step = recording(config)(learner)
    sizes = [2] * (WARM + 2) + [3] * (WARM + 2)
    for number, size in enumerate(sizes):
        step(new_batch(config, size, number, labeled=True), None, Moment())
    assert recorder.recordings == 2
    learner.chunks = 2  # as after running out of memory
    for number in range(WARM + 1):
        step(new_batch(config, 3, number, labeled=True), None, Moment())
    assert recorder.recordings == 3


def told(events: list) -> str:
    (warning,) = [event for event in events if isinstance(event, Warned)]
    return warning.warning


def test_what_cannot_be_recorded_is_computed_all_the_same(monkeypatch):
    def refuse(work, generators=()):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(recorded, "record", refuse)
    config, events = tiny_config(), []
    expected, _ = trained(config, plain(config))
    found, _ = trained(config, recording(config, EventLog(None, events.append)))
    assert same_weights(found.student.state_dict(), expected.student.state_dict())
    assert same_weights(found.teacher.network.state_dict(), expected.teacher.network.state_dict())
    assert told(events).endswith("operation not permitted when stream is capturing")


def test_a_recording_that_does_something_else_is_not_believed(monkeypatch):
    def stale(work, generators=()):
        return SimpleNamespace(replay=lambda: None)  # changes nothing

    monkeypatch.setattr(recorded, "record", stale)
    config, events = tiny_config(), []
    expected, _ = trained(config, plain(config))
    found, _ = trained(config, recording(config, EventLog(None, events.append)))
    assert same_weights(found.student.state_dict(), expected.student.state_dict())
    assert "differs from the step by 100.0% of its change" in told(events)


def test_out_of_memory_while_recording_leaves_the_learner_as_it_was(monkeypatch):
    def full(work, generators=()):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(recorded, "record", full)
    config, begun = tiny_config(), []
    expected, _ = trained(config, plain(config), steps=WARM)
    with pytest.raises(torch.OutOfMemoryError):
        trained(config, lambda learner: begun.append(learner) or recording(config)(learner))
    assert same_weights(begun[0].student.state_dict(), expected.student.state_dict())
    assert begun[0].step == WARM


def test_a_cpu_records_nothing(recorder: Recorder):
    config = tiny_config()
    trained(config, lambda learner: RecordedStep(learner, config, CPU, EventLog()))
    assert not recorder.recordings


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", registry.METHODS)
def test_a_cuda_graph_is_the_step(name: str):
    config, events = tiny_config(method={"name": name}), []
    plan = CPU.model_copy(update={"device": "cuda"})
    learners = []
    for record_it in (True, False):
        learner = new_learner(config)
        learner.student.cuda(), learner.teacher.network.cuda(), learner.method.cuda()
        learner.method.begin(100)
        step = RecordedStep(learner, config, plan, EventLog(None, events.append))
        step._possible = record_it
        for number in range(STEPS):
            learner.optimizer.param_groups[0]["lr"] = 0.05 / (1 + number)
            batches = [new_batch(config, 2, number, labeled=True), new_batch(config, 3, 50 + number, labeled=False)]
            step(*(on_gpu(batch) for batch in batches), Moment(number / 10, number / 20))
        learners.append(learner)
    assert not [event for event in events if isinstance(event, Warned)]
    pairs = zip(learners[0].student.parameters(), learners[1].student.parameters(), strict=True)
    for own, other in pairs:
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5)


def on_gpu(batch):
    views = tuple(view.to(torch.device("cuda")) for view in batch.views)
    label = None if batch.label is None else batch.label.cuda()
    return batch._replace(image=batch.image.cuda(), label=label, offset=batch.offset.cuda(), views=views)
