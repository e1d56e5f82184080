"""Section 3: segment."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer

from ..i18n import tr as _
from ..scene import cine, dicom_cine
from ..table.scene_cases import sequenceOf
from . import display
from .job_view import JobView
from .models import OTHER_FILE, OTHER_FOLDER
from .panel import Panel, ignoreWheel, lastFolder, rememberFolder

ALL_FRAMES = 0
"""Index in the list of what of a cine is segmented; the other one is the frame that the views show."""


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
        self.ui.show3DButton.connect("toggled(bool)", lambda on: on and qt.QTimer.singleShot(0, display.center3D))
        self.onClick(self.ui.openCineButton, self._onOpenCine, wait=False)
        for frames in (_("all frames"), _("this frame")):
            self.ui.framesBox.addItem(frames)
        self.ui.framesBox.connect("currentIndexChanged(int)", self.widget.update)
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
        allCases = bool(self.parameters and self.parameters.allCases)
        self.ui.inputSelector.setEnabled(not allCases)
        self.ui.framesBox.setVisible(not allCases and self._cine() is not None)
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
        if not self.parameters.allCases and cine.holdsFrames(self.parameters.inputNode):
            return _("This volume holds several frames. Click Open cine… and choose it there.")
        return "" if self.parameters.allCases else self._whyNoStack(self._input())

    def _whyNoStack(self, node) -> str:
        """Why a node that DICOM files were read into is no volume or sequence of volumes; empty if it is one."""
        count = dicom_cine.imagesAtEachPosition(node)
        if count == 1:
            return ""
        if dicom_cine.filesOf(node):
            text = _(
                "This holds {count} images at each position, as a cine does. Click Open cine… and choose it there."
            )
        else:
            text = _("This holds {count} images at each position, as a cine does, and the DICOM database does not know "
                     "their files. Click Open cine… and choose their folder.")  # fmt: skip
        return text.format(count=count)

    def _cine(self):
        """The sequence that is chosen as input, or of which a frame is; None for a volume of its own."""
        node = self.parameters.inputNode if self.parameters else None
        return node if node is None or node.IsA("vtkMRMLSequenceNode") else sequenceOf(node)

    def _input(self):
        """What is to be segmented: of a cine all frames, or the one that the views show."""
        node, sequence = self.parameters.inputNode, self._cine()
        if sequence is None:
            return node
        return sequence if self.ui.framesBox.currentIndex == ALL_FRAMES else display.shownNode(sequence) or sequence

    def _onOpenCine(self) -> None:
        """Offers the ways in which a cine comes that Slicer does not load as a sequence."""
        actions = [(_("4D file…"), self._openCineFile), (_("DICOM folder…"), self._openCineFolder)]
        for node in cine.volumesWithFrames():
            text = _("{name} ({count} frames)").format(name=node.GetName(), count=cine.framesOf(node))
            actions.append((text, lambda node=node: self._takeCine(cine.ofComponents(node))))
        node = self._input() if self.parameters.inputNode is not None else None
        if node is not None and (count := dicom_cine.imagesAtEachPosition(node)) > 1 and dicom_cine.filesOf(node):
            text = _("{name} from its DICOM files ({count} frames)").format(name=node.GetName(), count=count)
            actions.append((text, lambda: self._takeCine(dicom_cine.fromFiles(node, slicer.app.processEvents))))
        self.popup(self.ui.openCineButton, actions)

    def _openCineFile(self) -> None:
        filters = _("Time series") + " (*.nii *.nii.gz *.nrrd *.mha *.seq.nrrd);;" + _("All files") + " (*)"
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Open a cine"), lastFolder(), filters)
        self._readCine(path)

    def _openCineFolder(self) -> None:
        title = _("Open the folder of a DICOM series")
        self._readCine(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, lastFolder()))

    def _readCine(self, path: str) -> None:
        if path:
            rememberFolder(path)
            self._takeCine(cine.fromFile(path, slicer.app.processEvents))

    def _takeCine(self, sequence) -> None:
        """Makes a new cine the input, and shows it."""
        self.parameters.inputNode = sequence
        self.ui.framesBox.setCurrentIndex(ALL_FRAMES)
        self.widget.views.showSequence(sequence)

    def _onSegment(self) -> None:
        if self.view.running:
            self.view.stop()
            return
        parameters = self.parameters
        job = self.logic.startSegmentation(
            self.widget.models.chosen(),
            self.dataSet.unsegmentedNodes() if parameters.allCases else self._input(),
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
            place = slicer.util.mainWindow(), _("Choose a model"), lastFolder()
            if kind == OTHER_FOLDER:
                path = qt.QFileDialog.getExistingDirectory(*place)
            else:
                path = qt.QFileDialog.getOpenFileName(*place, _("Model packages") + " (*.zip)")
            self.ui.modelBox.setCurrentIndex(self.ui.modelBox.findData(str(self._model)))
            if path:
                rememberFolder(path)
                self.widget.models.take(Path(path))

    def _onManage(self) -> None:
        self.ui.modelsSection.collapsed = False
