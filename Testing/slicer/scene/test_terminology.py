"""The terminology of the extension: Slicer's logic reads it, and finds every structure of the label sets in it."""

from __future__ import annotations

import json

import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from semicardiac.images.labels import LABEL_SETS, TERMINOLOGY_CONTEXT, LabelSet

STRUCTURES = [
    pytest.param(structure, id=f"{labelSet.name} {structure.name}")
    for labelSet in LABEL_SETS.values()
    for structure in labelSet.structures
]


@pytest.fixture
def loaded(scene) -> str:
    from SemiCardiacSegLib.scene.terminology import loadTerminology

    return loadTerminology()


def entryOf(structure):
    """What Slicer makes of a structure's terminology string, with color and label from the loaded terminology."""
    logic = slicer.modules.terminologies.logic()
    entry = slicer.vtkSlicerTerminologyEntry()
    assert logic.DeserializeTerminologyEntry(structure.terminology, entry)
    logic.UpdateEntryFromLoadedTerminologies(entry, [TERMINOLOGY_CONTEXT], [])
    return entry


def test_it_loads_under_the_name_that_segments_refer_to(loaded):
    assert loaded == TERMINOLOGY_CONTEXT
    assert slicer.modules.terminologies.logic().IsTerminologyContextLoaded(TERMINOLOGY_CONTEXT)


def test_it_is_loaded_once(loaded, monkeypatch):
    from SemiCardiacSegLib.scene import terminology

    # If it were read again, it would be from this file, which is not there.
    monkeypatch.setattr(slicer.modules.terminologies.logic(), "LoadTerminologyFromFile", lambda name: "", raising=False)
    assert terminology.loadTerminology() == TERMINOLOGY_CONTEXT


def test_a_file_that_slicer_cannot_read_is_told(scene, tmp_path, monkeypatch):
    from SemiCardiacSegLib.scene import terminology

    damaged = tmp_path / "damaged.term.json"
    damaged.write_text(json.dumps({"SegmentationCategoryTypeContextName": TERMINOLOGY_CONTEXT}), encoding="utf-8")
    monkeypatch.setattr(terminology, "FILE", damaged)
    with pytest.raises(RuntimeError, match=r"damaged\.term\.json"):
        terminology.loadTerminology()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_structure_is_found_with_its_color(loaded, structure):
    entry = entryOf(structure)
    assert entry.GetTypeObject().GetSlicerLabel()  # stands in the terminology alone
    assert tuple(entry.GetTypeObject().GetRecommendedDisplayRGBValue()) == structure.color


def test_a_structure_without_codes_is_found_as_tissue(loaded):
    own = LabelSet.model_validate({"name": "own", "structures": [{"name": "scar", "source_values": [1]}]})
    assert entryOf(own.structures[0]).GetTypeObject().GetSlicerLabel() == "tissue"


def test_a_code_that_is_not_in_it_is_not_found(loaded):
    structure = LABEL_SETS["acdc"].structures[0]
    wrong = structure.model_copy(update={"type": structure.type.model_copy(update={"value": "0"})})
    assert entryOf(wrong).GetTypeObject().GetSlicerLabel() is None


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_name_finds_the_code(loaded, structure):
    entry = slicer.vtkSlicerTerminologyEntry()
    logic = slicer.modules.terminologies.logic()
    assert logic.FindTypeInTerminologyBy3dSlicerLabel(TERMINOLOGY_CONTEXT, structure.name, entry)
    assert entry.GetTypeObject().GetCodeValue() == structure.type.value
