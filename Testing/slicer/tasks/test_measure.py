"""Volumes, clinical numbers and agreement with a reference, against values counted by hand."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

from semicardiac.base.tables import read_csv
from semicardiac.evaluation.clinical import volumes_ml
from semicardiac.evaluation.heart_function import volumes_table
from semicardiac.evaluation.metrics import asd, dice, hd95, surface_distances
from semicardiac.images.labels import LabelSet, get_label_set
from semicardiac.images.volumes import Volume
from SemiCardiacSegLib.scene import sequences
from SemiCardiacSegLib.scene.segmentations import newSegmentation
from SemiCardiacSegLib.tasks import measure
from SemiCardiacSegLib.tasks.plots import volumeTimeChart

from Testing.slicer.scenes import (
    SHAPE,
    heartLabels,
    makeHeartSegmentation,
    makeSegmentation,
    makeSequence,
    makeTransform,
    makeVolume,
    obliqueMatrix,
    saveAndReload,
)

pytestmark = pytest.mark.usefixtures("scene")
ACDC = get_label_set("acdc")
VOXEL_ML = 1.25 * 1.5 * 8.0 / 1000  # of scenes.obliqueMatrix
RV, MYO, LV = 26, 78, 26
"""Voxels of scenes.heartLabels."""


def column(table, name: str) -> list:
    values = table.GetTable().GetColumnByName(name)
    return [values.GetValue(row) for row in range(table.GetNumberOfRows())]


def names(table) -> list[str]:
    return [table.GetColumnName(index) for index in range(table.GetNumberOfColumns())]


def heart(lv: int, myocardium: int = 6, rv: int = 4) -> np.ndarray:
    """Labels with so many voxels of each structure."""
    labels = np.zeros(SHAPE, np.uint8)
    flat = labels.reshape(-1)
    flat[:lv], flat[100 : 100 + myocardium], flat[200 : 200 + rv] = 3, 2, 1
    return labels


def segmentedCine(*lvVoxels: int):
    """A segmentation sequence whose LV cavity has so many voxels in each frame, 0.1 s apart."""
    images = [np.full(SHAPE, index, np.int16) for index in range(len(lvVoxels))]
    cine = makeSequence(images, obliqueMatrix(2), "cine", step=0.1)
    return sequences.newSegmentationSequence("cine result", cine, [heart(lv) for lv in lvVoxels], ACDC)


def test_the_table_of_the_command_line_says_the_same():
    """volumes.csv of `semicardiac segment` and *Measure*, of one cine."""
    sizes, matrix = (40, 90, 60, 30), obliqueMatrix(2)
    volumes = [volumes_ml(Volume(heart(lv), matrix), ACDC) for lv in sizes]
    rows = volumes_table({"cine": volumes}, {}, ACDC)
    cine = segmentedCine(*sizes)
    found = measure.clinicalNumbers(cine, ACDC)
    doubts = found.pop("implausible")
    frames = {row["phase"]: row["frame"] for row in rows if row["phase"]}
    assert frames == {"ED": found.pop("edFrame") + 1, "ES": found.pop("esFrame") + 1}
    function = [row for row in rows if not row["structure"]]
    assert {row["measure"]: row["value"] for row in function} == pytest.approx(found)
    assert {row["measure"]: row["implausible"] for row in function if row["implausible"]} == doubts
    measured = measure.volumesTable(cine, ACDC)
    for name in ACDC.names:
        of_frames = [row["value"] for row in rows if row["structure"] == name]
        assert of_frames == pytest.approx(column(measured, f"{name} (ml)"))


class TestVolumes:
    def test_of_an_oblique_segmentation_are_voxels_times_spacing(self):
        assert [int((heartLabels() == label).sum()) for label in (1, 2, 3)] == [RV, MYO, LV]
        table = measure.volumesTable(makeHeartSegmentation(makeVolume(matrix=obliqueMatrix(5))), ACDC)
        assert names(table) == ["segmentation", "RV cavity (ml)", "LV myocardium (ml)", "LV cavity (ml)"]
        assert column(table, "segmentation") == ["segmentation"]
        found = [column(table, f"{name} (ml)")[0] for name in ACDC.names]
        assert found == pytest.approx([RV * VOXEL_ML, MYO * VOXEL_ML, LV * VOXEL_ML])

    def test_of_segments_in_one_labelmap_are_apart(self):
        volume = makeVolume()
        node = newSegmentation("result", volume, heartLabels(), ACDC)
        assert list(measure.structureVolumes(node, ACDC).values()) == pytest.approx(
            [RV * VOXEL_ML, MYO * VOXEL_ML, LV * VOXEL_ML]
        )

    def test_a_row_for_each_segmentation(self):
        volume = makeVolume()
        nodes = [makeHeartSegmentation(volume, name) for name in ("ED", "ES")]
        table = measure.volumesTable(nodes, ACDC)
        assert column(table, "segmentation") == ["ED", "ES"]

    def test_a_row_for_each_frame_with_its_time(self):
        table = measure.volumesTable(segmentedCine(30, 10, 20), ACDC)
        assert names(table)[:2] == ["frame", "time (s)"]
        assert column(table, "frame") == [1, 2, 3]
        assert column(table, "time (s)") == pytest.approx([0.0, 0.1, 0.2])
        assert column(table, "LV cavity (ml)") == pytest.approx([30 * VOXEL_ML, 10 * VOXEL_ML, 20 * VOXEL_ML])

    def test_an_empty_and_a_huge_cavity_are_remarked(self):
        node = makeSegmentation(makeVolume(), {"LV": heartLabels() == 3, "RV": heartLabels() == 99})
        table = measure.volumesTable(node, ACDC)
        assert column(table, "remark") == ["RV cavity is empty"]
        transform = makeTransform()
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([100.0, 100.0, 1.0, 1.0])))
        node.SetAndObserveTransformNodeID(transform.GetID())
        (remark,) = column(measure.volumesTable(node, ACDC), "remark")
        assert "no heart has LV cavity of more than 700 ml" in remark

    def test_a_structure_without_segment_is_not_zero(self):
        node = makeSegmentation(makeVolume(), {"LV": heartLabels() == 3, "RV": heartLabels() == 99})
        volumes = measure.structureVolumes(node, ACDC)
        assert volumes["LV cavity"] == pytest.approx(LV * VOXEL_ML)
        assert volumes["RV cavity"] == 0.0
        assert math.isnan(volumes["LV myocardium"])

    def test_a_transform_that_scales_counts_and_a_rigid_one_does_not(self):
        node = makeHeartSegmentation(makeVolume())
        transform = makeTransform()
        node.SetAndObserveTransformNodeID(transform.GetID())
        assert measure.structureVolumes(node, ACDC)["LV cavity"] == pytest.approx(LV * VOXEL_ML)
        matrix = np.diag([2.0, 1.0, 1.5, 1.0])
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        assert measure.structureVolumes(node, ACDC)["LV cavity"] == pytest.approx(3 * LV * VOXEL_ML)

    def test_the_transform_of_a_cine_counts_too(self, scene):
        cine = segmentedCine(20, 10)
        proxy = sequences.shownBy(cine)
        before = column(measure.volumesTable(cine, ACDC), "LV cavity (ml)")
        transform = makeTransform()
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([2.0, 1.0, 1.5, 1.0])))
        proxy.SetAndObserveTransformNodeID(transform.GetID())
        after = column(measure.volumesTable(cine, ACDC), "LV cavity (ml)")
        assert after == pytest.approx([3 * value for value in before])
        assert measure.structureVolumes(proxy, ACDC)["LV cavity"] in [pytest.approx(value) for value in after]
        bending = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bend")
        proxy.SetAndObserveTransformNodeID(bending.GetID())
        with pytest.raises(ValueError, match="lies under the transform 'bend'"):
            measure.clinicalNumbers(cine, ACDC)

    def test_a_transform_that_bends_is_told(self, scene):
        node = makeHeartSegmentation(makeVolume())
        bending = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bend")
        node.SetAndObserveTransformNodeID(bending.GetID())
        with pytest.raises(ValueError, match="'segmentation' lies under the transform 'bend'"):
            measure.structureVolumes(node, ACDC)

    @pytest.mark.parametrize("nodes", [None, [], [None]])
    def test_nothing_is_told(self, nodes):
        with pytest.raises(ValueError, match=r"no segmentation to measure|nothing is none"):
            measure.volumesTable(nodes, ACDC)

    def test_other_nodes_and_foreign_segments_are_told(self):
        volume = makeVolume("scan")
        with pytest.raises(ValueError, match="'scan' is none"):
            measure.volumesTable(volume, ACDC)
        foreign = makeSegmentation(volume, {"liver": heartLabels() == 3}, "abdomen")
        before = slicer.mrmlScene.GetNumberOfNodes()
        with pytest.raises(ValueError, match="No segment of 'abdomen' is one of RV cavity"):
            measure.volumesTable(foreign, ACDC)
        assert slicer.mrmlScene.GetNumberOfNodes() == before

    def test_surfaces_without_voxels_are_told(self):
        node = makeHeartSegmentation(makeVolume(), "surfaces")
        node.CreateClosedSurfaceRepresentation()
        node.GetSegmentation().SetSourceRepresentationName("Closed surface")
        node.RemoveBinaryLabelmapRepresentation()
        with pytest.raises(ValueError, match="'surfaces' has surfaces and no voxels"):
            measure.volumesTable(node, ACDC)


def test_table_and_curves_come_back_with_the_scene(tmp_path):
    table = measure.volumesTable(segmentedCine(30, 10, 20), ACDC)
    chart = volumeTimeChart(table, ACDC)
    ids = table.GetID(), chart.GetID()
    saveAndReload(tmp_path / "scene.mrb")
    table, chart = (slicer.mrmlScene.GetNodeByID(each) for each in ids)
    assert column(table, "LV cavity (ml)") == pytest.approx([30 * VOXEL_ML, 10 * VOXEL_ML, 20 * VOXEL_ML])
    series = [chart.GetNthPlotSeriesNode(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [each.GetTableNode() for each in series] == [table] * 3


class TestClinicalNumbers:
    def test_ed_is_the_largest_and_es_the_smallest_cavity(self):
        numbers = measure.clinicalNumbers(segmentedCine(20, 30, 25, 12, 18), ACDC)
        assert (numbers["edFrame"], numbers["esFrame"]) == (1, 3)
        assert numbers["lv_edv_ml"] == pytest.approx(30 * VOXEL_ML)
        assert numbers["lv_esv_ml"] == pytest.approx(12 * VOXEL_ML)
        assert numbers["lv_sv_ml"] == pytest.approx(18 * VOXEL_ML)
        assert numbers["lv_ef_percent"] == pytest.approx(60.0)
        assert numbers["lv_mass_g"] == pytest.approx(6 * VOXEL_ML * 1.05)
        assert numbers["rv_ef_percent"] == pytest.approx(0.0)

    def test_they_come_as_a_table_with_units(self):
        table = measure.clinicalTable(segmentedCine(20, 30, 25, 12, 18), ACDC)
        rows = zip(*(column(table, name) for name in ("measure", "value", "unit")), strict=True)
        found = {name: (value, unit) for name, value, unit in rows}
        assert found["end-diastolic frame"] == (2.0, "")
        assert found["end-systolic frame"] == (4.0, "")
        assert found["LV end-diastolic volume"] == (pytest.approx(30 * VOXEL_ML), "ml")
        assert found["LV ejection fraction"] == (pytest.approx(60.0), "%")
        assert found["LV mass"] == (pytest.approx(6 * VOXEL_ML * 1.05), "g")

    def test_frames_without_a_cavity_are_not_end_systole(self):
        numbers = measure.clinicalNumbers(segmentedCine(0, 30, 12, 0), ACDC)
        assert (numbers["edFrame"], numbers["esFrame"]) == (1, 2)

    def test_what_the_user_said_holds(self):
        cine = segmentedCine(20, 30, 25, 12)
        sequences.setPhases(cine, 0, None)
        numbers = measure.clinicalNumbers(cine, ACDC)
        assert (numbers["edFrame"], numbers["esFrame"]) == (0, 3)
        assert measure.clinicalNumbers(cine, ACDC, edFrame=2, esFrame=0)["lv_ef_percent"] == pytest.approx(20.0)

    def test_two_segmentations_do(self):
        volume = makeVolume()
        nodes = [makeSegmentation(volume, {"LV": heart(lv) == 3}, name) for lv, name in ((12, "ES"), (30, "ED"))]
        numbers = measure.clinicalNumbers(nodes, ACDC)
        assert (numbers["edFrame"], numbers["esFrame"]) == (1, 0)
        assert numbers["lv_ef_percent"] == pytest.approx(60.0)
        assert math.isnan(numbers["rv_edv_ml"])

    def test_what_no_heart_has_is_marked(self):
        cine = segmentedCine(20, 30, 25, 12)
        larger = "the LV volume is larger at end-systole than at end-diastole"
        numbers = measure.clinicalNumbers(cine, ACDC, edFrame=3, esFrame=1)
        assert numbers["implausible"]["lv_ef_percent"] == larger
        # A cavity of less than 0.5 ml, and an RV that rests:
        assert measure.clinicalNumbers(cine, ACDC)["implausible"].keys() == {
            "lv_edv_ml", "lv_sv_ml", "lv_ef_percent", "rv_edv_ml", "rv_esv_ml", "rv_sv_ml", "rv_ef_percent",
        }  # fmt: skip
        sequences.setPhases(cine, 3, 1)
        table = measure.clinicalTable(cine, ACDC)
        remarks = dict(zip(column(table, "measure"), column(table, "remark"), strict=True))
        assert remarks["LV ejection fraction"] == larger
        assert remarks["LV mass"] == remarks["end-diastolic frame"] == ""

    def test_a_frame_that_is_said_to_be_one_phase_is_not_taken_for_the_other(self):
        cine = segmentedCine(20, 30, 25, 12)
        sequences.setPhases(cine, 3, None)  # the smallest
        numbers = measure.clinicalNumbers(cine, ACDC)
        assert (numbers["edFrame"], numbers["esFrame"]) == (3, 0)
        assert "lv_ef_percent" in numbers["implausible"]

    def test_mistakes_are_told(self):
        with pytest.raises(ValueError, match="LV cavity is segmented in 1 of 2 frames"):
            measure.clinicalNumbers(segmentedCine(30, 0), ACDC)
        with pytest.raises(ValueError, match="There is no frame 5: they go from 1 to 2"):
            measure.clinicalNumbers(segmentedCine(30, 20), ACDC, esFrame=4)
        lungs = LabelSet.model_validate({"name": "lungs", "structures": [{"name": "RV cavity", "source_values": [1]}]})
        with pytest.raises(ValueError, match="'lungs' have no LV cavity"):
            measure.clinicalNumbers(segmentedCine(30, 20), lungs)


class TestCompare:
    def test_values_are_those_of_the_metrics(self):
        volume = makeVolume(matrix=obliqueMatrix(4))
        expected = np.zeros(SHAPE, np.uint8)
        expected[1:4, 1:4, 1:3], expected[1:4, 8:10, 1:8], expected[1:4, 4:7, 5:8] = 1, 2, 3
        predicted = np.roll(expected, 1, axis=2)
        reference, segmentation = (
            makeSegmentation(volume, {name: labels == label for label, name in enumerate(ACDC.names, start=1)})
            for labels in (expected, predicted)
        )
        table = measure.compare(segmentation, reference, volume, ACDC)
        assert names(table) == [
            "structure", "Dice", "HD95 (mm)", "ASD (mm)", "volume (ml)", "reference volume (ml)"
        ]  # fmt: skip
        assert column(table, "structure") == ACDC.names
        for row, label in enumerate((1, 2, 3)):
            a, b = predicted == label, expected == label
            assert column(table, "Dice")[row] == pytest.approx(dice(a, b))
            distances = surface_distances(a, b, (8.0, 1.5, 1.25))
            assert column(table, "HD95 (mm)")[row] == pytest.approx(hd95(distances))
            assert column(table, "ASD (mm)")[row] == pytest.approx(asd(distances))
        assert column(table, "Dice")[2] == pytest.approx(2 / 3)  # two of three columns are shared
        assert column(table, "HD95 (mm)")[2] == pytest.approx(1.25)
        assert column(table, "reference volume (ml)") == pytest.approx([18 * VOXEL_ML, 42 * VOXEL_ML, 27 * VOXEL_ML])

    def test_a_label_map_serves_as_reference(self):
        volume = makeVolume(matrix=obliqueMatrix(4))
        labelMap = slicer.util.addVolumeFromArray(
            heartLabels(), obliqueMatrix(4), "expert", "vtkMRMLLabelMapVolumeNode"
        )
        table = measure.compare(makeHeartSegmentation(volume), labelMap, volume, ACDC)
        assert column(table, "Dice") == [1.0, 1.0, 1.0]

    def test_only_structures_that_both_have(self):
        volume = makeVolume()
        reference = makeSegmentation(volume, {"LV": heartLabels() == 3})
        table = measure.compare(makeHeartSegmentation(volume), reference, volume, ACDC)
        assert column(table, "structure") == ["LV cavity"]

    def test_undefined_values_are_no_numbers(self):
        volume = makeVolume()
        empty = makeSegmentation(volume, {"LV": heartLabels() == 99, "RV": heartLabels() == 1})
        table = measure.compare(makeHeartSegmentation(volume), empty, volume, ACDC)
        assert column(table, "Dice") == [1.0, 0.0]
        assert math.isnan(column(table, "HD95 (mm)")[1])

    def test_another_grid_is_told(self):
        matrix = obliqueMatrix(4)
        moved = matrix.copy()
        moved[:3, 3] += moved[:3, 0] * 0.5
        volume, other = makeVolume("scan", matrix=matrix), makeVolume("other", matrix=moved)
        reference, segmentation = makeHeartSegmentation(other, "expert"), makeHeartSegmentation(volume, "ours")
        before = slicer.mrmlScene.GetNumberOfNodes()
        with pytest.raises(ValueError, match="'expert' lies on another grid than the volume 'scan'"):
            measure.compare(segmentation, reference, volume, ACDC)
        assert slicer.mrmlScene.GetNumberOfNodes() == before

    def test_nothing_in_common_and_nothing_at_all_are_told(self):
        volume = makeVolume()
        left = makeSegmentation(volume, {"LV": heartLabels() == 3}, "left")
        right = makeSegmentation(volume, {"RV": heartLabels() == 1}, "right")
        with pytest.raises(ValueError, match="'left' and 'right' share no structure"):
            measure.compare(left, right, volume, ACDC)
        with pytest.raises(ValueError, match="no reference to compare"):
            measure.compare(left, None, volume, ACDC)


class TestSaveTable:
    def test_values_and_units_are_in_the_file(self, tmp_path):
        table = measure.volumesTable(segmentedCine(30, 10), ACDC)
        path = measure.saveTable(table, tmp_path / "Ergebnisse äöü" / "volumes.csv")
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows[1]["frame"] == "2"
        assert float(rows[1]["LV cavity (ml)"]) == pytest.approx(10 * VOXEL_ML, rel=1e-5)
        assert all(len(cell) <= 8 for row in rows for cell in row.values())  # as many digits as a person reads

    def test_undefined_values_are_empty(self, tmp_path):
        node = makeSegmentation(makeVolume(), {"LV": heartLabels() == 3}, 'a "quoted", name')
        path = measure.saveTable(measure.volumesTable(node, ACDC), tmp_path / "volumes.csv")
        with open(path, encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file))
        assert row["segmentation"] == 'a "quoted", name'
        assert row["RV cavity (ml)"] == ""

    def test_names_are_no_formulas(self, tmp_path):
        structure = {"name": "=LV", "source_values": [1]}
        labels = LabelSet.model_validate({"name": "x", "structures": [structure]})
        node = makeSegmentation(makeVolume(), {"=LV": heartLabels() == 3}, "@SUM(A1)\x1b")
        path = measure.saveTable(measure.volumesTable(node, labels), tmp_path / "volumes.csv")
        (row,) = read_csv(path, {"segmentation"}, ("segmentation",))
        assert path.read_text(encoding="utf-8").splitlines()[0] == "segmentation,'=LV (ml)"
        assert "\n'@SUM(A1)\\x1b," in path.read_text(encoding="utf-8")
        assert row == {"segmentation": "@SUM(A1)\x1b", "=LV (ml)": pytest.approx(LV * VOXEL_ML)}

    def test_nothing_is_overwritten(self, tmp_path):
        table = measure.volumesTable(makeHeartSegmentation(makeVolume()), ACDC)
        path = tmp_path / "volumes.csv"
        path.write_text("mine", encoding="utf-8")
        with pytest.raises(ValueError, match=r"volumes.csv is there already"):
            measure.saveTable(table, path)
        assert path.read_text(encoding="utf-8") == "mine"
        assert list(tmp_path.iterdir()) == [path]
