"""Segments of a .seg.nrrd under the names that people give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from semicardiac.base.errors import UserError
from semicardiac.images.labels import LABEL_SETS, LabelSet, get_label_set
from semicardiac.images.structure_names import meaning_of, meaning_of_code
from semicardiac.images.volumes import read_labels

ACDC = get_label_set("acdc")
LV_CODE = "SCT^123037004^Anatomical Structure~SCT^87878005^Left Ventricle"


def write(path: Path, *names: str, codes: tuple[str, ...] = ()) -> Path:
    """Segments with the values 1, 2, ..., two voxels each."""
    values = np.repeat(np.arange(len(names) + 1, dtype=np.uint8), 2).reshape(1, 1, -1)
    image = sitk.GetImageFromArray(values)
    for index, name in enumerate(names):
        tags = {"ID": f"S{index}", "Name": name, "LabelValue": str(index + 1), "Layer": "0"}
        if index < len(codes):
            tags["Tags"] = f"TerminologyEntry:context~{codes[index]}~^^~anatomic~^^~^^|"
        for key, value in tags.items():
            image.SetMetaData(f"Segment{index}_{key}", value)
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("RV", "MYO", "LV"), [1, 2, 3]),
        (("LV", "RV", "Myocardium"), [3, 1, 2]),
        (("Left Ventricle", "lv-cavity", "myo"), None),  # two are the LV cavity: which one, nobody can say
        (("left ventricle", "right ventricle", "LV wall"), [3, 1, 2]),
        (("LV_cavity", "RV Cavity", "LV-Myocardium"), [3, 1, 2]),
        (("LV", "heart"), None),
    ],
)
def test_names_are_known_as_people_write_them(tmp_path, names, found):
    path = write(tmp_path / "a.seg.nrrd", *names)
    if found is None:
        with pytest.raises(UserError, match="are not in the label set 'acdc'"):
            read_labels(path, ACDC)
    else:
        assert read_labels(path, ACDC).array.ravel().tolist() == [0, 0, *np.repeat(found, 2).tolist()]


def test_a_code_counts_unless_the_name_means_something_else(tmp_path):
    assert read_labels(write(tmp_path / "a.seg.nrrd", "Segment_1", codes=(LV_CODE,)), ACDC).array.max() == 3
    with pytest.raises(UserError, match=r"the segments 'RV' \(2 voxels\) are not in the label set"):
        read_labels(write(tmp_path / "b.seg.nrrd", "RV", codes=(LV_CODE,)), ACDC)


OWN_NAMES = LabelSet.model_validate(
    {
        "name": "own",
        "structures": [
            {"name": "Kammer", "source_values": [1], "type": {"scheme": "SCT", "value": "87878005", "meaning": "V"}},
            {"name": "Vorhof", "source_values": [2], "type": {"scheme": "SCT", "value": "82471001", "meaning": "LA"}},
            {"name": "Muskel", "source_values": [3], "role": "myo"},
        ],
    }
)
"""Structures whose names nobody else knows: their codes and roles say what they are."""


@pytest.mark.parametrize(
    "names", [("endo", "left heart atrium", "LV wall"), ("LVBP", "Left_Atrium", "myocard"), ("LV", "LA", "Muskel")]
)
def test_codes_and_roles_of_structures_say_what_their_names_do_not(tmp_path, names):
    labels = read_labels(write(tmp_path / "a.seg.nrrd", *names), OWN_NAMES)
    assert labels.array.ravel().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_every_name_means_one_thing_and_the_label_sets_mean_what_their_codes_say():
    for label_set in LABEL_SETS.values():
        meanings = [structure.meaning for structure in label_set.structures]
        assert meanings == [meaning_of(structure.name) for structure in label_set.structures]
        assert meanings == [meaning_of_code(structure.type.value) for structure in label_set.structures]
        assert None not in meanings
