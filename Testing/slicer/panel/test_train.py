"""Section 2 of the panel: a training is started, followed, stopped, resumed and found again."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import get_args

import pytest
from PIL import Image
from semicardiac.base.locks import exclusive
from semicardiac.data.cases import Case
from semicardiac.images.labels import get_label_set
from semicardiac.jobs.job import TrainJob, write_job

from Testing.slicer.panel.support import follow, line, photograph, settle, shown

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from Testing.slicer.scenes import makeHeartSegmentation, makeVolume

NOW = time.time()
STARTED = {"event": "started", "kind": "train", "version": "0.1.0", "pid": 1234}
DEVICE = {
    "event": "device", "device": "cuda", "name": "NVIDIA X", "dtype": "bfloat16", "channels_last": True, "threads": 4,
}  # fmt: skip
STOPPED = {"event": "stopped", "step": 3720}
FAILED = {"event": "error", "what": "the disk is full", "where": "/data/job", "hint": "Make room on the disk"}
DONE = {"event": "done", "seconds": 600.0, "cpu_seconds": 590.0, "summary": {}}


def progress(step=3720, **fields) -> dict:
    told = {
        "event": "progress", "stage": "semi-supervised", "step": step, "total": 6000, "eta_s": 245.0, "loss": 0.31,
        "losses": {"supervised": 0.2, "unsupervised": 0.1, "contrast": 0.7}, "figures": {"threshold_mean": 0.9},
        "pass_rate": {"LV cavity": 0.9, "RV cavity": 0.8}, "gpu_memory_mb": 2150.0,
    }  # fmt: skip
    return told | fields


def validation(step=3000) -> dict:
    dice = {"RV cavity": 0.84, "LV myocardium": 0.83, "LV cavity": None}
    return {"event": "validation", "step": step, "dice": dice, "mean_dice": 0.838}


class Training:
    """The folder of a training whose engine is played by the test: it writes the events and holds the lock."""

    def __init__(self, folder) -> None:
        self.folder = folder
        (folder / "previews").mkdir(parents=True)
        self._lock = ExitStack()
        case = Case(name="a", patient="a", image=folder / "a.nii.gz", labels=folder / "a_gt.nii.gz", role="labeled")
        write_job(folder, TrainJob(cases=(case,), labels=get_label_set("acdc")))

    def begin(self) -> None:
        self._lock.enter_context(exclusive(self.folder / "lock"))

    def tell(self, *events: dict) -> None:
        with open(self.folder / "events.jsonl", "a", encoding="ascii") as file:
            file.writelines(json.dumps({"time": NOW} | event) + "\n" for event in events)

    def preview(self, name="step003000.png") -> dict:
        Image.new("RGB", (896, 470), (60, 80, 120)).save(self.folder / "previews" / name)
        return {"event": "preview", "step": 3000, "path": f"previews/{name}"}

    def end(self, *events: dict) -> None:
        if events:
            self.tell(*events)
        self._lock.close()


@pytest.fixture
def training(slicerQt, tmp_path):
    """A training that the user started last, in an earlier Slicer."""
    from SemiCardiacSegLib.panels.train import LAST

    made = Training(tmp_path / "trainings" / "training-1")
    slicerQt.qt.QSettings().setValue(LAST, str(made.folder))
    yield made
    made.end()


def test_a_running_training_is_found_again_with_all_that_it_has_told(training, makeWidget):
    training.begin()
    training.tell(STARTED, DEVICE, progress(100, stage="supervised"), validation(), training.preview(), progress())
    widget = makeWidget()
    state = line(widget, "trainState")
    assert state == "Training on labeled and unlabeled cases: step 3,720 of 6,000, GPU memory 2.1 GB"
    assert widget.ui.trainProgress.format == "%p %, 4 min left"
    assert (widget.ui.trainProgress.value, widget.ui.trainProgress.maximum) == (3720, 6000)
    assert line(widget, "trainDice") == "Validation Dice 0.84: RV cavity 0.84, LV myocardium 0.83, LV cavity –"
    assert widget.ui.trainButton.text == "Stop"
    assert widget.ui.trainButton.enabled
    assert not shown(widget, "resumeButton")
    assert not widget.ui.folderEdit.enabled
    log = widget.ui.logText.plainText
    assert "computing on NVIDIA X (cuda, bfloat16)" in log
    assert log.count("Training on") == 2  # each stage once
    widget.ui.dataSection.collapsed = True
    widget.ui.trainSection.collapsed = False
    widget.parent.resize(400, 800)
    widget.parent.show()
    widget.ui.previewButton.setChecked(True)
    assert shown(widget, "previewImage")
    photograph(widget, "training")


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


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("checking inputs", "Checking inputs"),
        ("preparing slices", "Building the slice bank"),
        ("finding the heart", "Learning to find the heart"),
    ],
)
def test_stages_have_words(training, makeWidget, stage, words):
    training.begin()
    training.tell(STARTED, {"event": "progress", "stage": stage, "step": 3, "total": 14, "case": "patient002 ED"})
    assert line(makeWidget(), "trainState") == f"{words}: 3 of 14, patient002 ED"


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


def test_the_end_is_announced_outside_of_the_panel(training, makeWidget, slicerQt):
    training.begin()
    training.tell(STARTED, progress())
    widget = makeWidget()
    widget.exit()  # also while the user is in another module
    training.end(DONE)
    follow(widget, lambda: not widget.training)
    assert "has finished" in slicerQt.util.mainWindow().statusBar().currentMessage()
    widget.enter()
    assert line(widget, "trainState") == "Finished in 10 min"
    assert not shown(widget, "resumeButton")
    assert shown(widget, "discardButton")


def test_curves_grow_and_the_users_layout_comes_back(training, makeWidget, slicerQt):
    from Testing.slicer.qt_standin.application import addLayout

    layout = addLayout()
    before = layout.GetViewArrangement()
    training.begin()
    training.tell(STARTED, progress(100))
    widget = makeWidget()
    widget.ui.curvesButton.setChecked(True)
    assert layout.GetViewArrangement() == before  # no empty view: a single point is no line
    assert "second point" in line(widget, "curvesWhy")
    training.tell(progress(200))
    follow(widget, lambda: len(widget.train.curves.losses.rows) == 2)
    assert layout.GetViewArrangement() != before
    assert line(widget, "curvesWhy") == ""
    training.tell(progress(300))
    follow(widget, lambda: len(widget.train.curves.losses.rows) == 3)
    tables = [node for node in slicerQt.util.getNodesByClass("vtkMRMLTableNode") if node.GetNumberOfRows() == 3]
    assert len(tables) == 1
    assert slicerQt.app.layoutManager().plotWidget(0).plotView().range == (100, 300)
    widget.ui.curvesBox.setCurrentIndex(2)
    assert [node.GetTitle() for node in slicerQt.util.getNodesByClass("vtkMRMLPlotChartNode")] == [
        "Losses", "Thresholds and pass rates",
    ]  # fmt: skip
    widget.ui.curvesButton.setChecked(False)
    assert layout.GetViewArrangement() == before
    widget.ui.curvesButton.setChecked(True)
    training.end(STOPPED)
    follow(widget, lambda: not widget.training)
    widget.ui.resumeButton.click()  # the charts of the run before go
    assert slicerQt.util.getNodesByClass("vtkMRMLPlotChartNode") == []
    assert slicerQt.util.getNodesByClass("vtkMRMLTableNode") == []
    widget.ui.curvesButton.setChecked(True)
    widget.cleanup()
    assert slicerQt.util.getNodesByClass("vtkMRMLPlotChartNode") == []
    assert layout.GetViewArrangement() == before


def test_leaving_the_module_gives_the_layout_back(training, makeWidget):
    from Testing.slicer.qt_standin.application import addLayout

    layout = addLayout()
    before = layout.GetViewArrangement()
    training.tell(STARTED, progress(100), progress(200), STOPPED)
    widget = makeWidget()
    widget.ui.curvesButton.setChecked(True)
    assert layout.GetViewArrangement() != before
    widget.exit()
    assert layout.GetViewArrangement() == before


def test_previews_do_not_widen_the_panel(training, makeWidget):
    training.begin()
    training.tell(STARTED, progress(), training.preview())
    widget = makeWidget()
    widget.ui.trainSection.collapsed = False
    widget.parent.resize(400, 900)
    widget.parent.show()
    before = widget.parent.minimumSizeHint().width()
    widget.ui.previewButton.setChecked(True)
    for number in range(3):
        event = training.preview(f"step{number:06d}.png")
        training.tell(event)
        follow(widget, lambda event=event: str(widget.train._picture).endswith(event["path"]))
        settle()
        assert widget.parent.minimumSizeHint().width() == before
        assert widget.ui.previewImage.pixmap.width() <= widget.parent.width


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


def test_closing_slicer_while_it_trains_asks_first(training, makeWidget, monkeypatch, slicerQt):
    training.begin()
    training.tell(STARTED, progress())
    widget = makeWidget()
    window, asked = slicerQt.util.mainWindow(), []
    window.show()
    monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: bool(asked.append(text)))
    assert not window.close()
    assert "continues it" in asked[0]
    settle()
    monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: True)
    assert window.close()
    training.end(STOPPED)
    follow(widget, lambda: not widget.training)
    window.show()
    monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: pytest.fail("nothing runs"))
    assert window.close()


class TestQuitting:
    """One attempt to quit may send the main window several close events, as it does on macOS."""

    @pytest.fixture
    def attempt(self, training, makeWidget, monkeypatch, slicerQt):
        """Sends the window a close event, and gives whether it was accepted; `asked` are the questions."""
        from Testing.slicer.qt_standin import qt

        training.begin()
        training.tell(STARTED, progress())
        self.widget = makeWidget()
        self.window, self.asked, self.answer = slicerQt.util.mainWindow(), [], True
        self.window.show()

        def ask(text):
            self.asked.append(text)
            assert not self.answer or not send()  # the user presses the keys again while the question is open
            return self.answer

        def send() -> bool:
            event = qt.QCloseEvent()
            slicerQt.qt.QApplication.sendEvent(self.window, event)
            return event.isAccepted()

        monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", ask)
        return send

    def test_two_events_of_one_attempt_are_one_question(self, attempt):
        assert [attempt(), attempt()] == [True, True]
        assert len(self.asked) == 1

    def test_a_refusal_holds_for_both_events_and_the_next_attempt_asks_again(self, attempt):
        self.answer = False
        assert [attempt(), attempt()] == [False, False]
        settle()
        assert len(self.asked) == 1
        self.answer = True
        assert attempt()
        assert len(self.asked) == 2

    def test_the_event_that_follows_when_the_window_is_closed_asks_nothing(self, attempt):
        assert self.window.close()
        settle()
        assert attempt()
        assert len(self.asked) == 1

    def test_an_attempt_that_slicer_gives_up_is_asked_again_the_next_time(self, attempt):
        assert attempt()  # and then the user does not want to quit without saving the scene
        settle()
        assert attempt()
        assert len(self.asked) == 2


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


def test_the_output_folder_stays_when_the_scene_is_closed(widget, scene, tmp_path):
    widget.ui.folderEdit.setCurrentPath(str(tmp_path / "mine"))
    settle()
    scene.Clear(False)
    settle()
    assert widget.ui.folderEdit.currentPath == str(tmp_path / "mine")


class TestWords:
    def test_every_stage_that_the_engine_names_has_words(self, monkeypatch):
        from semicardiac.base.events import Stage
        from SemiCardiacSegLib.panels import words

        assert words.stage({"stage": "supervised", "seed": 3}) == "Seed 3: Training on the labeled cases"
        monkeypatch.setattr(words, "_", lambda text: f"translated: {text}")
        untranslated = {name for name in get_args(Stage) if not words.stage({"stage": name}).startswith("translated: ")}
        assert not untranslated
        assert set(words.TRAINING_STAGES) <= set(get_args(Stage))

    def test_a_line_of_the_log_keeps_where_what_and_hint_apart(self):
        from SemiCardiacSegLib.panels import words

        warning = {"event": "warning", "warning": "one slice", "where": "a.nrrd", "hint": "take more"}
        assert words.logLine(warning) == "warning: a.nrrd: One slice. Take more."
        assert words.logLine(FAILED) == "error: /data/job: The disk is full. Make room on the disk."
