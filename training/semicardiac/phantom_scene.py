"""What surrounds the phantom's heart, and the scanner that takes the picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import fft


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


class Places(NamedTuple):
    """Where the voxels of a stack lie in the thorax, in mm from the heart's middle at the valve plane."""

    right: np.ndarray
    """(slices, rows, cols) to the right in an upright thorax (the patient's left), float32."""
    down: np.ndarray
    """Same shape; towards the spine and the abdomen."""
    z: np.ndarray
    """(slices,) along the heart's axis, towards the apex."""
    spacing: float


def draw_thorax(rng: np.random.Generator, at: Places, wall: float, fat: float) -> np.ndarray:
    """Draws what lies around the heart: chest wall, lungs, diaphragm, liver, stomach, bowel, spine and vessels.

    Args:
        rng: Decides on everything.
        at: Where.
        wall: Brightness of muscle, where blood has 1.
        fat: Brightness of fat.

    Returns:
        The signal (slices, rows, cols), float32.
    """
    shape = at.right.shape
    field = shape[2] * at.spacing
    z = at.z[:, None, None].astype(np.float32)

    def noise(size_mm: float, depth_mm: float = 25.0) -> np.ndarray:
        cells = (max(float(np.ptp(at.z)) / depth_mm, 1), shape[1] * at.spacing / size_mm, field / size_mm)
        return smooth_noise(rng, shape, cells)

    bend = rng.uniform(5, 10)
    u, v = at.right + bend * noise(55), at.down + bend * noise(55)
    coarse, middle, fine = noise(45), noise(18), noise(7.0, 10.0)

    def inside(distance: np.ndarray) -> np.ndarray:
        return np.clip(0.5 - distance / at.spacing, 0, 1)  # a voxel on the border holds some of both

    def paint(distance: np.ndarray, value: np.ndarray | float) -> None:
        nonlocal signal
        signal += inside(distance) * (value - signal)

    def ellipse(x: float, y: float, a: float, b: float) -> np.ndarray:
        return (np.sqrt(((u - x) / a) ** 2 + ((v - y) / b) ** 2) - 1) * min(a, b)

    # Skin, fat, muscle with ribs, lung. Towards the apex the slices cut the chest wall at a slant.
    half_width, half_depth = rng.uniform(138, 165), rng.uniform(112, 135)
    x, y = rng.uniform(25, 45), rng.uniform(22, 45)
    slant = rng.uniform(0.05, 0.3)
    across, along = (u - x) / half_width, (v - y - slant * z) / half_depth
    depth = 1 - np.sqrt(np.sqrt(across**4 + along**4 + 1e-6))  # a rounded box
    depth *= min(half_width, half_depth)
    skin = rng.uniform(6, 20) * (1 + 0.35 * coarse) + 0.1 * z * (along < 0)
    muscle = rng.uniform(8, 13) * (1 + 0.15 * coarse)
    signal = np.zeros(shape, np.float32)
    paint(-depth, fat * (1 + 0.05 * middle))
    paint(skin - depth, wall * (0.75 + 0.12 * fine))
    ribs = np.sin(np.arctan2(along, across) * rng.integers(9, 14) + rng.uniform(0, 6) + z * rng.uniform(-0.08, 0.08))
    paint(np.maximum(np.abs(skin + muscle / 2 - depth) - muscle / 3, 2 * (0.35 - ribs)), 0.55 * fat)
    inner = skin + muscle - depth
    paint(inner, fat * 0.8)
    lung = 0.05 + 0.55 * np.clip(fine - 1.25 - 0.25 * coarse, 0, 1) + 0.02 * np.abs(middle)
    paint(inner + rng.uniform(1.5, 3), lung)

    # Fat and thymus between sternum and heart.
    front = ellipse(-rng.uniform(45, 70), -rng.uniform(15, 45), rng.uniform(32, 50), rng.uniform(26, 42))
    paint(np.maximum(front, inner), fat * np.clip(0.62 + 0.35 * middle, 0.15, 1))

    # The diaphragm rises from slice to slice; below it liver, stomach and bowel.
    dome = rng.uniform(34, 48) + rng.uniform(0.0008, 0.003) * (u + rng.uniform(-10, 30)) ** 2 - rng.uniform(0.12, 0.4) * z
    abdomen = np.maximum(dome - v, inner)
    levels = np.array([1.0, 0.55, 0.28, 0.9, 0.4, 1.0]) * np.array([fat, 1, 1, 1, 1, fat])
    organ = np.clip(np.floor(coarse * 1.6 + middle * 0.3 + 3), 0, 5).astype(np.intp)
    paint(abdomen, np.take(levels, organ).astype(np.float32) * (0.8 + 0.12 * fine))
    liver = rng.uniform(0.75, 1.25) * wall * (1 + 0.05 * fine) + 0.4 * np.clip(middle - 1.4, 0, 1)
    edge = u - rng.uniform(-20, 35) - 0.3 * (v - 60)
    paint(np.maximum(abdomen + 2.0, edge), liver)
    # The stomach: a ring with a bright, grey or empty middle, not unlike a ventricle.
    x, y = rng.uniform(42, 75), rng.uniform(45, 70)
    stomach = np.maximum(ellipse(x, y, rng.uniform(16, 28), rng.uniform(14, 24)), dome - v + 3)
    paint(stomach, wall * 0.9)
    paint(stomach + rng.uniform(2.5, 5), rng.choice([0.05, 0.5, 0.95]) * (1 + 0.1 * fine))

    # Spine with its canal, descending aorta, and veins behind the heart.
    x, y = rng.uniform(0, 35), rng.uniform(88, 112)
    paint(ellipse(x, y, 26, 24), 0.35 * fat)
    paint(ellipse(x, y, 19, 17), wall * (1.1 + 0.15 * fine))
    paint(ellipse(x + 3, y + 27, 9, 7), 0.8)
    vessels = [
        (x + rng.uniform(14, 28), y - rng.uniform(26, 34), rng.uniform(9, 13), -60.0, 200.0),
        (x - rng.uniform(20, 35), y - rng.uniform(22, 36), rng.uniform(8, 12), -60.0, 200.0),
        (rng.uniform(-30, -12), -rng.uniform(38, 52), rng.uniform(9, 14), -60.0, rng.uniform(-4, 14)),
        (rng.uniform(38, 52), rng.uniform(15, 35), rng.uniform(5, 10), -60.0, rng.uniform(-2, 18)),
    ]
    for x, y, radius, start, end in vessels:
        here = np.where((z >= start) & (z <= end), 0, 99).astype(np.float32)
        paint(ellipse(x, y, radius + 2, radius + 2) + here, wall * 0.8)
        paint(ellipse(x, y, radius, radius) + here, rng.uniform(0.75, 1.15))
    return np.maximum(signal, 0)


def expose(
    rng: np.random.Generator, signal: np.ndarray, at: Places, scanner: Scanner, shading: float
) -> np.ndarray:
    """What the coils receive of the signal: less from afar, and unevenly.

    Args:
        rng: Decides on where the coil lies.
        signal: (slices, rows, cols).
        at: Where the voxels lie.
        scanner: For the place of the coil.
        shading: Share of the signal that depends on the distance.
    """
    return signal


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
