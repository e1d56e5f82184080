"""The reference: a mean teacher for cardiac MR written the usual way, which ours is measured against.

It does what public code for semi-supervised segmentation of ACDC does: a U-Net with batch norm and dropout, widths 16
to 256; slices of any size and spacing stretched to 256 x 256 pixels; each sample turned, flipped and stretched by SciPy
on the CPU; batches of 12 labeled and 12 unlabeled slices; cross entropy and Dice, and the squared difference to a
teacher that is averaged parameter by parameter; SGD with a polynomial decay; the losses read back in each step. A
volume is predicted slice by slice. Nothing in it is slower than it usually is: its files are not compressed, and where
it is measured it has the allocator's settings of our trainings, by which its step takes two thirds of the time.

Its U-Net has 1.94 million parameters and takes 3.05 billion multiplications and additions for a slice. Little is
published of the speed of such code: Mi et al. (PLOS ONE 2026, 10.1371/journal.pone.0342567) report 1.25 s for a batch
of 16 and 15.8 ms to segment a slice on an RTX 3090, for a method whose step does more than this one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

WIDTHS = (16, 32, 64, 128, 256)
DROPOUT = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Share of the values dropped at each level on the way down."""
SIZE = 256
LABELED = UNLABELED = 12
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4
EMA = 0.99
CONSISTENCY = 0.1
"""Weight of the agreement with the teacher at the end of the training."""
ALONE = 1 / 30
"""Share of the training before the agreement counts: 1,000 of the usual 30,000 steps."""


class UNet(nn.Module):
    """Images (B, 1, H, W) to logits (B, classes, H, W); sides are multiples of 16."""

    def __init__(self, classes: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        inputs = (1, *widths)
        self.down = nn.ModuleList(map(_block, inputs, widths, DROPOUT))
        below = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, width, 2, stride=2) for deep, width in below)
        self.merge = nn.ModuleList(_block(2 * width, width, 0.0) for _, width in below)
        self.head = nn.Conv2d(widths[0], classes, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        levels = [self.down[0](image)]
        for block in self.down[1:]:
            levels.append(block(F.max_pool2d(levels[-1], 2)))
        features = levels.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            features = merge(torch.cat((levels.pop(), up(features)), dim=1))
        return self.head(features)


def _block(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(),
    )


# ----- data


def write_slices(folder: Path, image: np.ndarray, labels: np.ndarray, name: str) -> list[Path]:
    """The slices of a volume as files, an image (rows, cols) in 0 to 1 and its labels in each.

    Args:
        folder: Where to.
        image: Intensities [slice,row,col].
        labels: Training labels of the same shape.
        name: Of the volume.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}_{number:02d}.npz" for number in range(len(image))]
    for path, plane, truth in zip(paths, normalized(image), labels, strict=True):
        np.savez(path, image=plane, label=truth.astype(np.uint8))
    return paths


def normalized(image: np.ndarray) -> np.ndarray:
    """Intensities of a volume from 0 to its 99th percentile as 0 to 1."""
    low, high = float(image.min()), float(np.percentile(image, 99))
    return ((image.clip(low, high) - low) / max(high - low, 1e-6)).astype(np.float32)


class Slices(Dataset[tuple[Tensor, Tensor]]):
    """Slices in files, each read, augmented and stretched when it is asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        with np.load(self.paths[number]) as stored:
            image, label = augmented(stored["image"], stored["label"])
        return torch.from_numpy(image).unsqueeze(0), torch.from_numpy(label.astype(np.int64))


def augmented(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half of the slices turned by right angles and flipped, a quarter turned by up to 20°, all stretched to SIZE."""
    if random.random() > 0.5:
        turns, axis = random.randrange(4), random.randrange(2)
        image, label = (np.flip(np.rot90(each, turns), axis) for each in (image, label))
    elif random.random() > 0.5:
        angle = random.uniform(-20, 20)
        image, label = (ndimage.rotate(each, angle, order=0, reshape=False) for each in (image, label))
    return stretched(image, (SIZE, SIZE)), stretched(label, (SIZE, SIZE))


def stretched(plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An image or labels (rows, cols) with so many rows and columns, by the nearest pixel."""
    factors = [wanted / side for wanted, side in zip(shape, plane.shape, strict=True)]
    return np.ascontiguousarray(ndimage.zoom(plane, factors, order=0))


class TwoStreams(Sampler[list[int]]):
    """Batches without end: some of the first `labeled` samples, then some of the others."""

    def __init__(self, labeled: int, total: int, sizes: tuple[int, int] = (LABELED, UNLABELED)) -> None:
        self.ranges, self.sizes = (range(labeled), range(labeled, total)), sizes

    def __iter__(self) -> Iterator[list[int]]:
        streams = [_endless(each) for each in self.ranges]
        while True:
            yield [next(stream) for stream, size in zip(streams, self.sizes, strict=True) for _ in range(size)]


def _endless(numbers: range) -> Iterator[int]:
    while True:
        yield from random.sample(numbers, len(numbers))


def loader(
    labeled: Sequence[Path], unlabeled: Sequence[Path], sizes: tuple[int, int] = (LABELED, UNLABELED), workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of images (B, 1, SIZE, SIZE) float32 and labels (B, SIZE, SIZE) int64, the labeled slices first."""
    batches = TwoStreams(len(labeled), len(labeled) + len(unlabeled), sizes)
    pinned = workers > 0 and torch.cuda.is_available()
    slices = Slices([*labeled, *unlabeled])
    return iter(DataLoader(slices, batch_sampler=batches, num_workers=workers, pin_memory=pinned))


# ----- training


class MeanTeacher:
    """Student, teacher and optimizer.

    Args:
        classes: With background.
        device: Where to compute.
    """

    def __init__(self, classes: int, device: str = "cpu") -> None:
        self.classes, self.device, self.steps = classes, device, 0
        self.student, self.teacher = UNet(classes).to(device).train(), UNet(classes).to(device).train()
        for parameter in self.teacher.parameters():
            parameter.detach_()
        self.optimizer = torch.optim.SGD(
            self.student.parameters(), LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
        )

    def step(self, images: Tensor, labels: Tensor, labeled: int, share: float) -> dict[str, float]:
        """One update.

        Args:
            images: (B, 1, H, W), the labeled ones first.
            labels: (B, H, W) int64.
            labeled: How many of them have labels.
            share: Of the training that is done, 0 to 1.

        Returns:
            The losses.
        """
        images, labels = images.to(self.device), labels.to(self.device)
        noise = (torch.randn_like(images[labeled:]) * 0.1).clamp(-0.2, 0.2)
        logits = self.student(images)
        probability = logits.softmax(1)
        with torch.no_grad():
            target = self.teacher(images[labeled:] + noise).softmax(1)
        cross_entropy = F.cross_entropy(logits[:labeled], labels[:labeled])
        dice = dice_loss(probability[:labeled], labels[:labeled])
        agreement = (probability[labeled:] - target).square().mean()
        weight = CONSISTENCY * np.exp(-5 * (1 - share) ** 2) if share >= ALONE else 0.0
        loss = 0.5 * (cross_entropy + dice) + weight * agreement

        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self._follow()
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - min(share, 1.0)) ** 0.9
        return {"loss": loss.item(), "cross_entropy": cross_entropy.item(), "dice": dice.item()}

    def _follow(self) -> None:
        """The teacher's parameters, one by one, move towards the student's."""
        self.steps += 1
        beta = min(1 - 1 / (self.steps + 1), EMA)
        for kept, followed in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            kept.data.mul_(beta).add_(followed.data, alpha=1 - beta)


def dice_loss(probability: Tensor, labels: Tensor) -> Tensor:
    """The mean over the classes of 1 - the soft Dice coefficient over the batch."""
    loss = torch.zeros((), device=probability.device)
    for value in range(probability.shape[1]):
        target, found = (labels == value).float(), probability[:, value]
        overlap, size = (found * target).sum(), (found * found).sum() + (target * target).sum()
        loss = loss + 1 - (2 * overlap + 1e-5) / (size + 1e-5)
    return loss / probability.shape[1]


# ----- inference


@torch.no_grad()
def predict(network: nn.Module, image: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Training labels [slice,row,col] of a volume, slice by slice: stretched, predicted, and stretched back."""
    labels = np.zeros(image.shape, np.uint8)
    for number, plane in enumerate(normalized(image)):
        found = network(torch.from_numpy(stretched(plane, (SIZE, SIZE))).view(1, 1, SIZE, SIZE).to(device))
        labels[number] = stretched(found.softmax(1).argmax(1).squeeze(0).cpu().numpy().astype(np.uint8), plane.shape)
    return labels
