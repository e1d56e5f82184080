"""Which nodes of a scene are cases, whose they are, and which segmentation belongs to which volume."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from SemiCardiacSegLib.scene.nodes import RESULT_ATTRIBUTE, shItem
from SemiCardiacSegLib.table.scene_cases import patientAndPhase

from Testing.slicer.datasets import addCine, makeDataSet
from Testing.slicer.scenes import (
    heartLabels,
    makeFolder,
    makeHeartSegmentation,
    makeSegmentation,
    makeVolume,
    obliqueMatrix,
)

pytestmark = pytest.mark.usefixtures("scene")


def addedFromScene() -> dict[str, str | None]:
    """Names of segmentations by the names of their volumes and sequences."""
    return {row.name: row.segmentationName or None for row in makeDataSet().addScene()}


def addReferenced(volume, name: str, masks=None):
    """A segmentation that was drawn on a volume."""
    node = makeSegmentation(volume, masks, name) if masks else makeHeartSegmentation(volume, name)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), volume.GetID())
    return node


def addLoose(name: str, seed: int = 0):
    """A segmentation that tells of no volume, as one that was read from a file."""
    node = makeHeartSegmentation(makeVolume("gone", seed=seed), name)
    node.RemoveNodeReferenceIDs(node.GetReferenceImageGeometryReferenceRole())
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("gone"))
    return node


class TestPatients:
    @pytest.mark.parametrize(
        ("name", "patient", "phase"),
        [
            ("patient002_frame01", "patient002", ""),
            ("patient002 ED", "patient002", "ED"),
            ("patient002_es", "patient002", "ES"),
            ("  Müller Jörg  ES ", "Müller_Jörg", "ES"),
            ("patient002_4d", "patient002", ""),
            ("SC-HF-I-01", "SC-HF-I-01", ""),
        ],
    )
    def test_by_name(self, name, patient, phase):
        assert patientAndPhase(makeVolume(name)) == (patient, phase)

    @pytest.mark.parametrize(("name", "phase"), [("ED", "ED"), ("frame01", ""), ("sax cine", "")])
    def test_by_folder(self, name, phase):
        volume = makeVolume(name)
        makeFolder("patient 007", [volume])
        assert patientAndPhase(volume)[0].replace(" ", "_") == "patient_007"
        assert patientAndPhase(volume)[1] == phase

    def test_folder_of_many_is_nobody(self):
        volume = makeVolume("volunteer")
        makeFolder("training data", [volume])
        assert patientAndPhase(volume) == ("volunteer", "")

    def test_patient_of_dicom_data(self, scene):
        hierarchy = scene.GetSubjectHierarchyNode()
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "DOE^JOHN")
        hierarchy.SetItemAttribute(patient, "Level", "Patient")
        study = hierarchy.CreateStudyItem(patient, "Cardiac MR")
        volume = makeVolume("4: sax ED")
        hierarchy.SetItemParent(shItem(volume), study)
        assert patientAndPhase(volume) == ("DOE^JOHN", "ED")

    def test_patient_of_a_cine_is_that_of_the_volume_that_shows_it(self, scene):
        """Slicer's subject hierarchy has no items for sequences, and none is to be made."""
        cine, volume = addCine("4: cine sax")
        hierarchy = scene.GetSubjectHierarchyNode()
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "DOE^JOHN")
        hierarchy.SetItemAttribute(patient, "Level", "Patient")
        hierarchy.SetItemParent(shItem(volume), hierarchy.CreateStudyItem(patient, "Cardiac MR"))
        assert patientAndPhase(cine)[0] == "DOE^JOHN"
        assert not hierarchy.GetItemByDataNode(cine)


class TestAddScene:
    def test_by_reference(self):
        first, second = makeVolume("first"), makeVolume("second")
        addReferenced(second, "S2")
        addReferenced(first, "S1")
        assert addedFromScene() == {"first": "S1", "second": "S2"}

    def test_reference_comes_before_the_name(self):
        first, second = makeVolume("first"), makeVolume("second")
        addReferenced(second, "first_seg")
        assert addedFromScene() == {first.GetName(): None, "second": "first_seg"}

    def test_what_was_drawn_on_one_volume_is_no_other_ones(self):
        makeVolume("first")
        second = makeVolume("second")
        addReferenced(second, "of an expert")
        addReferenced(second, "first_seg", {"scar": heartLabels() == 1})
        assert addedFromScene() == {"first": None, "second": "of an expert"}

    def test_the_one_with_most_structures_of_several(self):
        volume = makeVolume("volume")
        addReferenced(volume, "scar", {"Segment_1": heartLabels() == 1})
        addReferenced(volume, "heart")
        assert addedFromScene() == {"volume": "heart"}

    def test_by_folder(self):
        volume, node = makeVolume("volume"), addLoose("drawn elsewhere")
        makeFolder("patient001", [volume, node])
        assert addedFromScene() == {"volume": "drawn elsewhere"}

    def test_folder_with_several_volumes_tells_nothing(self):
        makeFolder("patient001", [makeVolume("ED"), makeVolume("ES"), addLoose("somewhere")])
        assert addedFromScene() == {"ED": None, "ES": None}

    def test_top_of_the_scene_is_no_folder(self):
        makeVolume("volume")
        addLoose("somewhere", seed=1)
        assert addedFromScene() == {"volume": None}

    @pytest.mark.parametrize(
        "name",
        [
            "patient001 ED", "patient001_ED_gt", "patient001_ED-label", "Patient001_ED_seg", "patient001_ED_gt.nii.gz",
            "patient001_ED_gt-segmentation", "patient001_ED_gt_1", "patient001_ED_gt seg", "patient001_ED.seg.nrrd",
            "patient001_ED segmentation 2", "patient001_ED_gt.nii.gz-segmentation_1",
        ],
    )  # fmt: skip
    def test_by_name(self, name):
        makeVolume("patient001_ED")
        makeVolume("patient001_ES")
        addLoose(name)
        assert addedFromScene() == {"patient001_ED": name, "patient001_ES": None}

    def test_numbers_of_volumes_are_not_those_of_labels(self):
        for number in (1, 2):
            makeVolume(f"scan_{number}")
            addLoose(f"scan_{number}_gt.nii.gz")
        assert addedFromScene() == {"scan_1": "scan_1_gt.nii.gz", "scan_2": "scan_2_gt.nii.gz"}

    def test_below_its_volume_in_the_subject_hierarchy(self, scene):
        first, _second, node = makeVolume("first"), makeVolume("second"), addLoose("somewhere")
        scene.GetSubjectHierarchyNode().SetItemParent(shItem(node), shItem(first))
        assert addedFromScene() == {"first": "somewhere", "second": None}

    def test_on_the_grid_of_a_single_volume(self):
        for seed in (1, 2):
            makeVolume(f"volume {seed}", seed=seed)
            addLoose(f"drawn elsewhere {seed + 10}", seed)
        assert addedFromScene() == {"volume 1": "drawn elsewhere 11", "volume 2": "drawn elsewhere 12"}

    def test_two_on_one_grid_tell_nothing_and_are_counted(self):
        makeVolume("volume")
        nodes = [addLoose("somewhere"), addLoose("elsewhere")]
        dataSet = makeDataSet()
        (row,) = dataSet.addScene()
        assert row.segmentationNode is None
        assert dataSet.unmatchedSegmentations() == nodes
        dataSet.setSegmentation(row.key, nodes[1])
        assert dataSet.unmatchedSegmentations() == []  # no case lacks one

    def test_label_map(self):
        makeVolume("patient001_ED")
        slicer.util.addVolumeFromArray(
            heartLabels(), obliqueMatrix(0), name="patient001_ED_gt", nodeClassName="vtkMRMLLabelMapVolumeNode"
        )
        assert addedFromScene() == {"patient001_ED": "patient001_ED_gt"}

    def test_results_of_ours_are_no_labels_and_no_images(self):
        volume = makeVolume("volume")
        for node in (addReferenced(volume, "volume SemiCardiacSeg"), makeVolume("volume confidence")):
            node.SetAttribute(RESULT_ATTRIBUTE, "1")
        assert addedFromScene() == {"volume": None}

    def test_cine_is_taken_as_a_sequence(self):
        addCine("cine", frames=4)
        makeVolume("volume")
        rows = makeDataSet().addScene()
        assert [(row.name, row.kind, row.count) for row in rows] == [("volume", "volume", 1), ("cine", "sequence", 4)]

    def test_what_is_no_image_is_left_out(self, scene, caplog):
        slicer.util.addVolumeFromArray(np.zeros((2, 3, 4, 7)), name="rgb", nodeClassName="vtkMRMLVectorVolumeNode")
        scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        hidden = makeVolume("hidden")
        hidden.SetHideFromEditors(True)
        assert addedFromScene() == {}
        assert "'rgb' holds" in caplog.text
        assert "'empty' has no image data" in caplog.text

    def test_second_time_adds_what_is_new(self):
        dataSet = makeDataSet()
        addReferenced(makeVolume("first"), "S1")
        addCine("cine")
        assert len(dataSet.addScene()) == 2
        assert dataSet.addScene() == []
        makeVolume("second")
        assert [row.name for row in dataSet.addScene()] == ["second"]
        assert len(dataSet.rows()) == 3

    def test_choices_stay_as_they_are(self):
        dataSet = makeDataSet()
        addReferenced(makeVolume("volume"), "S1")
        (row,) = dataSet.addScene()
        dataSet.setSegmentation(row.key, None)
        dataSet.addScene()
        assert dataSet.row(row.key).segmentationNode is None
