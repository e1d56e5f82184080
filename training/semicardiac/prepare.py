"""What precedes the training itself: how to compute, where the hearts are, and the bank of slices around them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file
from torch import nn

from .budget import Budget
from .cases import Case, load_image
from .compute import ComputePlan, choose_plan, keep_freed_memory, pick_device
from .config import TrainConfig, parse
from .dataset import SliceBank, build_bank, read_case_labels
from .errors import Stopped
from .events import Device, EventLog, Progress
from .files import read_json, write_json
from .labels import LabelSet
from .locate import Found, area_bounds, find_in_coarse, heart_area, label_center, reconcile, roi_center, train_locator
from .model import build_locator, write_tensors
from .network import build_network
from .preprocess import Center, as_stack

COARSE_FOLDER, BANK_FOLDER = "coarse", "bank"


class Findings(BaseModel):
    """What the first stage found; kept, so that a resumed job goes on from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    plan: ComputePlan
    crop: int
    heart_area_mm2: tuple[float, float]
    centers: dict[str, Center]
    """By case name, (row, col) in mm."""
    used_s: float
    """What of the budget is spent."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """All that the training loop starts from."""

    config: TrainConfig
    """With the side of the crop as it was found to be needed."""
    plan: ComputePlan
    locator: nn.Module | None
    heart_area_mm2: tuple[float, float]
    bank: SliceBank


def prepare(
    folder: Path,
    cases: list[Case],
    labels: LabelSet,
    config: TrainConfig,
    device: str,
    budget: Budget,
    events: EventLog,
    stop: Callable[[], bool],
) -> Prepared:
    """Does the first stage, or takes up what an earlier run of the job left of it.

    Args:
        folder: For working files of the job.
        cases: Labeled and unlabeled ones.
        labels: Their label set.
        config: The training's.
        device: As asked for.
        budget: Of the whole training.
        events: Told of progress and doubts.
        stop: Whether a stop was asked for.

    Raises:
        Stopped: If a stop was asked for.
        UserError: If an input cannot be read.
    """
    keep_freed_memory()
    kept, weights = folder / "findings.json", folder / "locator.safetensors"
    locator = build_locator(config) if config.locate.method == "network" else None
    if kept.exists():
        findings = parse(Findings, read_json(kept), where=kept)
        pick_device(findings.plan.device)
        if locator is not None:
            locator.load_state_dict(load_file(weights))
            findings.plan.place(locator).eval()
        budget.used_before = max(budget.used_before, findings.used_s)
    else:
        findings = _find(folder, locator, cases, labels, config, device, budget, events, stop)
        if locator is not None:
            write_tensors(weights, locator.state_dict())
        write_json(kept, findings.model_dump(mode="json"))
    plan = findings.plan
    torch.set_num_threads(plan.threads)
    shown = plan.model_dump()
    events.emit(Device(**shown))

    config = config.model_copy(update={"preprocess": config.preprocess.model_copy(update={"crop": findings.crop})})
    settings = config.preprocess
    bank = build_bank(
        folder / BANK_FOLDER, cases, labels,
        plane=settings.plane, spacing=settings.spacing_mm, size=settings.crop + 2 * settings.margin, clip=settings.clip,
        place=lambda case, stack: findings.centers[case.name],
        progress=_teller("preparing slices", events, stop),
    )  # fmt: skip
    return Prepared(config, plan, locator, findings.heart_area_mm2, bank)


def _find(
    folder: Path,
    locator: nn.Module | None,
    cases: list[Case],
    labels: LabelSet,
    config: TrainConfig,
    device: str,
    budget: Budget,
    events: EventLog,
    stop: Callable[[], bool],
) -> Findings:
    labeled = [case for case in cases if case.role == "labeled"]
    plane = config.preprocess.plane
    stacks = {case.name: read_case_labels(case, plane, labels) for case in labeled}
    areas = [heart_area(stack) for stack in stacks.values()]
    bounds = area_bounds([area for area in areas if area > 0] or [1.0])
    centers = {case.name: label_center(case, plane, labels) for case in labeled}
    crop = config.preprocess.crop or fitting_crop(
        [reach_mm(stacks[case.name].array, stacks[case.name].spacing, centers[case.name]) for case in labeled],
        config.preprocess.spacing_mm,
        max(16, 2 ** len(config.network.widths)),
    )
    plan = choose_plan(
        build_network(config.network, labels.classes), crop, pick_device(device), fixed=config.deterministic
    )

    coarse = coarse_bank(folder, cases, labels, config, events, stop)
    middles = coarse.centers
    found = {case.name: Found(middles[case.name], "") for case in cases}
    if locator is not None:
        total = locator_steps(config, len({case.patient for case in labeled}))
        stage = budget.stage(locator_share(config, len({case.patient for case in labeled})), total)

        def share_done(step: int) -> float:
            if stop():
                raise Stopped
            return stage(step)

        def report(step: int, loss: float) -> None:
            events.emit(
                Progress(stage="finding the heart", step=step, total=max(step, round(step / stage(step))), loss=loss)
            )

        generator = torch.Generator().manual_seed(config.seed + 1)
        train_locator(locator, coarse, config, plan, generator, share_done, report)
        for case in cases:
            first, last = coarse.ranges[case.name]
            images = np.asarray(coarse.images[first:last], np.float32)
            found[case.name] = find_in_coarse(locator, images, middles[case.name], config, plan, bounds)
    for case in cases:
        if case.roi is not None:
            volume = load_image(case)
            found[case.name] = Found(roi_center(volume, as_stack(volume, plane), case.roi), "", math.inf)
    pool = [case for case in cases if case.role != "labeled"]
    moved = reconcile(found, pool, middles)
    _tell_doubts(found, moved, pool, events)
    found |= moved
    centers = {case.name: found[case.name].center for case in pool} | centers
    return Findings(plan=plan, crop=crop, heart_area_mm2=bounds, centers=centers, used_s=budget.used())


def coarse_bank(
    folder: Path, cases: list[Case], labels: LabelSet, config: TrainConfig, events: EventLog, stop: Callable[[], bool]
) -> SliceBank:
    """The whole field of view of all cases at the locator's spacing, around the middle of each image."""
    return build_bank(
        folder / COARSE_FOLDER, cases, labels,
        plane=config.preprocess.plane, spacing=config.locate.spacing_mm, size=config.locate.size,
        clip=config.preprocess.clip, place=lambda case, stack: stack.middle,
        progress=_teller("reading volumes", events, stop),
    )  # fmt: skip


def _tell_doubts(found: dict[str, Found], moved: dict[str, Found], pool: list[Case], events: EventLog) -> None:
    """One warning for all cases of a kind: a pool may hold thousands."""
    missed = {case.name: found[case.name].doubt for case in pool if found[case.name].doubt and case.name not in moved}
    apart = {name: place.doubt for name, place in moved.items()}
    kinds = (
        ("the heart was not found, the middle of the image was taken", missed),
        ("the heart was first seen elsewhere", apart),
    )
    for what, doubts in kinds:
        if doubts:
            shown = "; ".join(f"{name}: {doubt}" for name, doubt in list(doubts.items())[:5])
            more = f"; and {len(doubts) - 5} more" if len(doubts) > 5 else ""
            hint = "Look at these cases, or give the bounds of the heart (roi) in cases.csv"
            events.warn(f"in {len(doubts)} of {len(pool)} unlabeled volumes {what}", where=shown + more, hint=hint)


def locator_share(config: TrainConfig, patients: int) -> float:
    """The locator's share of a timed budget: twice as much for 1 labeled patient as for 7."""
    return min(0.5, config.locate.share * fewness(patients))


def refine_share(config: TrainConfig, patients: int) -> float:
    """The share of a timed budget for training the locator again: none for 7 labeled patients or more."""
    return config.locate.refine * (fewness(patients) - 1)


def locator_steps(config: TrainConfig, patients: int) -> int:
    """The most steps that the locator is trained for."""
    most = round(config.locate.steps_max * fewness(patients))
    return most if config.schedule.steps is None else min(most, max(50, config.schedule.steps // 2))


def fewness(patients: int) -> float:
    """1 for 7 labeled patients or more, 2 for a single one, in between by the logarithm."""
    return 1 + max(0.0, 1 - math.log(max(patients, 1)) / math.log(7))


def reach_mm(labels: np.ndarray, spacing: tuple[float, float, float], center: Center) -> float:
    """How far the labeled structures reach from `center` in the slice plane, along rows or columns, mm."""
    rows, cols = np.nonzero((labels > 0).any(axis=0))
    if not len(rows):
        return 0.0
    return float(max(np.abs(rows * spacing[1] - center[0]).max(), np.abs(cols * spacing[2] - center[1]).max()))


def fitting_crop(reaches_mm: list[float], spacing_mm: float, step: int = 16) -> int:
    """The side of a square that holds the hearts with a tenth to spare: a multiple of `step`, 112 to 320 pixels."""
    pixels = min(320, max(112, 2 * 1.1 * max(reaches_mm) / spacing_mm))
    return math.ceil(pixels / step) * step


def _teller(stage: str, events: EventLog, stop: Callable[[], bool]) -> Callable[[int, int, str], None]:
    def tell(done: int, total: int, name: str) -> None:
        events.emit(Progress(stage=stage, step=done, total=total, case=name))
        if stop():
            raise Stopped

    return tell
