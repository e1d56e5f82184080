"""What the Python console offers: trainings and their folders, mistakes told before anything is written."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

from semicardiac.images.labels import get_label_set
from semicardiac.jobs.job import load_job
from SemiCardiacSegLib.engine.job import Job
from SemiCardiacSegLib.logic import SemiCardiacSegLogic
from SemiCardiacSegLib.scene import sequences
from SemiCardiacSegLib.scene.segmentations import LABEL_SET_ATTRIBUTE, newSegmentation
from SemiCardiacSegLib.tasks import review, segment

from Testing.engine.support import QUICK, draw_heart
from Testing.slicer.engine_jobs import evaluationJob, modelPackage, trainingJob, unprivileged
from Testing.slicer.scenes import heartLabels, makeHeartSegmentation, makeSequence, makeVolume, saveAndReload
from Testing.slicer.segmented import heartVolume


@pytest.fixture
def logic(scene) -> SemiCardiacSegLogic:
    """With a table that one can train on."""
    logic = SemiCardiacSegLogic()
    volume = makeVolume("patient001_ED")
    logic.dataSet().addVolume(volume, makeHeartSegmentation(volume))
    return logic


@pytest.fixture
def ended():
    """Ends a job that was started, at once."""
    started: list[Job] = []

    def end(job: Job) -> Job:
        started.append(job)
        job.kill()
        job.wait()
        return job

    yield end
    assert not any(job.isAlive() for job in started)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return modelPackage(tmp_path_factory.mktemp("model") / "package")


def scheduleOf(job: Job):
    return load_job(job.folder).config.schedule


class TestMeasuredBy:
    """Results keep what their labels mean: another model's structures are not lost to the table's label set."""

    def columns(self, table) -> list[str]:
        return [table.GetColumnName(index) for index in range(1, table.GetNumberOfColumns())]

    def whole(self, logic):
        """A segmentation of seven structures, while the table has three."""
        volume = makeVolume("whole heart")
        labels = heartLabels()
        labels[0, 0, :7] = range(1, 8)
        assert logic.dataSet().labelSet().name == "acdc"
        return volume, newSegmentation("result", volume, labels, get_label_set("mmwhs"))

    def test_a_segmentation_is_measured_by_the_structures_it_was_made_with(self, logic, tmp_path):
        volume, made = self.whole(logic)
        expected = [f"{name} (ml)" for name in get_label_set("mmwhs").names]
        assert self.columns(logic.volumesTable(made)) == expected
        agreement = logic.compare(made, made, volume).GetTable().GetColumn(0)
        assert [agreement.GetValue(row) for row in range(7)] == list(get_label_set("mmwhs").names)
        saveAndReload(tmp_path / "scene.mrb")
        assert self.columns(logic.volumesTable(slicer.util.getNode("result"))) == expected

    def test_so_are_the_frames_of_a_cine(self, logic):
        cine = makeSequence([draw_heart(seed, shape=heartLabels().shape)[0] for seed in (1, 2)])
        made = sequences.newSegmentationSequence("cine result", cine, [heartLabels()] * 2, get_label_set("mmwhs"))
        assert self.columns(logic.volumesTable(made))[-7:] == [f"{each} (ml)" for each in get_label_set("mmwhs").names]

    def test_others_are_measured_by_the_table(self, logic):
        volume, made = self.whole(logic)
        foreign = makeHeartSegmentation(volume)
        foreign.RemoveAttribute(LABEL_SET_ATTRIBUTE)
        acdc = [f"{name} (ml)" for name in get_label_set("acdc").names]
        assert self.columns(logic.volumesTable(foreign)) == acdc
        assert self.columns(logic.volumesTable([made, foreign])) == acdc
        made.SetAttribute(LABEL_SET_ATTRIBUTE, '{"of": "another version"}')
        assert self.columns(logic.volumesTable(made)) == acdc
        assert len(self.columns(logic.volumesTable(made, get_label_set("mmwhs")))) == 7

    def test_a_table_that_knows_more_of_it_wins(self, logic):
        """The model's own structures have no roles here, and somebody has drawn a scar besides."""
        acdc = get_label_set("acdc")
        plain = acdc.model_copy(
            update={"name": "mine", "structures": tuple(s.model_copy(update={"role": None}) for s in acdc.structures)}
        )
        cine = makeSequence([draw_heart(seed, shape=heartLabels().shape)[0] for seed in (1, 2)])
        made = sequences.newSegmentationSequence("cine result", cine, [heartLabels()] * 2, plain)
        assert logic.labelSetOf(made) == acdc
        assert "lv_ef_percent" in logic.clinicalNumbers(made)


class TestStartTraining:
    def test_a_place_with_spaces_and_other_letters(self, logic, ended, tmp_path):
        folder = tmp_path / "Hérz & früh 心" / "my training"
        job = logic.startTraining(folder, steps=3, settings=QUICK, device="cpu")
        assert job.isAlive()
        assert ended(job).folder == folder
        (case,) = load_job(folder).cases
        assert case.image == folder / "data" / "patient001_ED.nrrd"
        assert case.image.exists()
        assert case.labels.exists()

    def test_ten_minutes_with_five_validations(self, logic, ended, tmp_path):
        schedule = scheduleOf(ended(logic.startTraining(tmp_path / "job")))
        assert (schedule.minutes, schedule.steps, schedule.validate_every) == (10.0, None, 0.2)

    def test_steps_and_settings_of_the_user(self, logic, ended, tmp_path):
        settings = ["schedule.validate_every=0.5", "seed=9"]
        schedule = scheduleOf(ended(logic.startTraining(tmp_path / "job", steps=7, settings=settings)))
        assert (schedule.minutes, schedule.steps, schedule.validate_every) == (None, 7, 0.5)
        assert load_job(tmp_path / "job").config.seed == 9

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"minutes": 0}, "schedule.minutes"),
            ({"steps": 0}, "schedule.steps"),
            ({"minutes": 5, "steps": 7}, "either minutes or steps"),
            ({"preset": "defualt"}, "there is no preset 'defualt'"),
            ({"settings": ["loss.lambda_u=1"]}, "'method'"),
            ({"method": "fixmach"}, "Did you mean 'fixmatch'"),
            ({"startFrom": "nowhere"}, "there is no such model"),
        ],
    )
    def test_mistakes_are_told_before_anything_is_written(self, logic, tmp_path, wrong, message):
        with pytest.raises(ValueError, match=message):
            logic.startTraining(tmp_path / "new" / "job", **wrong)
        assert not list(tmp_path.iterdir())

    def test_a_model_to_go_on_from_that_is_damaged_or_foreign(self, logic, model, tmp_path):
        damaged = Path(shutil.copytree(model, tmp_path / "damaged"))
        (damaged / "model.safetensors").write_bytes(b"damaged")
        with pytest.raises(ValueError, match=r"model\.safetensors is not what it was"):
            logic.startTraining(tmp_path / "job", startFrom=damaged)
        (row,) = logic.dataSet().rows()
        logic.dataSet().setLabelSet("mmwhs")
        logic.dataSet().setMapping(row.key, {"S0": "LV cavity"})
        with pytest.raises(ValueError, match=r"The model segments RV cavity, .* and the table is about"):
            logic.startTraining(tmp_path / "job", startFrom=model)
        assert not (tmp_path / "job").exists()

    def test_errors_of_the_table_come_before_the_folder(self, logic, tmp_path):
        for name in ("a", "b"):
            logic.dataSet().addVolume(makeVolume(name), role="labeled")
        message = r"^a: The role is labeled, but there is no segmentation\. .* \(More errors in the table: 1\)$"
        with pytest.raises(ValueError, match=message):
            logic.startTraining(tmp_path / "new" / "job")
        assert not list(tmp_path.iterdir())

    def test_a_folder_with_other_things_is_left_alone(self, logic, tmp_path):
        (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
        with pytest.raises(ValueError, match="not empty"):
            logic.startTraining(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the permissions of POSIX")
    def test_a_read_only_folder(self, logic):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "job"
            folder.mkdir()
            Path(place).chmod(0o755)
            folder.chmod(0o555)
            with unprivileged(), pytest.raises(ValueError, match="not writable") as error:
                logic.startTraining(folder)
            assert str(folder) in str(error.value)
            assert not list(folder.iterdir())

    def test_a_failure_halfway_leaves_an_empty_folder_empty_and_no_new_one(self, logic, tmp_path):
        """The device is looked at when the volumes are written already."""
        (tmp_path / "empty").mkdir()
        for name in ("empty", "new"):
            with pytest.raises(ValueError, match="device"):
                logic.startTraining(tmp_path / name, device=["cpu"])
        assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


class TestResume:
    def test_for_some_minutes_more(self, logic, ended, tmp_path):
        folder = trainingJob(tmp_path / "job", minutes=0.5)
        job = ended(logic.resumeTraining(folder, minutes=2))
        assert scheduleOf(job).minutes == 2.5

    def test_for_what_was_left(self, logic, ended, tmp_path):
        folder = trainingJob(tmp_path / "job", minutes=0.5)
        assert scheduleOf(ended(logic.resumeTraining(folder))).minutes == 0.5

    def test_what_cannot_be_resumed(self, logic, ended, tmp_path):
        steps = trainingJob(tmp_path / "steps", steps=5)
        with pytest.raises(ValueError, match="measured in steps"):
            logic.resumeTraining(steps, minutes=1)
        with pytest.raises(ValueError, match="holds no training"):
            logic.resumeTraining(evaluationJob(tmp_path / "evaluation"))
        with pytest.raises(ValueError, match="missing"):
            logic.resumeTraining(tmp_path / "nowhere")
        job = logic.resumeTraining(steps)
        with pytest.raises(ValueError, match="runs already"):
            logic.resumeTraining(steps)
        ended(job)


class TestDiscardTraining:
    def test_it_is_gone_but_not_while_it_is_at_work(self, logic, ended, tmp_path):
        folder = trainingJob(tmp_path / "job", steps=5)
        job = logic.resumeTraining(folder)
        with pytest.raises(ValueError, match=r"is at work\. Stop it first"):
            logic.discardTraining(folder)
        assert (folder / "job.json").exists()
        ended(job)
        logic.discardTraining(folder)
        assert not folder.exists()

    def test_other_folders_stay(self, logic, tmp_path):
        folder = evaluationJob(tmp_path / "evaluation")
        with pytest.raises(ValueError, match="holds no training"):
            logic.discardTraining(folder)
        assert (folder / "job.json").exists()


class TestDiscardResults:
    def test_of_a_segmentation_and_a_review(self, logic, model, ended):
        volume = heartVolume()
        logic.dataSet().addVolume(volume)
        for folder in (
            segment.createSegmentJob(None, model, volume),
            review.createReviewJob(logic.dataSet(), model),
        ):
            job = Job.start(folder)
            with pytest.raises(ValueError, match=r"is at work\. Stop it first"):
                logic.discardResults(job)
            assert (folder / "data" / "scan.nrrd").exists()
            logic.discardResults(ended(job))
            assert not folder.exists()

    def test_not_of_a_training_or_a_folder_that_was_chosen(self, logic, model, tmp_path):
        for folder in (
            trainingJob(tmp_path / "training", steps=5),
            segment.createSegmentJob(tmp_path / "chosen", model, heartVolume()),
        ):
            before = sorted(folder.rglob("*"))
            logic.discardResults(Job(folder))
            assert sorted(folder.rglob("*")) == before


def test_ed_and_es_are_those_that_were_corrected(logic):
    """In a sequence of segmentations whose LV cavity has 1, 3, 2 and 4 slices."""
    frames = []
    for slices in (1, 3, 2, 4):
        labels = heartLabels((6, 12, 10))
        labels[slices + 1 :] = 0
        frames.append(labels)
    cine = makeSequence([labels.astype("int16") for labels in frames])
    sequence = sequences.newSegmentationSequence("result", cine, frames, get_label_set("acdc"))
    numbers = logic.clinicalNumbers(sequence)
    assert (numbers["edFrame"], numbers["esFrame"]) == (3, 0)
    logic.setPhases(sequence, 1, None)
    assert logic.clinicalNumbers(sequence)["edFrame"] == 1
    assert logic.clinicalNumbers(sequence)["lv_edv_ml"] < numbers["lv_edv_ml"]
    assert logic.clinicalNumbers(sequence, esFrame=2)["esFrame"] == 2
    logic.setPhases(sequence, None, None)
    assert logic.clinicalNumbers(sequence) == numbers
