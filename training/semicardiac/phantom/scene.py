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


class _Canvas:
    """A signal (slices, rows, cols) to paint on, in the frame of a thorax that is bent a little everywhere."""

    def __init__(self, rng: np.random.Generator, at: Places, wall: float, fat: float) -> None:
        self._spacing = at.spacing
        self.rng, self.wall, self.fat = rng, wall, fat
        self.z = at.z[:, None, None].astype(np.float32)
        bend = rng.uniform(6, 11)
        self.u = at.right + bend * self._noise(at, 55, 25)
        self.v = at.down + bend * self._noise(at, 55, 25)
        self.coarse, self.middle, self.fine = (self._noise(at, *sizes) for sizes in ((45, 25), (18, 25), (7, 10)))
        self.signal = np.zeros(at.right.shape, np.float32)

    def _noise(self, at: Places, size_mm: float, depth_mm: float) -> np.ndarray:
        slices, rows, cols = at.right.shape
        cells = (max(float(np.ptp(at.z)) / depth_mm, 1), rows * at.spacing / size_mm, cols * at.spacing / size_mm)
        return smooth_noise(self.rng, (slices, rows, cols), cells)

    def paint(self, distance: np.ndarray, value: np.ndarray | float) -> None:
        """Paints where the signed distance to a border in mm is negative; voxels on the border hold some of both."""
        self.signal += np.clip(0.5 - distance / self._spacing, 0, 1) * (value - self.signal)

    def ellipse(self, x: float, y: float, a: float, b: float) -> np.ndarray:
        """About the signed distance to an ellipse around (x, y) with half axes a and b, mm."""
        return (np.sqrt(((self.u - x) / a) ** 2 + ((self.v - y) / b) ** 2) - 1) * min(a, b)


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
    canvas = _Canvas(rng, at, wall, fat)
    outside = _draw_chest(canvas)
    _draw_abdomen(canvas, outside)
    _draw_spine_and_vessels(canvas)
    return np.maximum(canvas.signal, 0)


def _draw_chest(canvas: _Canvas) -> np.ndarray:
    """Skin, fat, muscle with ribs, lungs, and fat behind the sternum; gives the signed distance to the inner wall."""
    rng, u, v, z, wall, fat = canvas.rng, canvas.u, canvas.v, canvas.z, canvas.wall, canvas.fat
    half_width, half_depth = rng.uniform(138, 165), rng.uniform(112, 135)
    x, y = rng.uniform(25, 45), rng.uniform(22, 45)
    slant = rng.uniform(0.05, 0.3)  # towards the apex the slices come nearer to the front
    across, along = (u - x) / half_width, (v - y - slant * z) / half_depth
    depth = 1 - np.sqrt(np.sqrt((across**2) ** 2 + (along**2) ** 2 + 1e-6))  # a rounded box
    depth *= min(half_width, half_depth)
    skin = rng.uniform(6, 20) * (1 + 0.35 * canvas.coarse) + 0.1 * z * (along < 0)
    muscle = rng.uniform(8, 13) * (1 + 0.15 * canvas.coarse)
    canvas.paint(-depth, fat * (1 + 0.05 * canvas.middle))
    canvas.paint(skin - depth, wall * (0.75 + 0.12 * canvas.fine))
    ribs = np.sin(np.arctan2(along, across) * rng.integers(9, 14) + rng.uniform(0, 6) + z * rng.uniform(-0.08, 0.08))
    canvas.paint(np.maximum(np.abs(skin + muscle / 2 - depth) - muscle / 3, 2 * (0.35 - ribs)), 0.55 * fat)
    outside = skin + muscle - depth
    canvas.paint(outside, fat * 0.8)
    vessels = 0.6 * np.clip(1.3 * canvas.fine - 1.9 - 0.5 * canvas.coarse, 0, 1)
    canvas.paint(outside + rng.uniform(1.5, 3), 0.05 + vessels + 0.03 * np.abs(canvas.middle + canvas.fine))

    front = canvas.ellipse(-rng.uniform(45, 70), -rng.uniform(15, 45), rng.uniform(26, 44), rng.uniform(20, 36))
    patchy = np.clip(0.5 + 0.4 * canvas.middle + 0.25 * canvas.fine, 0.08, 1)
    canvas.paint(np.maximum(front + 5 * canvas.coarse + 5 * canvas.middle, outside + 1), fat * patchy)
    return outside


def _draw_abdomen(canvas: _Canvas, outside: np.ndarray) -> None:
    """Liver, stomach and bowel below the diaphragm, which rises from slice to slice."""
    rng, u, v, z, wall, fat = canvas.rng, canvas.u, canvas.v, canvas.z, canvas.wall, canvas.fat
    dome = rng.uniform(34, 48) + rng.uniform(0.0008, 0.003) * (u + rng.uniform(-10, 30)) ** 2
    above = dome - rng.uniform(0.12, 0.4) * z - v
    abdomen = np.maximum(above, outside)
    levels = np.array([fat, 0.55, 0.28, 0.9, 0.4, fat], np.float32)
    organ = np.clip(np.floor(canvas.coarse * 1.3 + canvas.middle * 1.1 + 3), 0, 5).astype(np.intp)
    canvas.paint(abdomen, levels[organ] * (0.8 + 0.12 * canvas.fine))

    liver = rng.uniform(0.75, 1.25) * wall * (1 + 0.05 * canvas.fine) + 0.4 * np.clip(canvas.middle - 1.4, 0, 1)
    edge = u - rng.uniform(-35, 20) - 0.3 * (v - 60) + 6 * canvas.middle
    canvas.paint(np.maximum(abdomen + rng.uniform(0.5, 4), edge), liver)

    # A ring with a bright, grey or empty middle: not unlike a ventricle.
    stomach = canvas.ellipse(rng.uniform(42, 75), rng.uniform(45, 70), rng.uniform(16, 28), rng.uniform(14, 24))
    stomach = np.maximum(stomach, above + 3)
    canvas.paint(stomach, wall * 0.9)
    canvas.paint(stomach + rng.uniform(2.5, 5), rng.choice([0.05, 0.5, 0.95]) * (1 + 0.1 * canvas.fine))


def _draw_spine_and_vessels(canvas: _Canvas) -> None:
    """A vertebra with its canal, the descending aorta and a vein; near the base also bright round great vessels."""
    rng, z, wall, fat = canvas.rng, canvas.z, canvas.wall, canvas.fat
    x, y = rng.uniform(0, 35), rng.uniform(88, 112)
    canvas.paint(canvas.ellipse(x, y, 26, 24), 0.35 * fat)
    canvas.paint(canvas.ellipse(x, y, 19, 17), wall * (1.1 + 0.15 * canvas.fine))
    canvas.paint(canvas.ellipse(x + 3, y + 27, 9, 7), 0.8)
    everywhere = np.inf
    vessels = (
        (x + rng.uniform(14, 28), y - rng.uniform(26, 34), rng.uniform(9, 13), everywhere),
        (x - rng.uniform(20, 35), y - rng.uniform(22, 36), rng.uniform(8, 12), everywhere),
        (rng.uniform(-30, -12), -rng.uniform(38, 52), rng.uniform(9, 14), rng.uniform(-4, 14)),
        (rng.uniform(38, 52), rng.uniform(15, 35), rng.uniform(5, 10), rng.uniform(-2, 18)),
    )
    for x, y, radius, end in vessels:
        distance = canvas.ellipse(x, y, radius, radius) + np.where(z <= end, np.float32(0), np.float32(99))
        canvas.paint(distance - 2, wall * 0.8)
        canvas.paint(distance, rng.uniform(0.75, 1.15))


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
