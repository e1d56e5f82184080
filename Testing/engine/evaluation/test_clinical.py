"""Volumes, ejection fraction, mass and agreement against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from semicardiac.evaluation import clinical
from semicardiac.images.labels import get_label_set
from semicardiac.images.volumes import Volume

ACDC = get_label_set("acdc")


def test_volumes_of_an_oblique_anisotropic_grid():
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn * [1.5, 1.25, 8.0]
    array = np.zeros((3, 4, 5), np.uint8)
    array[0] = 1
    array[1, :2] = 3
    assert clinical.volumes_ml(Volume(array, matrix), ACDC) == {
        "RV cavity": pytest.approx(20 * 0.015), "LV myocardium": 0.0, "LV cavity": pytest.approx(10 * 0.015),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("edv", "esv", "expected"), [(150, 60, 60.0), (100, 100, 0.0), (80, 100, -25.0), (0, 0, math.nan)]
)
def test_ejection_fraction(edv, esv, expected):
    assert clinical.ejection_fraction(edv, esv) == pytest.approx(expected, nan_ok=True)


def test_measures_of_a_patient():
    ed = {"RV cavity": 160.0, "LV myocardium": 100.0, "LV cavity": 150.0}
    es = {"RV cavity": 80.0, "LV myocardium": 110.0, "LV cavity": 60.0}
    assert clinical.patient_measures(ed, es, ACDC) == {
        "lv_edv_ml": 150.0, "lv_esv_ml": 60.0, "lv_sv_ml": 90.0, "lv_ef_percent": 60.0,
        "lv_mass_g": pytest.approx(105.0),  # of the end-diastolic myocardium
        "rv_edv_ml": 160.0, "rv_esv_ml": 80.0, "rv_sv_ml": 80.0, "rv_ef_percent": 50.0,
    }  # fmt: skip


def test_measures_only_of_the_structures_that_the_label_set_has():
    cavity = ACDC.model_copy(update={"structures": ACDC.structures[2:]})
    measures = clinical.patient_measures({"LV cavity": 120.0}, {"LV cavity": 60.0}, cavity)
    assert list(measures) == ["lv_edv_ml", "lv_esv_ml", "lv_sv_ml", "lv_ef_percent"]


ED = {"RV cavity": 160.0, "LV myocardium": 100.0, "LV cavity": 150.0}
ES = {"RV cavity": 80.0, "LV myocardium": 110.0, "LV cavity": 60.0}
LV = {"lv_edv_ml", "lv_esv_ml", "lv_sv_ml", "lv_ef_percent"}
RV = {"rv_edv_ml", "rv_esv_ml", "rv_sv_ml", "rv_ef_percent"}


class TestImplausible:
    @pytest.mark.parametrize(
        ("ed", "es", "doubted", "why"),
        [
            ({}, {}, set(), ""),
            ({"LV cavity": 50.0}, {}, LV, "the LV volume is larger at end-systole than at end-diastole"),
            ({}, {"RV cavity": 160.0}, RV, "the RV volume is the same at end-systole as at end-diastole"),
            ({"LV cavity": 60.1}, {}, set(), ""),
            ({"LV cavity": 0.0}, {}, LV - {"lv_esv_ml"}, "the LV end-diastolic volume is 0 ml"),
            ({}, {"RV cavity": 0.0}, RV - {"rv_edv_ml"}, "the RV end-systolic volume is 0 ml"),
            ({"RV cavity": 1500.0}, {}, RV - {"rv_esv_ml"}, "no RV has an end-diastolic volume above 700 ml"),
            ({"LV cavity": 0.15}, {"LV cavity": 0.06}, LV - {"lv_esv_ml"}, "no LV has an end-diastolic volume below"),
            ({}, {"LV myocardium": 121.0}, {"lv_mass_g"}, "the LV mass differs between the phases by more than 20 %"),
            ({}, {"LV myocardium": 79.0}, {"lv_mass_g"}, "the LV mass differs between the phases by more than 20 %"),
            ({}, {"LV myocardium": 120.0}, set(), ""),
            ({}, {"LV myocardium": 0.0}, {"lv_mass_g"}, "the LV myocardium is empty at end-systole"),
            ({"LV myocardium": 700.0}, {"LV myocardium": 700.0}, {"lv_mass_g"}, "weighs more than 700 g"),
            (dict.fromkeys(ED, math.nan), dict.fromkeys(ED, math.nan), set(), ""),
        ],
    )
    def test_what_no_heart_has_is_named_by_measure(self, ed, es, doubted, why):
        found = clinical.implausible(ED | ed, ES | es, ACDC)
        assert set(found) == doubted
        assert all(why in doubt for doubt in found.values())

    def test_phases_the_wrong_way_round_doubt_all_but_the_mass(self):
        assert set(clinical.implausible(ES, ED, ACDC)) == LV | RV

    def test_a_single_volume_is_empty_or_too_large(self):
        volumes = {"RV cavity": 0.0, "LV myocardium": 100.0, "LV cavity": 701.0}
        assert set(clinical.implausible_volumes(volumes, ACDC)) == {"RV cavity", "LV cavity"}
        assert clinical.implausible_volumes(ES, ACDC) == {}


@pytest.mark.parametrize(
    ("sizes", "known", "phases"),
    [
        ([90, 120, 60, 80], (None, None), (1, 2)),
        ([90, 0, 60, math.nan], (None, None), (0, 2)),
        ([90, 120, 60, 80], (2, None), (2, 3)),  # the smallest was said to be ED
        ([90, 120, 60, 80], (None, 1), (0, 1)),
        ([90, 90, 90], (None, None), (0, 1)),
        ([0, 90, 0], (None, None), (1, None)),
        ([], (None, None), (None, None)),
        ([90, 120], (1, 1), (1, 1)),
    ],
)
def test_phases_of_a_cycle_are_two_frames_that_have_a_cavity(sizes, known, phases):
    assert clinical.cycle_phases(sizes, *known) == phases


def test_percentages_differ_by_points():
    assert [clinical.difference_unit(each) for each in ("lv_ef_percent", "lv_mass_g")] == ["points", "g"]


class TestAgreement:
    def test_hand_computed(self):
        found = clinical.agreement([52.0, 60.0, 41.0], [50.0, 61.0, 36.0])  # differences 2, -1, 5: mean 2, sd 3
        assert found == clinical.Agreement(n=3, bias=2.0, sd=3.0, lower=pytest.approx(-3.88), upper=pytest.approx(7.88))

    def test_pairs_with_a_nan_are_left_out_and_counted_so(self):
        assert clinical.agreement([52.0, math.nan, 41.0], [50.0, 61.0, math.nan]).n == 1

    def test_what_cannot_be_said_is_nan(self):
        one = clinical.agreement([52.0], [50.0])
        assert one.bias == 2.0
        assert math.isnan(one.sd)
        assert math.isnan(one.upper)
        assert math.isnan(clinical.agreement([], []).bias)

    def test_needs_pairs(self):
        with pytest.raises(ValueError, match="shorter"):
            clinical.agreement([1.0, 2.0], [1.0])
