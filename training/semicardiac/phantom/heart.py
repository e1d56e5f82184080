"""The phantom's heart: radial surfaces whose volumes are known exactly, and how they move over the cycle.

The long axis is cut into a material coordinate s, 0 at the valve plane and 1 at the epicardial apex. At each s and each
angle around the axis of the left ventricle, squared radii say how much cavity, wall and right ventricle there is.
In contraction the ventricle shortens, the cavities lose their share of ejected blood, and the wall keeps its volume;
so every volume is an integral over these tables, at any phase. Angles are those of the image, rows downwards: the
septum lies at pi (image left), anterior is up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

ANGLES = 720
END_SYSTOLE = 0.36
"""Where in the cycle the left ventricle is smallest; end diastole is at 0."""

_S = np.arange(-30, 101) / 100
"""Material positions of the tables; negative ones are above the valve plane (atrium, outflow tract)."""
_THETA = (np.arange(ANGLES) + 0.5) / ANGLES * 2 * np.pi - np.pi
_ENDO_APEX = 0.94
"""Where the LV cavity ends; beyond it there is only wall."""

# Share of the stroke volume that has left the ventricle: ejection, rapid filling, diastasis, atrial contraction.
_EJECTED = PchipInterpolator(
    (0.0, 0.05, 0.20, END_SYSTOLE, 0.46, 0.58, 0.80, 0.93, 1.0),
    (0.0, 0.06, 0.70, 1.0, 0.72, 0.33, 0.22, 0.02, 0.0),
)


class Pathology(NamedTuple):
    """Volumes at end diastole in ml and ejection fractions, each as mean and standard deviation, as seen in ACDC."""

    lv_ml: tuple[float, float]
    lv_ef: tuple[float, float]
    wall_ml: tuple[float, float]
    rv_ml: tuple[float, float]
    rv_ef: tuple[float, float]


#: ACDC's groups: normal, dilated, hypertrophic, infarcted, abnormal right ventricle.
PATHOLOGIES = {
    "NOR": Pathology((131, 24), (0.61, 0.05), (100, 18), (150, 28), (0.56, 0.06)),
    "DCM": Pathology((265, 45), (0.22, 0.07), (155, 25), (170, 40), (0.30, 0.10)),
    "HCM": Pathology((130, 26), (0.67, 0.05), (180, 36), (124, 24), (0.61, 0.06)),
    "MINF": Pathology((175, 34), (0.31, 0.07), (117, 17), (118, 24), (0.54, 0.07)),
    "RV": Pathology((112, 26), (0.54, 0.06), (82, 16), (195, 36), (0.34, 0.08)),
}


def ejected(phase: float) -> float:
    """Share of the stroke volume that has left the ventricle, from 0 at phase 0 to 1 at `END_SYSTOLE` and back to 0."""
    return float(_EJECTED(phase % 1.0))


class Surfaces(NamedTuple):
    """Squared radii in mm², (positions, ANGLES), around the LV's axis in image angles from -pi on."""

    endo: np.ndarray
    """Bounds the LV cavity as it is labeled: with papillary muscles and trabeculae in it."""
    blood: np.ndarray
    """Bounds the LV's blood as it is seen: inside the trabeculae."""
    epi: np.ndarray
    """Bounds the LV wall."""
    rv: np.ndarray
    """Bounds the RV cavity; equals `epi` where there is none."""
    outer: np.ndarray
    """Bounds the RV's free wall and the LV's wall together."""
    fat: np.ndarray
    """Bounds the fat around it."""


class Papillary(NamedTuple):
    """A papillary muscle in the LV cavity."""

    angle: float
    radius_mm: float
    start: float
    end: float
    """It reaches from `start` to `end` along s."""


@dataclass(frozen=True, eq=False)
class Heart:
    """One heart. Tables are (131 positions, ANGLES) at end diastole, in mm² before the factor 1/2 of polar areas."""

    pathology: str
    length_mm: float
    shortening: float
    """Share of its length that the ventricle loses at end systole."""
    rv_top: float
    """Where the labeled RV begins along s, above or below the LV, which begins at 0."""
    cavity: np.ndarray
    wall: np.ndarray
    rv: np.ndarray
    lv_ejection: np.ndarray
    """Share of the cavity that each place ejects: less in an infarct."""
    rv_ejection: float
    trabeculae_mm: np.ndarray
    fat_mm: np.ndarray
    rv_wall_mm: float
    papillaries: tuple[Papillary, Papillary]
    drift_mm: np.ndarray
    """(2, 3) The axis's course across the slices: (x, y) in terms of s, s² and sin(pi s)."""

    def length_at(self, phase: float) -> float:
        """Distance from the valve plane to the apex in mm; the apex stays where it is."""
        return self.length_mm * (1 - self.shortening * ejected(phase))

    def position(self, z_mm: np.ndarray, phase: float) -> np.ndarray:
        """s of places along the long axis, in mm from the valve plane at end diastole towards the apex."""
        return 1 - (self.length_mm - z_mm) / self.length_at(phase)

    def axis(self, s: np.ndarray) -> np.ndarray:
        """(2, positions) Where the axis runs: x, y in mm."""
        return self.drift_mm @ np.stack([s - 0.5, (s - 0.5) ** 2, np.sin(np.pi * s)])

    def surfaces(self, s: np.ndarray, phase: float) -> Surfaces:
        """The surfaces at positions s; all radii are 0 beyond the apex."""
        gone = ejected(phase)
        stretch = self.length_mm / self.length_at(phase)
        endo = _rows(self.cavity * (1 - gone * self.lv_ejection), s) * stretch
        epi = endo + _rows(self.wall, s) * stretch
        chamber = _rows(self.rv * (1 - gone * self.rv_ejection), s) * stretch
        rv = epi + chamber
        radius = np.sqrt(endo)
        blood = np.maximum(radius - _rows(self.trabeculae_mm, s), 0.45 * radius) ** 2
        # The free wall thickens as it contracts and thins out towards the septum.
        free_wall = self.rv_wall_mm * (1 + 0.4 * gone) * np.minimum(chamber / 150, 1)
        outer = np.sqrt(rv) + free_wall
        grooves = np.maximum(gaussian_filter1d(outer, ANGLES / 24, axis=1, mode="wrap"), outer)
        fat = grooves + _rows(self.fat_mm, s) * (outer > 1)
        return Surfaces(endo, blood, epi, rv, outer**2, fat**2)

    def volumes_ml(self, phase: float) -> dict[str, float]:
        """The volumes of the labeled structures by their role: `lv`, `myo` and `rv`."""
        gone = ejected(phase)
        return {
            "lv": _ml(self.cavity * (1 - gone * self.lv_ejection), 0, self.length_mm),
            "myo": _ml(self.wall, 0, self.length_mm),
            "rv": _ml(self.rv * (1 - gone * self.rv_ejection), self.rv_top, self.length_mm),
        }

    @property
    def ejection_fraction(self) -> float:
        """Of the left ventricle, as a share."""
        return 1 - self.volumes_ml(END_SYSTOLE)["lv"] / self.volumes_ml(0)["lv"]


def draw_heart(rng: np.random.Generator, pathology: str, tilt: float) -> Heart:
    """Draws a heart.

    Args:
        rng: Decides on everything.
        pathology: A key of `PATHOLOGIES`.
        tilt: How far it is turned in the image, in radians.
    """
    target = PATHOLOGIES[pathology]
    lv_ml, lv_ef, wall_ml, rv_ml, rv_ef = (_about(rng, *values) for values in target)
    length = 88 * (lv_ml / 131) ** 0.25 * rng.uniform(0.94, 1.08)
    septum = np.pi + tilt
    s, theta = _S[:, None], _THETA[None, :]
    below = np.clip(s, 0, 1)

    # A cut ellipsoid, narrower at the valve, not quite round; above the valve the atrium closes over it.
    closing = np.clip(1 - (np.minimum(s, 0) / rng.uniform(0.35, 0.6)) ** 2, 0, 1)
    valve = 1 - 0.12 * np.clip(1 - s / 0.25, 0, 1) ** 2
    outline = 1 + sum(
        rng.normal(0, size) * np.cos(order * theta + rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.6) * below)
        for order, size in ((2, 0.045), (3, 0.025), (4, 0.012))
    )
    if pathology == "RV":  # pressure from the right flattens the septum
        outline = outline - rng.uniform(0.08, 0.16) * _bump(theta, septum, 0.6)
    cavity = np.clip(1 - (below / _ENDO_APEX) ** 2.2, 0, 1) * valve * outline**2 * closing
    cavity *= lv_ml / _ml(cavity, 0, length)

    scar = _scar(rng, theta, below, septum) if pathology == "MINF" else np.zeros((len(_S), ANGLES))
    uneven = 1 + rng.normal(0, 0.06) * np.cos(theta + rng.uniform(0, 2 * np.pi)) - 0.45 * scar
    if pathology == "HCM":
        uneven = uneven + rng.uniform(0.0, 0.9) * _bump(theta, septum + rng.normal(0.2, 0.3), 0.8)
    wall = _wall(cavity, np.broadcast_to(uneven, cavity.shape) * outline, below, wall_ml, length)
    wall = np.where(s < 0, np.minimum(wall, 2 * 2.2 * np.sqrt(cavity)) * (cavity > 0), wall)  # the atrium's is thin

    remote = _solve_ejection(cavity, scar, lv_ef, length)
    lv_ejection = np.clip(remote * (1 - 0.95 * scar), 0, 0.85)

    rv_top = float(np.round(rng.uniform(-0.1, 0.06), 2))
    rv = _right_ventricle(rng, septum, pathology)
    rv *= rv_ml / _ml(rv, rv_top, length)

    trabeculae, fat = _trabeculae_and_fat(rng, theta, below, septum)
    papillaries = _papillaries(rng, septum)
    return Heart(
        pathology=pathology,
        length_mm=float(length),
        shortening=float(0.26 * lv_ef),
        rv_top=rv_top,
        cavity=cavity,
        wall=wall,
        rv=rv,
        lv_ejection=lv_ejection,
        rv_ejection=float(rv_ef),
        trabeculae_mm=trabeculae,
        fat_mm=fat,
        rv_wall_mm=float(rng.uniform(4, 6) if pathology == "RV" else rng.uniform(2, 3.2)),
        papillaries=papillaries,
        drift_mm=rng.normal(0, 1, (2, 3)) * (9, 6, 2),
    )


def _scar(rng: np.random.Generator, theta: np.ndarray, below: np.ndarray, septum: float) -> np.ndarray:
    """How much of the wall an infarct has taken, 0 to 1 by place."""
    where = septum + rng.choice([0.9, -1.4, 2.6]) + rng.normal(0, 0.25)
    return _bump(theta, where, rng.uniform(0.6, 0.95)) * _smoothstep(below, rng.uniform(0.0, 0.3), 0.6)


def _trabeculae_and_fat(
    rng: np.random.Generator, theta: np.ndarray, below: np.ndarray, septum: float
) -> tuple[np.ndarray, np.ndarray]:
    """How far trabeculae reach into the cavity, and how thick the fat on the wall is, in mm by place."""
    roughness = gaussian_filter1d(rng.standard_normal((len(_S), ANGLES)), 5, axis=1, mode="wrap")
    roughness = np.abs(gaussian_filter1d(roughness, 4, axis=0)) / 0.06
    away = 0.25 + 0.75 * (1 - _bump(theta, septum, 0.9))  # the septum is smooth
    trabeculae = np.clip(roughness, 0, 3) * away * (0.5 + 1.2 * below) * rng.uniform(1.2, 2.6)

    fat = gaussian_filter1d(rng.standard_normal((len(_S), ANGLES)), 40, axis=1, mode="wrap")
    fat = gaussian_filter1d(fat, 12, axis=0)
    fat = fat / fat.std() * rng.uniform(1.0, 2.8) + rng.uniform(-0.5, 2.2)
    fat = np.clip(fat + 3 * _bump(theta, septum + 1.2, 0.5) * rng.uniform(0, 1.5), 0, 14)
    return trabeculae, fat


def _papillaries(rng: np.random.Generator, septum: float) -> tuple[Papillary, Papillary]:
    """The two papillary muscles, opposite the septum."""
    swing = rng.uniform(-0.3, 0.3, 2)
    return (
        Papillary(septum + 2.45 + swing[0], rng.uniform(4.0, 6.5), rng.uniform(0.2, 0.35), rng.uniform(0.6, 0.78)),
        Papillary(septum - 1.9 + swing[1], rng.uniform(4.0, 6.5), rng.uniform(0.2, 0.35), rng.uniform(0.6, 0.78)),
    )


def _right_ventricle(rng: np.random.Generator, septum: float, pathology: str) -> np.ndarray:
    """The crescent's shape, to be scaled to its volume.

    Seen from the LV, whose wall has radius 1 here, a free wall lies across from the septum, and two walls leave the LV
    along tangents, where the RV is inserted: anterior, near the outflow tract, and inferior, along the diaphragm. Where
    they meet they are rounded off.
    """
    s = np.clip(_S, 0, 1)[:, None]
    offset = _wrapped(_THETA[None, :] - septum)  # anterior is positive: the septum is left, anterior up, rows run down
    narrowing = 1 - rng.uniform(0.1, 0.3) * s
    anterior = (rng.uniform(1.35, 1.65) + rng.uniform(0, 0.25) * (1 - s) ** 3) * narrowing
    inferior = rng.uniform(1.2, 1.5) * narrowing
    middle = rng.uniform(-0.05, 0.5) * narrowing
    far = rng.uniform(1.4, 1.7) if pathology == "RV" else rng.uniform(1.2, 1.45)
    inverse = sum(
        np.maximum(np.cos(offset - angle) / distance, 0.02) ** 7
        for angle, distance in ((anterior, 1.0), (middle, far), (-inferior, 1.0))
    )
    # What is left out are slivers between the walls that nobody would see, let alone label.
    crescent = np.clip(inverse ** (-2 / 7) - 1.15, 0, None) * (offset < anterior) * (offset > -inferior)
    # Towards the apex the corners go, and a plain crescent is left.
    plain = np.clip(0.75 - (offset / np.where(offset > 0, anterior, inferior)) ** 2, 0, None)
    crescent += (plain - crescent) * s
    tip = rng.uniform(0.78, 0.94)
    along = np.clip(1 - (s / tip) ** rng.uniform(1.3, 2.0), 0.08, 1) * (s < tip)
    along *= 1 - 0.2 * np.clip(1 - s / 0.2, 0, 1)
    closing = np.clip(1 - (np.minimum(_S, 0)[:, None] / 0.5) ** 2, 0, 1)
    return crescent * along * closing


def _wall(cavity: np.ndarray, uneven: np.ndarray, below: np.ndarray, target_ml: float, length: float) -> np.ndarray:
    """The wall between the cavity and an outer ellipsoid of such a size that the wall has its volume."""
    outer = np.clip(1 - below**2.4, 0, 1)
    base = cavity[_S == 0].mean()

    def between(thickness: float) -> np.ndarray:
        shell = (np.sqrt(base) + thickness) ** 2 * outer - cavity.mean(axis=1, keepdims=True)
        least = 2 * 3.0 * np.sqrt(cavity) * (below < 0.9)  # nowhere thinner than about 3 mm
        return np.maximum(shell * uneven, least)

    low, high = 1.0, 40.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if _ml(between(middle), 0, length) > target_ml else (middle, high)
    return between(low)


def _solve_ejection(cavity: np.ndarray, scar: np.ndarray, fraction: float, length: float) -> float:
    """What the healthy part must eject so that the whole ventricle ejects `fraction`."""
    working = _ml(cavity * (1 - 0.95 * scar), 0, length) / _ml(cavity, 0, length)
    return min(fraction / working, 0.8)


def _ml(table: np.ndarray, top: float, length: float) -> float:
    """The volume in ml of a table of squared radii from s = top on."""
    inside = top - 1e-9 <= _S
    areas = table[inside].sum(axis=1) * (np.pi / ANGLES)
    return float((areas.sum() - areas[0] / 2 - areas[-1] / 2) * (_S[1] - _S[0]) * length / 1000)


def _rows(table: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The table's rows at positions s, interpolated; 0 beyond the apex, the last row above the table."""
    place = np.clip((s - _S[0]) / (_S[1] - _S[0]), 0, len(_S) - 1)
    lower = np.minimum(place.astype(int), len(_S) - 2)
    weight = (place - lower)[:, None]
    return (table[lower] * (1 - weight) + table[lower + 1] * weight) * (s < 1)[:, None]


def _about(rng: np.random.Generator, mean: float, deviation: float) -> float:
    """A normal draw within two standard deviations."""
    return float(mean + deviation * np.clip(rng.standard_normal(), -2, 2))


def _bump(theta: np.ndarray, center: float, width: float) -> np.ndarray:
    """1 at an angle, falling to 0 around it as a Gaussian of this standard deviation."""
    return np.exp(-0.5 * (_wrapped(theta - center) / width) ** 2)


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    share = np.clip((values - low) / (high - low), 0, 1)
    return share**2 * (3 - 2 * share)
