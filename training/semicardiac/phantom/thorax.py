"""What surrounds the phantom's heart."""

from __future__ import annotations

import numpy as np

from .scanner import Places, smooth_noise


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
