"""The scanner that takes the picture of a phantom: its images, shading and noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import fft


class Places(NamedTuple):
    """Where the voxels of a stack lie in the thorax, in mm from the heart's middle at the valve plane."""

    right: np.ndarray
    """(slices, rows, cols) to the right in an upright thorax (the patient's left), float32."""
    down: np.ndarray
    """Same shape; towards the spine and the abdomen."""
    z: np.ndarray
    """(slices,) along the heart's axis, towards the apex."""
    spacing: float


class Scanner(NamedTuple):
    """How a scanner's images look; pairs are the bounds within which a patient's values are drawn."""

    spacing_mm: tuple[float, float]
    """In the slices."""
    gap_mm: tuple[float, float]
    """Between slices."""
    resolution: tuple[float, float]
    """Share of the pixel grid's frequencies that are measured; the rest is interpolated."""
    wall: tuple[float, float]
    """Brightness of muscle where blood has 1."""
    fat: tuple[float, float]
    right: tuple[float, float]
    """Brightness of blood in the right ventricle."""
    shading: tuple[float, float]
    """Share of the signal that depends on the distance to the coil."""
    noise: tuple[float, float]
    """Standard deviation of the noise where blood has 1."""
    scale: tuple[float, float]
    """Value of blood in the file."""
    apex_first: bool
    """Slices run from apex to base: a right-handed grid. From base to apex, it is left-handed."""


#: Three sites. `A` is where the labeled patients of a study come from: a clear contrast that the others do not have.
SCANNERS = {
    "A": Scanner((1.35, 1.6), (8, 10), (0.8, 0.95), (0.30, 0.38), (0.9, 1.15), (0.92, 1.0), (0.2, 0.45),
                 (0.02, 0.04), (300, 420), False),
    "B": Scanner((1.2, 1.4), (8, 9.5), (0.6, 0.75), (0.46, 0.60), (0.95, 1.3), (0.78, 0.92), (0.5, 0.8),
                 (0.03, 0.06), (90, 180), False),
    "C": Scanner((1.6, 1.9), (9, 10), (0.75, 0.95), (0.34, 0.52), (1.3, 1.9), (0.82, 1.0), (0.35, 0.7),
                 (0.05, 0.09), (700, 1300), True),
}  # fmt: skip


def scanner_at(site: str, domain_shift: float) -> Scanner:
    """A site's scanner, moved towards that of site A.

    Args:
        site: A key of `SCANNERS`.
        domain_shift: How far its images look from those of A: 1 as far as they do, 0 not at all. The order of the
            slices stays.
    """
    here, labeled = SCANNERS[site], SCANNERS["A"]
    fields = here._asdict()
    for name, bounds in labeled._asdict().items():
        if isinstance(bounds, tuple):
            pairs = zip(bounds, fields[name], strict=True)
            fields[name] = tuple((1 - domain_shift) * a + domain_shift * b for a, b in pairs)
    return Scanner(**fields)


def draw_shading(rng: np.random.Generator, at: Places, share: float) -> np.ndarray:
    """How much of the signal the coils receive: less far from the front of the chest, and unevenly.

    Args:
        rng: Decides on the coils.
        at: Where the voxels lie.
        share: How much of it depends on the place.

    Returns:
        Factors (slices, rows, cols), float32, around 1 at the heart.
    """
    distance = np.hypot(at.right + rng.uniform(60, 110), at.down + rng.uniform(50, 120))
    falling = np.exp((110 - distance) / rng.uniform(70, 120))
    cells = (1, at.right.shape[1] * at.spacing / 110, at.right.shape[2] * at.spacing / 110)
    uneven = 1 + 0.12 * share * smooth_noise(rng, at.right.shape, cells)
    return ((1 - share + share * np.minimum(falling, 2.5)) * uneven).astype(np.float32)


def acquire(rng: np.random.Generator, signal: np.ndarray, noise: float, resolution: float, scale: float) -> np.ndarray:
    """Measures a signal: noise in both channels, a limited band of frequencies, magnitude (so the noise is Rician).

    Args:
        rng: The noise's.
        signal: (slices, rows, cols) float32.
        noise: Standard deviation before the band is limited.
        resolution: Share of the frequencies that is measured.
        scale: Value of a signal of 1.

    Returns:
        int16 of the same shape.
    """
    measured = rng.standard_normal((*signal.shape, 2), np.float32).view(np.complex64)[..., 0]
    measured *= np.float32(noise)
    measured += signal
    spectrum = fft.fft2(measured, overwrite_x=True)
    for axis in (1, 2):
        frequency = np.abs(fft.fftfreq(signal.shape[axis])) * 2 / resolution
        band = np.clip((1.08 - frequency) / 0.3, 0, 1)  # a soft end, as of a Tukey window: some ringing is left
        band = (np.sin(band * np.pi / 2) ** 2).astype(np.float32)
        spectrum *= band[:, None] if axis == 1 else band
    magnitude = np.abs(fft.ifft2(spectrum, overwrite_x=True)) * np.float32(scale)
    return np.clip(np.rint(magnitude), 0, 32767).astype(np.int16)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[float, ...]) -> np.ndarray:
    """Smooth random values with mean 0 and a standard deviation of about 1.

    Args:
        rng: Decides on the values.
        shape: Of the result.
        cells: How many independent values lie along each axis.

    Returns:
        float32.
    """
    knots = tuple(int(np.ceil(count)) + 3 for count in cells)
    values = rng.standard_normal(knots, np.float32)
    for axis, (size, count) in enumerate(zip(shape, cells, strict=True)):
        place = (np.arange(size) + 0.5) / size * count
        first = place.astype(np.intp)
        t = place - first
        weights = np.stack(  # cubic B-spline
            [(1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6]
        )
        weights /= np.sqrt((weights**2).mean(axis=1).sum())
        column = [1] * len(shape)
        column[axis] = size
        values = sum(
            np.take(values, first + offset, axis=axis) * weights[offset].astype(np.float32).reshape(column)
            for offset in range(4)
        )
    return values
