"""What a training step costs, with the method's modules on and off, as ratios to a plain mean teacher in one run.

    python Testing/bench/step.py [--rounds 10] [--device auto]

The variants take turns, so that a drifting machine slows all of them alike; the median of the ratios round by round is
printed. Processor time is counted on a CPU, time on the wall on a GPU, and a CUDA device is waited for.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from semicardiac.config import make_config
from semicardiac.data import augment
from semicardiac.data.batches import Batch
from semicardiac.methods import registry, threshold_map
from semicardiac.methods.ema import Teacher
from semicardiac.methods.method import Facts
from semicardiac.models.compute import choose_plan, keep_freed_memory, pick_device
from semicardiac.models.networks import build_network
from semicardiac.training.step import Learner, Moment, see, train_step, views_of

CLASSES, CROP, MARGIN = 4, 112, 40
PLAIN = {"dptm": False, "rem": False, "contrast": False, "fixed_threshold": 0.0}
VARIANTS = {
    "plain mean teacher": PLAIN,
    "DPTM": PLAIN | {"dptm": True},
    "REM": PLAIN | {"rem": True},
    "contrast": PLAIN | {"contrast": True},
    "DPTM + REM + contrast": {},
    "the same, student as key": {"contrast_key": "student"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    keep_freed_memory()
    device = pick_device(arguments.device)
    configs = {
        name: make_config("default", {"method": method, "preprocess": {"crop": CROP, "margin": MARGIN}})
        for name, method in VARIANTS.items()
    }
    config = configs["DPTM + REM + contrast"]
    plan = choose_plan(build_network(config.network, CLASSES), CROP, device)
    print(f"{plan.name}, {plan.dtype}, {plan.threads} threads, images a second by candidate: {plan.images_per_s}")
    labeled, unlabeled = (_batch(config, count, plan.device) for count in config.optim.batch_mixed)
    learners = {name: _learner(configs[name], plan) for name in VARIANTS}
    warmup = _learner(config, plan)
    first = _batch(config, config.optim.batch_labeled, plan.device)

    times: dict[str, list[float]] = {name: [] for name in ["labeled slices alone", *VARIANTS]}
    for _ in range(arguments.rounds + 1):
        times["labeled slices alone"].append(
            _timed(device, lambda: train_step(warmup, config, plan, first, None, Moment()))
        )
        for name, learner in learners.items():
            step = _step(learner, configs[name], plan, labeled, unlabeled)
            times[name].append(_timed(device, step))
    plain = times["plain mean teacher"][1:]
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values[1:], plain, strict=True))
        print(f"{name:28s} {statistics.median(values[1:]) * 1e3:8.1f} ms   {ratio:6.3f}")

    learner = learners["DPTM + REM + contrast"]
    with torch.no_grad(), plan.autocast():
        step = see(learner, config, plan, labeled, unlabeled, Moment(1.0))
    both = plan.place(torch.cat((step.labeled.seen, step.unlabeled.seen[0])))
    probability = torch.rand(len(step.unlabeled), CLASSES, CROP, CROP, device=plan.device).softmax(1)

    def student() -> None:
        with plan.autocast():
            logits, _ = learner.student(both)
        logits.square().mean().backward()

    def map_and_gate() -> None:
        threshold_map.gate(threshold_map.update(learner.method.state, probability, 0.9), probability, 0.95)

    def teach() -> None:
        with torch.no_grad():
            learner.method.teach(step)

    parts = {
        "drawing the views": lambda: [augment.draw(config.augment, n, torch.Generator()) for n in (4, 8)],
        "warping and recoloring": lambda: [
            views_of(batch, CROP, config.preprocess.clip) for batch in (labeled, unlabeled)
        ],
        "teacher, map and gate": teach,
        "  of it map and gate": map_and_gate,
        "student there and back": student,
        "teacher update": lambda: learner.teacher.update(learner.student, 100),
    }
    whole = statistics.median(times["DPTM + REM + contrast"][1:])
    for name, part in parts.items():
        value = statistics.median([_timed(device, part) for _ in range(arguments.rounds + 1)][1:])
        print(f"{name:28s} {value * 1e3:8.1f} ms   {value / whole:6.1%} of the step")


def _batch(config, count: int, device: str) -> Batch:
    size = CROP + 2 * MARGIN
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(count, 1, size, size, generator=generator).to(device)
    label = torch.randint(CLASSES, (count, 1, size, size), generator=generator).float().to(device)
    view = augment.draw(config.augment, count, generator).to(torch.device(device))
    return Batch(image, label, torch.zeros(count, 2, device=device), (view,))


def _learner(config, plan) -> Learner:
    student = plan.place(build_network(config.network, CLASSES)).train()
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9, nesterov=True)
    scaler = torch.amp.GradScaler(torch.device(plan.device).type, enabled=plan.dtype == "float16")
    method = registry.build(config, Facts(CLASSES, config.shape, lambda: build_network(config.network, CLASSES)))
    method.begin(1000)
    return Learner(student, Teacher(student, 0.99), method.to(plan.device), optimizer, scaler, torch.Generator())


def _step(learner: Learner, config, plan, labeled: Batch, unlabeled: Batch):
    return lambda: train_step(learner, config, plan, labeled, unlabeled, Moment(1.0))


def _timed(device: str, run) -> float:
    now = time.process_time if device == "cpu" else time.perf_counter
    start = now()
    run()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return now() - start


if __name__ == "__main__":
    main()
