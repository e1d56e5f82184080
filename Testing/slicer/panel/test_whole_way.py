"""The way through the whole panel with the sample data and the real engine: data, train, segment, measure, improve."""

from __future__ import annotations

import pytest

from Testing.engine.support import QUICK
from Testing.slicer.panel.support import PICTURES, follow, line, photograph, settle

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def trained(widget, monkeypatch):
    """The widget after a training of a tiny network for four steps on the sample data; of a real one for pictures."""
    widget.ui.sampleDataButton.click()
    assert widget.ui.caseTable.rowCount > 2
    assert not widget.ui.trainSection.collapsed
    widget.ui.trainSection.collapsed = True
    photograph(widget, "way_data")
    widget.ui.dataSection.collapsed = True
    widget.ui.trainSection.collapsed = False
    if not PICTURES:
        widget.ui.stepsBox.value = 4
        start = widget.logic.startTraining
        tiny = lambda folder, *, settings, **options: start(folder, settings=[*settings, *QUICK], **options)  # noqa: E731
        monkeypatch.setattr(widget.logic, "startTraining", tiny)
    widget.ui.deviceBox.setCurrentIndex(1)
    follow(widget, lambda: widget.ui.trainButton.enabled)  # when all cases are checked
    widget.ui.trainButton.click()
    assert line(widget, "trainMessage") == ""
    assert widget.ui.trainButton.text == "Stop"
    if PICTURES:
        widget.ui.previewButton.click()
        follow(widget, lambda: "step" in line(widget, "trainState") and widget.ui.trainProgress.value > 60, 300)
        photograph(widget, "way_train")
    follow(widget, lambda: not widget.training, 300)
    assert line(widget, "trainState").startswith("Finished in"), widget.ui.logText.plainText
    assert widget.models.chosen() == widget.train.view.job.folder
    return widget


def segmented(widget, node) -> str:
    """Segments a node with the button; the name of what it became."""
    widget.ui.inputSelector.setCurrentNode(node)
    settle()
    widget.ui.segmentButton.click()
    assert line(widget, "segmentMessage") == ""
    follow(widget, lambda: not widget.segmenting)
    assert line(widget, "segmentState").startswith("Finished in")
    return widget.ui.measuredSelector.currentNode().GetName()


def test_from_sample_data_to_a_better_model(trained, slicerQt):
    widget = trained
    assert widget.models.chosen() is not None
    assert line(widget, "segmentWhy") == "Choose a volume or a sequence."
    assert not widget.ui.segmentSection.collapsed

    inTable = {row.volumeNode for row in widget.dataSet.rows()}
    volumes = [node for node in slicerQt.util.getNodesByClass("vtkMRMLScalarVolumeNode") if node not in inTable]
    last = next(node for node in volumes if "cine" not in node.GetName())
    assert segmented(widget, last) == f"{last.GetName()} SemiCardiacSeg"
    photograph(widget, "way_segment")

    (cine,) = [
        node for node in slicerQt.util.getNodesByClass("vtkMRMLSequenceNode") if node.GetName() == "phantom cine"
    ]
    assert segmented(widget, cine) == "phantom cine SemiCardiacSeg"
    found = widget.ui.measuredSelector.currentNode()
    assert found.GetNumberOfDataNodes() == cine.GetNumberOfDataNodes() > 10

    widget.ui.measureButton.click()
    widget.ui.curveButton.click()
    assert line(widget, "measureMessage") == ""
    (chart,) = [node for node in slicerQt.util.getNodesByClass("vtkMRMLPlotChartNode") if "cine" in node.GetName()]
    assert chart.GetNumberOfPlotSeriesNodes() == 3
    widget.ui.segmentSection.collapsed = True
    photograph(widget, "way_measure")
    widget.ui.measureSection.collapsed = True

    widget.ui.improveSection.collapsed = False
    widget.ui.rankButton.click()
    follow(widget, lambda: not widget.segmenting, 300)
    table = widget.ui.reviewTable
    before = table.rowCount
    assert before > 0
    table.selectRow(0)
    settle()
    photograph(widget, "way_improve")
    labeled = sum(row.count for row in widget.dataSet.rows() if row.role == "labeled")
    widget.ui.acceptButton.click()
    settle()
    assert "labeled case now" in line(widget, "improveMessage")
    assert table.rowCount == before - 1
    assert sum(row.count for row in widget.dataSet.rows() if row.role == "labeled") == labeled + 1

    widget.ui.continueButton.click()
    settle()
    assert line(widget, "trainMessage") == ""
    assert widget.training
    widget.ui.trainButton.click()  # Stop
    follow(widget, lambda: not widget.training, 120)
    assert widget.train.view.job.state in ("stopped", "done")
