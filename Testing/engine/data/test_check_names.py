"""What names tell: label tables that contradict the label set, and volumes that look like one patient's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from semicardiac.data.check_names import check_names
from semicardiac.data.checks import check_cases
from semicardiac.data.discover import discover
from semicardiac.data.findings import Finding
from semicardiac.images.labels import get_label_set

from Testing.engine.data.odd_images import ACDC, SMALL_BATCHES, make_image, make_labels, write
from Testing.engine.data.support import labeled, make_case


class TestTableOfNnunet:
    def check(self, folder: Path, labels: dict) -> list[Finding]:
        data = folder / "Dataset001"
        for number in (1, 2):
            write(data / "imagesTr" / f"p{number}_0000.nii.gz", make_image(number))
        write(data / "labelsTr" / "p1.nii.gz", make_labels())
        (data / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
        return check_cases(discover([folder]), ACDC, SMALL_BATCHES)

    def test_swapped_ventricles_stop(self, tmp_path):
        (finding,) = self.check(tmp_path, {"background": 0, "LV": 1, "MYO": 2, "RV": 3})
        assert finding.level == "error"
        assert "1 is 'LV' in dataset.json and 'RV cavity' in the set, 3 is 'RV' in" in finding.what
        assert finding.where == str(tmp_path / "Dataset001" / "dataset.json")
        assert f"Take the labels of the data set, {finding.where}, or" in finding.hint

    def test_the_labels_of_the_data_set_fit_it(self, tmp_path):
        self.check(tmp_path, {"background": 0, "LV": 1, "MYO": 2, "RV": 3})
        own = get_label_set(tmp_path / "Dataset001" / "dataset.json")
        assert check_cases(discover([tmp_path]), own, SMALL_BATCHES) == []

    @pytest.mark.parametrize(
        "names",
        [("RV", "MYO", "LV"), ("right ventricle", "Myocardium", "left ventricle"), ("RV-Cavity", "LVM", "LVBP")],
    )
    def test_names_are_matched_loosely(self, tmp_path, names):
        old = {"0": "background"} | {str(value): name for value, name in enumerate(names, start=1)}
        new = {"background": 0} | {name: value for value, name in enumerate(names, start=1)}
        assert self.check(tmp_path, old) == self.check(tmp_path, new) == []

    def test_a_name_that_is_not_understood_is_a_warning(self, tmp_path):
        (finding,) = self.check(tmp_path, {"background": 0, "chamber": 1, "MYO": 2, "LV": 3})
        assert finding.level == "warning"
        assert "1 is 'chamber' in dataset.json and 'RV cavity' in the set" in finding.what

    def test_a_table_of_regions_is_a_warning(self, tmp_path):
        (finding,) = self.check(tmp_path, {"background": 0, "heart": [1, 2, 3], "MYO": 2})
        assert finding.level == "warning"
        assert "region-based labels" in finding.what

    def test_a_list_of_labels_is_something_else(self, tmp_path):
        assert self.check(tmp_path, ["LV", "MYO"]) == []


class TestPatients:
    def findings(self, *names: str) -> list[str]:
        """What is said of patients who look alike, whatever else is wrong with volumes that are not there."""
        found = check_cases([make_case(name) for name in names], ACDC, SMALL_BATCHES)
        return [finding.what for finding in found if "look like one patient" in finding.what]

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            (["subj002_phase1", "subj002_phase2", "subj003_phase1"], "subj002_phase1 and subj002_phase2 look like one"),
            (["anna-systole", "anna-diastole"], "anna-systole and anna-diastole look like one"),
            (["anna_sys", "anna_dia"], "anna_sys and anna_dia look like one"),
            (
                ["s01_1", "s01_2", "s02_1", "s02_2"],
                r"s01_1 and s01_2 look like one patient, .* \(and so do 1 more group\)",
            ),
            (["s01_t1", "s01_t2", "s02_t1", "s02_t2"], "s01_t1 and s01_t2 look like one"),
            (["p01_v1_sax", "p01_v2_sax", "p02_v1_sax"], "p01_v1_sax and p01_v2_sax look like one"),
            (["p01_visit1", "p01_visit2", "p01_visit3", "p01_visit4"], r"p01_visit3 and 1 more look .* as 4 patients"),
            (["anna_baseline", "anna_followup", "bob_baseline"], "anna_baseline and anna_followup look like one"),
            (["p01_cine", "p01_follow-up_cine"], "p01_cine and p01_follow-up_cine look like one"),
            (["p01_2019-04-30", "p01_20200501"], "p01_2019-04-30 and p01_20200501 look like one"),
            (["baseline_p01", "followup_p01", "baseline_p02"], "baseline_p01 and followup_p01 look like one"),
            (["001_SA", "001_LA", "002_SA", "002_LA"], r"001_SA and 001_LA look like one .* \(and so do 1 more group"),
            (["train_101_C0", "train_101_LGE", "train_101_T2"], "train_101_C0, train_101_LGE and train_101_T2 look"),
            (["P01", "p01"], "P01 and p01 look like one"),
        ],
    )
    def test_volumes_that_are_probably_of_one(self, names, said):
        (what,) = self.findings(*names)
        assert re.search(said, what)

    @pytest.mark.parametrize(
        "pattern",
        [
            "patient{:03d}",
            "case_{}",
            "img{}",
            "mr_train_{}",
            "site1_{:02d}",
            "acdc2017_case_{}",
            "3T_{}",
            "scan {}",
            "healthy_v{}",
            "site1_scan{}",
            "visit{}",
            "{}_visit1",
            "rest_{:02d}",
            "{:03d}_SA",
            "lge {}",
        ],
    )
    def test_numbers_that_tell_patients(self, pattern):
        assert self.findings(*(pattern.format(number) for number in (*range(1, 15), 1001, 1002))) == []

    def test_a_few_volunteers_are_no_visits(self):
        assert self.findings("healthy_v1", "healthy_v2", "healthy_v3") == []

    def test_visits_of_one_patient_with_several_volumes_each(self):
        cases = [make_case(f"p01_{visit}_{phase}", f"p01_{visit}") for visit in ("v1", "v2") for phase in ("ED", "ES")]
        (finding,) = [each for each in check_names(cases, ACDC) if "look like" in each.what]
        assert finding.what == "p01_v1 and p01_v2 look like one patient, and count as 2 patients"

    def test_visits_on_both_sides_of_a_split(self):
        sound = [make_case(f"p0{patient}_v{visit}") for patient in (1, 2) for visit in (1, 2)]
        torn = [labeled("p03_v1"), labeled("p03_v2").with_role("validation")]
        (finding,) = [each for each in check_names([*sound, *torn], ACDC) if "look like" in each.what]
        assert finding.level == "warning"
        assert finding.what.startswith("p03_v1 and p03_v2 look like one patient")
        assert "of whom some are trained on and some validate (and so do 2 more groups)" in finding.what

    def test_a_patient_who_is_named_is_no_doubt(self):
        cases = [make_case(f"subj002_phase{number}", "subj002") for number in (1, 2)]
        assert not any("look like" in finding.what for finding in check_cases(cases, ACDC, SMALL_BATCHES))
