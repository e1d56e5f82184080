"""The phantom study and cine: drawn by the engine in a process of its own, and loaded into the scene."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import vtk

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

from semicardiac.data.discover import read_case_list
from semicardiac.images.labels import get_label_set
from semicardiac.images.volumes import read_series, read_volume
from SemiCardiacSegLib.engine import installation
from SemiCardiacSegLib.logic import SemiCardiacSegLogic
from SemiCardiacSegLib.scene import sequences
from SemiCardiacSegLib.scene.segmentations import getLabels
from SemiCardiacSegLib.scene.structures import guessMapping
from SemiCardiacSegLib.table.case_table import DataSet
from SemiCardiacSegLib.tasks import sample_data

from Testing.slicer.scenes import makeVolume

ACDC = get_label_set("acdc")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A study as the module makes it, with fewer hearts."""
    from Testing.slicer.boot import boot

    boot()
    folder = tmp_path_factory.mktemp("sample data äö") / "study"
    patch = pytest.MonkeyPatch()
    patch.setattr(sample_data, "LABELED", 1)
    patch.setattr(sample_data, "UNLABELED", 11)
    patch.setattr(sample_data, "CINE_FRAMES", 3)
    ticks = []
    with patch.context():
        assert sample_data.drawStudy(folder, lambda: ticks.append(1)) == folder
    patch.undo()
    assert ticks
    return folder


@pytest.fixture
def dataSet(scene):
    return DataSet(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))


class TestDrawing:
    def test_the_pool_lists_the_unlabeled_cases_alone(self, study):
        cases = read_case_list(study / "unlabeled.csv")
        assert len(cases) == 22
        assert {case.role for case in cases} == {"unlabeled"}
        assert all(case.image.exists() for case in cases)

    def test_it_is_done_once(self, study, scene):
        before = (study / "cases.csv").stat().st_mtime_ns
        assert sample_data.drawStudy(study) == study
        assert (study / "cases.csv").stat().st_mtime_ns == before

    def test_nothing_unfinished_stays(self, study):
        assert [path.name for path in study.parent.iterdir()] == ["study"]

    def test_a_folder_with_other_things_is_left_alone(self, scene, tmp_path):
        (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
        with pytest.raises(ValueError, match="not empty"):
            sample_data.drawStudy(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_what_the_engine_says_is_told(self, scene, tmp_path, monkeypatch):
        monkeypatch.setattr(sample_data, "LABELED", "many")
        with pytest.raises(RuntimeError, match=r"could not be drawn: .*--labeled"):
            sample_data.drawStudy(tmp_path / "study")
        assert not [path for path in tmp_path.iterdir() if path.name != "study" or list(path.iterdir())]
        monkeypatch.undo()

    def test_before_the_set_up_it_says_so(self, scene, tmp_path, monkeypatch):
        missing = installation.Status(False, ["torch"], None, "Not installed: torch")
        monkeypatch.setattr(installation, "status", lambda: missing)
        for begin in (lambda: sample_data.drawStudy(tmp_path / "study"), SemiCardiacSegLogic().addSampleData):
            with pytest.raises(RuntimeError, match=r"not set up yet\. Not installed: torch\. Open the module"):
                begin()
        with pytest.raises(RuntimeError, match="not set up yet"):
            SemiCardiacSegLogic().segment(tmp_path / "model", makeVolume("mine"))
        assert not list(tmp_path.iterdir())

    def test_a_second_click_meanwhile_is_refused(self, scene, tmp_path):
        told = []

        def click() -> None:
            with pytest.raises(ValueError, match="are being drawn"):
                sample_data.drawStudy(tmp_path / "other")
            told.append(True)
            raise KeyboardInterrupt  # enough seen

        with pytest.raises(KeyboardInterrupt):
            sample_data.drawStudy(tmp_path / "study", click)
        assert told


class TestScene:
    def test_labels_are_exact_and_lie_on_their_volumes(self, study, scene):
        samples = sample_data.addStudyToScene(study)
        assert [(each.role, each.phase) for each in samples] == [
            ("labeled", "ED"), ("labeled", "ES"), ("validation", "ED"), ("validation", "ES"), ("ignore", "ED"),
            ("ignore", "ES"),
        ]  # fmt: skip
        assert [each.volumeNode.GetName() for each in samples][:2] == ["patient001 ED", "patient001 ES"]
        with open(study / "cases.csv", encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["role"] != "unlabeled"]
        for each, row in zip(samples, rows, strict=True):
            assert np.array_equal(slicer.util.arrayFromVolume(each.volumeNode), read_volume(study / row["image"]).array)
            if row["labels"]:
                mapping = guessMapping(each.segmentationNode, ACDC)
                labels = getLabels(each.segmentationNode, each.volumeNode, mapping, ACDC)
                assert np.array_equal(labels, read_volume(study / row["labels"]).array)
            else:
                assert each.segmentationNode is None

    def test_each_patient_has_a_folder(self, study, scene):
        samples = sample_data.addStudyToScene(study)
        hierarchy = scene.GetSubjectHierarchyNode()
        for each in samples:
            for node in filter(None, (each.volumeNode, each.segmentationNode)):
                parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
                assert hierarchy.GetItemName(parent) == each.patient

    def test_the_cine_has_a_browser_and_its_times(self, study, scene):
        cine = sample_data.addCineToScene(study)
        arrays, _matrix = sequences.readFrames(cine)
        frames = read_series(study / "cine.nii.gz")
        assert all(np.array_equal(array, frame.array) for array, frame in zip(arrays, frames, strict=True))
        assert sequences.timesOf(cine) == pytest.approx([0.0, 0.3, 0.6], abs=1e-4)
        assert sequences.shownBy(cine) is not None

    def test_a_damaged_file_leaves_the_scene_as_it_was(self, study, scene, tmp_path):
        copy = Path(shutil.copytree(study, tmp_path / "study"))
        last = read_case_list(copy / "cases.csv")[-1].image
        last.write_bytes(last.read_bytes()[:1000])
        hierarchy = scene.GetSubjectHierarchyNode()
        mine = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "mine")
        before = scene.GetNumberOfNodes()
        with pytest.raises(ValueError, match=last.name):
            sample_data.addStudyToScene(copy)
        assert scene.GetNumberOfNodes() == before
        items = vtk.vtkIdList()
        hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
        assert [items.GetId(index) for index in range(items.GetNumberOfIds())] == [mine]


class TestDataSet:
    def test_the_table_is_ready_to_train(self, study, dataSet):
        rows = sample_data.fillDataSet(dataSet, study)
        assert [(row.kind, row.role, row.phase, row.count) for row in rows] == [
            ("volume", "labeled", "ED", 1), ("volume", "labeled", "ES", 1),
            ("volume", "validation", "ED", 1), ("volume", "validation", "ES", 1), ("pool", "unlabeled", "", 22),
        ]  # fmt: skip
        assert [row.patient for row in rows[:2]] == ["patient001", "patient001"]
        assert [problem for problem in dataSet.allProblems() if problem.level == "error"] == []
        assert dataSet.summary() == "2 labeled (1 patient), 22 unlabeled, 2 validation"
        assert len(slicer.util.getNodesByClass("vtkMRMLSequenceNode")) == 1

    def test_a_failure_leaves_scene_and_table_as_they_were(self, study, dataSet, scene, tmp_path):
        copy = Path(shutil.copytree(study, tmp_path / "study"))
        (copy / "unlabeled.csv").write_text("damaged", encoding="utf-8")  # read when the table is nearly filled
        dataSet.setLabelSet("mmwhs")
        before = [dataSet.addVolume(makeVolume("mine"))]
        nodes = scene.GetNumberOfNodes()
        with pytest.raises(ValueError, match=r"unlabeled\.csv"):
            sample_data.fillDataSet(dataSet, copy)
        assert scene.GetNumberOfNodes() == nodes
        assert dataSet.rows() == before
        assert dataSet.labelSet() == get_label_set("mmwhs")
        sample_data.fillDataSet(dataSet, study)
        assert [problem for problem in dataSet.allProblems() if problem.key != before[0].key] == []


class TestRegistration:
    """With the two functions that the module Sample Data has for this, as 5.10 and 5.12 have them."""

    @pytest.fixture
    def sampleData(self, monkeypatch):
        registered = SimpleNamespace(sources=[], categories=[])

        class Logic5p10:
            @staticmethod
            def registerCustomSampleDataSource(
                category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None, customDownloader=None,
                thumbnailFileName=None,
            ):  # fmt: skip
                assert isinstance(uris, str)  # None has no length, which Slicer asks for
                registered.sources.append((category, sampleName, customDownloader, thumbnailFileName))

        class Logic5p12(Logic5p10):
            @staticmethod
            def registerCustomSampleDataCategory(category, title=None):
                registered.categories.append((category, title))

        module = ModuleType("SampleData")
        monkeypatch.setitem(sys.modules, "SampleData", module)
        registered.use = lambda version: setattr(
            module, "SampleDataLogic", {"5.10": Logic5p10, "5.12": Logic5p12}[version]
        )
        return registered

    @pytest.mark.parametrize(("version", "categories"), [("5.10", 0), ("5.12", 1)])
    def test_study_and_cine_are_offered(self, sampleData, version, categories, tmp_path):
        sampleData.use(version)
        (tmp_path / "SemiCardiacSegCine.png").touch()
        sample_data.registerSampleData(tmp_path)
        assert len(sampleData.categories) == categories
        assert [source[:3] for source in sampleData.sources] == [
            ("SemiCardiacSeg", "SemiCardiacSegStudy", sample_data.downloadStudy),
            ("SemiCardiacSeg", "SemiCardiacSegCine", sample_data.downloadCine),
        ]
        assert [source[3] for source in sampleData.sources] == [None, str(tmp_path / "SemiCardiacSegCine.png")]

    def test_without_the_module_nothing_is_registered_and_nothing_fails(self, sampleData, monkeypatch):
        sampleData.use("5.12")
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "SampleData", None)
            sample_data.registerSampleData()
        assert not sampleData.sources
        sample_data.registerSampleData()
        assert len(sampleData.sources) == 2
