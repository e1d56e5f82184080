"""Section 5: improve."""

from __future__ import annotations

from contextlib import suppress

import qt
import slicer

from ..i18n import tr as _
from . import display, words
from .job_view import JobView
from .panel import Panel

PREVIOUS, NEXT = "Alt+Up", "Alt+Down"
"""Keys for the case before and the next one."""


class ImprovePanel(Panel):
    """Lists the unlabeled cases by uncertainty, and takes corrected ones into the labeled set."""

    message = "improveMessage"

    def setup(self) -> None:
        self.view = JobView(self.ui.improveStatus, self.ui.improveProgress, self.ui.improveState)
        self._found: list = []
        self.onClick(self.ui.rankButton, self._onRank)
        self.onClick(self.ui.correctButton, self._onCorrect)
        self.onClick(self.ui.smoothButton, lambda: self._onCorrect("Smoothing"))
        self.onClick(self.ui.islandsButton, lambda: self._onCorrect("Islands"))
        self.onClick(self.ui.carryButton, self._onCarry)
        self.onClick(self.ui.previousButton, lambda: self._step(-1))
        self.onClick(self.ui.nextButton, lambda: self._step(1))
        self.onClick(self.ui.acceptButton, self._onAccept)
        self._shortcuts = [self._shortcut(PREVIOUS, self.ui.previousButton), self._shortcut(NEXT, self.ui.nextButton)]
        self.onClick(self.ui.continueButton, self._onContinue)
        table = self.ui.reviewTable
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.setColumnWidth(1, 90)
        table.connect("itemSelectionChanged()", self.update)
        table.connect("cellDoubleClicked(int,int)", self._onDoubleClick)

    def update(self) -> None:
        busy, chosen = self.view.running, self._chosen()
        model = self.widget.models.chosen()
        why = "" if model else _("There is no model yet: train one first.")
        if self.widget.training:
            why = _("A training runs; continue when it has ended.")
        elif self.widget.segmenting and not busy:
            why = _("A segmentation runs; continue when it has ended.")
        self.ui.rankButton.setText(_("Stop") if busy else _("Find uncertain cases"))
        self.enable(self.ui.rankButton, "" if busy else why, self.ui.improveWhy)
        none = "" if chosen else _("Select a case of the list.")
        correcting = (self.ui.correctButton, self.ui.smoothButton, self.ui.islandsButton, self.ui.acceptButton)
        for button in correcting:
            self.enable(button, none)
        isFrame = chosen is not None and chosen.isFrame
        self.enable(self.ui.carryButton, none or ("" if isFrame else _("This is no frame of a cine.")))
        rows = len(self._found)
        at = self._index()
        self.enable(self.ui.previousButton, "" if at > 0 else _("There is no case before this one."))
        self.enable(self.ui.nextButton, "" if at + 1 < rows else _("There is no case after this one."))
        self.enable(self.ui.continueButton, why or self.widget.tableError)
        self.ui.reviewTable.setVisible(bool(self._found))
        for shortcut in self._shortcuts:
            shortcut.setEnabled(bool(self._found))  # else these keys open the lists of all other modules
        for button in (*correcting, self.ui.carryButton, self.ui.previousButton, self.ui.nextButton):
            button.setVisible(bool(self._found))
        self.view.show()

    def poll(self) -> None:
        was = self.view.running
        self.view.poll()
        if was and not self.view.running:
            with self.attempt():
                if self.view.job.state == "done":
                    self._fill(self.logic.uncertainties(self.view.job))
                    self._sayKept()

    def forget(self) -> None:
        self.discard(self.view)
        self.view.drop()
        self._fill([])

    def cleanup(self) -> None:
        self.discard(self.view)
        for shortcut in self._shortcuts:
            with suppress(RuntimeError, ValueError):  # it is gone with the window, as PySide and PythonQt say it
                shortcut.setEnabled(False)
                shortcut.deleteLater()

    def _fill(self, found: list) -> None:
        self._found = list(found)
        table = self.ui.reviewTable
        table.setRowCount(len(self._found))
        for index, each in enumerate(self._found):
            table.setItem(index, 0, qt.QTableWidgetItem(each.name))
            number = qt.QTableWidgetItem(words.number(each.uncertainty, 2))
            number.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            table.setItem(index, 1, number)

    def _sayKept(self) -> None:
        """Names the cases whose corrections stay what is shown, though they were segmented anew."""
        corrected = self.logic.correctedKeys()
        if names := [each.name for each in self._found if each.key in corrected]:
            text = _("Your corrections that are not accepted yet were kept, in place of new segmentations: {names}.")
            self.say(text.format(names=", ".join(names)))

    def _chosen(self):
        """The selected case of the list, or None."""
        rows = self.ui.reviewTable.selectionModel().selectedRows()
        return self._found[rows[0].row()] if rows and rows[0].row() < len(self._found) else None

    def _onRank(self) -> None:
        if self.view.running:
            self.view.stop()
        else:
            device = self.parameters.device.value
            job = self.logic.startUncertainty(self.widget.models.chosen(), device=device)
            self.discard(self.view)
            self._fill([])  # what was listed has no files any more
            self.view.follow(job)

    def _onDoubleClick(self, index: int, column: int) -> None:
        with self.attempt():
            self._segmentation()

    def _segmentation(self):
        """The segmentation node of the chosen case, which is then shown; loaded where it was not yet."""
        segmentation = self.logic.reviewSegmentation(self.view.job, self._chosen().key)
        self.widget.views.showVolume(display.volumeOf(segmentation), segmentation)
        return segmentation

    def _index(self) -> int:
        """The selected row; -1 without one."""
        rows = self.ui.reviewTable.selectionModel().selectedRows()
        return rows[0].row() if rows else -1

    def _shortcut(self, keys: str, button):
        """Keys that press a button, also while the user is in Segment Editor."""
        shortcut = qt.QShortcut(slicer.util.mainWindow() or self.ui.improveSection)
        shortcut.setKey(qt.QKeySequence(keys))
        shortcut.connect("activated()", button.click)
        return shortcut

    def _step(self, by: int) -> None:
        """Selects and shows the next case or the one before; in Segment Editor, that is then edited."""
        self.ui.reviewTable.selectRow(self._index() + by)
        segmentation = self._segmentation()
        if slicer.util.selectedModule() == "SegmentEditor":
            self._edit(segmentation)

    def _onCarry(self) -> None:
        keys = self.logic.carryOver(self.view.job, self._chosen().key)
        names = ", ".join(each.name for each in self._found if each.key in keys)
        self.say(_("The correction was carried to: {names}. Look at them before you accept them.").format(names=names))

    def _onCorrect(self, effect: str = "") -> None:
        segmentation = self._segmentation()
        self.widget.views.keep()  # the editor is to paint on the slices as they were acquired
        slicer.util.selectModule("SegmentEditor")
        self._edit(segmentation, effect)

    def _edit(self, segmentation, effect: str = "") -> None:
        """Has Segment Editor edit a segmentation, with an effect if one is named."""
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(segmentation)
        editor.setSourceVolumeNode(display.volumeOf(segmentation))
        if effect:
            editor.setActiveEffectByName(effect)

    def _onAccept(self) -> None:
        chosen = self._chosen()
        self.logic.accept(chosen.key, self._segmentation())
        self._fill([each for each in self._found if each.key != chosen.key])
        self.ui.reviewTable.clearSelection()  # a second click must not accept a case that nobody has seen
        self.say(
            _("{name} is a labeled case now. Continue the training when you have corrected enough.").format(
                name=chosen.name
            )
        )

    def _onContinue(self) -> None:
        model = str(self.widget.models.chosen())
        self.ui.startFromBox.setCurrentIndex(max(0, self.ui.startFromBox.findData(model)))
        self.widget.train.start(startFrom=model)
        self.ui.trainSection.collapsed = False
