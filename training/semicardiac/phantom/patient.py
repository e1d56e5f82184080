"""A patient of the phantom: a heart in a thorax in a scanner, drawn frame by frame with exact labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from ..base.errors import UserError, nearest
from ..images.labels import get_label_set
from ..images.volumes import Volume
from .heart import ANGLES, PATHOLOGIES, Heart, Surfaces, draw_heart
from .scanner import SCANNERS, Places, Scanner, acquire, draw_shading, scanner_at, smooth_noise
from .thorax import draw_thorax

LABELS = get_label_set("acdc")
"""What the phantom's labels mean."""

_LABEL_OF = {structure.role: label for label, structure in enumerate(LABELS.structures, start=1)}
_RV, _MYO, _LV = _LABEL_OF["rv"], _LABEL_OF["myo"], _LABEL_OF["lv"]
_FINE, _ACROSS = 2, 3
"""Samples in a voxel along rows and columns, and through the slice: a voxel on a border holds some of both sides."""

_RIGHT, _DOWN, _TO_APEX = np.array([(-0.75, -0.54, 0.38), (0.12, -0.68, -0.72), (-0.65, 0.5, -0.58)])
"""Directions of image columns, rows and slices (base to apex) in an average patient, RAS; made orthogonal in use."""


class Stack(NamedTuple):
    """The grid of a short-axis stack, base first, and where the heart's axis crosses it."""

    shape: tuple[int, int, int]
    """(slices, rows, cols)."""
    spacing: float
    gap: float
    top_mm: float
    """Where the first slice lies along the long axis; 0 is the valve plane at end diastole."""
    center: tuple[float, float]
    """(x, y) of the heart's axis in mm from the center of the first voxel."""
    shifts: np.ndarray
    """(slices, 3) How far each slice misses its place, x, y and z in mm: another breath-hold, another beat."""
    ijk_to_ras: np.ndarray
    """(4, 4), base first."""


class Patient:
    """A heart in a thorax in a scanner. Frames differ in nothing but the phase of the heart and the noise.

    Args:
        seed: Decides on everything that is not given.
        pathology: A key of `PATHOLOGIES`.
        scanner: A key of `SCANNERS`.
        domain_shift: As for `scanner_at`.
        atria: Brightness of the blood above the valves, where that below has 1.

    Raises:
        UserError: For an unknown pathology or scanner.
    """

    def __init__(
        self,
        seed: int,
        *,
        pathology: str | None = None,
        scanner: str | None = None,
        domain_shift: float = 1.0,
        atria: float = 1.0,
    ) -> None:
        rng = np.random.default_rng([seed, 0])
        self.pathology = _chosen("pathology", pathology, list(PATHOLOGIES), rng)
        self._scanner = scanner_at(_chosen("scanner", scanner, list(SCANNERS), rng), domain_shift)
        self._seed, self._atria = seed, atria
        turn = rng.normal(0, 0.22)
        self.heart = draw_heart(rng, self.pathology, turn + rng.normal(0, 0.25))
        self.stack = _draw_stack(rng, self.heart, self._scanner)
        self._wall, self._fat, self._right = (
            float(rng.uniform(*bounds)) for bounds in (self._scanner.wall, self._scanner.fat, self._scanner.right)
        )
        at = _places(self.stack, turn)
        self._around = draw_thorax(rng, at, self._wall, self._fat)
        self._shading = draw_shading(rng, at, rng.uniform(*self._scanner.shading))
        self._shading *= rng.normal(1, 0.03, (len(at.z), 1, 1)).astype(np.float32)
        cells = np.array(self.stack.shape) * (self.stack.gap, self.stack.spacing, self.stack.spacing) / (12, 11, 11)
        self._texture = smooth_noise(rng, self.stack.shape, tuple(cells))
        # Strands in the right ventricle: they stand in a frame that moves with it.
        strands = gaussian_filter(rng.standard_normal((14, 12, ANGLES)), (0.8, 0.8, 9), mode="wrap", truncate=2.5)
        outward = np.linspace(0, 1, strands.shape[1])[None, :, None]
        self._strands = strands / strands.std() > rng.uniform(1.6, 2.2) - 1.1 * outward**2
        self._noise, self._resolution, self._scale = (
            float(rng.uniform(*bounds))
            for bounds in (self._scanner.noise, self._scanner.resolution, self._scanner.scale)
        )

    def frame(self, phase: float) -> tuple[Volume, Volume]:
        """Image (int16) and training labels (uint8) at a phase of the cycle, as a fraction from end diastole on."""
        signal, labels = self._around.copy(), np.zeros(self.stack.shape, np.uint8)
        self._draw_heart(signal, labels, phase)
        rng = np.random.default_rng([self._seed, 1, round(phase % 1.0 * 1_000_000)])
        image = acquire(rng, signal * self._shading, self._noise, self._resolution, self._scale)
        matrix = self.stack.ijk_to_ras.copy()
        if self._scanner.apex_first:
            image, labels = np.ascontiguousarray(image[::-1]), np.ascontiguousarray(labels[::-1])
            matrix[:3, 3] += matrix[:3, 2] * (self.stack.shape[0] - 1)
            matrix[:3, 2] *= -1
        return Volume(image, matrix), Volume(labels, matrix.copy())

    def _draw_heart(self, signal: np.ndarray, labels: np.ndarray, phase: float) -> None:
        """Draws the heart over the thorax, sample by sample, and averages the samples in each voxel."""
        stack, heart = self.stack, self.heart
        across = ((np.arange(_ACROSS) + 0.5) / _ACROSS - 0.5) * 0.9 * stack.gap
        theta = (np.arange(ANGLES) + 0.5) / ANGLES * 2 * np.pi - np.pi
        direction = np.stack([np.cos(theta), np.sin(theta)])
        for k in range(stack.shape[0]):
            z = stack.top_mm + k * stack.gap + stack.shifts[k, 2] + across
            s = heart.position(z, phase)
            surfaces = heart.surfaces(s, phase)
            if surfaces.fat.max() == 0:
                continue
            middle = heart.axis(s) + np.array(stack.center)[:, None] + stack.shifts[k, :2, None]
            reach = middle[:, :, None] + direction[:, None] * np.sqrt(surfaces.fat)
            low = np.floor(reach.min(axis=(1, 2)) / stack.spacing).astype(int) - 1
            high = np.ceil(reach.max(axis=(1, 2)) / stack.spacing).astype(int) + 2
            (left, top), (right, bottom) = np.maximum(low, 0), np.minimum(high, stack.shape[:0:-1])
            window = (k, slice(top, bottom), slice(left, right))
            x, y = (
                ((np.arange(first * _FINE, last * _FINE) + 0.5) / _FINE - 0.5) * stack.spacing
                for first, last in ((left, right), (top, bottom))
            )
            x = (x[None, None, :] - middle[0][:, None, None]).astype(np.float32)
            y = (y[None, :, None] - middle[1][:, None, None]).astype(np.float32)
            labels[window] = self._draw_slice(signal[window], self._texture[window], x, y, s, surfaces)

    def _draw_slice(
        self, signal: np.ndarray, texture: np.ndarray, x: np.ndarray, y: np.ndarray, s: np.ndarray, surfaces: Surfaces
    ) -> np.ndarray:
        """Draws into a window of a slice; x (samples, 1, cols) and y (samples, rows, 1) are in mm from the axis."""
        radius = np.sqrt(x * x + y * y)
        angle = np.arctan2(y, x)
        place = np.minimum((angle + np.float32(np.pi)) * np.float32(ANGLES / (2 * np.pi)), ANGLES - 1).astype(np.intp)
        sample = np.arange(len(s))[:, None, None]
        endo, blood, epi, rv, outer, fat = (np.sqrt(table).astype(np.float32)[sample, place] for table in surfaces)

        in_endo, in_epi, in_rv, in_outer = radius < endo, radius < epi, radius < rv, radius < outer
        lumen = radius < blood
        for muscle in self.heart.papillaries:
            index = int((muscle.angle + np.pi) % (2 * np.pi) * ANGLES / (2 * np.pi)) % ANGLES
            wall = np.sqrt(surfaces.endo[:, index])
            within = np.clip(np.minimum(s - muscle.start, muscle.end - s) / 0.12, 0, 1)
            thick = np.minimum(muscle.radius_mm * np.sqrt(within), 0.4 * wall)
            away = wall - 0.7 * thick
            distance = (x - (away * np.cos(muscle.angle))[:, None, None]) ** 2
            distance = distance + (y - (away * np.sin(muscle.angle))[:, None, None]) ** 2
            lumen &= distance > (thick**2)[:, None, None]

        share = np.clip((radius - epi) / np.maximum(rv - epi, 1), 0, 0.999)
        level = np.clip(s * len(self._strands), 0, len(self._strands) - 1).astype(np.intp)[:, None, None]
        strand = self._strands[level, (share * self._strands.shape[1]).astype(np.intp), place]
        right = in_rv & ~in_epi & ~strand

        # At the border of fat and water their signals cancel: a dark line.
        fatty = (fat - outer) > 1.2
        line = ~in_outer & (radius < outer + 0.9) & fatty
        value = np.full(radius.shape, self._wall, np.float32)
        left_ventricle, right_ventricle = ((s >= top)[:, None, None] for top in (0.0, self.heart.rv_top))
        value[lumen] = 1.0
        value[right] = self._right
        value[(lumen & ~left_ventricle) | (right & ~right_ventricle)] *= self._atria
        value[~in_outer] = self._fat * 0.9
        value[line] = 0.15 * self._fat
        covered = radius < np.maximum(fat, outer)
        value *= covered

        truth = np.where(in_endo, _LV, _MYO).astype(np.uint8) * in_epi
        truth *= left_ventricle
        truth[in_rv & ~in_epi & right_ventricle] = _RV

        drawn, shown, flowing = (_pooled(samples) for samples in (value, covered, lumen | right))
        drawn *= 1 + np.where(flowing > 0.5, 0.05, 0.06) * texture
        signal *= 1 - shown
        signal += drawn
        votes = [_pooled(truth == label) for label in range(LABELS.classes)]
        return np.argmax(votes, axis=0).astype(np.uint8)


def _pooled(samples: np.ndarray) -> np.ndarray:
    """Means over the samples of each voxel: (through, rows * fine, cols * fine) to (rows, cols)."""
    flat = samples.sum(axis=0, dtype=np.float32)
    flat = flat[::_FINE] + flat[1::_FINE]
    return (flat[:, ::_FINE] + flat[:, 1::_FINE]) / np.float32(_FINE * _FINE * len(samples))


def _chosen(what: str, name: str | None, known: list[str], rng: np.random.Generator) -> str:
    drawn = known[rng.integers(len(known))]
    if name is not None and name not in known:
        raise UserError(f"the phantom has no {what} '{name}'", where=what, hint=nearest(name, known))
    return name or drawn


def _draw_stack(rng: np.random.Generator, heart: Heart, scanner: Scanner) -> Stack:
    """Plans the stack: from somewhere around the valve to past the apex, the heart not quite in the middle."""
    spacing, gap = float(rng.uniform(*scanner.spacing_mm)), float(rng.uniform(*scanner.gap_mm))
    top = -rng.uniform(-0.5, 0.8) * gap
    slices = int(np.clip(np.ceil((heart.length_mm * rng.uniform(0.88, 1.02) - top) / gap), 7, 14))
    rows, cols = (int(np.clip(round(rng.uniform(215, 275) / spacing), 128, 180)) for _ in range(2))
    center = [
        (size - 1) / 2 * spacing + shift for size, shift in ((cols, rng.uniform(-14, 26)), (rows, rng.uniform(-30, 12)))
    ]
    shifts = np.clip(rng.normal(0, 1, (slices, 3)), -2, 2) * rng.uniform(0.3, 2.0)
    shifts[:, 2] *= 0.5

    # Columns, rows and slices are not quite as in an average patient, and never along the body's axes.
    turned = Rotation.from_euler("xyz", rng.normal(0, 9, 3), degrees=True).as_matrix()
    to_apex = turned @ _TO_APEX / np.linalg.norm(_TO_APEX)
    down = turned @ _DOWN
    down -= (down @ to_apex) * to_apex
    down /= np.linalg.norm(down)
    right = np.cross(to_apex, down)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right * spacing, down * spacing, to_apex * gap], axis=1)
    valve = np.array([-20.0, 25.0, 10.0]) + rng.normal(0, 12, 3)
    matrix[:3, 3] = valve - matrix[:3, :3] @ np.array([center[0] / spacing, center[1] / spacing, -top / gap])
    return Stack((slices, rows, cols), spacing, gap, float(top), (center[0], center[1]), shifts, matrix)


def _places(stack: Stack, turn: float) -> Places:
    """The voxels in the frame of an upright thorax."""
    slices, rows, cols = stack.shape
    x = (np.arange(cols) * stack.spacing - stack.center[0])[None, None, :] - stack.shifts[:, 0, None, None]
    y = (np.arange(rows) * stack.spacing - stack.center[1])[None, :, None] - stack.shifts[:, 1, None, None]
    cosine, sine = np.cos(turn), np.sin(turn)
    right, down = cosine * x + sine * y, cosine * y - sine * x
    z = stack.top_mm + np.arange(slices) * stack.gap
    return Places(right.astype(np.float32), down.astype(np.float32), z, stack.spacing)
