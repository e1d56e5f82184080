"""From sample data to a model, a segmentation, its volumes and a better data set: the whole way of a user, for real."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

from semicardiac.images.volumes import read_series, read_volume
from SemiCardiacSegLib.logic import SemiCardiacSegLogic
from SemiCardiacSegLib.scene import sequences
from SemiCardiacSegLib.scene.segmentations import setLabels
from SemiCardiacSegLib.tasks import review, sample_data
from SemiCardiacSegLib.tasks.plots import TrainingCurves, volumeTimeChart
from SemiCardiacSegLib.tasks.segment import readResults

from Testing.engine.support import QUICK
from Testing.slicer.scenes import matrixOf

SMALL = {"LABELED": 1, "UNLABELED": 2, "VALIDATION": 1, "TEST": 1, "CINE_FRAMES": 2}
"""Of the study."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sample_data_train_segment_measure_accept(scene, monkeypatch, tmp_path):
    for name, count in SMALL.items():
        monkeypatch.setattr(sample_data, name, count)
    logic = SemiCardiacSegLogic()
    rows = logic.addSampleData()
    assert logic.dataSet().summary() == "2 labeled (1 patient), 4 unlabeled, 2 validation"

    curves = TrainingCurves(logic.dataSet().labelSet())
    model = logic.train(
        tmp_path / "Training äö", steps=20, device="cpu", settings=QUICK, onEvent=lambda event: curves.update([event])
    )
    assert curves.losses.rows
    assert set(curves.dice.rows[-1]) >= {"step", "mean"}

    (cine,) = slicer.util.getNodesByClass("vtkMRMLSequenceNode")
    volume = rows[2].volumeNode
    job = logic.startSegmentation(model, [volume, cine], device="cpu", flips=False, entropy=True)
    assert job.wait() == "done"
    segmentation, cineSegmentation, *maps = logic.loadResults(job)
    assert segmentation.GetName() == f"{volume.GetName()} SemiCardiacSeg"
    assert cineSegmentation.GetName() == "phantom cine SemiCardiacSeg"
    assert sequences.browserOf(cineSegmentation) is sequences.browserOf(cine)
    assert len(maps) == 2
    np.testing.assert_allclose(matrixOf(maps[0]), matrixOf(volume), atol=1e-9)

    labels = read_series(readResults(job.folder)[1].files["segmentation"])
    logic.discardResults(job)
    table = logic.volumesTable(cineSegmentation)
    for column, label in (("RV cavity (ml)", 1), ("LV myocardium (ml)", 2), ("LV cavity (ml)", 3)):
        expected = [np.count_nonzero(each.array == label) * each.voxel_ml for each in labels]
        assert list(slicer.util.arrayFromTableColumn(table, column)) == pytest.approx(expected, rel=1e-5)
    assert volumeTimeChart(table).GetNumberOfPlotSeriesNodes() == 3

    comparison = logic.compare(rows[2].segmentationNode, rows[2].segmentationNode, volume)
    with open(logic.saveTable(comparison, tmp_path / "comparison.csv"), encoding="utf-8", newline="") as file:
        assert [float(row["Dice"]) for row in csv.DictReader(file)] == [1.0, 1.0, 1.0]

    again = logic.segment(model, volume, device="cpu", flips=False)
    assert again.GetName() == f"{volume.GetName()} SemiCardiacSeg 2"
    assert not list(Path(slicer.app.temporaryPath).glob("SemiCardiacSeg-*")), "copies of the volumes stay on the disk"

    numbers = logic.clinicalNumbers([row.segmentationNode for row in rows[:2]])
    assert (numbers["edFrame"], numbers["esFrame"]) == (0, 1)
    assert 20 < numbers["lv_ef_percent"] < 80

    job = logic.startUncertainty(model, device="cpu")
    assert job.wait() == "done"
    found = logic.uncertainties(job)
    assert sorted(each.key for each in found) == sorted(row.key for row in rows if row.role == "unlabeled")
    node = review.reviewSegmentation(logic.dataSet(), job.folder, found[0].key)
    volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    study = logic.dataSet().row(found[0].key).imagePath.parents[1]
    exact = read_volume(study / "reference/unlabeled" / f"{found[0].name}.nii.gz").array
    setLabels(node, exact, volume, logic.dataSet().labelSet())  # what a person would draw
    logic.accept(found[0].key, node)
    assert logic.dataSet().summary() == "3 labeled (2 patients), 3 unlabeled, 2 validation"

    better = logic.startTraining(tmp_path / "better", steps=20, device="cpu", startFrom=model, settings=QUICK)
    assert better.wait() == "done"
