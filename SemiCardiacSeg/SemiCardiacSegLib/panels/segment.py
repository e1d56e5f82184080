"""Section 3: segment."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer

from ..i18n import tr as _
from . import display
from .job_view import JobView
from .models import OTHER_FILE, OTHER_FOLDER
from .panel import Panel, ignoreWheel


class SegmentPanel(Panel):
    """Starts and follows a segmentation, and puts its results into the scene."""

    message = "segmentMessage"

    def setup(self) -> None:
        self.view = JobView(self.ui.segmentStatus, self.ui.segmentProgress, self.ui.segmentState)
        self.onClick(self.ui.segmentButton, self._onSegment)
        self.ui.manageButton.connect("clicked()", self._onManage)
        self.ui.modelBox.connect("currentIndexChanged(int)", self.widget.update)
        self.ui.modelBox.connect("activated(int)", self._onModel)
        ignoreWheel(self.ui.modelBox)
        self.ui.show3DButton.setEnabled(False)
        self._unloaded = self._loadNow = self._loading = False
        self._fresh: list = []
        self._model: Path | None = None
        self._sceneNumber = 0

    def update(self) -> None:
        self._model = self.widget.models.chosen() or self._model
        running = self.view.running
        why = "" if running else _("The results are on their way.") if self._loading else self._whyNot()
        self.ui.segmentButton.setText(_("Stop") if running else _("Segment"))
        self.enable(self.ui.segmentButton, why, None if self._loading else self.ui.segmentWhy)
        self.ui.inputSelector.setEnabled(not (self.parameters and self.parameters.allCases))
        self.view.show()
        self._present()

    @property
    def busy(self) -> bool:
        """Whether a segmentation runs, or its results are being put into the scene."""
        return self.view.running or self._loading

    def poll(self) -> None:
        if self._loading:
            return
        was = self.view.running
        self.view.poll()
        ended = was and not self.view.running
        if ended:
            self._unloaded = self.view.job.state == "done"
        if ended or self._loadNow:
            self._loadNow = False
            with self.attempt():
                if self._unloaded:
                    self._load()

    def forget(self) -> None:
        self._sceneNumber += 1
        self._fresh = []
        if not self.view.running and not self._unloaded:
            self.view.drop()  # its results go with the scene
        self.ui.show3DButton.setSegmentationNode(None)
        self.ui.show3DButton.setEnabled(False)

    def cleanup(self) -> None:
        self.discard(self.view)

    def onSceneOpened(self, caller=None, event=None) -> None:
        """Has the next poll load results whose scene was closed; by then all that is opened is there."""
        self._loadNow = self._unloaded

    def _whyNot(self) -> str:
        if self.widget.training:
            return _("A training runs; segment when it has ended, or stop it.")
        if not self.widget.models.chosen():
            return _("There is no model yet: train one, or import one.")
        if self.parameters is None:
            return ""
        if self.parameters.allCases and not self.dataSet.unsegmentedNodes():
            return _("The table has no volume of the scene without a segmentation.")
        if not self.parameters.allCases and self.parameters.inputNode is None:
            return _("Choose a volume or a sequence.")
        return ""

    def _onSegment(self) -> None:
        if self.view.running:
            self.view.stop()
            return
        parameters = self.parameters
        job = self.logic.startSegmentation(
            self.widget.models.chosen(),
            self.dataSet.unsegmentedNodes() if parameters.allCases else parameters.inputNode,
            device=parameters.device.value,
            flips=parameters.flips,
            confidence=parameters.confidence,
            entropy=parameters.entropy,
            thresholdMap=parameters.thresholdMap,
            pseudoLabels=parameters.pseudoLabels,
        )
        self.discard(self.view)  # the last one, whose results may not have been loaded
        self._unloaded = False
        self.view.follow(job)

    def _load(self) -> None:
        """Puts the results into the scene, if it is that of the segmentation."""
        self._loading = True
        self.say(_("Putting the results into the scene…"), "running")
        self.widget.update()
        try:
            nodes = self.logic.loadResults(self.view.job, self._tick)
        except ValueError as error:
            kept = _("The results are kept until the next segmentation, and come when that scene is opened.")
            raise ValueError(f"{error}\n{kept}") from error
        finally:
            self._loading = False
        self.say("")
        self._unloaded = False
        self.discard(self.view)
        self.widget.announce(_("SemiCardiacSeg: {name} is there").format(name=nodes[0].GetName()))
        self._fresh = nodes
        self._present()

    def _tick(self) -> None:
        """Lets the window live while results come into the scene; ends that if the scene is closed meanwhile."""
        scene = self._sceneNumber
        slicer.app.processEvents()
        if scene != self._sceneNumber:
            raise ValueError(_("The scene was closed."))

    def _present(self) -> None:
        """Shows and offers to measure what is new; while the user works in another module, the views are not ours."""
        nodes = [node for node in self._fresh if slicer.mrmlScene.IsNodePresent(node)]
        if self.parameters is None or not self._fresh:
            return
        self._fresh = []
        if nodes:
            self.parameters.measured = nodes[0]
            self.ui.measureSection.collapsed = False
            self._show(nodes)

    def _show(self, nodes: list) -> None:
        """Shows the first of the new segmentations in the views, and the first map over it."""
        display.chooseBrowser(nodes[0])
        segmentation, *others = map(display.shownNode, nodes)
        maps = [node for node in others if node is not None and node.IsA("vtkMRMLScalarVolumeNode")]
        if segmentation is not None:
            self.ui.show3DButton.setSegmentationNode(segmentation)
            self.ui.show3DButton.setEnabled(True)
            self.widget.views.showVolume(display.volumeOf(segmentation), segmentation, next(iter(maps), None))

    def _onModel(self, index: int) -> None:
        """Asks for the folder or the zip of a model where the list says so."""
        self.say("")  # it may have spoken of the model before
        kind = self.ui.modelBox.itemData(index)
        if kind not in (OTHER_FOLDER, OTHER_FILE):
            return
        with self.attempt(wait=False):
            if kind == OTHER_FOLDER:
                path = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Choose a model"))
            else:
                filters = _("Model packages") + " (*.zip)"
                path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Choose a model"), "", filters)
            self.ui.modelBox.setCurrentIndex(self.ui.modelBox.findData(str(self._model)))
            if path:
                self.widget.models.take(Path(path))

    def _onManage(self) -> None:
        self.ui.modelsSection.collapsed = False
