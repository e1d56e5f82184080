"""What section 2 shows of a training: its progress, curves, pictures and words."""

from __future__ import annotations

from typing import get_args

import pytest

from Testing.slicer.panel.support import follow, line, photograph, settle, shown
from Testing.slicer.panel.trainings import DEVICE, DONE, FAILED, STARTED, STOPPED, progress, validation


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
