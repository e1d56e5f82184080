"""Section 2: train."""

from __future__ import annotations

import os
import time
from pathlib import Path

import qt
import slicer

from ..engine.job import Job
from ..i18n import tr as _
from ..parameters import METHODS, Method
from ..scene.borrowed_layout import BorrowedLayout, fitChart, showChart
from ..tasks.plots import TrainingCurves
from . import words
from .job_view import JobView
from .panel import Panel, ignoreWheel, showLine
from .quit_guard import QuitGuard

LAST = "SemiCardiacSeg/lastTraining"
"""The user's setting with the folder of the last training, which is found again after Slicer was closed."""
FOLDER = "SemiCardiacSeg/folder"
"""The user's setting with the folder in which trainings are kept."""
DOUBLE_CLICK_S = 1.0
"""A click on *Stop* sooner after *Train* than this is the second one of a double click."""
LOW_PRIORITY = 10
"""From this niceness on, a process waits for nearly every other one."""


class TrainPanel(Panel):
    """Starts, follows, stops and resumes a training; shows its curves, its pictures and its log."""

    message = "trainMessage"

    def setup(self) -> None:
        self.view = JobView(self.ui.trainStatus, self.ui.trainProgress, self.ui.trainState, resumable=True)
        self.curves = TrainingCurves()
        self._last: Job | None = None
        self._layout = BorrowedLayout(showChart)
        self._picture: Path | None = None
        self._stage = ""
        self._startedAt = -DOUBLE_CLICK_S
        self._sceneFolder = ""
        self._quitGuard = QuitGuard(lambda: self.view.running)
        self._quitGuard.install()
        self.onClick(self.ui.trainButton, self._onTrain)
        self.onClick(self.ui.resumeButton, self._onResume)
        self.onClick(self.ui.discardButton, self._onDiscard, wait=False)
        ignoreWheel(self.ui.startFromBox)
        self.ui.curvesButton.connect("toggled(bool)", self._onCurves)
        self.ui.curvesBox.addItems([curves.title for curves in self._charts()])
        self.ui.curvesBox.connect("currentIndexChanged(int)", lambda: self._onCurves(self.ui.curvesButton.checked))
        self.ui.previewButton.connect("toggled(bool)", self._showPicture)
        self.ui.logButton.connect("toggled(bool)", self.ui.logText.setVisible)
        for widget in (self.ui.logText, self.ui.previewImage, self.ui.curvesBox, self.ui.curvesWhy):
            widget.setVisible(False)
        showLine(self.ui.trainDice, "")

    def followLast(self) -> None:
        """Shows the last training of the user again, as it is now."""
        last = slicer.util.settingsValue(LAST, "")
        if last and Path(last).is_dir():
            self._follow(Job(last))

    def show(self, folder: Path) -> None:
        """Shows a training that has ended, with its curves, its pictures and its log; the last one stays the last."""
        job = Job(folder)
        if self._last is not None and self._last.folder == job.folder:
            self._last = job
        self._show(job)

    def update(self) -> None:
        job, running = self.view.job, self.view.running
        stopping = running and job.state == "stopping"
        self.ui.trainButton.setText(_("Stopping…") if stopping else _("Stop") if running else _("Train"))
        why = _("The checkpoint is being saved.") if stopping else "" if running else self._whyNot()
        self.enable(self.ui.trainButton, why, self.ui.trainWhy)
        self.ui.resumeButton.setVisible(self.unfinished)
        showLine(self.ui.lastRunText, self._unfinishedText() if self.unfinished else "", "stopped")
        self.ui.discardButton.setVisible(job is not None and not running)
        self.enable(self.ui.discardButton, self.widget.models.whyKept())
        for widget in (self.ui.folderEdit, self.ui.minutesBox, self.ui.presetBox, self.ui.advancedBox):
            widget.setEnabled(not running)
        for index, method in enumerate(Method):
            about = (
                METHODS[method.value].about
                if method.value
                else _("Ours; with the recipe for labeled cases alone, none.")
            )
            self.ui.methodBox.setItemData(index, about, qt.Qt.ToolTipRole)
        self.ui.minutesBox.setEnabled(not running and not (self.parameters and self.parameters.steps))
        self.ui.previewButton.setEnabled(self._picture is not None)
        self.view.show()

    @property
    def unfinished(self) -> bool:
        """Whether the last training was stopped, was interrupted or failed, so that it can be resumed."""
        job = self._last
        return job is not None and not self.view.running and job.state not in ("done", "waiting")

    def poll(self) -> None:
        was = self.view.running
        events = self.view.poll()
        self._take(events)
        if was and not self.view.running:
            self._onEnd()
        elif was != self.view.running or any(event["event"] in ("preview", "validation") for event in events):
            self.widget.update()

    def forget(self) -> None:
        self.ui.curvesButton.setChecked(False)

    def cleanup(self) -> None:
        self.ui.curvesButton.setChecked(False)
        self.curves.remove()
        self._quitGuard.remove()

    def start(self, startFrom: str = "") -> None:
        """Starts a training with the settings of the panel.

        Raises:
            ValueError: What is wrong with the cases, a setting or the folder.
        """
        parameters = self.parameters
        budget = {"steps": parameters.steps} if parameters.steps else {"minutes": float(parameters.minutes)}
        folder = self.folder() / time.strftime("training-%Y%m%d-%H%M%S")
        job = self.logic.startTraining(
            folder,
            preset=parameters.preset.value,
            method=parameters.method.value,
            device=parameters.device.value,
            seed=parameters.seed,
            startFrom=startFrom or None,
            settings=["deterministic=true"] * parameters.deterministic,
            **budget,
        )
        self._follow(job)
        qt.QSettings().setValue(LAST, str(folder))
        qt.QSettings().setValue(FOLDER, str(folder.parent))
        self._startedAt = time.monotonic()
        self.widget.data.say("")  # what it said was the way to here
        if _isLowPriority():
            self.say(_(
                "Slicer runs this training with the lowest priority: if other programs are busy, it takes fewer steps "
                "in its time. To change that, set SLICER_BACKGROUND_THREAD_PRIORITY=0 before Slicer starts."
            ))  # fmt: skip
        qt.QTimer.singleShot(0, self._scrollToProgress)

    def rememberFolder(self) -> None:
        """Keeps the output folder for the next scene, if it is the user's and did not come with the scene."""
        folder = str(self.parameters.folder) if self.parameters is not None else ""
        if folder not in ("", ".", self._sceneFolder):
            qt.QSettings().setValue(FOLDER, folder)
        self._sceneFolder = ""

    def noteSceneFolder(self) -> None:
        """Takes note of the output folder that has come with a scene, which may be another person's."""
        self._sceneFolder = str(self.parameters.folder) if self.parameters is not None else ""

    def folder(self) -> Path:
        """The folder in which trainings are kept."""
        chosen = self.parameters.folder
        if str(chosen) not in ("", "."):
            return chosen
        # Not among the documents: on many computers these are sent to a server.
        return Path(slicer.util.settingsValue(FOLDER, "") or Path.home() / "SemiCardiacSeg")

    def _charts(self):
        return (self.curves.losses, self.curves.dice, self.curves.thresholds)

    def _whyNot(self) -> str:
        """Why there can be no training now."""
        if self.widget.segmenting:
            return _("A segmentation runs; train when it has ended.")
        return self.widget.tableError

    def _unfinishedText(self) -> str:
        """What the first line of the section says of a training that can be resumed."""
        progress = self._last.progress
        texts = {
            "stopped": _("The last training was stopped{place}. What it has learned is saved."),
            "interrupted": _("The last training was interrupted{place}. What it had learned is saved."),
        }
        text = texts.get(self._last.state, _("The last training failed{place}. See below what to do first."))
        if not progress or progress["stage"] not in words.TRAINING_STAGES:
            return text.format(place="")
        step, total = (words.number(progress[key]) for key in ("step", "total"))
        return text.format(place=" " + _("at step {step} of {total}").format(step=step, total=total))

    def _onTrain(self) -> None:
        if self.view.running:
            if time.monotonic() - self._startedAt >= DOUBLE_CLICK_S:
                self.view.stop()
        else:
            self.start(self.ui.startFromBox.itemData(self.ui.startFromBox.currentIndex) or "")

    def _onResume(self) -> None:
        self._follow(self.logic.resumeTraining(self._last.folder))

    def _onDiscard(self) -> None:
        folder = self.view.job.folder
        text = _(
            "Delete this training? The images that were copied into it, its checkpoints and its model go with it."
            "\n\n{folder}"
        )
        if slicer.util.confirmOkCancelDisplay(text.format(folder=folder)):
            self.logic.discardTraining(folder)
            if self._last is not None and self._last.folder == folder:
                self._last = None
                qt.QSettings().remove(LAST)
            self.view.drop()
            self._clear()
            self.widget.models.refresh()

    def _follow(self, job) -> None:
        """Takes up the last training of the user."""
        self._last = job
        self._show(job)

    def _show(self, job) -> None:
        self._clear()
        self._take(self.view.follow(job))

    def _clear(self) -> None:
        """Forgets what was shown of the last training."""
        self.ui.curvesButton.setChecked(False)
        self.ui.previewButton.setChecked(False)
        self.curves.remove()
        self.curves = TrainingCurves(self.dataSet.labelSet() if self.widget.ready else None)
        self.ui.logText.clear()
        self._picture, self._stage = None, ""
        showLine(self.ui.trainDice, "")

    def _take(self, events: list[dict]) -> None:
        """Shows what events tell."""
        self.curves.update(events)
        if events and self.ui.curvesButton.checked:
            self._showCurves()
        for event in events:
            self._log(event)
            if event["event"] == "preview":
                self._picture = self.view.job.folder / event["path"]
            elif event["event"] == "validation":
                showLine(self.ui.trainDice, words.dice(event), "")
        if any(event["event"] == "preview" for event in events):
            self._showPicture(self.ui.previewButton.checked)

    def _log(self, event: dict) -> None:
        line = words.logLine(event)
        if event["event"] == "progress" and words.stage(event) != self._stage:
            line = self._stage = words.stage(event)
        if line:
            clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
            self.ui.logText.appendPlainText(f"{clock}  {line}")

    def _showPicture(self, on: bool) -> None:
        picture = qt.QPixmap(str(self._picture)) if on and self._picture else qt.QPixmap()
        self.ui.previewImage.setVisible(not picture.isNull())
        if not picture.isNull():
            width = max(self.ui.trainStatus.width, 200)
            self.ui.previewImage.setPixmap(picture.scaledToWidth(width, qt.Qt.SmoothTransformation))

    def _onCurves(self, on: bool) -> None:
        self.ui.curvesBox.setVisible(on)
        if on:
            self.widget.releaseViews(but=self.ui.curvesButton)
            self._showCurves()
        else:
            self._layout.restore()
            showLine(self.ui.curvesWhy, "")

    def _showCurves(self) -> None:
        """Shows the chosen chart with all its points; not before there is a line to draw."""
        curves = self._charts()[self.ui.curvesBox.currentIndex]
        drawable = len(curves.rows) > 1
        showLine(self.ui.curvesWhy, "" if drawable else _("These curves appear with their second point."), "unknown")
        if drawable:
            self._layout.show(curves.chartNode)
            fitChart(curves.chartNode)
        else:
            self._layout.restore()

    def _scrollToProgress(self) -> None:
        """Brings the progress into view, where the panel is longer than the window."""
        area = self.ui.trainStatus.parentWidget()
        while area is not None and not hasattr(area, "ensureWidgetVisible"):
            area = area.parentWidget()
        if area is not None:
            area.ensureWidgetVisible(self.ui.trainStatus)

    def _onEnd(self) -> None:
        state = self.view.job.state
        if state in ("failed", "interrupted"):
            self._addOutput()
        if state != "stopped":
            ends = {"done": _("SemiCardiacSeg: the training has finished")}
            self.widget.announce(ends.get(state, _("SemiCardiacSeg: the training has failed")))
        if state == "done":
            self.widget.models.refresh(choose=self.view.job.folder)
            self.ui.segmentSection.collapsed = False
        self.widget.update()

    def _addOutput(self) -> None:
        """What the engine printed belongs to the log of a failure."""
        output = self.view.job.folder / "engine-output.txt"
        if output.is_file():
            self.ui.logText.appendPlainText(output.read_text(encoding="utf-8", errors="replace")[-20_000:])


def _isLowPriority() -> bool:
    """Whether the processes that this one starts wait for all others, as those of Slicer on Linux do."""
    return hasattr(os, "getpriority") and os.getpriority(os.PRIO_PROCESS, 0) >= LOW_PRIORITY
