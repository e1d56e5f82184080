"""Stand-in for the window around the panel: a main window with a status bar, themes, and pictures of widgets."""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from Testing.slicer.qt_standin import qt  # noqa: F401 - PySide6 answers as PythonQt from here on

_DARK = {
    "Window": "#2d2d2d", "WindowText": "#e4e4e4", "Base": "#1f1f1f", "AlternateBase": "#282828", "Text": "#e4e4e4",
    "Button": "#3d3d3d", "ButtonText": "#e4e4e4", "ToolTipBase": "#3d3d3d", "ToolTipText": "#e4e4e4",
    "PlaceholderText": "#8f8f8f", "Highlight": "#2f6fb4", "HighlightedText": "#ffffff", "Mid": "#1c1c1c",
    "Dark": "#191919", "Light": "#4a4a4a", "Midlight": "#434343", "Shadow": "#000000", "Link": "#6cb2ff",
}  # fmt: skip
_DARK_DISABLED = ("WindowText", "Text", "ButtonText")


def application(settingsFolder) -> QtWidgets.QApplication:
    """The one QApplication, with settings in a folder of the test."""
    found = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, str(settingsFolder))
    found.setOrganizationName("SemiCardiacSegTest")
    found.setApplicationName("SemiCardiacSegTest")
    found.setStyle("Fusion")
    return found


def addMainWindow() -> QtWidgets.QMainWindow:
    """A main window that `slicer.util.mainWindow()` finds."""
    window = QtWidgets.QMainWindow()
    window.setObjectName("qSlicerMainWindow")
    window.statusBar()
    slicer.app.topLevelWidgets = lambda: [window]
    return window


def setTheme(dark: bool) -> None:
    """Gives all widgets light or dark colors, as Slicer's two themes do."""
    palette = QtGui.QPalette(QtWidgets.QApplication.style().standardPalette())
    if dark:
        for role, color in _DARK.items():
            palette.setColor(QtGui.QPalette.ColorRole[role], QtGui.QColor(color))
        for role in _DARK_DISABLED:
            palette.setColor(
                QtGui.QPalette.ColorGroup.Disabled, QtGui.QPalette.ColorRole[role], QtGui.QColor("#7d7d7d")
            )
    QtWidgets.QApplication.setPalette(palette)


def settle() -> None:
    """Lets pending events happen."""
    for _round in range(3):
        QtWidgets.QApplication.processEvents()


def picture(widget, path, width: int = 400, height: int | None = None) -> None:
    """Writes what a widget looks like at this width, as tall as it needs to be."""
    widget.resize(width, height or 400)
    widget.show()
    settle()
    for _round in range(2):  # labels that wrap tell their height only when their width is known
        layout = widget.layout()
        needed = layout.heightForWidth(width) if layout.hasHeightForWidth() else widget.sizeHint().height()
        widget.resize(width, height or max(needed, widget.minimumSizeHint().height()))
        settle()
    widget.grab().save(str(path))


class PlotView:
    """What a plot view would draw: the range of its horizontal axis.

    As in the application, it takes in the points of a chart when it is given that chart, and never again by itself.
    """

    def __init__(self, node) -> None:
        self.node, self.range, self._chartId = node, None, None
        node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._onModified())

    def _onModified(self) -> None:
        if self.node.GetPlotChartNodeID() != self._chartId:
            self._chartId = self.node.GetPlotChartNodeID()
            self.fitToContent()

    def fitToContent(self) -> None:
        chart = slicer.mrmlScene.GetNodeByID(self._chartId) if self._chartId else None
        self.range = None
        if chart is not None:
            series = chart.GetNthPlotSeriesNode(0)
            steps = slicer.util.arrayFromTableColumn(series.GetTableNode(), series.GetXColumnName())
            assert len(steps) > 1, "Attempted to paint a line with <2 points"  # the application prints it
            self.range = (float(steps.min()), float(steps.max()))


class _PlotWidget:
    def __init__(self) -> None:
        self._view = PlotView(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotViewNode"))

    def plotView(self) -> PlotView:
        return self._view

    def mrmlPlotViewNode(self):
        return self._view.node


class _LayoutManager:
    """Answers where a view is asked for: there is a plot view."""

    plotViewCount = 1

    def __init__(self) -> None:
        self._plot = _PlotWidget()

    def plotWidget(self, index: int) -> _PlotWidget:
        return self._plot

    def setLayout(self, arrangement: int) -> None:
        slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode").SetViewArrangement(arrangement)

    def sliceViewNames(self):
        return ()

    def resetSliceViews(self):
        """Would fit the field of view."""

    def mrmlSliceLogics(self):
        return vtk.vtkCollection()


def addLayers():
    """What a slice view would show: its vtkMRMLSliceCompositeNode, which has no view."""
    addLayout()
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")


def addLayout():
    """A layout manager, and the scene's layout node, which is returned."""
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene)
    for name, orientation in (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal")):
        view = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSliceNode")
        view.UnRegister(None)
        view.SetSingletonTag(name)
        view.SetLayoutName(name)
        slicer.mrmlScene.AddNode(view).SetOrientation(orientation)
    node = slicer.vtkMRMLLayoutNode()
    node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    manager = _LayoutManager()
    slicer.app.layoutManager = lambda: manager
    return slicer.mrmlScene.AddNode(node)


def turnWheel(widget) -> None:
    """One notch of the mouse wheel, towards the user, over the middle of a widget."""
    middle = QtCore.QPointF(widget.rect.center())
    event = QtGui.QWheelEvent(
        middle, middle, QtCore.QPoint(), QtCore.QPoint(0, -120), QtCore.Qt.NoButton, QtCore.Qt.NoModifier,
        QtCore.Qt.NoScrollPhase, False,
    )  # fmt: skip
    QtWidgets.QApplication.sendEvent(widget, event)
