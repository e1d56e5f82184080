"""JSON files of other programs: what of them says which value is which structure, and what is clear about the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from semicardiac.base.errors import UserError
from semicardiac.data.checks import check_cases
from semicardiac.data.discover import discover
from semicardiac.images.labels import get_label_set

from Testing.engine.data.odd_images import SMALL_BATCHES, make_image, make_labels, write

NAMES = {"background": 0, "RV": 1, "MYO": 2, "LV": 3}


def dataset(folder: Path, content: object, encoding: str = "utf-8") -> Path:
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "dataset.json").write_text(text, encoding=encoding)
    return folder / "dataset.json"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    "labels",
    [
        NAMES,
        {str(value): name for name, value in NAMES.items()},  # before version 2, and the Medical Segmentation Decathlon
        {name: str(value) for name, value in NAMES.items()},
        {name: [value] for name, value in NAMES.items()},
        NAMES | {"LV": 3.0},
        NAMES | {"ignore": 4},
    ],
)
def test_labels_of_nnunet_however_they_are_written(tmp_path, labels, encoding):
    found = get_label_set(dataset(tmp_path, {"name": None, "labels": labels}, encoding))
    assert [(each.name, each.source_values) for each in found.structures] == [("RV", (1,)), ("MYO", (2,)), ("LV", (3,))]
    assert found.name == tmp_path.name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"labels": ["background", "RV"]}, "labels: these are of the kind 'list'"),
        ({"labels": None}, "labels: these are of the kind 'NoneType'"),
        ({"labels": NAMES | {"heart": [1, 2, 3]}}, "labels.heart: region-based labels are not supported"),
        ({"labels": NAMES | {"LV": 3.5}}, "labels.LV: 3.5 is no whole number"),
        ({"labels": NAMES | {"LV": True}}, "labels.LV: True is no whole number"),
        ({"labels": NAMES | {"LV": None}}, "labels.LV: None is no whole number"),
        ({"labels": NAMES | {"LV": "x" * 5000}}, r"labels.LV: 'x{50,60}\.\.\. is no whole number"),
        ({"labels": {"\N{SUPERSCRIPT TWO}": "LV"}}, "'LV' is no whole number"),
        ({"labels": NAMES | {"LV": "9" * 5000}}, "is no whole number"),
        ({"labels": NAMES | {"LV": 1}}, "the source value 1 stands for more than one structure"),
        ({"training": [{"image": "a.nii.gz", "label": "b.nii.gz"}]}, "neither 'structures' nor 'labels' are in it"),
        ([1], "neither 'structures' nor 'labels' are in it"),
        ("[" * 100_000, "nested too deeply"),
        ('{"labels": {"LV": 1,}}', "not a readable JSON file"),
    ],
)
def test_what_cannot_be_meant_names_the_field(tmp_path, content, said):
    with pytest.raises(UserError, match=said) as caught:
        get_label_set(dataset(tmp_path, content))
    assert "dataset.json" in caught.value.where
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("labels", [NAMES | {"ignore": 4}, {str(v): k for k, v in (NAMES | {"ignore": 4}).items()}])
def test_voxels_to_be_ignored_are_called_so(tmp_path, labels):
    for number in (1, 2):
        write(tmp_path / "imagesTr" / f"p{number}_0000.nii.gz", make_image(number))
    values = make_labels()
    values[0, :5, :5] = 4
    write(tmp_path / "labelsTr" / "p1.nii.gz", values)
    own = get_label_set(dataset(tmp_path, {"labels": labels}))
    (finding,) = [each for each in check_cases(discover([tmp_path]), own, SMALL_BATCHES) if each.level == "error"]
    assert "the label values 4 (25 voxels) are not in the label set" in finding.what
    assert "4 is 'ignore' in dataset.json, and no voxel can be left out" in finding.what
    values[0, 0, 0] = 9
    write(tmp_path / "labelsTr" / "p1.nii.gz", np.where(values == 4, 0, values))
    (finding,) = [each for each in check_cases(discover([tmp_path]), own, SMALL_BATCHES) if each.level == "error"]
    assert "in dataset.json" not in finding.what


@pytest.mark.parametrize(
    "content", [[1], "text", {"labels": ["LV"]}, {"labels": NAMES | {"ignore": "x"}}, "[" * 100_000]
)
def test_a_description_of_another_program_is_no_crash(tmp_path, content):
    write(tmp_path / "a.nii.gz", make_image(1))
    write(tmp_path / "a_gt.nii.gz", make_labels() * 3)
    dataset(tmp_path, content)
    findings = check_cases(discover([tmp_path]), get_label_set("acdc"), SMALL_BATCHES)
    assert any("are not in the label set" in finding.what for finding in findings)
