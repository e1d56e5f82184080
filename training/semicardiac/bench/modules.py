"""What the method's modules add to a step, and where the time of a step goes."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import torch

from ..methods import losses, threshold_map
from ..methods.dptm_rem_cc import DptmRemCc
from ..models.compute import ComputePlan
from ..training.step import Moment, see, views_of
from .timing import Measured, Setting, Work, ratios, take_turns
from .trainee import Trainee

PLAIN, WHOLE = "mean teacher", "all modules"
OFF = {"dptm": False, "rem": False, "contrast": False}
VARIANTS: dict[str, dict[str, Any]] = {
    PLAIN: {"name": "mean_teacher"},
    "DPTM": {**OFF, "dptm": True},
    "REM": {**OFF, "rem": True},
    "contrast": {**OFF, "contrast": True},
    WHOLE: {},
    "all, the student as key": {"contrast_key": "student"},
}
OWN = ("map and gate", "contrast")
"""The parts of a step that a plain mean teacher has not. REM takes the place of its loss."""
TURNS = 8
"""Of the two whose ratio is only a few hundredths above 1: a shared machine moves a single step by more."""


def measure(setting: Setting) -> dict[str, Measured]:
    """The whole step with and without the modules, then single modules, then the parts of the step, each in turn."""
    whole = Trainee(setting, {})
    trained = {name: Trainee(setting, {"method": method}, plan=whole.plan) for name, method in VARIANTS.items()}
    steps: dict[str, Work] = {name: trainee.step for name, trainee in trained.items()}
    both = take_turns(setting, {name: steps[name] for name in (PLAIN, WHOLE)}, TURNS)
    single = take_turns(setting, {name: step for name, step in steps.items() if name != WHOLE})
    parts = _times_of_parts(setting, whole)
    middles = {name: statistics.median(ratios(each, single[PLAIN])) for name, each in single.items() if name != PLAIN}
    own = [sum(each) for each in zip(*(parts[name] for name in OWN), strict=True)]
    return {
        "modules_over_mean_teacher": Measured(
            ratios(both[WHOLE], both[PLAIN]),
            "over it as well: " + ", ".join(f"{name} {value:.3f}" for name, value in middles.items()),
        ),
        "modules_parts_share": Measured(ratios(own, parts[WHOLE]), _told(whole.plan, parts)),
    }


def shares_of_step(setting: Setting, trainee: Trainee) -> str:
    """Where the time of a training's step goes, in words and by one round."""
    return _told(trainee.plan, _times_of_parts(replace(setting, rounds=1), trainee))


def _times_of_parts(setting: Setting, trainee: Trainee) -> dict[str, list[float]]:
    """Seconds of a whole step and of its parts, in turn."""
    return take_turns(setting, {WHOLE: trainee.step, **_parts(trainee)})


def _told(plan: ComputePlan, parts: dict[str, list[float]]) -> str:
    middles = {name: statistics.median(each) for name, each in parts.items()}
    step = middles.pop(WHOLE)
    shares = ", ".join(f"{name} {each / step:.1%}" for name, each in middles.items())
    return f"a step of {1000 * step:.0f} ms ({plan.dtype}{', channels last' if plan.channels_last else ''}): {shares}"


def _parts(trainee: Trainee) -> dict[str, Work]:
    """The parts of a step with all modules, each to be run by itself."""
    training = trainee.training
    learner, config, plan, method = training.learner, training.config, training.plan, training.learner.method
    assert isinstance(method, DptmRemCc)
    labeled, unlabeled = trainee.batches()
    with torch.no_grad():
        step = see(learner, config, plan, labeled, unlabeled, Moment(1.0))
        probability = step.teacher(step.unlabeled.clean)[0].softmax(1)
    seen = torch.cat((step.labeled.seen, step.unlabeled.seen[0]))
    with torch.no_grad():
        features = step.student(step.unlabeled.seen[0])[1]
    followed = features.detach().clone().requires_grad_()

    def views() -> None:
        for batch in (labeled, unlabeled):
            views_of(batch, config.shape, config.preprocess.clip)

    def map_and_gate() -> None:
        threshold_map.gate(threshold_map.update(method.state, probability, 0.9), probability, 0.95)

    def student() -> None:
        step.student(seen)[0].square().mean().backward()

    def contrast() -> None:
        query, key = followed, step.unlabeled.mirror(features)
        query, key = (losses.pool_features(each, method.settings.contrast_grid) for each in (query, key))
        losses.nt_xent(query, key, method.settings.contrast_temperature).backward()

    def teacher() -> None:
        with torch.no_grad():
            step.teacher(step.unlabeled.clean)

    return {
        "drawing": trainee.batches,
        "views": views,
        "teacher": teacher,
        "map and gate": map_and_gate,
        "student": student,
        "contrast": contrast,
        "averaging": lambda: learner.teacher.update(learner.student, 100),
    }
