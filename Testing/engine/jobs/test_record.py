"""What a job folder tells, read back for the report."""

from __future__ import annotations

import math

import pytest

from Testing.engine.support import ACDC

pytest.importorskip("matplotlib")

from semicardiac.base.events import EventLog, Progress
from semicardiac.base.files import write_text
from semicardiac.base.tables import write_csv
from semicardiac.config import make_config
from semicardiac.data.cases import Case
from semicardiac.images.labels import get_label_set
from semicardiac.jobs import job as jobs
from semicardiac.jobs.record import Record, labels_of_segmentations, read_record

from Testing.engine.jobs.support import write_package
from Testing.engine.report.support import make_train_job, write_history


class TestRecord:
    def test_names_that_look_like_numbers_stay_as_they_are(self, tmp_path):
        make_train_job(tmp_path)
        for name in ("metrics.csv", "clinical.csv", "validation.csv"):
            text = (tmp_path / name).read_text()
            (tmp_path / name).write_text(text.replace("patient004_frame00", "007").replace("patient004", "1e3"))
        record = read_record(tmp_path)
        for rows in (record.metrics, record.validation):
            assert "007" in {row["case"] for row in rows}
        for rows in (record.metrics, record.clinical):
            assert {row["patient"] for row in rows} == {"1e3", "patient005"}
        assert {type(row["dice"]) for row in record.metrics} == {float}
        assert all(math.isnan(row["lambda_u"]) for row in record.history[:2])
        assert {row["stage"] for row in record.history} == {"supervised", "semi-supervised"}

    def test_seeds_come_by_their_numbers(self, tmp_path):
        for name in ("seed9", "seed10", "seed2", "seeds", "seed1-old"):
            write_text(tmp_path / name / "events.jsonl", "")
        assert [seed.folder.name for seed in Record(tmp_path).seeds] == ["seed2", "seed9", "seed10"]

    @pytest.mark.parametrize(
        ("preset", "warmup", "uses"), [("default", 0.35, True), ("default", 1.0, False), ("supervised", 0.35, False)]
    )
    def test_unlabeled_cases_take_part_unless_the_method_or_a_warmup_without_end_leaves_them_out(
        self, tmp_path, preset, warmup, uses
    ):
        config = make_config(preset, {"schedule": {"minutes": 3, "warmup": warmup}})
        case = Case(name="a", patient="a", image=tmp_path / "a.nrrd")
        jobs.create_job(tmp_path / "job", jobs.TrainJob(cases=(case,), labels=ACDC, config=config))
        assert read_record(tmp_path / "job").uses_unlabeled == uses

    def test_unlabeled_cases_that_are_not_there_take_no_part(self, tmp_path):
        case = Case(name="a", patient="a", image=tmp_path / "a.nrrd", labels=tmp_path / "b.nrrd", role="labeled")
        config = make_config("default", {"schedule": {"minutes": 3}})
        jobs.create_job(tmp_path / "job", jobs.TrainJob(cases=(case,), labels=ACDC, config=config))
        assert not read_record(tmp_path / "job").uses_unlabeled


def test_names_that_a_spreadsheet_would_take_for_formulas_come_back(tmp_path):
    make_train_job(tmp_path)
    record = read_record(tmp_path)
    rows = [{**row, "case": "=1+1", "patient": "-\x1b", "structure": "@x"} for row in record.metrics]
    write_csv(tmp_path / "metrics.csv", list(rows[0]), rows)
    assert "\n'=1+1,'-" in (tmp_path / "metrics.csv").read_text(encoding="utf-8")
    found = read_record(tmp_path).metrics
    assert {tuple(row[key] for key in ("case", "patient", "structure")) for row in found} == {("=1+1", "-\x1b", "@x")}
    assert [row["dice"] for row in found] == [row["dice"] for row in rows]


@pytest.mark.parametrize(("joins_at", "used"), [(0.5, True), (1.0, False)])
def test_whether_unlabeled_cases_were_used_is_told_by_the_history_or_the_events(tmp_path, joins_at, used):
    write_history(tmp_path, 100, joins_at=joins_at)
    assert Record(tmp_path).used_unlabeled is used
    (tmp_path / "history.csv").unlink()
    assert Record(tmp_path).used_unlabeled is None
    log = EventLog(tmp_path / "events.jsonl")
    log.emit(Progress(stage="checking inputs", step=1, total=1))
    assert Record(tmp_path).used_unlabeled is None
    log.emit(Progress(stage="semi-supervised" if used else "supervised", step=1, total=1, losses={"supervised": 1.0}))
    assert Record(tmp_path).used_unlabeled is used


class TestLabelsOfSegmentations:
    MMWHS = get_label_set("mmwhs")

    @pytest.mark.parametrize("place", ["", "validation", "seed3/validation"])
    def test_of_a_training(self, tmp_path, place):
        case = Case(name="a", patient="a", image=tmp_path / "a.nrrd")
        jobs.create_job(tmp_path / "job", jobs.TrainJob(cases=(case,), labels=self.MMWHS))
        (tmp_path / "job" / place).mkdir(parents=True, exist_ok=True)
        assert labels_of_segmentations(tmp_path / "job" / place) == self.MMWHS

    def test_of_the_model_that_segmented(self, tmp_path):
        write_package(tmp_path / "package", labels=self.MMWHS.model_dump(mode="json"))
        results = tmp_path / "results"
        job = jobs.SegmentJob(model=tmp_path / "package", inputs=(tmp_path,), out=results)
        jobs.create_job(results / "segment-job-2", job)
        assert labels_of_segmentations(results) == self.MMWHS

    def test_files_of_others_tell_none(self, tmp_path):
        evaluate = jobs.EvaluateJob(predictions=tmp_path, reference=tmp_path, labels=self.MMWHS)
        jobs.create_job(tmp_path / "evaluation", evaluate)
        assert labels_of_segmentations(tmp_path) is None
        assert labels_of_segmentations(tmp_path / "evaluation") is None
