"""Other views than the user's for a while: a plot or a table, and then the user's layout again."""

from __future__ import annotations

from collections.abc import Callable

import slicer


class BorrowedLayout:
    """Shows nodes in a layout that has a view for them, and gives the user's layout back.

    Does nothing where there are no views.

    Args:
        show: Shows a node, and changes the layout if it has to: `showChart` or `showTable`.
    """

    def __init__(self, show: Callable) -> None:
        self._show = show
        self._before: int | None = None
        self._ours: int | None = None

    def show(self, node) -> None:
        """Shows a node."""
        if slicer.app.layoutManager() is None:
            return
        layout = _layoutNode()
        arrangement = layout.GetViewArrangement()
        self._show(node)
        if layout.GetViewArrangement() != arrangement:
            self._before, self._ours = arrangement, layout.GetViewArrangement()

    def restore(self) -> None:
        """Brings back the layout before the first `show`, unless the user has chosen another since."""
        if slicer.app.layoutManager() is not None and self._ours == _layoutNode().GetViewArrangement():
            _layoutNode().SetViewArrangement(self._before)
        self._before = self._ours = None


def showChart(chartNode) -> None:
    """Shows a chart in a plot view."""
    slicer.modules.plots.logic().ShowChartInLayout(chartNode)


def fitChart(chartNode) -> None:
    """Lets the plot views that show a chart take in all its points: they never rescale by themselves."""
    manager = slicer.app.layoutManager()
    for index in range(manager.plotViewCount if manager is not None else 0):
        widget = manager.plotWidget(index)
        if widget.mrmlPlotViewNode().GetPlotChartNodeID() == chartNode.GetID():
            widget.plotView().fitToContent()


def showTable(tableNode) -> None:
    """Shows a table below the four views."""
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)
    slicer.app.applicationLogic().GetSelectionNode().SetActiveTableID(tableNode.GetID())
    slicer.app.applicationLogic().PropagateTableSelection()


def _layoutNode():
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
