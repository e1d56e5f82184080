"""How a device is measured; on which one it then computes is its own business."""

from __future__ import annotations

import pytest
import torch
from semicardiac.models import compute
from semicardiac.models.compute import choose_plan, fitting_batch
from semicardiac.models.networks import build_network

from Testing.engine.networks import CPU, tiny_config

KINDS = ("float32 contiguous", "float32 channels_last")
NETWORK = build_network(tiny_config().network, 4)


@pytest.mark.parametrize(
    ("images_per_s", "times"),
    [
        ({1: 100.0}, 1),
        ({1: 100.0, 2: 104.0}, 1),  # a CPU: more slices take as much longer
        ({1: 100.0, 2: 190.0, 4: 360.0, 8: 500.0, 16: 560.0, 32: 580.0}, 8),  # 4 would reach 62 % of 580
        ({1: 100.0, 2: 200.0, 4: 150.0}, 2),
    ],
)
def test_the_smallest_batch_with_most_of_the_speed(images_per_s: dict[int, float], times: int):
    assert fitting_batch(images_per_s) == times


def speeds(monkeypatch, images_per_s) -> dict[int, float]:
    monkeypatch.setattr(compute, "_images_per_second", images_per_s)
    return compute._speeds_of_batches(CPU, NETWORK, 32, 6)


def test_batches_are_tried_until_they_no_longer_pay(monkeypatch):
    asked = []

    def images_per_s(plan, network, size, batch):
        asked.append(batch)
        return min(batch, 24) * 10.0

    assert speeds(monkeypatch, images_per_s) == {1: 60.0, 2: 120.0, 4: 240.0, 8: 240.0}
    assert asked == [6, 12, 24, 48]


def test_batches_are_tried_until_the_memory_is_full(monkeypatch):
    def images_per_s(plan, network, size, batch):
        if batch > 12:
            raise torch.OutOfMemoryError
        return batch * 10.0

    assert speeds(monkeypatch, images_per_s) == {1: 60.0, 2: 120.0}


def test_a_cpu_is_measured_by_precision_and_layout_and_keeps_its_batches():
    plan = choose_plan(build_network(tiny_config().network, 4), 32, "cpu")
    assert set(plan.images_per_s) == {
        f"{dtype} {layout}" for dtype in ("float32", "bfloat16") for layout in ("contiguous", "channels_last")
    }
    assert plan.images_per_s[plan.kind] >= max(plan.images_per_s.values()) / 1.11  # rounded to tenths
    assert plan.batch_times == 1


@pytest.mark.parametrize(
    ("turns", "kind"),
    [
        ([(20, 60), (70, 62), (68, 61)], "float32 contiguous"),  # another program computed during the first
        ([(70, 73), (70, 75), (70, 71)], "float32 contiguous"),  # within the noise
        ([(50, 70), (55, 72), (20, 71)], "float32 channels_last"),
        ([(100, 20), (100, 200), (100, 200)], "float32 contiguous"),  # so slow, it has no second turn
    ],
)
def test_noise_does_not_decide(monkeypatch, turns: list[tuple[float, float]], kind: str):
    found = {name: iter(speeds) for name, speeds in zip(KINDS, zip(*turns, strict=True), strict=False)}

    def images_per_s(plan, network, size, batch):
        return next(found[plan.kind]) if plan.dtype == "float32" else 1.0

    monkeypatch.setattr(compute, "_images_per_second", images_per_s)
    assert choose_plan(NETWORK, 32, "cpu").kind == kind


def test_what_is_to_be_the_same_everywhere_is_not_measured(monkeypatch):
    monkeypatch.setattr(compute, "_images_per_second", None)  # would fail if called
    plan = choose_plan(NETWORK, 32, "cpu", fixed=True)
    assert (plan.dtype, plan.channels_last, plan.batch_times) == ("float32", False, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_gets_a_batch_that_it_has_been_tried_with():
    plan = choose_plan(build_network(tiny_config().network, 4), 32, "cuda")
    assert f"{6 * plan.batch_times} slices" in plan.images_per_s
