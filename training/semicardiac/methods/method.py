"""The interface of a semi-supervised method: what it sees of a step, and what it answers.

Shapes are those of slices. A training on volumes has blocks of slices instead, and (D, H, W) in place of (H, W).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..base.settings import Section
from ..config import Shape
from ..data import augment
from ..data.share import Share
from . import losses

Answer = tuple[Tensor, Tensor]
"""What a network says of images (B, 1, H, W): logits (B, C, H, W), and its bottleneck features (B, F, h, w)."""


class Facts(NamedTuple):
    """What a method knows before the first step."""

    classes: int
    """With background."""
    shape: Shape
    """Of the canonical crop, (H, W) in pixels; of a block, (D, H, W)."""
    build: Callable[[], nn.Module]
    """Another network like the student, with weights of its own."""


class _Slices(ABC):
    """Slices of a batch: all of them, or where several processes share the batch those of this one."""

    share: Share | None

    @abstractmethod
    def __len__(self) -> int:
        """How many there are in this process."""

    @property
    def whole(self) -> int:
        """How many there are in all processes."""
        return len(self) if self.share is None else self.share.slices

    @property
    def fewest(self) -> int:
        """How many there are in the process that has the fewest."""
        return len(self) if self.share is None else self.share.slices // self.share.ranks

    def total(self, values: Tensor) -> Tensor:
        """A sum over these slices, of any shape, as the sum over all processes; differentiable."""
        return values if self.share is None else self.share.total(values)

    def gather(self, values: Tensor) -> Tensor:
        """Values of these slices, batch first, as those of the whole batch in its order; differentiable."""
        return values if self.share is None else self.share.gather(values)


@dataclass(frozen=True, eq=False)
class Labeled(_Slices):
    """Labeled slices of a batch, on the device."""

    seen: Tensor
    """The student's views, (B, 1, H, W)."""
    label: Tensor
    """(B, H, W) int64, in the frame of the views."""
    share: Share | None = None

    def __len__(self) -> int:
        return len(self.seen)

    def part(self, cut: slice) -> Labeled:
        """Some of the slices."""
        return Labeled(self.seen[cut], self.label[cut], self.share and self.share.part(cut))


@dataclass(frozen=True, eq=False)
class Unlabeled(_Slices):
    """Unlabeled slices of a batch, on the device; none during the warm-up."""

    clean: Tensor
    """The canonical crops, (B, 1, H, W)."""
    seen: tuple[Tensor, ...]
    """The student's views of them, `Method.views` times (B, 1, H, W)."""
    grid: tuple[Tensor, ...]
    """Where each view samples the canonical crop, (B, H, W, 2) in crop units."""
    flip: tuple[Tensor, ...]
    """Whether each view is flipped along columns and along rows, (B, 2) bool."""
    share: Share | None = None

    def __len__(self) -> int:
        return len(self.clean)

    def part(self, cut: slice) -> Unlabeled:
        """Some of the slices."""
        seen, grid, flip = (tuple(each[cut] for each in kind) for kind in (self.seen, self.grid, self.flip))
        return Unlabeled(self.clean[cut], seen, grid, flip, self.share and self.share.part(cut))

    def move(self, values: Tensor, view: int = 0) -> Tensor:
        """A map of the canonical crops as a view sees it; 0 where the view looks beyond the crop.

        Args:
            values: (B, H, W) or (B, K, H, W). Whole numbers are those of the nearest pixel, others are interpolated.
            view: Which of the views.
        """
        one = values.dim() < self.clean.dim()
        stacked = values.unsqueeze(1) if one else values
        shape, grid = tuple(self.clean.shape[2:]), self.grid[view]
        if values.is_floating_point():
            moved = augment.warp(stacked, grid, crop=shape)
        else:
            moved = augment.warp(stacked.float(), grid, crop=shape, mode="nearest").to(values.dtype)
        return moved.squeeze(1) if one else moved

    def mirror(self, features: Tensor, view: int = 0) -> Tensor:
        """Features of the canonical crops (B, F, h, w), flipped as a view is."""
        return augment.flip_like(features, self.flip[view])


@dataclass(frozen=True, eq=False)
class Step:
    """All that a method may use in a step. Nothing in it waits for the device.

    Where several processes train together, each sees its own slices of the batch. Means over slices need no care: see
    `Term.over`. What is made of the whole batch goes through `total` or `gather` of `labeled` or `unlabeled`, in all
    processes alike; with one process these change nothing.
    """

    labeled: Labeled
    unlabeled: Unlabeled
    student: Callable[[Tensor], Answer]
    """The student's answer to images; gradients flow where they are on."""
    teacher: Callable[[Tensor], Answer]
    """That of the moving average of the student; without gradients."""
    run: Callable[[nn.Module, Tensor], Answer]
    """That of a network of the method's own, computed as the student's is."""
    ramp: float | Tensor
    """How far the weight of the unlabeled loss has come, 0 to 1; on the device where the step is recorded."""
    progress: float | Tensor
    """The share of the training that is done, 0 to 1; likewise."""
    number: int
    """Of the step, from 0."""
    generator: torch.Generator
    """For random numbers, on the CPU, the same in all processes; a resumed training continues its sequence."""

    def part(self, cut: slice) -> Step:
        """The same step with some of the slices."""
        return replace(self, labeled=self.labeled.part(cut), unlabeled=self.unlabeled.part(cut))

    def answers(self) -> tuple[Tensor, Tensor, Tensor]:
        """One pass of the student over its views: logits of the labeled, logits and features of the unlabeled ones."""
        count = len(self.labeled)
        logits, features = self.student(torch.cat((self.labeled.seen, self.unlabeled.seen[0])))
        return logits[:count], logits[count:], features[count:]


class Term(NamedTuple):
    """A term of the loss; the loss is the sum of weight times value."""

    value: Tensor
    """A mean over slices, or a value of the whole batch made by `total` or `gather` of these slices."""
    weight: float | Tensor = 1.0
    over: Literal["labeled", "unlabeled"] = "unlabeled"
    """Over which slices: a batch in parts, or in several processes, adds each part's mean by its share of them."""


@dataclass(frozen=True, eq=False)
class Taught:
    """What `Method.teach` gives."""

    target: dict[str, Tensor]
    """What the student should answer, batch first: a batch in parts is cut along it."""
    state: dict[str, Tensor] = field(default_factory=dict)
    """New values of the method's buffers, for `after_step`."""
    log: dict[str, Tensor | float] = field(default_factory=dict)
    """Numbers of this step whose means are logged, on the device."""
    counts: dict[str, Tensor] = field(default_factory=dict)
    """`passed` and `own`, see `threshold_map.counts`, from which the pass rates are computed; added up over all
    processes."""


class MethodSettings(Section):
    """The settings that all methods have."""

    supervised: Literal["ce", "ce_dice"] = "ce_dice"
    """The supervised loss: cross entropy, or its mean with the soft Dice loss."""


class Method(nn.Module, ABC):
    """A semi-supervised method. Derive from this, never from another method.

    The networks, heads and buffers that it holds are in optimizer, checkpoint and package by themselves.

    Args:
        settings: An instance of the class's `Settings`.
        facts: About the training.
    """

    Settings: ClassVar[type[MethodSettings]] = MethodSettings
    """Its settings with default, bounds and reason: the section `method` of a job's configuration."""
    views: ClassVar[int] = 1
    """How many views of an unlabeled slice the student sees."""
    recordable: ClassVar[bool] = True
    """Whether a GPU may record a step once and repeat it. False for a method that reads `Step.number` or
    `Step.generator`, decides in Python what differs from step to step, or replaces buffers."""

    def __init__(self, settings: MethodSettings, facts: Facts) -> None:
        super().__init__()
        self.settings: Any = settings
        self.facts = facts

    def begin(self, steps: int) -> None:
        """Called once, when the unlabeled slices come into play, with about how many steps are left."""

    def warm_up(self, step: Step) -> dict[str, Term]:
        """The loss of labeled slices alone."""
        logits, _ = step.student(step.labeled.seen)
        return {"supervised": self.supervised(logits, step)}

    @abstractmethod
    def teach(self, step: Step) -> Taught:
        """What the student should answer to the unlabeled slices; once for the whole batch, without gradients."""

    @abstractmethod
    def losses(self, step: Step, target: dict[str, Tensor]) -> dict[str, Term]:
        """The terms of the loss, of the batch or of a part of it; their names are columns of history.csv."""

    def after_step(self, state: dict[str, Tensor]) -> None:
        """Takes over new buffers. Only here does a method change: out of memory before leaves it as it was."""
        for name, value in state.items():
            getattr(self, name).copy_(value)  # in place: a recorded step writes to the same memory each time

    def limits(self) -> Tensor | None:
        """What the confidence of a pseudo-label has to exceed, (C, H, W) by class and place of the canonical crop."""
        return None

    def start_from(self, other: Method) -> None:
        """Takes up the state of an earlier training, if it is of the same method and fits."""
        mine, theirs = self.state_dict(), other.state_dict()
        if type(self) is type(other) and _shapes(mine) == _shapes(theirs):
            self.load_state_dict(theirs)

    def supervised(self, logits: Tensor, step: Step) -> Term:
        """The supervised term (Mi et al., Eq. 2), given the logits of the labeled slices."""
        label, kind = step.labeled.label, self.settings.supervised
        return Term(losses.supervised(logits, label, kind, step.labeled.total), over="labeled")


def _shapes(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.shape for name, value in state.items() if isinstance(value, Tensor)}
