"""Giving cases their roles: published protocols and drawn splits."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semicardiac.base.errors import UserError
from semicardiac.data import splits
from semicardiac.data.cases import Case, split

from Testing.engine.data.support import DATA, labeled, make_case, table


def acdc_cases(numbers: range = range(1, 101)) -> list[Case]:
    return [
        labeled(f"patient{number:03d}_{phase}", f"patient{number:03d}") for number in numbers for phase in ("ED", "ES")
    ]


def patients_by_role(cases: list[Case]) -> dict[str, set[str]]:
    patients = defaultdict(set)
    for case in cases:
        patients[case.role].add(case.patient)
    return patients


class TestPublishedSplits:
    def test_facts(self):
        assert len(set(splits.P70_TRAINING)) == 70
        assert len(set(splits.P70_VALIDATION)) == 10
        assert not set(splits.P70_TRAINING) & set(splits.P70_VALIDATION)
        for count, names in splits.P80_LABELED.items():
            assert len(set(names)) == count
            assert set(names) <= set(splits.P80_TRAINING)

    @pytest.mark.data
    @pytest.mark.skipif(not DATA.is_dir(), reason=f"no real volumes at {DATA}")
    def test_the_lists_are_those_of_the_data(self):
        given_lists = json.loads((DATA / "acdc" / "splits.json").read_text())
        assert list(splits.P70_TRAINING) == given_lists["train_patients"]
        assert list(splits.P70_VALIDATION) == given_lists["val_patients"]
        assert [list(names) for names in splits.P80_LABELED.values()] == list(
            given_lists["ssci_80_20"]["labelled"].values()
        )
        for count, names in given_lists["labelled"].items():
            roles = patients_by_role(split(acdc_cases(), protocol="p70", labeled=int(count)))
            assert roles["labeled"] == set(names)

    def test_p70(self):
        roles = patients_by_role(split(acdc_cases(), protocol="p70", labeled=7))
        assert {role: len(patients) for role, patients in roles.items()} == {
            "labeled": 7,
            "unlabeled": 63,
            "validation": 10,
            "ignore": 20,
        }
        assert roles["labeled"] == {f"patient{number:03d}" for number in (99, 38, 50, 100, 58, 21, 49)}

    @pytest.mark.parametrize(
        ("share", "count"), [(0.1, 7), (0.05, 4), (0.2, 14), (0.001, 1), (1, 1), (1.0, 70), (70, 70)]
    )
    def test_p70_by_share_or_count(self, share, count):
        assert len(patients_by_role(split(acdc_cases(), protocol="p70", labeled=share))["labeled"]) == count

    @pytest.mark.parametrize(("asked", "count"), [(None, 8), (8, 8), (0.1, 8), (2, 2), (0.025, 2), (1, 1), (0.0125, 1)])
    def test_p80(self, asked, count):
        roles = patients_by_role(split(acdc_cases(), protocol="p80", labeled=asked))
        assert len(roles["labeled"]) == count
        assert len(roles["unlabeled"]) == 80 - count
        assert not roles["validation"]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"protocol": "p70", "labeled": 71}, "71 of 70 patients"),
            ({"protocol": "p70", "labeled": 0}, "0 of 70 patients"),
            ({"protocol": "p70", "labeled": 2.5}, r"share of 2\.5 of 70"),
            ({"protocol": "p70", "validation": 5}, "validation patients of p70 are fixed"),
            ({"protocol": "p80", "labeled": 7}, r"no list of 7 labeled patients. Choose 1, 2, 8"),
            ({"protocol": "p71"}, r"Did you mean 'p7"),
            ({"protocol": "10%"}, "A share goes with --labeled"),
            ({"protocol": "mmwhs"}, r"100 patients are neither MR nor CT by their names: patient001"),
            ({"protocol": "fraction", "validation": 100, "labeled": 3}, "3 of 0 patients.*Ask for fewer of the others"),
        ],
    )
    def test_mistakes(self, options, said):
        with pytest.raises(UserError, match=said):
            split(acdc_cases(), **options)

    def test_data_of_another_kind(self):
        with pytest.raises(
            UserError, match=r"7 of the 7 labeled patients of p70 are not there.*patient099.*'fraction'"
        ):
            split([labeled("mr_train_1001")], protocol="p70")

    def test_a_labeled_patient_without_labels(self):
        cases = [case.with_role("unlabeled") if case.patient == "patient038" else case for case in acdc_cases()]
        with pytest.raises(UserError, match="1 of the 7 labeled patients of p70 have no labels: patient038"):
            split(cases, protocol="p70")


class TestDrawnSplits:
    @given(st.integers(1, 12), st.integers(0, 5), st.integers(0, 50))
    def test_a_patient_has_one_role_and_hidden_labels_stay_hidden(self, count, held_out, seed):
        cases = split(acdc_cases(range(1, 18)), protocol="fraction", labeled=count, validation=held_out, seed=seed)
        roles = patients_by_role(cases)
        assert (len(roles["labeled"]), len(roles["validation"])) == (count, held_out)
        assert len(roles["unlabeled"]) == 17 - count - held_out
        assert sum(len(patients) for patients in roles.values()) == 17  # none stands twice
        assert all((case.labels is None) == (case.role == "unlabeled") for case in cases)

    def test_more_labels_keep_the_ones_before_and_the_validation(self):
        few, many = (
            patients_by_role(split(acdc_cases(), protocol="fraction", labeled=count, validation=0.1, seed=3))
            for count in (5, 20)
        )
        assert few["labeled"] < many["labeled"]
        assert few["validation"] == many["validation"]
        assert len(few["validation"]) == 10

    def test_the_seed_draws_and_the_order_of_the_cases_does_not(self):
        chosen = [
            patients_by_role(split(cases, protocol="fraction", labeled=10, seed=seed))["labeled"]
            for cases, seed in ((acdc_cases(), 0), (acdc_cases()[::-1], 0), (acdc_cases(), 1))
        ]
        assert chosen[0] == chosen[1] != chosen[2]

    def test_without_a_number_all_labels_are_used(self):
        cases = [*acdc_cases(range(1, 6)), make_case("x")]
        roles = patients_by_role(split(cases, protocol="fraction", validation=2))
        assert {role: len(patients) for role, patients in roles.items()} == {
            "labeled": 3,
            "validation": 2,
            "unlabeled": 1,
        }

    def test_only_patients_with_labels_are_drawn(self):
        cases = [*acdc_cases(range(1, 4)), *(make_case(f"u{index}") for index in range(20))]
        roles = patients_by_role(split(cases, protocol="fraction", labeled=2, validation=1))
        assert roles["labeled"] | roles["validation"] == {"patient001", "patient002", "patient003"}
        with pytest.raises(
            UserError, match="4 labeled and 0 validation patients are asked for, but of 23 patients only 3"
        ):
            split(cases, protocol="fraction", labeled=4)

    def test_no_labels_are_left(self):
        with pytest.raises(UserError, match="1 labeled and 3 validation"):
            split(acdc_cases(range(1, 4)), protocol="fraction", validation=3)

    def test_a_frame_without_labels_of_a_labeled_patient_is_left_out(self):
        cases = [labeled("p1_a", "p1"), make_case("p1_b", "p1"), make_case("p2")]
        assert table(split(cases, protocol="fraction", labeled=1), "name", "role") == [
            ("p1_a", "labeled"),
            ("p1_b", "ignore"),
            ("p2", "unlabeled"),
        ]

    @pytest.mark.parametrize(("share", "count"), [(0.1, 2), (0.2, 4), (0.4, 8)])
    def test_mmwhs_takes_the_same_share_of_mr_and_ct(self, share, count):
        cases = [labeled(f"{modality}_train_{1000 + index}") for modality in ("mr", "ct") for index in range(20)]
        chosen = patients_by_role(split(cases, protocol="mmwhs", labeled=share))["labeled"]
        assert sum(name.startswith("mr") for name in chosen) == count
        assert sum(name.startswith("ct") for name in chosen) == count

    def test_given_roles_stay(self):
        cases = [labeled("a"), make_case("b")]
        assert split(cases) == cases
