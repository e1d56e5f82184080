"""The locator: its slices, its share of the budget, and its training."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import nn
from torch.nn import functional as F

from ..base.errors import UserError
from ..base.events import Progress, Stage
from ..base.files import sha256
from ..config import AugmentConfig, TrainConfig
from ..data import augment
from ..data.slice_bank import SliceBank, build_bank
from ..models.compute import ComputePlan
from .context import Context
from .identity import Identity

#: Views for the locator: the heart anywhere in the field, at any size, in any contrast.
VIEWS = AugmentConfig(rotation=45, scale=(0.6, 1.6), shift=0.25, elastic=0.02, gain=(0.6, 1.6), gamma=(0.5, 2.0))


def train_locator(
    network: nn.Module,
    bank: SliceBank,
    plan: ComputePlan,
    context: Context,
    *,
    stage: Stage,
    seed: int,
    share_done: Callable[[int], float],
) -> None:
    """Trains the locator on the labeled slices of a coarse bank.

    Args:
        network: Two classes; trained in place.
        bank: Coarse slices of the whole field of view.
        plan: Where to compute.
        context: Of the training.
        stage: What the progress events call this.
        seed: Of the batches and views.
        share_done: The share of this stage that is done after so many steps; 1 ends it.

    Raises:
        Stopped: If a stop was asked for.
    """
    settings, clip = context.config.locate, context.config.preprocess.clip
    if plan.dtype == "float16":  # its gradients would be too small for half precision, and it is quickly trained anyway
        plan = plan.model_copy(update={"dtype": "float32"})
    generator = torch.Generator().manual_seed(seed)
    images = torch.from_numpy(bank.images)
    labels = torch.from_numpy(bank.labels)
    network = plan.place(network).train()
    optimizer = torch.optim.SGD(
        network.parameters(), settings.learning_rate, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    step = 0
    total = torch.zeros((), device=plan.device)
    while (done := share_done(step)) < 1:
        context.raise_if_stopped()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        index = torch.randint(bank.labeled_slices, (settings.batch,), generator=generator)
        view = augment.draw(VIEWS, settings.batch, generator).to(torch.device(plan.device))
        grid = augment.grid_of(view, bank.size)
        image = images[index].to(plan.device).float().unsqueeze(1)
        heart = (labels[index] > 0).to(plan.device).float().unsqueeze(1)
        image = augment.recolor(augment.warp(image, grid, crop=bank.size, outside="border"), view, clip)
        heart = augment.warp(heart, grid, crop=bank.size, mode="nearest").squeeze(1)
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
            planned = max(step, round(step / share_done(step)))
            context.events.emit(Progress(stage=stage, step=step, total=planned, loss=float(total) / 50))
            total.zero_()
    network.eval()


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
    return build_bank(
        context.folder / COARSE_FOLDER, context.cases, context.labels, reader=context.reader, content=identity.content,
        plane=config.preprocess.plane, spacing=config.locate.spacing_mm, size=config.locate.size,
        clip=config.preprocess.clip, place=lambda case, stack: stack.middle,
        progress=context.tell_cases("reading volumes"),
    )  # fmt: skip


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
