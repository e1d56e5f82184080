"""What precedes the training itself: how to compute, where the hearts are, and the bank of slices around them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from ..base.errors import UserError
from ..base.events import Device, EventLog
from ..base.files import sha256
from ..base.sealed import read_sealed, write_sealed
from ..base.settings import parse
from ..base.text import listed
from ..config import PreprocessConfig, TrainConfig
from ..data.blocks import Place, block_of
from ..data.cases import Case
from ..data.slice_bank import INDEX, Blocks, SliceBank, Source, Squares, build_bank
from ..data.slices import Center, Stack, as_stack, centroid
from ..models.compute import ComputePlan, choose_plan, keep_freed_memory, pick_device
from ..models.find_heart import Found, area_bounds, find_in_coarse, heart_area, reconcile, roi_place
from ..models.model import Model, build_locator
from ..models.networks import build_network, misfit, strides_of, timed_shape
from ..models.weights import write_tensors
from .choose_block import Chosen, choose_block
from .context import Context
from .identity import Identity, identify
from .locator import Course, coarse_bank, load_locator, locator_share, locator_steps, train_locator

BANK_FOLDER = "bank"
FINDINGS, LOCATOR = "findings.json", "locator.safetensors"


class Findings(BaseModel):
    """What the first stage found; kept, so that a resumed job continues from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    plan: ComputePlan
    crop: int
    heart_area_mm2: tuple[float, float]
    centers: dict[str, Center]
    """By case name, (row, col) in mm."""
    levels: dict[str, float] = {}
    """By case name, the number of the slice in the heart's middle; in a training on volumes."""
    depth: int | None = None
    slice_mm: float | None = None
    anisotropy: float | None = None
    """Of its blocks."""
    used_s: float
    """What of the budget is spent."""
    job: str = ""
    """The training's number; earlier versions noted none."""
    locator_sha256: str = ""
    """Of the locator's file, if there is one."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """All that the training loop starts from."""

    config: TrainConfig
    """With the side of the crop, or the block, as it was found to be needed, and the batches as they are computed."""
    plan: ComputePlan
    locator: nn.Module | None
    heart_area_mm2: tuple[float, float]
    bank: SliceBank
    identity: Identity


def prepare(context: Context, device: str, start: Model | None = None) -> Prepared:
    """Does the first stage, or takes up what an earlier run of the job left of it.

    Of several processes the first does all of it, and has the only locator that is trained; then the others open its
    bank.

    Args:
        context: Of the training.
        device: As asked for.
        start: A model to start from: its locator is trained on.

    Raises:
        Stopped: If a stop was asked for.
        UserError: If an input cannot be read or has changed since the training began, what an earlier run left is
            damaged, or the crop does not suit the network.
    """
    keep_freed_memory()
    torch.manual_seed(context.config.seed)
    locator = build_locator(context.config) if context.config.locate.method == "network" else None
    if locator is not None and start is not None and start.locator is not None:
        locator.load_state_dict(start.locator.state_dict())
    anisotropy = start.config.network.anisotropy if start is not None else None
    identity, findings = context.ranks.by_first(lambda: _first_findings(context, locator, device, anisotropy))
    plan = context.ranks.place(findings.plan)
    torch.set_num_threads(plan.threads)
    if locator is not None:
        plan.place(locator)
    context.events.emit(Device(**plan.model_dump(), processes=context.ranks.rank.count))

    config = _as_found(context.config, findings)
    source = Source(context.cases, context.labels, context.reader, identity.content)
    squares = _cuts(config.preprocess, findings, volumetric=config.volumetric)
    place, report = context.folder / BANK_FOLDER, context.report_cases("preparing slices")

    def open_bank() -> SliceBank:
        context.ranks.require_seen(place / INDEX)
        return build_bank(place, source, squares, report)

    bank = context.ranks.in_turn(open_bank)
    context.reader.clear()
    return Prepared(config, plan, locator, findings.heart_area_mm2, bank, identity)


def _first_findings(
    context: Context, locator: nn.Module | None, device: str, anisotropy: float | None
) -> tuple[Identity, Findings]:
    """What the training is and what its first stage found; the locator is trained, or gets the weights that it had."""
    identity = identify(context)
    kept, weights = context.folder / FINDINGS, context.folder / LOCATOR
    if kept.exists():
        findings = _known_findings(kept, context, identity)
        pick_device(findings.plan.device)
        if locator is not None:
            load_locator(weights, locator, findings.locator_sha256)
            findings.plan.place(locator).eval()
        context.budget.used_before = max(context.budget.used_before, findings.used_s)
        return identity, findings
    findings = _find(context, locator, device, identity, anisotropy)
    if locator is not None:
        write_tensors(weights, locator.state_dict())
        findings = findings.model_copy(update={"locator_sha256": sha256(weights)})
    write_sealed(kept, findings.model_dump(mode="json"))
    return identity, findings


def _as_found(config: TrainConfig, findings: Findings) -> TrainConfig:
    """The configuration with what was found to be needed."""
    sides: dict[str, object] = {"crop": findings.crop}
    network = config.network
    if config.volumetric:
        sides |= {"depth": findings.depth, "slice_mm": findings.slice_mm}
        network = network.model_copy(update={"anisotropy": findings.anisotropy})
    preprocess = config.preprocess.model_copy(update=sides)
    optim = config.optim.enlarged(findings.plan.batch_times)
    return config.model_copy(update={"preprocess": preprocess, "network": network, "optim": optim})


def _cuts(settings: PreprocessConfig, findings: Findings, *, volumetric: bool) -> Squares | Blocks:
    """What the bank holds: the crop, or the block, and the margin around it."""
    if not volumetric:
        return Squares(
            settings.plane, settings.spacing_mm, settings.side + 2 * settings.margin, settings.clip,
            place=lambda case, stack: findings.centers[case.name],
        )  # fmt: skip

    def place(case: Case, stack: Stack) -> Place:
        return (findings.levels[case.name] * stack.spacing[0], *findings.centers[case.name])

    return Blocks(settings.plane, block_of(settings, margin=True), settings.clip, place)


def _known_findings(path: Path, context: Context, identity: Identity) -> Findings:
    findings = parse(Findings, read_sealed(path), where=path)
    if findings.job not in ("", identity.job):
        hint = "Put back the one that was there, or start again in a new folder"
        raise UserError("this is of another training", where=path, hint=hint)
    if unknown := [case.name for case in context.cases if case.name not in findings.centers]:
        hint = "Take the case out of job.json again, or start a new training"
        raise UserError("this case was not there when the training began", where=unknown[0], hint=hint)
    return findings


def _find(
    context: Context, locator: nn.Module | None, device: str, identity: Identity, anisotropy: float | None
) -> Findings:
    plane = context.config.preprocess.plane
    chosen = choose_block(context, anisotropy) if context.config.volumetric else _choose_square(context)
    config, centers, levels, areas = chosen
    network = build_network(config.network, context.labels.classes)
    bounds = area_bounds([area for area in areas if area > 0] or [1.0])
    device = pick_device(device)
    plan = choose_plan(
        network, timed_shape(network, config.shape, device), device, slices=sum(config.optim.batch_mixed),
        processes=context.ranks.rank.count, fixed=config.deterministic,
    )  # fmt: skip

    coarse = coarse_bank(context, identity)
    middles = {name: (center[0], center[1]) for name, center in coarse.centers.items()}
    found = {case.name: Found(middles[case.name], "") for case in context.cases}
    if locator is not None:
        most = locator_steps(config, context.patients)
        done = context.budget.stage(locator_share(config, context.patients), most)
        train_locator(locator, coarse, plan, context, Course("finding the heart", config.seed + 1, done))
        for case in context.unlabeled:
            first, last = coarse.ranges[case.name]
            images = np.asarray(coarse.images[first:last], np.float32)
            found[case.name] = find_in_coarse(locator, images, middles[case.name], config, plan, bounds)
    for case in context.unlabeled:
        if case.roi is not None:
            volume = context.reader.image(case)
            stack = as_stack(volume, plane)
            level, *center = roi_place(volume, stack, case.roi)
            found[case.name] = Found((center[0], center[1]), "", math.inf, level / stack.spacing[0])
    moved = reconcile(found, context.unlabeled, middles)
    _tell_doubts(found, moved, context.unlabeled, context.events)
    found |= moved
    centers |= {case.name: found[case.name].center for case in context.unlabeled}
    if config.volumetric:
        levels |= {case.name: _level(found[case.name], coarse.ranges[case.name]) for case in context.unlabeled}
    used, preprocess = context.budget.used(), config.preprocess
    return Findings(
        plan=plan, crop=preprocess.side, depth=preprocess.depth, slice_mm=preprocess.slice_mm,
        anisotropy=config.network.anisotropy, heart_area_mm2=bounds, centers=centers, levels=levels, used_s=used,
        job=identity.job,
    )  # fmt: skip


def _choose_square(context: Context) -> Chosen:
    """The crop that the labeled hearts need, and where they are.

    Raises:
        UserError: If the given crop does not suit the network.
    """
    config, preprocess = context.config, context.config.preprocess
    network = build_network(config.network, context.labels.classes)
    if fault := misfit(network, preprocess):
        raise UserError(fault[1], where=fault[0], hint="Leave it out, or take the next multiple")
    areas, reaches, centers = [], [], {}
    for case in context.labeled:
        stack = as_stack(context.reader.labels(case, context.labels), preprocess.plane)
        centers[case.name] = centroid(stack.array > 0, stack) or stack.middle
        areas.append(heart_area(stack))
        reaches.append(reach_mm(stack, centers[case.name]))
    step = math.lcm(16, *strides_of(network))
    crop = preprocess.crop or fitting_crop(reaches, preprocess.spacing_mm, step)
    return Chosen(
        config.model_copy(update={"preprocess": preprocess.model_copy(update={"crop": crop})}), centers, {}, areas
    )


def _level(found: Found, held: tuple[int, int]) -> float:
    """The slice in the middle of the heart, or else of the stack; `held`: where a bank holds the stack's slices."""
    return (held[1] - held[0] - 1) / 2 if found.level is None else found.level


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
            shown = listed(f"{name} ({doubt})" for name, doubt in doubts.items())
            hint = "Look at these cases, or give the bounds of the heart (roi) in cases.csv"
            events.warn(f"in {len(doubts)} of {len(pool)} unlabeled volumes {what}", where=shown, hint=hint)


def reach_mm(labels: Stack, center: Center) -> float:
    """How far the labeled structures reach from `center` in the slice plane, along rows or columns, mm."""
    rows, cols = np.nonzero((labels.array > 0).any(axis=0))
    if not len(rows):
        return 0.0
    aside = np.abs(rows * labels.spacing[1] - center[0]).max(), np.abs(cols * labels.spacing[2] - center[1]).max()
    return float(max(aside))


def fitting_crop(reaches_mm: list[float], spacing_mm: float, step: int = 16) -> int:
    """The side of a square that holds the hearts with a tenth to spare: a multiple of `step`, 112 to 320 pixels."""
    pixels = min(320, max(112, 2 * 1.1 * max(reaches_mm) / spacing_mm))
    return math.ceil(pixels / step) * step
