"""Folders of segmentations against references: matching by name, tables, means, worst volume, clinical agreement."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from semicardiac.base.errors import Stopped, UserError
from semicardiac.base.events import EventLog, Progress, Result, Warned
from semicardiac.evaluation import evaluate
from semicardiac.evaluation.averages import parse_summary
from semicardiac.evaluation.matching import match
from semicardiac.evaluation.metrics import METRICS
from semicardiac.images.volumes import Volume, write_series, write_volume

from Testing.engine.evaluation.support import (
    ACDC,
    flat_image,
    labels_of,
    read_rows,
    write_acdc,
    write_labels_of,
    write_segmented_study,
)


@pytest.fixture
def study(tmp_path):
    return write_segmented_study(tmp_path)


class TestTimeSeries:
    """Segmentations of a cine whose first and third frame have other references than its second one."""

    @pytest.fixture
    def series(self) -> list[Volume]:
        return [labels_of(20, 20, 20), labels_of(12, 20, 12), labels_of(10, 20, 8)]

    def write(self, path: Path, frames: list[Volume]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_series(path, [frame.with_array(ACDC.to_source(frame.array)) for frame in frames])

    def lv_dice(self, tmp_path: Path) -> dict[str, float]:
        rows = evaluate.evaluate_folder(tmp_path / "p", tmp_path / "r", ACDC, tmp_path / "out").rows
        return {row["case"]: row["dice"] for row in rows if row["structure"] == "LV cavity"}

    @pytest.mark.parametrize("images", [True, False])
    @pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
    def test_series_against_series(self, tmp_path, series, suffix, images):
        self.write(tmp_path / "p" / f"cine{suffix}", [series[0], series[1], series[1]])
        self.write(tmp_path / "r" / f"cine_gt{suffix}", series)
        if images:
            write_series(tmp_path / "r" / f"cine{suffix}", [flat_image()] * 3)
        expected = {"cine_frame01": 1.0, "cine_frame02": 1.0, "cine_frame03": 2 * 8 / 20}
        assert self.lv_dice(tmp_path) == pytest.approx(expected)
        assert (tmp_path / "out" / "overlays" / "cine_frame03.png").exists() == images

    def test_series_against_the_frames_of_acdc(self, tmp_path, series):
        self.write(tmp_path / "p" / "patient001_4d.nii.gz", series)
        write_acdc(tmp_path / "r", "patient001", {"frame01": series[0], "frame03": series[1]})
        assert self.lv_dice(tmp_path) == pytest.approx({"patient001_frame01": 1.0, "patient001_frame03": 2 * 8 / 20})
        assert read_rows(tmp_path / "out" / "clinical.csv")  # ED and ES of one patient

    @pytest.mark.parametrize("name", ["cine_4d", "cine"])
    def test_frames_against_a_series(self, tmp_path, series, name):
        write_labels_of(tmp_path / "p", "cine_frame03.seg.nrrd", series[1])
        self.write(tmp_path / "r" / f"{name}_gt.nii.gz", series)
        write_series(tmp_path / "r" / f"{name}.nii.gz", [flat_image()] * 3)
        assert self.lv_dice(tmp_path) == pytest.approx({"cine_frame03": 2 * 8 / 20})

    def test_series_against_a_frame_with_a_name_of_its_own(self, tmp_path, series):
        self.write(tmp_path / "p" / "cine.nii.gz", series)
        write_series(tmp_path / "r" / "cine.nii.gz", [flat_image()] * 3)
        write_labels_of(tmp_path / "r", "systole.nii.gz", series[1])
        rows = "image,labels,frame,name,phase\ncine.nii.gz,systole.nii.gz,2,anna,ES\n"
        (tmp_path / "r" / "cases.csv").write_text(rows, encoding="utf-8")
        assert self.lv_dice(tmp_path) == pytest.approx({"cine_frame03": 2 * 8 / 20})

    def test_frames_without_reference_are_no_strangers(self, tmp_path, series):
        self.write(tmp_path / "p" / "patient001_4d.nii.gz", series)
        write_acdc(tmp_path / "r", "patient001", {"frame01": series[0]})
        pairs, unmatched, _ = match(tmp_path / "p", tmp_path / "r")
        assert [(pair.case, pair.prediction_frame, pair.frame) for pair in pairs] == [("patient001_frame01", 0, None)]
        assert unmatched == []


class TestCroppedSegmentations:
    """As Slicer saves them: nothing but the box around the segments, on the voxels of the image."""

    def crop(self, path: Path, labels: Volume) -> None:
        matrix = labels.ijk_to_ras.copy()
        matrix[:3, 3] += matrix[:3, :3] @ (1, 1, 0)  # columns, rows, slices left out
        write_labels_of(path.parent, path.name, Volume(labels.array[:, 1:-1, 1:], matrix))
        header, _, voxels = path.read_bytes().partition(b"\n\n")
        lines = [line for line in header.split(b"\n") if not line.startswith(b"Segmentation_ConversionParameters")]
        path.write_bytes(b"\n".join(lines) + b"\n\n" + voxels)

    @pytest.mark.parametrize("images", [True, False])
    @pytest.mark.parametrize("cropped", ["p", "r", "both"])
    def test_lie_on_the_grid_of_the_image_or_of_each_other(self, tmp_path, cropped, images):
        for folder, labels in (("p", labels_of(20, 20, 20, shift=11)), ("r", labels_of(20, 20, 20, shift=1))):
            if cropped in (folder, "both"):
                self.crop(tmp_path / folder / "a.seg.nrrd", labels)
            else:
                write_labels_of(tmp_path / folder, "a.nii.gz" if folder == "p" else "a_gt.nii.gz", labels)
        if images:
            write_volume(tmp_path / "r" / "a.nii.gz", flat_image())
        result = evaluate.evaluate_folder(tmp_path / "p", tmp_path / "r", ACDC, tmp_path / "out")
        assert [row["dice"] for row in result.rows] == [0.5] * 3
        assert len(result.summary["overlays"]) == images


def told(events, *, of_values: bool = False) -> list[str]:
    """Warnings of the files, or those of values that cannot be of a heart: patient002 has some at ES."""
    warnings = [event for event in events if isinstance(event, Warned)]
    return [event.warning for event in warnings if (event.where == "clinical.csv") == of_values]


class TestEvaluateFolder:
    def test_long_table(self, study):
        evaluate.evaluate_folder(study[0], study[1], ACDC, study[2])
        rows = read_rows(study[2] / "metrics.csv")
        assert len(rows) == 4 * 3
        row = next(row for row in rows if row["case"] == "patient001_frame12" and row["structure"] == "LV cavity")
        assert float(row["dice"]) == pytest.approx(2 * 8 / 18, rel=1e-5)
        assert row["phase"] == "ES"
        assert (row["prediction_ml"], row["reference_ml"]) == ("0.32", "0.4")
        shifted = next(row for row in rows if row["case"] == "patient002_frame01" and row["structure"] == "RV cavity")
        assert (shifted["dice"], shifted["hd95_mm"], shifted["hd95_voxels"]) == ("0.5", "18.1", "9.05")
        missed = next(
            row for row in rows if row["case"] == "patient002_frame09" and row["structure"] == "LV myocardium"
        )
        assert (missed["dice"], missed["hd95_mm"]) == ("0", "")

    def test_means_leave_out_and_count_what_is_undefined(self, study):
        summary = evaluate.evaluate_folder(study[0], study[1], ACDC, study[2]).summary
        rv = summary["metrics"]["RV cavity"]
        assert rv["dice"] == {
            "mean": pytest.approx((1 + 1 + 0.5) / 3),
            "sd": pytest.approx(math.sqrt(1 / 12)),
            "n": 3,
            "undefined": 1,
        }
        assert (rv["both_empty"], rv["missed"], rv["invented"]) == (1, 0, 0)
        myo = summary["metrics"]["LV myocardium"]
        assert myo["dice"]["mean"] == pytest.approx((1 + 1 + 0.5 + 0) / 4)
        assert myo["missed"] == 1
        assert myo["hd95_mm"]["undefined"] == 1
        ed, es = summary["by_phase"]["ED"], summary["by_phase"]["ES"]
        assert ed["mean"]["dice"]["mean"] == pytest.approx(0.75)
        assert es["mean"]["dice"]["mean"] == pytest.approx(np.mean([(1 + 1 + 16 / 18) / 3, (0 + 1) / 2]))

    def test_worst_volume_by_name(self, study):
        worst = evaluate.evaluate_folder(study[0], study[1], ACDC, study[2]).summary["worst"]
        assert worst["case"] == "patient002_frame01"
        assert worst["mean_dice"] == pytest.approx(0.5)

    def test_ejection_fraction_against_the_reference(self, study):
        result = evaluate.evaluate_folder(study[0], study[1], ACDC, study[2])
        rows = {(row["patient"], row["measure"]): row for row in read_rows(study[2] / "clinical.csv")}
        lv = rows["patient001", "lv_ef_percent"]
        assert (lv["prediction"], lv["reference"], lv["difference"], lv["unit"]) == ("60", "50", "10", "%")
        assert float(rows["patient002", "rv_esv_ml"]["prediction"]) == 0
        assert float(rows["patient001", "lv_mass_g"]["reference"]) == pytest.approx(20 * 0.04 * 1.05)
        agreement = result.summary["agreement"]["lv_ef_percent"]
        assert (agreement["n"], agreement["bias"]) == (2, pytest.approx(5.0))

    def test_json_is_json_and_holds_the_same(self, study):
        result = evaluate.evaluate_folder(study[0], study[1], ACDC, study[2])
        text = (study[2] / "metrics.json").read_text()
        assert "NaN" not in text
        stored = json.loads(text)
        assert stored["metrics"]["LV cavity"]["dice"]["mean"] == pytest.approx(
            result.summary["metrics"]["LV cavity"]["dice"]["mean"]
        )
        assert stored["worst"]["dice"]["RV cavity"] == 0.5

    @pytest.mark.parametrize("metric", METRICS)
    def test_what_is_read_back_has_each_metric(self, study, metric):
        evaluate.evaluate_folder(study[0], study[1], ACDC, study[2])
        stored = json.loads((study[2] / "metrics.json").read_text())
        assert parse_summary(stored, ACDC, where="here")["metrics"].keys() == stored["metrics"].keys()
        del stored["metrics"]["LV cavity"][metric]
        with pytest.raises(UserError, match=rf"metrics\.LV cavity\.{metric}"):
            parse_summary(stored, ACDC, where="here")

    def test_table_for_a_person(self, study):
        table = evaluate.evaluate_folder(study[0], study[1], ACDC, study[2]).table
        assert "4 volumes of 2 patients" in table
        assert "0.833 ± 0.289" in table  # RV cavity
        assert "LV myocardium is missed altogether in 1 volume: Dice 0, no distance" in table
        assert "worst volume: patient002_frame01, mean Dice 0.500" in table
        assert "LV ejection fraction: bias +5.0 points, 95 % limits" in table
        assert "RV ejection fraction: bias +0.0 points (1 patient, 1 left out as implausible)" in table

    def test_pictures_from_the_worst_to_the_best(self, study):
        result = evaluate.evaluate_folder(study[0], study[1], ACDC, study[2])
        drawn = result.summary["overlays"]
        assert drawn[0]["case"] == "patient002_frame01"
        assert [item["mean_dice"] for item in drawn] == sorted(item["mean_dice"] for item in drawn)
        for item in drawn:
            with Image.open(study[2] / item["path"]) as picture:
                assert picture.format == "PNG"

    def test_tells_of_progress_results_and_strangers(self, study):
        events = []
        write_labels_of(study[0], "nobody.nii.gz", labels_of(1, 1, 1))
        evaluate.evaluate_folder(study[0], study[1], ACDC, study[2], EventLog(None, events.append))
        assert [event.step for event in events if isinstance(event, Progress)] == [0, 1, 2, 3, 4]
        assert {event.path for event in events if isinstance(event, Result)} == {
            "metrics.csv",
            "clinical.csv",
            "metrics.json",
        }
        (warning,) = told(events)
        assert "nobody.nii.gz" in warning

    def warnings_of(self, study) -> list[str]:
        events = []
        evaluate.evaluate_folder(*study[:2], ACDC, study[2], EventLog(None, events.append))
        return told(events)

    def test_what_was_left_out_is_told(self, study):
        assert self.warnings_of(study) == []
        (study[0] / "patient002_frame01.nii.gz").unlink()
        assert self.warnings_of(study) == [
            "1 reference has no segmentation: patient002_frame01",
            "1 patient has no ejection fraction: patient002",
        ]

    def test_patients_of_whom_nothing_was_segmented_are_only_counted(self, study):
        for number in (3, 4, 5):
            write_acdc(study[1], f"patient00{number}", {"frame01": labels_of(2, 2, 2), "frame09": labels_of(1, 2, 1)})
        (warning,) = self.warnings_of(study)
        assert warning.startswith("6 references have no segmentation: patient003_frame01, ")
        assert warning.endswith("patient005_frame01 and 1 more")

    def test_a_structure_that_is_nowhere_agrees_with_nothing(self, tmp_path):
        frames = {"frame01": labels_of(20, 20, 0), "frame12": labels_of(10, 20, 0)}
        write_acdc(tmp_path / "r", "patient001", frames)
        for frame, labels in frames.items():
            write_labels_of(tmp_path / "p", f"patient001_{frame}.nii.gz", labels)
        result = evaluate.evaluate_folder(tmp_path / "p", tmp_path / "r", ACDC, tmp_path / "out")
        agreement = result.summary["agreement"]
        assert {measure: found["n"] for measure, found in agreement.items()} == {
            "lv_edv_ml": 0, "lv_esv_ml": 0, "lv_sv_ml": 0, "lv_ef_percent": 0, "lv_mass_g": 1,
            "rv_edv_ml": 1, "rv_esv_ml": 1, "rv_sv_ml": 1, "rv_ef_percent": 1,
        }  # fmt: skip
        rows = {row["measure"]: row for row in read_rows(tmp_path / "out" / "clinical.csv")}
        assert (rows["lv_edv_ml"]["reference"], rows["rv_ef_percent"]["reference"]) == ("", "50")
        assert "nan" not in result.table
        assert "LV stroke volume: bias" not in result.table
        assert "could be measured in no patient: LV end-diastolic volume, LV end-systolic volume" in result.table
        assert "RV ejection fraction: bias +0.0 points (1 patient)" in result.table

    def test_a_structure_that_only_one_side_has_is_no_value_to_agree_with(self, tmp_path):
        write_acdc(tmp_path / "r", "patient001", {"frame01": labels_of(20, 20, 0), "frame12": labels_of(10, 20, 0)})
        for frame, size in (("frame01", 20), ("frame12", 10)):
            write_labels_of(tmp_path / "p", f"patient001_{frame}.nii.gz", labels_of(size, 20, size))
        result = evaluate.evaluate_folder(tmp_path / "p", tmp_path / "r", ACDC, tmp_path / "out")
        found = result.summary["agreement"]["lv_edv_ml"]
        assert (found["n"], found["implausible"]) == (0, 1)
        assert "LV end-diastolic volume: measured in no patient (1 left out as implausible)" in result.table
        (row,) = [row for row in read_rows(tmp_path / "out" / "clinical.csv") if row["measure"] == "lv_edv_ml"]
        assert (row["difference"], row["implausible"]) == (
            "0.8",
            "the LV end-diastolic volume is 0 ml, in the reference",
        )

    def test_a_patient_with_two_volumes_of_a_phase_has_no_ejection_fraction(self, tmp_path):
        rows = ["image,labels,patient,phase"]
        for name, phase in (("a", "ED"), ("b", "ED"), ("c", "ES")):
            write_volume(tmp_path / f"{name}.nii.gz", flat_image())
            write_labels_of(tmp_path, f"{name}_gt.nii.gz", labels_of(2, 2, 2))
            write_labels_of(tmp_path / "p", f"{name}.nii.gz", labels_of(2, 2, 2))
            rows.append(f"{name}.nii.gz,{name}_gt.nii.gz,anna,{phase}")
        (tmp_path / "list.csv").write_text("\n".join(rows))
        events = []
        result = evaluate.evaluate_folder(
            tmp_path / "p", tmp_path / "list.csv", ACDC, tmp_path / "out", EventLog(None, events.append)
        )
        assert result.clinical == []
        assert [event.where for event in events if isinstance(event, Warned)] == ["anna"]
        assert not (tmp_path / "out" / "clinical.csv").exists()

    def test_another_grid_names_the_file(self, study):
        write_labels_of(
            study[0], "patient001_frame01.nii.gz", Volume(labels_of(1, 1, 1).array, np.diag([2.0, 2.0, 8.0, 1.0]))
        )
        with pytest.raises(UserError, match=r"different grids \(voxels lie up to 4 mm apart") as caught:
            evaluate.evaluate_folder(study[0], study[1], ACDC, study[2])
        assert caught.value.where.endswith("patient001_frame01.nii.gz")
        assert not study[2].exists()

    def test_an_image_on_another_grid_gives_no_picture_but_all_tables(self, study):
        for path in study[1].rglob("*frame??.nii.gz"):
            write_volume(path, Volume(flat_image().array[:, ::2], np.diag([2.0, 4.0, 10.0, 1.0])))
        events = []
        log = EventLog(None, events.append)
        result = evaluate.evaluate_folder(study[0], study[1], ACDC, study[2], log)
        assert result.summary["overlays"] == []
        assert (study[2] / "metrics.csv").is_file()
        warnings = told(events)
        assert len(warnings) == 4
        assert all("different grids" in warning for warning in warnings)

    def test_can_be_stopped(self, study):
        with pytest.raises(Stopped):
            evaluate.evaluate_folder(study[0], study[1], ACDC, study[2], stop=lambda: True)


def test_a_single_volume_has_no_standard_deviation(tmp_path):
    write_labels_of(tmp_path / "p", "a.nii.gz", labels_of(4, 4, 4))
    write_labels_of(tmp_path / "r", "a.nii.gz", labels_of(4, 4, 4))
    result = evaluate.evaluate_folder(tmp_path / "p", tmp_path / "r", ACDC, tmp_path / "out")
    assert math.isnan(result.summary["metrics"]["LV cavity"]["dice"]["sd"])
    assert "1.000 " in result.table
    assert result.summary["agreement"] == {}


class TestImplausibleValues:
    """Patients of whom one has the phases the wrong way round: in the reference, in the segmentation, or in both."""

    @pytest.fixture
    def swap(self, tmp_path):
        def write(*swapped: str):
            for number in (1, 2, 3):
                sizes = {"frame01": 20, "frame12": 5 + number}
                for side in ("reference", "prediction"):
                    turned = number == 2 and side in swapped
                    frames = dict(zip(sizes, list(sizes.values())[:: -1 if turned else 1], strict=True))
                    labels = {frame: labels_of(size, 20, size) for frame, size in frames.items()}
                    if side == "reference":
                        write_acdc(tmp_path / "r", f"patient00{number}", labels, images=False)
                    else:
                        for frame, each in labels.items():
                            write_labels_of(tmp_path / "p", f"patient00{number}_{frame}.nii.gz", each)
            events = []
            log = EventLog(None, events.append)
            result = evaluate.evaluate_folder(tmp_path / "p", tmp_path / "r", ACDC, tmp_path / "out", log)
            return result, told(events, of_values=True), read_rows(tmp_path / "out" / "clinical.csv")

        return write

    @pytest.mark.parametrize(
        ("swapped", "whose"),
        [
            (["reference"], "reference"),
            (["prediction"], "segmentation"),
            (["prediction", "reference"], "segmentation and the reference"),
        ],
    )
    def test_are_marked_told_and_kept_out_of_means(self, swap, swapped, whose):
        result, warnings, rows = swap(*swapped)
        larger = "the {} volume is larger at end-systole than at end-diastole"
        assert warnings == [f"{larger.format(side)}, in the {whose} of patient002" for side in ("LV", "RV")]
        marked = {row["measure"]: row["implausible"] for row in rows if row["patient"] == "patient002"}
        assert marked.pop("lv_mass_g") == ""
        assert set(marked.values()) == {f"{larger.format(side)}, in the {whose}" for side in ("LV", "RV")}
        assert not any(row["implausible"] for row in rows if row["patient"] != "patient002")
        found = result.summary["agreement"]
        assert (found["lv_ef_percent"]["n"], found["lv_ef_percent"]["implausible"]) == (2, 1)
        assert (found["lv_ef_percent"]["bias"], found["lv_mass_g"]["n"]) == (0.0, 3)
        assert "LV ejection fraction: bias +0.0 points, 95 % limits +0.0 to +0.0 (2 patients, 1 left" in result.table

    def test_hearts_as_they_are_get_no_mark(self, swap):
        _, warnings, rows = swap()
        assert warnings == []
        assert {row["implausible"] for row in rows} == {""}

    def test_one_frame_for_both_phases_has_no_ejection_fraction(self, tmp_path):
        rows = ["image,labels,name,patient,phase"]
        for name in ("a", "b"):
            write_volume(tmp_path / f"{name}.nii.gz", flat_image())
            write_labels_of(tmp_path / "p", f"{name}.nii.gz", labels_of(20, 20, 20))
        write_labels_of(tmp_path, "both_gt.nii.gz", labels_of(20, 20, 20))
        rows += [f"{name}.nii.gz,both_gt.nii.gz,{name},anna,{phase}" for name, phase in (("a", "ED"), ("b", "ES"))]
        (tmp_path / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        result = evaluate.evaluate_folder(tmp_path / "p", tmp_path / "cases.csv", ACDC, tmp_path / "out")
        assert result.summary["agreement"]["lv_ef_percent"]["n"] == 0
        assert "the LV volume is the same" in result.clinical[0]["implausible"]


def test_an_image_that_cannot_be_read_costs_its_picture_alone(study):
    for path in study[1].rglob("patient001_frame??.nii.gz"):
        path.write_bytes(b"no image")
    events = []
    evaluate.evaluate_folder(*study[:2], ACDC, study[2], EventLog(None, events.append))
    assert [text.partition(":")[0] for text in told(events)] == ["no picture of it"] * 2
    assert (study[2] / "metrics.csv").is_file()
