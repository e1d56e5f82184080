"""The case table: its rows, how it is kept with the scene, and what can be told about it."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

import vtk
from semicardiac.images.labels import LabelSet, get_label_set
from SemiCardiacSegLib.table.case_table import DataSet
from SemiCardiacSegLib.table.problems import contentState

from Testing.slicer.datasets import addCine, makeDataSet, writeImage
from Testing.slicer.scenes import (
    heartLabels,
    makeHeartSegmentation,
    makeSequence,
    makeTransform,
    makeVolume,
    saveAndReload,
)

pytestmark = pytest.mark.usefixtures("scene")


@pytest.fixture
def dataSet(scene) -> DataSet:
    return makeDataSet()


class TestAddVolume:
    def test_row(self, dataSet):
        volume = makeVolume("patient002_frame01")
        row = dataSet.addVolume(volume)
        assert (row.name, row.kind, row.role, row.count) == ("patient002_frame01", "volume", "unlabeled", 1)
        assert row.volumeNode is volume
        assert row.segmentationNode is None
        assert (row.sizeText, row.spacingText) == ("10 × 12 × 5", "1.25 × 1.5 × 8")
        assert dataSet.rows() == [row]

    def test_with_segmentation_it_is_labeled(self, dataSet):
        volume = makeVolume()
        row = dataSet.addVolume(volume, makeHeartSegmentation(volume))
        assert row.role == "labeled"
        assert dataSet.addVolume(makeVolume("b"), makeHeartSegmentation(volume), role="validation").role == "validation"

    def test_same_volume_twice(self, dataSet):
        volume = makeVolume()
        first = dataSet.addVolume(volume, phase="ED")
        second = dataSet.addVolume(volume, makeHeartSegmentation(volume), patient="somebody")
        assert second.key == first.key
        assert len(dataSet.rows()) == 1
        assert (second.role, second.patient, second.phase) == ("labeled", "somebody", "ED")

    def test_keys_are_not_given_twice(self, dataSet):
        first = dataSet.addVolume(makeVolume("a"))
        dataSet.remove([first.key])
        assert dataSet.addVolume(makeVolume("b")).key != first.key

    def test_name_follows_the_node(self, dataSet):
        row = dataSet.addVolume(makeVolume("before"))
        row.volumeNode.SetName("after")
        assert dataSet.row(row.key).name == "after"

    def test_what_is_no_image(self, dataSet, scene):
        vector = slicer.util.addVolumeFromArray(
            np.zeros((2, 3, 4, 7)), nodeClassName="vtkMRMLVectorVolumeNode", name="v"
        )
        for node in (None, vector, scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"), makeTransform()):
            with pytest.raises(ValueError, match=r"\. \w+"):
                dataSet.addVolume(node)
        assert dataSet.rows() == []

    def test_frame_that_a_sequence_shows(self, dataSet):
        _sequence, proxy = addCine("cine")
        with pytest.raises(ValueError, match=r"'cine' shows a frame of 'cine'\. Add that sequence"):
            dataSet.addVolume(proxy)

    @pytest.mark.parametrize("wrong", [{"role": "test"}, {"phase": "systole"}])
    def test_unknown_role_or_phase(self, dataSet, wrong):
        with pytest.raises(ValueError, match=r"There is no '(test|systole)'\. Choose one of"):
            dataSet.addVolume(makeVolume(), **wrong)
        assert dataSet.rows() == []

    def test_no_segmentation(self, dataSet):
        with pytest.raises(ValueError, match="'transform' is no segmentation"):
            dataSet.addVolume(makeVolume(), makeTransform())
        assert dataSet.rows() == []


class TestSequences:
    def test_row(self, dataSet):
        sequence = makeSequence([np.full((2, 3, 4), index, np.int16) for index in range(5)], name="patient007_4d")
        row = dataSet.addSequence(sequence)
        assert (row.kind, row.count, row.patient, row.role) == ("sequence", 5, "patient007", "unlabeled")
        assert (row.sizeText, row.spacingText) == ("4 × 3 × 2", "1.25 × 1.5 × 8")
        assert dataSet.addSequence(sequence) == row
        assert len(dataSet.rows()) == 1

    @pytest.mark.parametrize("nodeClass", ["vtkMRMLSequenceNode", "vtkMRMLScalarVolumeNode", None])
    def test_what_is_no_cine(self, dataSet, scene, nodeClass):
        node = nodeClass and scene.AddNewNodeByClass(nodeClass, "x")
        with pytest.raises(ValueError, match=r"is no sequence of volumes\. Choose one"):
            dataSet.addSequence(node)


class TestAddPaths:
    def test_labeled_cases_take_a_row_each(self, dataSet, tmp_path):
        for name in ("patient001_frame01", "patient001_frame12"):
            writeImage(tmp_path / f"{name}.nii.gz")
            writeImage(tmp_path / f"{name}_gt.nii.gz", heartLabels())
        writeImage(tmp_path / "patient002_frame01.nii.gz")
        rows = dataSet.addPaths([tmp_path])
        assert [(row.name, row.kind, row.role, row.phase) for row in rows] == [
            ("patient001_frame01", "file", "labeled", "ED"),
            ("patient001_frame12", "file", "labeled", "ES"),
            ("patient002_frame01", "file", "unlabeled", ""),
        ]
        assert [row.patient for row in rows] == ["patient001", "patient001", "patient002"]
        assert rows[0].imagePath == tmp_path / "patient001_frame01.nii.gz"
        assert rows[0].labelsPath == tmp_path / "patient001_frame01_gt.nii.gz"
        assert (rows[0].sizeText, rows[0].spacingText) == ("10 × 12 × 5", "1.5 × 1.5 × 8")

    def test_many_unlabeled_cases_take_one_row(self, dataSet, tmp_path):
        writeImage(tmp_path / "pool" / "patient000.nrrd")
        for index in range(1, 3000):
            (tmp_path / "pool" / f"patient{index:04d}.nrrd").hardlink_to(tmp_path / "pool" / "patient000.nrrd")
        (row,) = dataSet.addPaths([tmp_path / "pool"])
        assert (row.kind, row.role, row.count) == ("pool", "unlabeled", 3000)
        assert row.imagePath == tmp_path / "pool"
        files = dataSet.files(row.key)
        assert len({file["patient"] for file in files}) == len({file["image"] for file in files}) == 3000
        assert dataSet.summary() == "0 labeled, 3,000 unlabeled"

    def test_labeled_and_unlabeled_of_one_folder(self, dataSet, tmp_path):
        for index in range(22):
            writeImage(tmp_path / f"p{index:02d}.nrrd")
        writeImage(tmp_path / "p00_gt.nrrd", heartLabels())
        rows = dataSet.addPaths([tmp_path])
        assert sorted((row.kind, row.count) for row in rows) == [("file", 1), ("pool", 21)]

    def test_nothing_twice(self, dataSet, tmp_path):
        for index in range(25):
            writeImage(tmp_path / f"p{index:02d}.nrrd")
        dataSet.addPaths([tmp_path])
        assert dataSet.addPaths([tmp_path, tmp_path / "p03.nrrd"]) == []
        writeImage(tmp_path / "new.nrrd")
        assert [row.name for row in dataSet.addPaths([tmp_path])] == ["new"]

    def test_case_list(self, dataSet, tmp_path):
        writeImage(tmp_path / "a.nrrd")
        writeImage(tmp_path / "a_gt.nrrd", heartLabels())
        (tmp_path / "cases.csv").write_text("image,labels,role,patient\na.nrrd,a_gt.nrrd,validation,Müller\n", "utf-8")
        (row,) = dataSet.addPaths([tmp_path / "cases.csv"])
        assert (row.role, row.patient) == ("validation", "Müller")

    def test_missing_path_changes_nothing(self, dataSet, tmp_path):
        writeImage(tmp_path / "a.nrrd")
        with pytest.raises(ValueError, match="there is no such file or folder"):
            dataSet.addPaths([tmp_path / "a.nrrd", tmp_path / "nowhere"])
        assert dataSet.rows() == []


class TestChanging:
    def test_role_of_many(self, dataSet):
        keys = [dataSet.addVolume(makeVolume(name)).key for name in "abc"]
        dataSet.setRole(keys[:2], "ignore")
        assert [row.role for row in dataSet.rows()] == ["ignore", "ignore", "unlabeled"]
        with pytest.raises(ValueError, match="There is no 'train'"):
            dataSet.setRole(keys, "train")

    def test_patient_and_phase(self, dataSet):
        key = dataSet.addVolume(makeVolume()).key
        dataSet.setPatient(key, "Müller, Jörg")
        dataSet.setPhase(key, "ES")
        assert (dataSet.row(key).patient, dataSet.row(key).phase) == ("Müller, Jörg", "ES")
        with pytest.raises(ValueError, match=r"There is no 'es'\. Choose one of 'ED', 'ES', ''"):
            dataSet.setPhase(key, "es")

    def test_first_segmentation_makes_it_labeled(self, dataSet):
        volume = makeVolume()
        key = dataSet.addVolume(volume).key
        dataSet.setSegmentation(key, makeHeartSegmentation(volume))
        assert dataSet.row(key).role == "labeled"
        dataSet.setRole([key], "unlabeled")
        dataSet.setSegmentation(key, makeHeartSegmentation(volume))
        assert dataSet.row(key).role == "unlabeled"  # somebody wanted it so
        dataSet.setRole([key], "validation")
        dataSet.setSegmentation(key, None)
        assert dataSet.row(key).role == "unlabeled"
        assert dataSet.row(key).segmentationName == ""

    def test_segmentation_of_a_file(self, dataSet, tmp_path):
        writeImage(tmp_path / "a.nrrd")
        (row,) = dataSet.addPaths([tmp_path / "a.nrrd"])
        with pytest.raises(ValueError, match="'a' is no volume of the scene"):
            dataSet.setSegmentation(row.key, makeHeartSegmentation(makeVolume()))

    def test_mapping(self, dataSet):
        volume = makeVolume()
        row = dataSet.addVolume(volume, makeHeartSegmentation(volume))
        assert dataSet.mapping(row.key) == {"S0": "LV cavity", "S1": "RV cavity", "S2": "LV myocardium"}
        dataSet.setMapping(row.key, {"S0": "RV cavity"})
        assert dataSet.mapping(row.key) == {"S0": "RV cavity"}
        with pytest.raises(ValueError, match=r"There is no 'Aorta'\. Choose one of 'RV cavity'"):
            dataSet.setMapping(row.key, {"S0": "Aorta"})
        dataSet.setMapping(row.key, None)
        assert len(dataSet.mapping(row.key)) == 3

    def test_mapping_of_another_segmentation_is_forgotten(self, dataSet):
        volume = makeVolume()
        row = dataSet.addVolume(volume, makeHeartSegmentation(volume))
        dataSet.setMapping(row.key, {"S0": "RV cavity"})
        dataSet.setSegmentation(row.key, makeHeartSegmentation(volume))
        assert len(dataSet.mapping(row.key)) == 3

    def test_remove(self, dataSet):
        rows = [dataSet.addVolume(makeVolume(name)) for name in "abc"]
        dataSet.remove([rows[0].key, rows[2].key])
        assert [row.name for row in dataSet.rows()] == ["b"]
        assert rows[0].volumeNode.GetScene() is not None
        references = []
        dataSet.parameterNode.GetNodeReferenceRoles(references)
        assert [role for role in references if dataSet.parameterNode.GetNodeReference(role)] == [
            f"SemiCardiacSeg.volume.{rows[1].key}"
        ]

    def test_unknown_key(self, dataSet):
        with pytest.raises(ValueError, match="There is no case 'nothing' in the table"):
            dataSet.setPatient("nothing", "x")

    def test_observers_hear_of_a_change_once(self, dataSet):
        volume = makeVolume()
        segmentation = makeHeartSegmentation(volume)
        heard = []
        dataSet.parameterNode.AddObserver("ModifiedEvent", lambda caller, event: heard.append(event))
        dataSet.addVolume(volume, segmentation)
        assert len(heard) == 1

    def test_label_sets(self, dataSet):
        assert dataSet.labelSet() == get_label_set("acdc")
        dataSet.setLabelSet("mmwhs")
        assert dataSet.labelSet() == get_label_set("mmwhs")
        mine = LabelSet.model_validate({"name": "acdc", "structures": [{"name": "Herz ♥", "source_values": [7]}]})
        dataSet.setLabelSet(mine)
        assert dataSet.labelSet() == mine
        with pytest.raises(ValueError, match="there is no label set 'amdc'"):
            dataSet.setLabelSet("amdc")
        assert dataSet.labelSet() == mine


class TestAtOnce:
    def test_observers_hear_of_all_changes_once(self, dataSet):
        heard = []
        dataSet.parameterNode.AddObserver("ModifiedEvent", lambda caller, event: heard.append(event))
        with dataSet.atOnce():
            dataSet.setRole([dataSet.addVolume(makeVolume("a")).key], "ignore")
            dataSet.addVolume(makeVolume("b"))
        assert len(heard) == 1
        assert [row.role for row in dataSet.rows()] == ["ignore", "unlabeled"]

    def test_a_failure_takes_everything_back(self, dataSet):
        volume, other = makeVolume("a"), makeVolume("b")
        segmentation = makeHeartSegmentation(volume)
        before = dataSet.addVolume(volume, segmentation)

        def changeMuch() -> None:
            with dataSet.atOnce():
                dataSet.setLabelSet("mmwhs")
                dataSet.addVolume(other, makeHeartSegmentation(other))
                dataSet.setSegmentation(before.key, makeHeartSegmentation(volume))
                dataSet.setLabelSet("amdc")

        for _again in range(2):
            with pytest.raises(ValueError, match="no label set 'amdc'"):
                changeMuch()
            assert dataSet.rows() == [before]
            assert dataSet.labelSet() == get_label_set("acdc")
        row = dataSet.addVolume(makeVolume("c"))
        assert row.segmentationNode is None


class TestSavedScene:
    def test_whole_table_comes_back(self, dataSet, tmp_path):
        volume = makeVolume('Jörg\'s "ED" <1>')
        segmentation = makeHeartSegmentation(volume, "by hand")
        labeled = dataSet.addVolume(volume, segmentation, role="validation", patient="Jörg & Söhne; 1:2|3", phase="ED")
        dataSet.setMapping(labeled.key, {"S0": "RV cavity"})
        dataSet.addSequence(addCine("cine")[0])
        for index in range(30):
            writeImage(tmp_path / "pool 心" / f"p{index:02d}.nrrd")
        writeImage(tmp_path / "p_gt.nrrd", heartLabels())
        writeImage(tmp_path / "p.nrrd")
        dataSet.addPaths([tmp_path / "pool 心"])
        dataSet.addPaths([tmp_path / "p.nrrd", tmp_path / "p_gt.nrrd"])
        mine = LabelSet.model_validate({**get_label_set("acdc").model_dump(mode="json"), "name": "mine"})
        dataSet.setLabelSet(mine)
        before = [_withoutNodes(row) for row in dataSet.rows()]
        files = [dataSet.files(row.key) for row in dataSet.rows()]

        saveAndReload(tmp_path / "scene.mrb")
        node = slicer.mrmlScene.GetSingletonNode("SemiCardiacSeg", "vtkMRMLScriptedModuleNode")
        for again in (dataSet, DataSet(node)):
            assert [_withoutNodes(row) for row in again.rows()] == before
            assert [again.files(row.key) for row in again.rows()] == files
            assert again.labelSet() == mine
            row = again.row(labeled.key)
            assert row.volumeNode is slicer.util.getNode('Jörg\'s "ED" <1>')
            assert row.segmentationNode is slicer.util.getNode("by hand")
            assert again.mapping(labeled.key) == {"S0": "RV cavity"}
            assert again.row(again.rows()[1].key).sequenceNode.GetNumberOfDataNodes() == 3
            assert [problem for problem in again.problems(row) if problem.level == "error"] == []

    def test_closed_scene_has_an_empty_table(self, dataSet, scene):
        dataSet.addVolume(makeVolume())
        scene.Clear(False)
        assert dataSet.rows() == []
        assert dataSet.summary().startswith("No cases yet")
        dataSet.addVolume(makeVolume("next"))
        assert [row.name for row in dataSet.rows()] == ["next"]

    def test_scene_of_a_newer_version(self, dataSet):
        dataSet.parameterNode.SetParameter("dataSet", '{"format": 2}')
        with pytest.raises(ValueError, match=r"newer version of SemiCardiacSeg\. Update"):
            dataSet.rows()


class TestDeletedNodes:
    def test_volume(self, dataSet, scene):
        row = dataSet.addVolume(makeVolume("patient001_ED"))
        scene.RemoveNode(row.volumeNode)
        (row,) = dataSet.rows()
        assert (row.name, row.volumeNode, row.patient) == ("patient001_ED", None, "patient001")
        (problem,) = dataSet.problems(row)
        assert problem.level == "error"
        assert problem.text == (
            "The volume 'patient001_ED' was deleted from the scene. Add it again, or remove this case."
        )

    def test_segmentation(self, dataSet, scene):
        volume = makeVolume()
        row = dataSet.addVolume(volume, makeHeartSegmentation(volume, "by hand"))
        scene.RemoveNode(row.segmentationNode)
        (problem,) = dataSet.problems(dataSet.row(row.key))
        assert problem.text.startswith("The segmentation 'by hand' was deleted from the scene. Choose another one")

    def test_sequence(self, dataSet, scene):
        row = dataSet.addSequence(makeSequence([np.zeros((2, 3, 4))], name="cine"))
        scene.RemoveNode(row.sequenceNode)
        (problem,) = dataSet.problems(dataSet.row(row.key))
        assert problem.text.startswith("The sequence 'cine' was deleted from the scene")

    def test_they_are_told_after_the_scene_was_saved(self, dataSet, scene, tmp_path):
        row = dataSet.addVolume(makeVolume("gone"))
        scene.RemoveNode(row.volumeNode)
        saveAndReload(tmp_path / "scene.mrb")
        makeVolume("another")  # which must not be taken for the one that is gone
        assert dataSet.row(row.key).volumeNode is None
        assert "'gone' was deleted" in dataSet.problems(dataSet.row(row.key))[0].text

    def test_the_table_keeps_no_node_alive(self, dataSet, scene):
        row = dataSet.addVolume(makeVolume())
        dataSet.problems(row)
        node = vtk.vtkWeakReference()
        node.Set(row.volumeNode)
        scene.RemoveNode(row.volumeNode)
        del row
        assert node.Get() is None


class TestManyRows:
    """A panel looks at all rows after each change."""

    def test_a_row_is_made_again_only_where_something_has_changed(self, dataSet, monkeypatch):
        from SemiCardiacSegLib.table import case_table

        made, make = [], case_table.rowOf
        volumes = [makeVolume(f"patient{number}") for number in range(5)]
        keys = [dataSet.addVolume(volume, makeHeartSegmentation(volume)).key for volume in volumes]
        dataSet.rows()
        monkeypatch.setattr(case_table, "rowOf", lambda entry, *nodes: made.append(entry["key"]) or make(entry, *nodes))
        dataSet.rows()
        assert made == []
        volumes[1].SetName("renamed")
        dataSet.setRole([keys[3]], "ignore")
        volumes[4].SetSpacing(1, 2, 3)
        slicer.mrmlScene.RemoveNode(volumes[0])
        rows = dataSet.rows()
        assert made == [keys[0], keys[1], keys[3], keys[4]]
        assert [row.volumeNode for row in rows] == [None, *volumes[1:]]
        assert (rows[1].name, rows[3].role, rows[4].spacingText) == ("renamed", "ignore", "1 × 2 × 3")

    def test_only_the_voxels_of_labels_count_for_what_is_wrong(self):
        image = makeVolume()
        labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        slicer.util.updateVolumeFromArray(labels, heartLabels())
        before = [list(contentState(node)) for node in (image, labels)]
        for node in (image, labels):
            node.GetImageData().Modified()
        same = [list(contentState(node)) == state for node, state in zip((image, labels), before, strict=True)]
        assert same == [True, False]


class TestSummary:
    def test_counts(self, dataSet):
        for index, phase in enumerate(("ED", "ES", "ED")):
            volume = makeVolume(f"patient00{index // 2} {phase}")
            dataSet.addVolume(volume, makeHeartSegmentation(volume))
        dataSet.addSequence(makeSequence([np.zeros((2, 3, 4))] * 7, name="other"))
        volume = makeVolume("patient9_ED")
        dataSet.addVolume(volume, makeHeartSegmentation(volume), role="validation")
        assert dataSet.summary() == "3 labeled (2 patients), 7 unlabeled, 1 validation"

    def test_empty(self, dataSet):
        assert dataSet.summary() == "No cases yet: add volumes of the scene, a folder, or try it with sample data."


def _withoutNodes(row) -> tuple:
    return tuple(value for name, value in vars(row).items() if not name.endswith("Node"))
