"""The locator: its slices, its share of the budget, and its training."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from ..base.errors import UserError
from ..base.events import Progress, Stage
from ..base.files import sha256
from ..config import AugmentConfig, TrainConfig
from ..data import augment
from ..data.slice_bank import SliceBank, Source, Squares, build_bank
from ..models.compute import ComputePlan
from .context import Context
from .identity import Identity

#: Views for the locator: the heart anywhere in the field, at any size, in any contrast.
VIEWS = AugmentConfig(rotation=45, scale=(0.6, 1.6), shift=0.25, elastic=0.02, gain=(0.6, 1.6), gamma=(0.5, 2.0))


class Course(NamedTuple):
    """A training of the locator."""

    stage: Stage
    """What the progress events call it."""
    seed: int
    """Of the batches and views."""
    share_done: Callable[[int], float]
    """The share of it that is done after so many steps; 1 ends it."""


def train_locator(
    network: nn.Module,
    bank: SliceBank,
    plan: ComputePlan,
    context: Context,
    course: Course,
) -> None:
    """Trains the locator on the labeled slices of a coarse bank.

    Args:
        network: Two classes; trained in place.
        bank: Coarse slices of the whole field of view.
        plan: Where to compute.
        context: Of the training.
        course: How long.

    Raises:
        Stopped: If a stop was asked for.
    """
    settings, clip = context.config.locate, context.config.preprocess.clip
    if plan.dtype == "float16":  # its gradients would be too small for half precision, and it is quickly trained anyway
        plan = plan.model_copy(update={"dtype": "float32"})
    generator = torch.Generator().manual_seed(course.seed)
    network = plan.place(network).train()
    optimizer = torch.optim.SGD(
        network.parameters(), settings.learning_rate, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    step = 0
    total = torch.zeros((), device=plan.device)
    while (done := course.share_done(step)) < 1:
        context.raise_if_stopped()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        image, heart = _view(bank, settings.batch, clip, generator, torch.device(plan.device))
        with plan.autocast():
            logits, _ = network(plan.place(image))
        probability = logits.softmax(1)[:, 1]
        overlap = 1 - (2 * (probability * heart).sum() + 1) / (probability.sum() + heart.sum() + 1)
        loss = F.cross_entropy(logits, heart.long()) + overlap
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        step += 1
        total += loss.detach()
        if step % 50 == 0:
            planned = max(step, round(step / course.share_done(step)))
            context.events.emit(Progress(stage=course.stage, step=step, total=planned, loss=float(total) / 50))
            total.zero_()
    network.eval()


def _view(
    bank: SliceBank, count: int, clip: tuple[float, float], generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Views of labeled slices that are drawn, (B, 1, size, size), and where the heart is in them, (B, size, size)."""
    index = torch.randint(bank.labeled_slices, (count,), generator=generator)
    view = augment.draw(VIEWS, count, generator).to(device)
    grid = augment.grid_of(view, bank.size)
    image = torch.from_numpy(bank.images)[index].to(device).float().unsqueeze(1)
    heart = (torch.from_numpy(bank.labels)[index] > 0).to(device).float().unsqueeze(1)
    image = augment.recolor(augment.warp(image, grid, crop=bank.size, outside="border"), view, clip)
    return image, augment.warp(heart, grid, crop=bank.size, mode="nearest").squeeze(1)


COARSE_FOLDER = "coarse"


def load_locator(path: Path, locator: nn.Module, checksum: str) -> None:
    """Fills a locator with the weights that an earlier run of the job has kept.

    Args:
        path: Of the weights.
        locator: As the settings want it.
        checksum: SHA-256 of the file; empty where none was noted.

    Raises:
        UserError: If they are missing, damaged, of another training or of other settings.
    """
    hint = "Put back the file that was there, or start again in a new folder"
    try:
        if checksum and sha256(path) != checksum:
            raise UserError("these weights are damaged or of another training", where=path, hint=hint)
        locator.load_state_dict(parse_safetensors(path.read_bytes()))
    except (FileNotFoundError, SafetensorError):
        raise UserError("the weights of this training are missing or damaged", where=path, hint=hint) from None
    except RuntimeError:
        what = "these weights do not fit locate.widths or network"
        raise UserError(what, where=path, hint="Set them back in job.json, or start a new training") from None


def coarse_bank(context: Context, identity: Identity) -> SliceBank:
    """The whole field of view of all cases at the locator's spacing, around the middle of each image."""
    config = context.config
    source = Source(context.cases, context.labels, context.reader, identity.content)
    squares = Squares(
        config.preprocess.plane, config.locate.spacing_mm, config.locate.size, config.preprocess.clip,
        place=lambda case, stack: stack.middle,
    )  # fmt: skip
    return build_bank(context.folder / COARSE_FOLDER, source, squares, context.report_cases("reading volumes"))


def locator_share(config: TrainConfig, patients: int) -> float:
    """The locator's share of a timed budget: twice as much for 1 labeled patient as for 7."""
    return min(0.5, config.locate.share * fewness(patients))


def refine_share(config: TrainConfig, patients: int) -> float:
    """The share of a timed budget for training the locator again: none for 7 labeled patients, and none on volumes."""
    return 0.0 if config.volumetric else config.locate.refine * (fewness(patients) - 1)


def locator_steps(config: TrainConfig, patients: int) -> int:
    """The most steps that the locator is trained for."""
    most = round(config.locate.steps_max * fewness(patients))
    return most if config.schedule.steps is None else min(most, max(50, config.schedule.steps // 2))


def fewness(patients: int) -> float:
    """1 for 7 labeled patients or more, 2 for a single one, in between by the logarithm."""
    return 1 + max(0.0, 1 - math.log(max(patients, 1)) / math.log(7))
