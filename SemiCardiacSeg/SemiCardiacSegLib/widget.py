"""The module's panel: its life, its sections, and the clock by which they look at what runs in the background."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import qt
import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from .i18n import tr as _
from .logic import SemiCardiacSegLogic
from .panels.data import DataPanel
from .panels.display import Views
from .panels.improve import ImprovePanel
from .panels.installation import SetupPanel
from .panels.measure import MeasurePanel
from .panels.models import ModelsPanel
from .panels.segment import SegmentPanel
from .panels.train import TrainPanel
from .parameters import Parameters
from .table.case_table import DataSet
from .table.problems import Problem
from .table.rows import Row

UI = Path(__file__).resolve().parent.parent / "Resources" / "UI" / "SemiCardiacSeg.ui"

SECTIONS = ("data", "train", "segment", "measure", "improve", "models")

POLL_MS = 500
"""How often a running job is looked at."""
CHECK_S = 0.01
"""How long new cases are checked before other events are handled: the labels of each are read."""


class SemiCardiacSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Holds the sections, and the parameter node that they share.

    A job belongs to its folder, not to the scene or to this widget: it goes on when the user turns to another module,
    closes the scene or leaves Slicer, and is found again.

    Attributes:
        ui: All widgets of the panel, by their names.
        parameters: The settings in the scene's parameter node; None while the user is in another module.
        rows: Of the case table, as of the last update.
        problems: Of the case table, as of the last update, errors first.
        unchecked: Keys of the cases whose problems are not known yet.
        unreadable: Why the case table cannot be read, as of the last update; empty if it can.
    """

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.parameters = None
        self.rows: list[Row] = []
        self.problems: list[Problem] = []
        self.unchecked: set[str] = set()
        self.unreadable = ""
        self._wrapped = None
        self._guiTag: int | None = None
        self._guiObservers: list[int] = []
        self._dataSet = None
        self._updating = False

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(str(UI))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = SemiCardiacSegLogic()
        self.views = Views()

        self.setupLine = SetupPanel(self)
        self.data = DataPanel(self)
        self.train = TrainPanel(self)
        self.segment = SegmentPanel(self)
        self.measure = MeasurePanel(self)
        self.improve = ImprovePanel(self)
        self.models = ModelsPanel(self)
        self.panels = (
            self.setupLine, self.models, self.data, self.train, self.segment, self.measure, self.improve,
        )  # fmt: skip

        # Many changes of the scene at once are shown once.
        self._updateTimer = qt.QTimer()
        self._updateTimer.setSingleShot(True)
        self._updateTimer.setInterval(50)
        self._updateTimer.connect("timeout()", self.update)
        self._pollTimer = qt.QTimer()
        self._pollTimer.setInterval(POLL_MS)
        self._pollTimer.connect("timeout()", self.poll)

        for each in self.panels:
            each.say("")
            each.setup()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onStartClose)
        self.addObserver(scene, scene.StartImportEvent, self._onStartImport)
        for event in (scene.EndCloseEvent, scene.EndImportEvent):
            self.addObserver(scene, event, self._onNewScene)
        self.addObserver(scene, scene.EndImportEvent, lambda caller, event: self.train.noteSceneFolder())
        self.addObserver(scene, scene.EndImportEvent, self.segment.onSceneOpened)
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            self.addObserver(scene, event, self._onChange)
        self.connectParameters()
        self.train.followLast()
        self.update()
        self._openNext()
        self._pollTimer.start()

    def enter(self) -> None:
        self.setupLine.check()
        self.connectParameters()

    def exit(self) -> None:
        self.releaseViews()
        self.views.restore()
        self.disconnectParameters()

    def cleanup(self) -> None:
        """Called when Slicer quits, and on a reload; a running job stops by itself when Slicer has ended."""
        self._pollTimer.stop()
        self._updateTimer.stop()
        self.disconnectParameters()
        self.removeObservers()
        for each in self.panels:
            each.cleanup()

    @property
    def ready(self) -> bool:
        """Whether the engine can run."""
        return self.setupLine.ready

    @property
    def training(self) -> bool:
        return self.train.view.running

    @property
    def segmenting(self) -> bool:
        return self.segment.busy or self.improve.view.running

    @property
    def tableError(self) -> str:
        """What keeps a training from starting, in words; empty if nothing does."""
        checking = _("The cases are being checked: {count} to go.").format(count=len(self.unchecked))
        errors = [problem.text for problem in self.problems if problem.level == "error"]
        return next(iter(errors), checking if self.unchecked else "")

    @property
    def dataSet(self):
        """The case table of the scene, an empty one if that cannot be read.

        It knows which cases it has looked through, and so is kept.
        """
        node = slicer.vtkMRMLScriptedModuleNode() if self.unreadable else self.logic.getParameterNode()
        if self._dataSet is None or self._dataSet.parameterNode is not node:
            self._dataSet = DataSet(node)
        return self._dataSet

    def connectParameters(self) -> None:
        """Connects the controls to the parameter node of the scene."""
        self.disconnectParameters()
        node = self.logic.getParameterNode()
        named = {widget.property("SlicerParameterName"): widget for widget in vars(self.ui).values()}
        named.pop(None, None)
        # Each wrapper observes the node for good: a new one at every visit would never go.
        if self._wrapped is None or self._wrapped.parameterNode is not node:
            self._wrapped = self._wrap(node, named)
        self.parameters = self._wrapped
        if str(self.parameters.folder) in ("", "."):
            self.parameters.folder = self.train.folder()
        # Not connectGui: that of some versions does not return the tag by which to disconnect.
        self._guiTag = self._connectToGui(named)
        self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._onChange)
        self.models.refresh()
        self.update()

    def disconnectParameters(self) -> None:
        if self.parameters is None:
            return
        self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onChange)
        self.parameters.disconnectGui(self._guiTag)
        for tag in self._guiObservers:
            self.parameters.parameterNode.RemoveObserver(tag)
        self.parameters = self._guiTag = None

    def _connectToGui(self, named) -> int:
        """Connects controls by their parameter's name; returns the tag by which to disconnect.

        In Slicer 5.10 this makes an observer of the node that its disconnectGui leaves behind: it is noted here.
        """
        parameters, self._guiObservers = self.parameters, []
        if not hasattr(parameters, "_guiVtkObserverTags"):
            add = type(parameters).AddObserver
            parameters.AddObserver = lambda *args: self._guiObservers.append(add(parameters, *args))
        return parameters.connectParametersToGui(named)

    def _wrap(self, node, names: Iterable[str]) -> Parameters:
        """The settings in a parameter node; those that another version has saved in another way are reset."""
        try:
            return Parameters(node)
        except (ValueError, TypeError):
            for name in names:
                node.UnsetParameter(name)
                node.RemoveNodeReferenceIDs(name)
            text = _("Another version of SemiCardiacSeg has saved this scene: the settings were reset, not the cases.")
            self.setupLine.say(text, "warning")
            return Parameters(node)

    def update(self) -> None:
        """Shows what is, in all sections; while the user is in another module, nothing."""
        if self._updating or self.parameters is None:
            return
        self._updating = True
        try:
            self._updateTimer.stop()  # what was to be shown is shown now
            self._lookThrough()
            for name in SECTIONS:
                getattr(self.ui, f"{name}Section").setEnabled(self.ready and not self.data.drawing)
            for each in self.panels:
                each.update()
            if self.unchecked:
                self.updateSoon()
        finally:
            self._updating = False

    def updateSoon(self) -> None:
        """Updates when other events have been handled; many changes at once are shown once."""
        if self.parameters is not None:
            self._updateTimer.start()

    def poll(self) -> None:
        for each in self.panels:
            each.poll()

    def releaseViews(self, but=None) -> None:
        """Gives the user's layout back: takes up the buttons that show a plot or a table, but for one."""
        for button in (self.ui.curvesButton, self.ui.tableButton, self.ui.curveButton):
            if button is not but:
                button.setChecked(False)

    def announce(self, text: str) -> None:
        """Tells the end of a long run where it is seen from another program: status bar and task bar."""
        slicer.util.showStatusMessage(text, 30_000)
        window = slicer.util.mainWindow()
        if window is not None:
            qt.QApplication.alert(window)

    def _lookThrough(self) -> None:
        """Takes note of what is wrong with the cases, or with the table as a whole.

        Many new cases are checked a few at a time; the next update goes through the rest.
        """
        self.rows, self.problems, self.unchecked, self.unreadable = [], [], set(), ""
        try:
            if self.ready:
                self.rows = self.dataSet.rows()
                self.problems, self.unchecked = self.dataSet.check(self.rows, CHECK_S)
        except ValueError as error:  # a newer version has saved the scene
            self.unreadable = str(error)
            self.problems = [Problem("error", self.unreadable)]

    def _openNext(self) -> None:
        """Opens the section that comes next, and no other."""
        hasCases = self.ready and bool(self.dataSet.rows())
        following = "segment" if self.models.chosen() else "train" if hasCases else "data"
        if self.train.unfinished:
            following = "train"
        for name in SECTIONS:
            getattr(self.ui, f"{name}Section").collapsed = name != following

    def _onChange(self, caller=None, event=None) -> None:
        self.updateSoon()

    def _onStartImport(self, caller=None, event=None) -> None:
        """Lets go of the parameter node: the selectors of nodes are emptied and filled anew while a scene comes in."""
        self.disconnectParameters()
        self._wrapped = None  # a new one writes the defaults that the node then lacks

    def _onStartClose(self, caller, event) -> None:
        self.train.rememberFolder()
        self._onStartImport()
        for each in self.panels:
            each.say("")
            each.forget()

    def _onNewScene(self, caller, event) -> None:
        self._wrapped = None
        if self.parent.isEntered:
            self.connectParameters()
