"""The job folder: what is written into it and read from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from semicardiac.base import temporaries
from semicardiac.base.errors import UserError
from semicardiac.base.events import Result
from semicardiac.base.locks import exclusive
from semicardiac.config import make_config
from semicardiac.jobs import run
from semicardiac.jobs.job import FORMAT, EvaluateJob, SegmentJob, create_job, load_job, prolong, subfolder

from Testing.engine.jobs.support import train_job, work_is
from Testing.engine.support import ACDC


class TestJobFile:
    @pytest.mark.parametrize("kind", ["train", "segment", "evaluate"])
    def test_a_job_survives_its_file(self, tmp_path: Path, kind: str):
        folder = tmp_path / "job"
        places = {"model": folder / "m.zip", "inputs": (tmp_path / "a.nrrd",), "out": folder}
        job = {
            "train": train_job(folder, config=make_config("paper"), seeds=3, device="cpu"),
            "segment": SegmentJob(**places, roi=(0, 1, 2, 3, 4, 5)),
            "evaluate": EvaluateJob(predictions=tmp_path / "a", reference=folder / "b", labels=ACDC),
        }[kind]
        create_job(folder, job)
        assert load_job(folder) == job

    def test_paths_inside_are_relative_so_that_the_job_can_be_moved(self, tmp_path: Path):
        create_job(tmp_path / "job", train_job(tmp_path / "job"))
        written = json.loads((tmp_path / "job" / "job.json").read_text())
        assert written["cases"][0]["image"] == "data/a.nii.gz"
        assert written["cases"][0]["labels"] == "data/a_gt.nii.gz"
        assert written["cases"][1]["image"] == (tmp_path / "elsewhere" / "b.nii.gz").as_posix()
        shutil.move(tmp_path / "job", tmp_path / "moved")
        inside, outside = load_job(tmp_path / "moved").cases
        assert inside.image == tmp_path / "moved" / "data" / "a.nii.gz"
        assert outside.image == tmp_path / "elsewhere" / "b.nii.gz"

    def test_relative_paths_of_a_caller_mean_the_folder_that_he_is_in(self, tmp_path: Path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        create_job(Path("job"), SegmentJob(model=Path("m"), inputs=(Path("a.nrrd"),), out=Path("job/out")))
        monkeypatch.chdir("/")
        job = load_job(tmp_path / "job")
        assert (job.model, job.inputs[0], job.out) == (tmp_path / "m", tmp_path / "a.nrrd", tmp_path / "job" / "out")

    @pytest.mark.parametrize(
        ("change", "what", "hint"),
        [
            ({"format": FORMAT + 1}, f"format {FORMAT + 1}", "Update semicardiac"),
            ({"format": None}, "does not tell its format", "format"),
            ({"kind": "trian"}, "no kind of job 'trian'", "Did you mean 'train'"),
            ({"kind": ["train"]}, "no kind of job", "'train'"),
            ({"config": {"seed": 1 << 70}}, "less than", ""),
            ({"devise": "cpu"}, "no such setting", "Did you mean 'device'"),
            ({"cases": []}, "at least 1 item", ""),
            ({"cases": 3}, "tuple", ""),
            ({"seeds": 0}, "greater than or equal to 1", ""),
        ],
    )
    def test_mistakes_name_file_field_and_cure(self, tmp_path: Path, change: dict, what: str, hint: str):
        folder = create_job(tmp_path / "job", train_job(tmp_path / "job"))
        path = folder / "job.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(UserError, match=what) as caught:
            load_job(folder)
        assert str(path) in caught.value.where
        assert hint in caught.value.hint

    @pytest.mark.parametrize("path", ["a\0b", "\ud800"])
    def test_a_path_that_no_file_can_have_is_told(self, tmp_path: Path, path: str):
        folder = create_job(tmp_path / "job", train_job(tmp_path / "job", start_from=tmp_path))
        data = json.loads((folder / "job.json").read_text())
        (folder / "job.json").write_text(json.dumps({**data, "start_from": path}))
        with pytest.raises(UserError, match="no file can have the path"):
            load_job(folder)

    @pytest.mark.parametrize("text", ["[]", "{", "3", "", "[" * 100_000, '{"format": 1, "kind": ' + "9" * 5000 + "}"])
    def test_a_damaged_file_is_told(self, tmp_path: Path, text: str):
        (tmp_path / "job.json").write_text(text)
        with pytest.raises(UserError):
            load_job(tmp_path)

    def test_an_unknown_setting_deep_inside_names_the_nearest(self, tmp_path: Path):
        folder = create_job(tmp_path / "job", train_job(tmp_path / "job"))
        data = json.loads((folder / "job.json").read_text())
        data["config"]["optim"]["learning_rates"] = 1
        (folder / "job.json").write_text(json.dumps(data))
        with pytest.raises(UserError, match="no such setting") as caught:
            load_job(folder)
        assert caught.value.where.endswith("config.optim.learning_rates")
        assert caught.value.hint == "Did you mean 'learning_rate'"


class TestCreateJob:
    def test_refuses_a_folder_that_holds_something(self, tmp_path: Path):
        (tmp_path / "mine.txt").touch()
        with pytest.raises(UserError, match="not empty"):
            create_job(tmp_path, train_job(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_takes_the_folder_of_a_job_that_never_began(self, tmp_path: Path, monkeypatch):
        def refuse(*_) -> None:
            raise UserError("a file is missing")

        work_is(monkeypatch, refuse)
        folder = create_job(tmp_path / "job", train_job(tmp_path / "job"))
        assert run.run_job(folder) == 2
        create_job(folder, train_job(folder, device="cpu"))
        assert load_job(folder).device == "cpu"
        assert not (folder / "events.jsonl").exists()

    @pytest.mark.parametrize(
        "mine",
        [
            {"job.json": '{"my": "job"}'},
            {"job.json": "no JSON", "lock": ""},
            {"events.jsonl": "mine\n"},
            {"lock": "my lock of another program"},
            {"crash-report.txt": "mine"},
        ],
    )
    def test_refuses_what_only_has_the_name_of_a_file_of_ours(self, tmp_path: Path, mine: dict[str, str]):
        for name, text in mine.items():
            (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="not empty"):
            create_job(tmp_path, train_job(tmp_path))
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == mine

    def test_takes_the_folder_of_a_process_that_was_killed_on_its_way_to_the_job(self, tmp_path: Path, monkeypatch):
        monkeypatch.chdir(tmp_path.parent)
        (tmp_path / "lock").write_text("process 17\n")
        temporaries.temporary_beside(tmp_path / "job.json").touch()
        for _ in range(2):
            create_job(tmp_path, train_job(tmp_path, start_from=Path("model")))
        with pytest.raises(UserError, match="holds another job"):
            create_job(tmp_path, train_job(tmp_path, start_from=Path("model"), device="cpu"))

    def test_refuses_the_folder_of_a_job_of_another_kind(self, tmp_path: Path, monkeypatch):
        work_is(monkeypatch, lambda *_: {})
        inputs = (tmp_path / "a.nrrd",)
        folder = create_job(tmp_path / "job", SegmentJob(model=tmp_path, inputs=inputs, out=tmp_path / "out"))
        with pytest.raises(UserError, match="it holds a segment job"):
            create_job(folder, train_job(folder))
        assert run.run_job(folder) == 0

    def test_refuses_the_folder_of_a_job_that_has_worked_whose_results_lie_elsewhere(self, tmp_path: Path, monkeypatch):
        def work(job, folder, log, stop) -> dict:
            log.emit(Result(kind="segmentation", path="../out/a.nii.gz"))
            return {}

        work_is(monkeypatch, work)
        job = SegmentJob(model=tmp_path, inputs=(tmp_path / "a.nrrd",), out=tmp_path / "out")
        folder = create_job(tmp_path / "job", job)
        assert run.run_job(folder) == 0
        before = (folder / "events.jsonl").read_bytes()
        with pytest.raises(UserError, match="begun to work"):
            create_job(folder, job)
        assert (folder / "events.jsonl").read_bytes() == before

    def test_refuses_the_folder_of_a_job_that_runs(self, tmp_path: Path):
        folder = create_job(tmp_path / "job", train_job(tmp_path / "job"))
        with exclusive(folder / "lock"), pytest.raises(UserError, match="another engine runs this job"):
            create_job(folder, train_job(folder, device="cpu"))
        assert load_job(folder).device == "auto"

    def test_names_of_subfolders_count_up(self, tmp_path: Path):
        names = []
        for _ in range(3):
            names.append(subfolder(tmp_path / "new", "segment-job").name)
        assert (
            sorted(path.name for path in (tmp_path / "new").iterdir())
            == names
            == ["segment-job", "segment-job-2", "segment-job-3"]
        )


class TestProlong:
    def test_adds_to_what_the_training_had(self, tmp_path: Path):
        config = make_config("default", {"schedule": {"minutes": 10}})
        folder = create_job(tmp_path / "job", train_job(tmp_path / "job", config=config))
        prolong(folder, minutes=5)
        assert load_job(folder).config == make_config("default", {"schedule": {"minutes": 15}})

    def test_refuses_the_other_unit(self, tmp_path: Path):
        config = make_config("default", {"schedule": {"steps": 100}})
        folder = create_job(tmp_path / "job", train_job(tmp_path / "job", config=config))
        with pytest.raises(UserError, match="measured in steps"):
            prolong(folder, minutes=5)

    def test_refuses_what_is_no_training(self, tmp_path: Path):
        folder = create_job(tmp_path / "job", EvaluateJob(predictions=tmp_path, reference=tmp_path, labels=ACDC))
        with pytest.raises(UserError, match="no training"):
            prolong(folder, steps=5)
