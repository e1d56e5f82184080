"""The user's layout comes back after a plot or a table was shown."""

from __future__ import annotations

import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

from SemiCardiacSegLib.scene.borrowed_layout import BorrowedLayout, showChart

pytestmark = pytest.mark.usefixtures("scene")
FOUR_UP = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
RED_ONLY = slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView


@pytest.fixture
def layout(scene, monkeypatch):
    """The layout node, in an application that has views."""
    node = scene.AddNewNodeByClass("vtkMRMLLayoutNode")
    node.SetViewArrangement(FOUR_UP)
    monkeypatch.setattr(slicer.app, "layoutManager", lambda: object())
    return node


@pytest.fixture
def chart(scene):
    return scene.AddNewNodeByClass("vtkMRMLPlotChartNode")


def test_the_users_layout_comes_back(layout, chart):
    borrowed = BorrowedLayout(showChart)
    borrowed.show(chart)
    assert layout.GetViewArrangement() != FOUR_UP
    borrowed.show(chart)
    borrowed.restore()
    assert layout.GetViewArrangement() == FOUR_UP


def test_a_layout_that_was_chosen_since_is_left_alone(layout, chart):
    borrowed = BorrowedLayout(showChart)
    borrowed.show(chart)
    layout.SetViewArrangement(RED_ONLY)
    borrowed.restore()
    assert layout.GetViewArrangement() == RED_ONLY
    borrowed.show(chart)
    borrowed.restore()
    assert layout.GetViewArrangement() == RED_ONLY


def test_without_views_nothing_happens(scene, chart):
    layout = scene.AddNewNodeByClass("vtkMRMLLayoutNode")
    layout.SetViewArrangement(FOUR_UP)
    borrowed = BorrowedLayout(showChart)
    borrowed.show(chart)
    borrowed.restore()
    assert layout.GetViewArrangement() == FOUR_UP
