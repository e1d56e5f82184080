"""Section 2 of the panel: a training is started, followed, stopped, resumed and found again."""

from __future__ import annotations

import pytest

from Testing.slicer.panel.support import follow, line, photograph, settle, shown

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from Testing.slicer.panel.trainings import DONE, FAILED, STARTED, STOPPED, Training, progress
from Testing.slicer.scenes import makeHeartSegmentation, makeVolume


def test_a_segmentation_waits_for_the_training(training, makeWidget):
    training.begin()
    training.tell(STARTED, progress())
    widget = makeWidget()
    assert "A training runs" in line(widget, "segmentWhy")


def test_a_started_training_makes_its_folder_the_users(widget, monkeypatch, tmp_path, slicerQt):
    from SemiCardiacSegLib.engine.job import Job
    from SemiCardiacSegLib.panels.train import FOLDER

    volume = makeVolume("patient01")
    widget.dataSet.addVolume(volume, makeHeartSegmentation(volume))
    widget.ui.folderEdit.setCurrentPath(str(tmp_path / "mine"))
    settle()
    monkeypatch.setattr(widget.logic, "startTraining", lambda folder, **options: Job(folder))
    widget.ui.trainButton.click()
    assert slicerQt.util.settingsValue(FOLDER, "") == str(tmp_path / "mine")


def test_a_model_cannot_be_deleted_while_a_training_runs(training, makeWidget):
    from Testing.slicer.engine_jobs import modelPackage

    modelPackage(training.folder.parent / "model")
    training.begin()
    training.tell(STARTED, progress())
    widget = makeWidget()
    widget.ui.modelTable.selectRow(0)
    settle()
    assert widget.ui.exportButton.enabled
    assert not widget.ui.deleteButton.enabled
    assert "training runs" in widget.ui.deleteButton.toolTip
    training.end(STOPPED)
    follow(widget, lambda: not widget.training)
    assert widget.ui.deleteButton.enabled


def test_discarding_a_finished_training_takes_its_model_from_the_lists(training, makeWidget, monkeypatch, slicerQt):
    from Testing.slicer.engine_jobs import modelPackage

    modelPackage(training.folder / "model")
    training.tell(STARTED, DONE)
    widget = makeWidget()
    assert widget.models.chosen() is not None
    monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: True)
    widget.ui.discardButton.click()
    assert not training.folder.exists()
    assert widget.models.chosen() is None
    assert widget.ui.modelTable.rowCount == 0


def test_stop_asks_the_engine_and_the_stopped_training_can_be_resumed(training, makeWidget):
    training.begin()
    training.tell(STARTED, progress())
    widget = makeWidget()
    widget.ui.trainButton.click()
    assert (training.folder / "STOP").exists()
    assert line(widget, "trainState").startswith("Stopping")
    assert not widget.ui.trainButton.enabled
    training.end(STOPPED)
    follow(widget, lambda: not widget.training)
    assert line(widget, "trainState") == "Stopped; nothing is lost. It can be resumed."
    assert shown(widget, "resumeButton")
    assert shown(widget, "discardButton")
    assert widget.ui.trainButton.text == "Train"


def test_resume_runs_the_engine_on_the_same_folder(training, makeWidget):
    training.tell(STARTED, progress(), STOPPED)
    widget = makeWidget()
    widget.ui.resumeButton.click()
    assert widget.ui.trainButton.text == "Stop"
    follow(widget, lambda: not widget.training)
    assert "a.nii.gz" in line(widget, "trainState")  # the job names a file that is not there
    assert shown(widget, "resumeButton")


def test_an_interrupted_training_is_offered_for_resuming(training, makeWidget):
    training.tell(STARTED, progress())
    widget = makeWidget()
    assert "interrupted" in line(widget, "trainState")
    assert shown(widget, "resumeButton")


def test_a_failure_is_told_with_what_to_do_and_the_log_has_the_engines_words(training, makeWidget):
    training.begin()
    training.tell(STARTED, progress())
    widget = makeWidget()
    (training.folder / "engine-output.txt").write_text("Traceback: no space left", encoding="utf-8")
    training.end(FAILED)
    follow(widget, lambda: not widget.training)
    assert line(widget, "trainState") == "The disk is full.\nMake room on the disk.\n/data/job"
    assert "no space left" in widget.ui.logText.plainText
    widget.ui.logButton.setChecked(True)
    assert shown(widget, "logText")
    widget.ui.dataSection.collapsed = True
    widget.ui.trainSection.collapsed = False
    photograph(widget, "failed")


@pytest.mark.parametrize(
    ("last", "text"),
    [
        ([STOPPED], "The last training was stopped at step 3,720 of 6,000."),
        ([], "The last training was interrupted at step 3,720 of 6,000."),
        ([FAILED], "The last training failed at step 3,720 of 6,000."),
    ],
)
def test_a_training_that_is_not_done_opens_its_section_and_says_so_first(training, makeWidget, last, text):
    from Testing.slicer.engine_jobs import modelPackage

    modelPackage(training.folder.parent / "model")
    training.tell(STARTED, progress(), *last)
    widget = makeWidget()
    assert not widget.ui.trainSection.collapsed
    assert widget.ui.segmentSection.collapsed
    assert line(widget, "lastRunText").startswith(text)
    assert shown(widget, "resumeButton")


def test_a_finished_training_leaves_that_line_out_and_tells_its_steps(training, makeWidget):
    training.tell(STARTED, progress(), DONE | {"summary": {"steps": 12345}})
    widget = makeWidget()
    assert not shown(widget, "lastRunText")
    assert line(widget, "trainState") == "Finished in 10 min, after 12,345 steps"


def test_a_look_at_another_training_keeps_the_offer_to_continue_the_last_one(
    training, makeWidget, monkeypatch, slicerQt
):
    from Testing.slicer.engine_jobs import modelPackage

    training.tell(STARTED, progress(), STOPPED)
    finished = Training(training.folder.parent / "finished")
    finished.tell(STARTED, progress(6000), DONE)
    modelPackage(finished.folder / "model")
    widget = makeWidget()
    widget.ui.modelTable.selectRow(0)
    widget.ui.trainingButton.click()
    assert line(widget, "trainState").startswith("Finished in")
    assert line(widget, "lastRunText").startswith("The last training was stopped at step 3,720")
    monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: str(finished.folder) in text)
    widget.ui.discardButton.click()
    assert not finished.folder.exists()
    resumed = []
    monkeypatch.setattr(widget.logic, "resumeTraining", lambda folder: resumed.append(folder) or widget.train._last)
    widget.ui.resumeButton.click()
    assert resumed == [training.folder]
    assert shown(makeWidget(), "resumeButton")  # also after a restart


class TestStarting:
    """What a click on *Train* does, with an engine that the test plays."""

    @pytest.fixture
    def started(self, widget, monkeypatch, training):
        from SemiCardiacSegLib.engine.job import Job

        volume = makeVolume("patient01")
        widget.dataSet.addVolume(volume, makeHeartSegmentation(volume))
        settle()
        widget.train.view.drop()
        training.begin()
        training.tell(STARTED, progress(0))
        monkeypatch.setattr(widget.logic, "startTraining", lambda folder, **options: Job(training.folder))
        return widget

    def test_the_second_click_of_a_double_click_does_not_stop_it(self, started, training, monkeypatch):
        from SemiCardiacSegLib.panels import train

        started.ui.trainButton.click()
        started.ui.trainButton.click()
        assert not (training.folder / "STOP").exists()
        monkeypatch.setattr(train, "DOUBLE_CLICK_S", 0.0)
        started.ui.trainButton.click()
        assert (training.folder / "STOP").exists()

    def test_what_was_said_of_the_way_to_the_training_goes(self, started):
        started.data.say("Sample data are in the table. Open the next section and click Train.")
        started.ui.trainButton.click()
        assert line(started, "dataMessage") == ""

    def test_the_progress_comes_into_view(self, started, slicerQt):
        area = slicerQt.qt.QScrollArea()
        area.setWidgetResizable(True)
        area.setWidget(started.parent)
        started.ui.trainSection.collapsed = False
        started.ui.dataSection.collapsed = False
        area.resize(440, 300)
        area.show()
        settle()
        area.verticalScrollBar().setValue(0)
        started.ui.trainButton.click()
        settle()
        bar, view = started.ui.trainProgress, area.viewport()
        top = bar.mapTo(view, bar.rect.topLeft()).y()
        assert 0 <= top < view.height
        area.takeWidget()

    @pytest.mark.parametrize(("niceness", "told"), [(19, True), (0, False)])
    def test_a_low_priority_is_told_with_its_cure(self, started, monkeypatch, niceness, told):
        monkeypatch.setattr("os.getpriority", lambda which, who: niceness, raising=False)
        monkeypatch.setattr("os.PRIO_PROCESS", 0, raising=False)
        started.ui.trainButton.click()
        assert ("SLICER_BACKGROUND_THREAD_PRIORITY=0" in line(started, "trainMessage")) == told


def test_the_training_survives_a_closed_scene(training, makeWidget, scene):
    training.begin()
    training.tell(STARTED, progress(100))
    widget = makeWidget()
    widget.ui.curvesButton.setChecked(True)
    scene.Clear(False)
    training.tell(progress(200))
    follow(widget, lambda: "step 200" in line(widget, "trainState"))
    assert len(widget.train.curves.losses.rows) == 2


def test_discard_deletes_only_after_a_question(training, makeWidget, monkeypatch, slicerQt):
    training.tell(STARTED, progress())
    widget = makeWidget()
    asked = []
    monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: asked.append(text))
    widget.ui.discardButton.click()
    assert str(training.folder) in asked[0]
    for what in ("images", "checkpoints", "model"):
        assert what in asked[0]
    assert training.folder.exists()
    monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: True)
    widget.ui.discardButton.click()
    assert not training.folder.exists()
    assert not shown(widget, "trainStatus")
    assert not makeWidget().training


def test_train_passes_the_settings_and_shows_what_is_wrong(widget, monkeypatch, tmp_path):
    volume = makeVolume("patient01")
    widget.dataSet.addVolume(volume, makeHeartSegmentation(volume))
    settle()
    assert widget.ui.trainButton.enabled
    assert line(widget, "trainWhy") == ""
    widget.ui.minutesBox.value = 7
    widget.ui.presetBox.setCurrentIndex(2)
    widget.ui.methodBox.setCurrentIndex(widget.ui.methodBox.findText("FixMatch"))
    widget.ui.deviceBox.setCurrentIndex(1)
    widget.ui.seedBox.value = 5
    widget.ui.deterministicBox.checked = True
    given = {}

    def start(folder, **options):
        given.update(options, folder=folder)
        raise ValueError("The folder is read-only.")

    monkeypatch.setattr(widget.logic, "startTraining", start)
    widget.ui.trainButton.click()
    assert given["folder"].parent == tmp_path / "trainings"
    assert (given["minutes"], given["preset"], given["device"], given["seed"]) == (7, "paper", "cpu", 5)
    assert given["method"] == "fixmatch"
    assert given["settings"] == ["deterministic=true"]
    assert given["startFrom"] is None
    assert line(widget, "trainMessage") == "The folder is read-only."
    widget.ui.stepsBox.value = 40
    settle()
    assert not widget.ui.minutesBox.enabled
    widget.ui.trainButton.click()
    assert given["steps"] == 40


def test_each_method_is_described_by_a_line_of_the_registry(widget, slicerQt):
    from semicardiac.methods.registry import METHODS

    box = widget.ui.methodBox
    shown = {box.itemText(index): box.itemData(index, slicerQt.qt.Qt.ToolTipRole) for index in range(box.count)}
    assert {entry.title: entry.about for entry in METHODS.values()}.items() <= shown.items()
    assert all(shown.values())


def test_the_output_folder_stays_when_the_scene_is_closed(widget, scene, tmp_path):
    widget.ui.folderEdit.setCurrentPath(str(tmp_path / "mine"))
    settle()
    scene.Clear(False)
    settle()
    assert widget.ui.folderEdit.currentPath == str(tmp_path / "mine")
