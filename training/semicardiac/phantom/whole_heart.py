"""A phantom of the whole heart: seven structures in axial slices of CT or MR, thin enough to be looked through.

Everything is drawn by signed distances in mm, in the patient's frame (x to the left, y to the back, z to the head, from
the heart's middle), bent by a smooth field and turned as hearts differ. It is plain where the short-axis phantom is
rich: it does not beat, and its volumes are those of its voxels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from ..base import files
from ..base.tables import format_csv
from ..data.cases import Case
from ..data.discover import read_case_list
from ..data.layouts import CASE_LIST
from ..images.labels import get_label_set
from ..images.volumes import Volume, write_labels, write_volume
from .scanner import smooth_noise
from .study import REFERENCE, TEST, require_sound

LABELS = get_label_set("mmwhs")
"""What its labels mean."""

Modality = Literal["ct", "mr"]
MYO, LA, LV, RA, RV, AORTA, PULMONARY = range(1, LABELS.classes)

_FIELD_MM = np.array([150.0, 190.0, 190.0])
"""Of the picture: slices, rows, columns."""


class Contrast(NamedTuple):
    """How bright tissues are where the blood of the left heart has 1, as bounds within which a patient's are drawn."""

    right: tuple[float, float]
    """Blood of the right heart and the pulmonary artery."""
    wall: tuple[float, float]
    fat: tuple[float, float]
    muscle: tuple[float, float]
    """The chest's wall and the liver."""
    bone: tuple[float, float]
    noise: tuple[float, float]
    shading: float
    """How uneven the brightness is over the picture."""
    offset: float
    scale: float
    """The file holds `offset + scale * brightness`."""


CONTRASTS: dict[str, Contrast] = {
    "ct": Contrast((0.55, 0.95), (0.42, 0.52), (0.15, 0.2), (0.38, 0.45), (0.8, 1.2), (0.05, 0.09), 0.0, -250, 650),
    "mr": Contrast((0.8, 1.0), (0.3, 0.42), (0.5, 0.62), (0.35, 0.5), (0.25, 0.5), (0.04, 0.07), 0.35, 0, 400),
}


class Blob(NamedTuple):
    """An ellipsoid."""

    label: int
    middle: tuple[float, float, float]
    """(x, y, z) in mm."""
    radii: tuple[float, float, float]
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Where its third radius points."""


#: The left ventricle's long axis: to the left, the front and the feet.
_APEX = (0.62, -0.62, -0.48)
_CHAMBERS = (
    Blob(RV, (-12.0, -32.0, -12.0), (21.0, 26.0, 36.0), _APEX),
    Blob(RA, (-40.0, -2.0, -10.0), (20.0, 22.0, 26.0)),
    Blob(LA, (0.0, 32.0, 14.0), (32.0, 18.0, 22.0)),
    Blob(LV, (24.0, -6.0, -10.0), (21.0, 21.0, 38.0), _APEX),
)
_WALL_MM = 9.5
"""Thickness of the left ventricle's wall."""
_TUBES: dict[int, tuple[tuple[tuple[float, float, float], ...], float]] = {
    AORTA: (((2.0, 2.0, 10.0), (-12.0, -6.0, 32.0), (-18.0, -6.0, 60.0)), 13.0),
    PULMONARY: (((4.0, -28.0, 16.0), (10.0, -18.0, 36.0), (4.0, 6.0, 46.0), (-24.0, 12.0, 46.0)), 11.5),
}
"""Places that the great vessels pass, in mm, and their radius."""


@dataclass(frozen=True, eq=False)
class _Frame:
    """Where the voxels lie in the frame of an average heart, after bending and turning; mm."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def blob(self, blob: Blob) -> np.ndarray:
        """About the signed distance to an ellipsoid."""
        third = _unit(blob.axis)
        first = _unit(np.cross((0.0, 1.0, 0.0), third))
        ways = np.stack((first, np.cross(third, first), third)) / np.reshape(blob.radii, (3, 1))
        scaled = np.sqrt((np.tensordot(ways, self._from(blob.middle), 1) ** 2).sum(axis=0))
        return (scaled - 1) * min(blob.radii)

    def along(self, blob: Blob) -> np.ndarray:
        """How far voxels lie from an ellipsoid's middle in the direction of its axis."""
        return np.tensordot(_unit(blob.axis), self._from(blob.middle), 1)

    def tube(self, path: tuple[tuple[float, float, float], ...], radius: float) -> np.ndarray:
        """The signed distance to a tube with round ends."""
        nearest = np.full(self.x.shape, np.inf, np.float32)
        for start, end in itertools.pairwise(path):
            way = np.subtract(end, start)
            away = self._from(start)
            share = np.clip(np.tensordot(way, away, 1) / (way @ way), 0, 1)
            nearest = np.minimum(nearest, np.sqrt(((away - share * way.reshape(3, 1, 1, 1)) ** 2).sum(axis=0)))
        return nearest - radius

    def _from(self, place: tuple[float, float, float]) -> np.ndarray:
        """(3, slices, rows, cols) from a place to the voxels."""
        return np.stack((self.x - place[0], self.y - place[1], self.z - place[2]))


def _unit(way: np.ndarray | tuple[float, float, float]) -> np.ndarray:
    return np.asarray(way) / np.linalg.norm(way)


def make_whole_heart(seed: int, *, modality: Modality = "ct", spacing_mm: float = 2.0) -> tuple[Volume, Volume]:
    """An axial volume of a whole heart and its labels.

    Args:
        seed: Decides on everything that is not given.
        modality: `ct` or `mr`.
        spacing_mm: Of the voxels, in all directions.

    Returns:
        Image (int16) and training labels of the set `mmwhs` (uint8) on one grid, slices upwards.
    """
    rng = np.random.default_rng([seed, 7])
    shape = tuple(int(side) for side in np.round(_FIELD_MM / spacing_mm))
    middle = (np.array(shape) - 1) / 2 * spacing_mm + rng.uniform(-10, 10, 3)
    axes = (np.arange(side) * spacing_mm - at for side, at in zip(shape, middle, strict=True))
    z, y, x = (axis.astype(np.float32) for axis in np.meshgrid(*axes, indexing="ij"))
    bends = [4.0 * smooth_noise(rng, shape, tuple(_FIELD_MM / 45)) for _ in range(3)]
    turned = Rotation.from_euler("xyz", rng.normal(0, 9, 3), degrees=True).as_matrix() / rng.normal(1.15, 0.06, (1, 3))
    place = np.tensordot(turned, np.stack((x + bends[0], y + bends[1], z + bends[2])), 1).astype(np.float32)
    frame = _Frame(*place)
    labels = _draw_labels(rng, frame)
    chest = _Frame(x + bends[1], y + bends[2], z + bends[0])
    image = _draw_image(rng, CONTRASTS[modality], labels, chest, spacing_mm)
    matrix = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    matrix[:3, 3] = (middle[2], middle[1], -middle[0])
    return Volume(image, matrix), Volume(labels, matrix.copy())


def _draw_labels(rng: np.random.Generator, frame: _Frame) -> np.ndarray:
    """The seven structures; where two overlap, what is drawn later stays."""
    labels = np.zeros(frame.x.shape, np.uint8)

    def paint(label: int, distance: np.ndarray) -> None:
        labels[distance < 0] = label

    for label, (path, radius) in _TUBES.items():
        paint(label, frame.tube(path, radius * rng.uniform(0.88, 1.12)))
    for blob in _CHAMBERS:
        radii = np.array(blob.radii) * rng.uniform(0.88, 1.12) * rng.uniform(0.95, 1.05, 3)
        drawn = blob._replace(middle=tuple(np.array(blob.middle) + rng.normal(0, 1.5, 3)), radii=tuple(radii))
        distance = frame.blob(drawn)
        if blob.label == LV:
            wall = rng.uniform(0.85, 1.2) * _WALL_MM
            below = frame.along(drawn) > -0.72 * radii[2]  # the wall ends at the valves
            paint(MYO, np.where(below, distance - wall, 1.0))
        paint(blob.label, distance)
    return labels


def _draw_image(
    rng: np.random.Generator, contrast: Contrast, labels: np.ndarray, chest: _Frame, spacing_mm: float
) -> np.ndarray:
    """The picture of the labels in a chest with lungs, spine and liver, int16."""

    def drawn(bounds: tuple[float, float]) -> float:
        return float(rng.uniform(*bounds))

    right, wall, fat, muscle, bone = (drawn(getattr(contrast, name)) for name in Contrast._fields[:5])
    heart = gaussian_filter((labels > 0).astype(np.float32), 5 / spacing_mm) > 0.12
    inside = np.hypot(chest.x / 88, chest.y / 72) < 1
    signal = np.where(inside, 0.06, muscle).astype(np.float32)
    signal[np.hypot(chest.x, (chest.y - 78) / 0.9) < 22] = bone
    signal[np.hypot(chest.x - 26, chest.y - 60) < 11] = 0.95  # the descending aorta, which has no label
    signal[inside & (chest.z < -52 - 0.15 * chest.x)] = 1.1 * muscle
    signal[inside & (np.abs(chest.x) < 26) & (chest.y < 62)] = fat
    signal[heart] = fat
    for label, value in {MYO: wall, LA: 1.0, LV: 1.0, RA: right, RV: right, AORTA: 1.0, PULMONARY: right}.items():
        signal[labels == label] = value
    signal *= 1 + 0.06 * smooth_noise(rng, labels.shape, tuple(_FIELD_MM / 14))
    signal = gaussian_filter(signal, 0.6)  # what a scanner resolves
    signal *= 1 + contrast.shading * 0.5 * smooth_noise(rng, labels.shape, (1.0, 2.0, 2.0))
    signal += drawn(contrast.noise) * rng.standard_normal(labels.shape, np.float32)
    return np.clip(np.rint(contrast.offset + contrast.scale * signal), -1024, 32767).astype(np.int16)


def write_whole_hearts(  # how many patients of each kind, each by its name
    folder: Path | str,
    *,
    labeled: int = 2,
    unlabeled: int = 6,
    validation: int = 2,
    test: int = 0,
    modality: Modality = "ct",
    spacing_mm: float = 2.0,
    seed: int = 0,
) -> list[Case]:
    """Writes a study of whole hearts.

    The folder holds heart001.nii.gz and so on, with labels heart001_gt.nii.gz for training and validation; test/ with
    further such patients; reference/unlabeled/ and reference/test/ with the labels that no training may see, under the
    names of their images; and cases.csv with the role of each case but those of the test.

    Args:
        folder: New or empty.
        labeled: How many patients have labels.
        unlabeled: How many have none.
        validation: How many have labels that only serve to watch a training.
        test: How many are for the evaluation at the end.
        modality: `ct` or `mr`.
        spacing_mm: Of the voxels.
        seed: Decides on everything.

    Returns:
        The cases as `cases.discover` finds them in the folder.

    Raises:
        UserError: If the folder is not empty or cannot be written, and as `require_sound`.
    """
    counts = {"labeled": labeled, "unlabeled": unlabeled, "validation": validation, TEST: test}
    require_sound(**counts, seed=seed)
    folder = files.output_folder(Path(folder))
    rows = []
    for number, role in enumerate([role for role, count in counts.items() for _ in range(count)], start=1):
        name = f"heart{number:03d}"
        image, labels = make_whole_heart(seed * 10_000 + number, modality=modality, spacing_mm=spacing_mm)
        path = f"{TEST}/{name}.nii.gz" if role == TEST else f"{name}.nii.gz"
        hidden = role in ("unlabeled", TEST)
        truth = f"{REFERENCE}/{role}/{name}.nii.gz" if hidden else f"{name}_gt.nii.gz"
        write_volume(folder / path, image)
        write_labels(folder / truth, labels, LABELS)
        if role != TEST:
            rows.append((path, "" if hidden else truth, name, role))
    files.write_text(folder / CASE_LIST, format_csv(("image", "labels", "patient", "role"), rows))
    return read_case_list(folder / CASE_LIST)
