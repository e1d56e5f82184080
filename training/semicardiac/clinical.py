"""What a cardiologist reads off a segmentation: ventricular volumes, ejection fraction, myocardial mass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .labels import LabelSet
from .volumes import Volume
from .wording import is_number, mean_and_sd

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
