"""What a cardiologist reads off a segmentation: ventricular volumes, ejection fraction, myocardial mass.

And whether that can be of a heart: see `implausible`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..base.statistics import mean_and_sd
from ..base.text import is_number
from ..images.labels import ClinicalRole, LabelSet
from ..images.volumes import Volume

MYOCARDIUM_G_PER_ML = 1.05

#: Every measure of `patient_measures` in reading order: what it is called, and its unit.
MEASURES: dict[str, tuple[str, str]] = {
    "lv_edv_ml": ("LV end-diastolic volume", "ml"),
    "lv_esv_ml": ("LV end-systolic volume", "ml"),
    "lv_sv_ml": ("LV stroke volume", "ml"),
    "lv_ef_percent": ("LV ejection fraction", "%"),
    "lv_mass_g": ("LV mass", "g"),
    "rv_edv_ml": ("RV end-diastolic volume", "ml"),
    "rv_esv_ml": ("RV end-systolic volume", "ml"),
    "rv_sv_ml": ("RV stroke volume", "ml"),
    "rv_ef_percent": ("RV ejection fraction", "%"),
}
_UNITS = {"edv": "ml", "esv": "ml", "sv": "ml", "ef": "percent"}


#: What the cavities of human hearts hold at end-diastole, in ml: from half of what a newborn of 1 kg has to about three
#: times the upper limits of healthy men (LV 218, RV 248), which no dilated heart that we know of comes near.
#: Limits: Kawel-Boehm et al., J Cardiovasc Magn Reson 2020, doi:10.1186/s12968-020-00683-3.
CAVITY_ML = (0.5, 700.0)
#: The most that the myocardium of the left ventricle weighs, in g; about four times the limit of healthy men.
MASS_MAX_G = 700.0
_MOST_ML: dict[ClinicalRole, float] = {
    "lv": CAVITY_ML[1],
    "rv": CAVITY_ML[1],
    "myo": MASS_MAX_G / MYOCARDIUM_G_PER_ML,
}
#: The myocardium is the same at both phases (Le et al., J Cardiovasc Magn Reson 2016, PMC4830061: 3.0 ± 2.5 g apart);
#: by more than this share of its mass it is not.
MASS_CHANGE_MAX = 0.2


@dataclass(frozen=True)
class Agreement:
    """Bland-Altman agreement of a measurement with a reference, in the unit of both.

    `bias` is the mean of measurement minus reference, `sd` the standard deviation of these differences (n - 1),
    `lower` and `upper` the 95 % limits of agreement, bias ± 1.96 sd. Pairs with a NaN are left out of `n`.
    """

    n: int
    bias: float
    sd: float
    lower: float
    upper: float


def difference_unit(measure: str) -> str:
    """The unit of a difference of two values: percentages differ by points."""
    unit = MEASURES[measure][1]
    return "points" if unit == "%" else unit


def volumes_ml(labels: Volume, label_set: LabelSet) -> dict[str, float]:
    """The volume of each structure in ml, from training labels; 0 for one that is not there."""
    counts = np.bincount(labels.array.ravel(), minlength=label_set.classes)
    return {name: float(counts[label] * labels.voxel_ml) for label, name in enumerate(label_set.names, start=1)}


def ejection_fraction(edv_ml: float, esv_ml: float) -> float:
    """Share of the end-diastolic volume that is ejected, in percent; NaN where there is no such volume."""
    return 100 * (edv_ml - esv_ml) / edv_ml if edv_ml > 0 else float("nan")


def patient_measures(ed_ml: Mapping[str, float], es_ml: Mapping[str, float], label_set: LabelSet) -> dict[str, float]:
    """Volumes, stroke volume and ejection fraction of both ventricles, and LV mass at end-diastole.

    Args:
        ed_ml: Volume of each structure by name, at end-diastole.
        es_ml: The same at end-systole.
        label_set: Says by its roles which structures are the cavities and the myocardium.

    Returns:
        The entries of `MEASURES` for which the label set has structures.
    """
    names = {structure.role: structure.name for structure in label_set.structures if structure.role}
    measures = {}
    for ventricle in ("lv", "rv"):
        if ventricle in names:
            edv, esv = ed_ml[names[ventricle]], es_ml[names[ventricle]]
            measures[f"{ventricle}_edv_ml"] = edv
            measures[f"{ventricle}_esv_ml"] = esv
            measures[f"{ventricle}_sv_ml"] = edv - esv
            measures[f"{ventricle}_ef_percent"] = ejection_fraction(edv, esv)
    if "myo" in names:
        measures["lv_mass_g"] = ed_ml[names["myo"]] * MYOCARDIUM_G_PER_ML
    return {measure: measures[measure] for measure in MEASURES if measure in measures}


def implausible(ed_ml: Mapping[str, float], es_ml: Mapping[str, float], label_set: LabelSet) -> dict[str, str]:
    """Which of the `patient_measures` cannot be those of a heart.

    A volume that is 0 or beyond `CAVITY_ML`, an end-systole that is not smaller than end-diastole (so that the ejection
    fraction lies outside 0 to 100 %), and a mass beyond `MASS_MAX_G` or that differs between the phases by more than
    `MASS_CHANGE_MAX`. What is derived from a doubtful volume is doubtful too; a NaN is no value, and not doubted.

    Args:
        ed_ml: Volume of each structure by name, at end-diastole.
        es_ml: The same at end-systole.
        label_set: Says by its roles which structures are the cavities and the myocardium.

    Returns:
        What is wrong, by measure, in the order of `MEASURES`.
    """
    names = {structure.role: structure.name for structure in label_set.structures if structure.role}
    doubts: dict[str, str] = {}
    for ventricle in ("lv", "rv"):
        if ventricle in names:
            doubts |= _doubts_of_ventricle(ventricle, ed_ml[names[ventricle]], es_ml[names[ventricle]])
    if "myo" in names and (doubt := _doubt_of_mass(ed_ml[names["myo"]], es_ml[names["myo"]])):
        doubts["lv_mass_g"] = doubt
    return {measure: doubts[measure] for measure in MEASURES if measure in doubts}


def implausible_volumes(volumes: Mapping[str, float], label_set: LabelSet) -> dict[str, str]:
    """Which structures of one volume cannot be those of a heart, at any phase: what is wrong, by structure.

    Args:
        volumes: Volume of each structure by name, in ml.
        label_set: Says by its roles which structures are the cavities and the myocardium.
    """
    doubts = {}
    for structure in label_set.structures:
        volume = volumes[structure.name]
        most = _MOST_ML[structure.role] if structure.role else None
        if most is not None and volume == 0:
            doubts[structure.name] = f"{structure.name} is empty"
        elif most is not None and volume > most:
            doubts[structure.name] = f"no heart has {structure.name} of more than {most:.0f} ml"
    return doubts


def _doubts_of_ventricle(ventricle: str, edv: float, esv: float) -> dict[str, str]:
    name = ventricle.upper()
    doubts = {}
    for key, phase, volume in (("edv", "end-diastolic", edv), ("esv", "end-systolic", esv)):
        least, most = CAVITY_ML
        if volume == 0:
            doubts[key] = f"the {name} {phase} volume is 0 ml"
        elif volume > most or (key == "edv" and volume < least):
            bound = f"above {most:g}" if volume > most else f"below {least:g}"
            doubts[key] = f"no {name} has an {phase} volume {bound} ml"
    if esv >= edv > 0:
        than = "the same at end-systole as" if esv == edv else "larger at end-systole than"
        doubts["edv"] = doubts["esv"] = f"the {name} volume is {than} at end-diastole"
    if doubts:
        doubts["sv"] = doubts["ef"] = doubts.get("edv") or doubts["esv"]
    return {f"{ventricle}_{key}_{_UNITS[key]}": doubt for key, doubt in doubts.items()}


def _doubt_of_mass(ed_ml: float, es_ml: float) -> str:
    if ed_ml == 0 or es_ml == 0:
        return f"the LV myocardium is empty at end-{'diastole' if ed_ml == 0 else 'systole'}"
    if ed_ml * MYOCARDIUM_G_PER_ML > MASS_MAX_G:
        return f"no LV myocardium weighs more than {MASS_MAX_G:g} g"
    if abs(es_ml - ed_ml) > MASS_CHANGE_MAX * ed_ml:
        return f"the LV mass differs between the phases by more than {100 * MASS_CHANGE_MAX:g} %"
    return ""


def cycle_phases(
    cavity_ml: Sequence[float], ed: int | None = None, es: int | None = None
) -> tuple[int | None, int | None]:
    """Which frames of a heart cycle are end-diastole and end-systole: where the LV cavity is largest and smallest.

    Args:
        cavity_ml: The volume of the LV cavity in each frame; a frame without one (0 or NaN) is neither.
        ed: End-diastole, where it is known.
        es: End-systole, where it is known.

    Returns:
        Two different frames, unless both are given; None for what cannot be told.
    """
    filled = [frame for frame, volume in enumerate(cavity_ml) if volume > 0]
    if ed is None:
        ed = max((frame for frame in filled if frame != es), key=lambda frame: cavity_ml[frame], default=None)
    if es is None:
        es = min((frame for frame in filled if frame != ed), key=lambda frame: cavity_ml[frame], default=None)
    return ed, es


def agreement(measured: Sequence[float], reference: Sequence[float]) -> Agreement:
    """Bias and 95 % limits of agreement of paired measurements.

    Limits need two pairs and the bias one; what cannot be said is NaN.

    Raises:
        ValueError: If the two differ in length.
    """
    differences = [one - other for one, other in zip(measured, reference, strict=True)]
    bias, sd = mean_and_sd(differences)
    n = sum(map(is_number, differences))
    return Agreement(n=n, bias=bias, sd=sd, lower=bias - 1.96 * sd, upper=bias + 1.96 * sd)
