"""Our training over the reference's: steps with their drawing, and fetching and augmenting alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from semicardiac.bench.memory import saved_mb
from semicardiac.bench.modules import shares_of_step
from semicardiac.bench.timing import Measured, Setting, Work, ratios, take_turns
from semicardiac.bench.trainee import LABELS, Trainee
from semicardiac.data import augment
from semicardiac.training.step import Moment, see
from torch import Tensor

from Testing.bench import reference
from Testing.bench.full_resolution import FullResolutionUNet

STORED = (216, 256)
"""Rows and columns of a slice of ACDC as it was acquired, in the middle."""
CPU_MIX = (2, 2)
"""Labeled and unlabeled slices of a batch on a CPU, where a larger one changes nothing but the time to wait for it."""


def over_reference(setting: Setting) -> dict[str, Measured]:
    """Images a second of whole steps at 256 x 256 pixels with widths of 16 to 256 and the same batch."""
    mix = _mix(setting)
    settings = {"network": {"widths": reference.WIDTHS}, **_size(mix)}
    same = Trainee(setting, settings, network=FullResolutionUNet(LABELS.classes, reference.WIDTHS))
    ours = Trainee(setting, settings, plan=same.plan)
    theirs = TheirTraining(setting, mix)
    times = take_turns(setting, {"same": same.step, "ours": ours.step, "theirs": theirs.step})
    speed = sum(mix) / np.median(times["theirs"])
    return {
        "train_over_reference": Measured(
            ratios(times["theirs"], times["same"]),
            f"the reference does {speed:.2f} images/s in batches of {sum(mix)}; ours, with our blocks from full "
            f"resolution down: {shares_of_step(setting, same)}",
        ),
        "own_unet_over_reference": Measured(ratios(times["theirs"], times["ours"])),
    }


def default_over_reference(setting: Setting) -> dict[str, Measured]:
    """Images a second of whole steps: of our default as it is, of the reference as it is."""
    theirs, ours = TheirTraining(setting, _mix(setting)), Trainee(setting, {})
    images = ours.images_of_a_step()
    times = take_turns(setting, {"theirs": theirs.step, "ours": ours.step})
    counts = {"ours": images, "theirs": theirs.images}
    speeds = {name: [count / each for each in times[name]] for name, count in counts.items()}
    told = ", ".join(f"{name} {np.median(each):.1f}" for name, each in speeds.items())
    return {"default_over_reference": Measured(ratios(speeds["ours"], speeds["theirs"]), f"images/s: {told}")}


def augment_over_reference(setting: Setting) -> dict[str, Measured]:
    """From the store to views on the device: ours with affine, elastic and photometric changes, at 256 x 256 pixels."""
    mix = (reference.LABELED, reference.UNLABELED)
    theirs = TheirTraining(setting, mix)
    ours = Trainee(setting, _size(mix))
    training = ours.training

    def fetch() -> None:
        see(training.learner, training.config, ours.plan, *ours.batches(), Moment(1.0))

    times = take_turns(setting, {"theirs": theirs.fetch, "ours": fetch, **_parts(ours)})
    per_slice = {name: 1000 * np.median(each) / sum(mix) for name, each in times.items()}
    told = ", ".join(f"{name} {each:.2f}" for name, each in per_slice.items())
    return {"augment_over_reference": Measured(ratios(times["ours"], times["theirs"]), f"ms a slice: {told}")}


def activations(setting: Setting) -> dict[str, Measured]:
    """What is kept for the gradients of a slice, in float32."""
    ours = saved_mb(FullResolutionUNet(LABELS.classes, reference.WIDTHS))
    note = f"the reference keeps {saved_mb(reference.UNet(LABELS.classes)):.1f} MB"
    return {"activation_mb_full_resolution": Measured([ours], note)}


def _parts(trainee: Trainee) -> dict[str, Work]:
    """What ours does to all slices of a batch, each by itself."""
    settings, batches = trainee.training.config.preprocess, trainee.batches()
    side, clip = settings.side, settings.clip
    grids = [augment.grid_of(batch.views[0], side) for batch in batches]

    def warped() -> list[Tensor]:
        return [
            augment.warp(batch.image, grid, crop=side, offset=batch.offset, outside="border")
            for batch, grid in zip(batches, grids, strict=True)
        ]

    images = warped()
    return {
        "drawing and reading": trainee.batches,
        "grids": lambda: [augment.grid_of(batch.views[0], side) for batch in batches],
        "warping the images": warped,
        "recoloring": lambda: [
            augment.recolor(image, batch.views[0], clip) for image, batch in zip(images, batches, strict=True)
        ],
    }


def _size(mix: tuple[int, int]) -> dict[str, Any]:
    """Settings by which ours has as many pixels and slices as the reference."""
    return {"preprocess": {"crop": reference.SIZE}, "optim": {"batch_mixed": mix, "batch_times": 1}}


def _mix(setting: Setting) -> tuple[int, int]:
    return (reference.LABELED, reference.UNLABELED) if setting.gpu else CPU_MIX


class TheirTraining:
    """The reference on slices of noise.

    Args:
        setting: Where to compute.
        mix: Labeled and unlabeled slices of a batch.
    """

    def __init__(self, setting: Setting, mix: tuple[int, int]) -> None:
        folder, (self.labeled, unlabeled) = setting.folder / "slices", mix
        self.images = sum(mix)
        labeled_files, unlabeled_files = (_noise(folder, name) for name in ("labeled", "unlabeled"))
        workers = 4 if setting.gpu else 0  # processor time counts what they do, device time only what is waited for
        self._batches = reference.loader(labeled_files, unlabeled_files, (self.labeled, unlabeled), workers)
        self._learner = reference.MeanTeacher(LABELS.classes, setting.device)
        self._device = setting.device

    def fetch(self) -> tuple[Tensor, ...]:
        """A batch on the device."""
        return tuple(each.to(self._device) for each in next(self._batches))

    def step(self) -> None:
        images, labels = self.fetch()
        self._learner.step(images, labels, self.labeled, 0.5)


def _noise(folder: Path, name: str, slices: int = 32) -> list[Path]:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(slices, *STORED)).astype(np.float32)
    return reference.write_slices(folder, image, rng.integers(LABELS.classes, size=image.shape), name)
