"""Which segment is which structure."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from semicardiac.images.labels import LabelSet, get_label_set
from semicardiac.images.volumes import read_labels
from SemiCardiacSegLib.scene.segmentations import newSegmentation
from SemiCardiacSegLib.scene.structures import guessMapping, missing, unmapped

from Testing.slicer.scenes import heartLabels, makeVolume

pytestmark = pytest.mark.usefixtures("scene")
ACDC = get_label_set("acdc")
MMWHS = get_label_set("mmwhs")

_GENERAL = "Segmentation category and type - 3D Slicer General Anatomy list"
_NOWHERE = "Anatomic codes - DICOM master list~^^~^^"
LEFT_VENTRICLE = f"{_GENERAL}~SCT^123037004^Anatomical Structure~SCT^87878005^Left Ventricle~^^~{_NOWHERE}"
RIGHT_VENTRICLE = f"{_GENERAL}~SCT^123037004^Anatomical Structure~SCT^53085002^Right Ventricle~^^~{_NOWHERE}"
LIVER = f"{_GENERAL}~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~{_NOWHERE}"


def segments(*named: str | tuple[str, str]):
    """A segmentation with empty segments: names, or names and terminology; their IDs are those that Slicer gives."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")
    for each in named:
        name, terminology = (each, None) if isinstance(each, str) else each
        segment = node.GetSegmentation().GetSegment(node.GetSegmentation().AddEmptySegment("", name))
        if terminology:
            segment.SetTag(segment.GetTerminologyEntryTagName(), terminology)
    return node


def guessed(node, labelSet=ACDC) -> dict[str, str]:
    """What was guessed, by the names of the segments."""
    segmentation = node.GetSegmentation()
    mapping = guessMapping(node, labelSet)
    return {segmentation.GetSegment(segmentId).GetName(): structure for segmentId, structure in mapping.items()}


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        *((name, "LV cavity") for name in ("LV", "lv", "LV cavity", "LV_cavity", "left ventricle", "LeftVentricle")),
        *(
            (name, "LV cavity")
            for name in ("Left Ventricle", "endo", "LV-endo", "LV blood pool", "heart_ventricle_left")
        ),
        *((name, "LV myocardium") for name in ("MYO", "Myo", "myocardium", "LV myocardium", "LV wall")),
        *((name, "LV myocardium") for name in ("left ventricular myocardium", "heart_myocardium")),
        *((name, "RV cavity") for name in ("RV", "RV cavity", "right ventricle", "Right-Ventricle", "RV blood pool")),
    ],
)
def test_names_that_people_use(name, structure):
    assert guessed(segments(name)) == {name: structure}


@pytest.mark.parametrize("name", ["Segment_1", "1", "lung", "epi", "ventricle", "heart", ""])
def test_names_that_tell_nothing(name):
    assert guessed(segments(name)) == {}


def test_order_does_not_count():
    names = ["RV", "MYO", "LV"]
    assert guessed(segments(*names)) == guessed(segments(*reversed(names)))


def test_code_tells_what_the_name_does_not():
    assert guessed(segments(("Segment_1", LEFT_VENTRICLE), ("Segment_2", RIGHT_VENTRICLE))) == {
        "Segment_1": "LV cavity",
        "Segment_2": "RV cavity",
    }


def test_name_and_code_that_disagree():
    """Slicer's own terminologies have no myocardium, so that people choose the left ventricle for it."""
    node = segments(("LV wall", LEFT_VENTRICLE), ("LV", LEFT_VENTRICLE))
    assert guessed(node) == {"LV": "LV cavity"}


def test_code_of_something_else_does_not_hide_the_name():
    assert guessed(segments(("RV", LIVER))) == {"RV": "RV cavity"}


def test_two_that_are_the_same():
    assert guessed(segments("LV", "left ventricle", "RV")) == {"RV": "RV cavity"}


def test_name_and_code_count_more_than_one_of_them():
    node = segments(("LV", LEFT_VENTRICLE), ("Segment_2", LEFT_VENTRICLE), "endo")
    assert guessed(node) == {"LV": "LV cavity"}


def test_name_of_the_structure_counts_more_than_another_name():
    assert guessed(segments("LV", "LV cavity")) == {"LV cavity": "LV cavity"}


def test_what_was_segmented_by_us():
    node = newSegmentation("result", makeVolume(), heartLabels(), ACDC)
    assert guessMapping(node, ACDC) == {structure.key: structure.name for structure in ACDC.structures}


def test_another_label_set():
    node = segments("LA", "right atrium", "Ascending aorta", "PA", "LV", "Myo", "RV")
    assert sorted(guessed(node, MMWHS).values()) == sorted(MMWHS.names)
    assert guessed(segments("LA", "RV")) == {"RV": "RV cavity"}


def test_label_set_without_codes_and_roles():
    """As one from an nnU-Net data set; the code that all its structures have by default tells nothing."""
    structures = [{"name": "LV", "source_values": [1]}, {"name": "Scar", "source_values": [2]}]
    two = LabelSet.model_validate({"name": "two", "structures": structures})
    assert guessed(segments("left ventricle", "scar", "Segment_3"), two) == {"left ventricle": "LV", "scar": "Scar"}
    one = LabelSet.model_validate({"name": "one", "structures": structures[:1]})
    assert guessed(segments("Segment_1"), one) == {}


def test_the_engine_reads_a_file_as_the_module_maps_its_segments(tmp_path):
    """One dictionary: what a structure is, is told by its role, its code or its name, whatever the others call it."""
    codes = {"Ventrikel": "87878005", "Vorhof": "82471001"}
    structures = [
        {"name": name, "source_values": [value], "type": {"scheme": "SCT", "value": code, "meaning": name}}
        for value, (name, code) in enumerate(codes.items(), start=1)
    ]
    own = LabelSet.model_validate({"name": "own", "structures": structures})
    image = sitk.GetImageFromArray(np.array([[[1, 2]]], np.uint8))
    for value, name in enumerate(("endo", "left heart atrium"), start=1):
        for key, text in {"ID": name, "Name": name, "LabelValue": str(value), "Layer": "0"}.items():
            image.SetMetaData(f"Segment{value - 1}_{key}", text)
    sitk.WriteImage(image, str(tmp_path / "a.seg.nrrd"))
    assert guessed(segments("endo", "left heart atrium"), own) == {"endo": "Ventrikel", "left heart atrium": "Vorhof"}
    assert read_labels(tmp_path / "a.seg.nrrd", own).array.ravel().tolist() == [1, 2]


def test_the_own_name_of_a_structure_is_no_other_ones():
    structures = [{"name": name, "source_values": [value]} for value, name in enumerate(("LV", "endo"), start=1)]
    two = LabelSet.model_validate({"name": "two", "structures": structures})
    assert guessed(segments("lv", "Endo", "left ventricle"), two) == {"lv": "LV", "Endo": "endo"}


def test_what_is_left():
    node = segments("LV", "lung", "RV")
    mapping = guessMapping(node, ACDC)
    assert unmapped(node, mapping) == ["lung"]
    assert missing(node, mapping, ACDC) == ["LV myocardium"]


def test_mapping_of_segments_that_are_gone():
    assert missing(segments("LV"), {"gone": "LV cavity"}, ACDC) == ACDC.names
