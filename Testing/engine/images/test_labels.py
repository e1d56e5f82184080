"""Label sets: values in files to training labels and back, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from semicardiac.base.errors import UserError
from semicardiac.images.labels import LABEL_SETS, TERMINOLOGY_CONTEXT, LabelSet, get_label_set


def make_set(**changes) -> dict:
    structures = [
        {"name": "LV cavity", "source_values": [7, 8], "role": "lv"},
        {"name": "Scar", "source_values": [300]},
    ]
    return {"name": "mine", "structures": structures} | changes


class TestReadyMadeSets:
    def test_acdc_values(self):
        acdc = get_label_set("acdc")
        assert [(each.name, each.source_values, each.role) for each in acdc.structures] == [
            ("RV cavity", (1,), "rv"),
            ("LV myocardium", (2,), "myo"),
            ("LV cavity", (3,), "lv"),
        ]
        assert acdc.plane == "acquired"

    def test_mmwhs_values(self):
        mmwhs = get_label_set("mmwhs")
        values = {each.name: each.source_values for each in mmwhs.structures}
        assert values == {
            "LV myocardium": (205,),
            "Left atrium": (420, 421),
            "LV cavity": (500,),
            "Right atrium": (550,),
            "RV cavity": (600,),
            "Ascending aorta": (820,),
            "Pulmonary artery": (850,),
        }
        assert mmwhs.plane == "axial"

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("LV myocardium", "SCT^74281007^Myocardium"),
            ("LV cavity", "SCT^87878005^Left Ventricle"),
            ("RV cavity", "SCT^53085002^Right Ventricle"),
            ("Left atrium", "SCT^82471001^Left atrium"),
            ("Right atrium", "SCT^73829009^Right atrium"),
            ("Ascending aorta", "SCT^54247002^Ascending aorta"),
            ("Pulmonary artery", "SCT^81040000^Pulmonary artery"),
        ],
    )
    def test_terminology_entry_has_the_seven_parts_that_slicer_expects(self, name, code):
        mmwhs = get_label_set("mmwhs")
        parts = mmwhs.structures[mmwhs.names.index(name)].terminology.split("~")
        anatomy = "SCT^123037004^Anatomical Structure"
        assert parts == [TERMINOLOGY_CONTEXT, anatomy, code, "^^", "Anatomic codes - DICOM master list", "^^", "^^"]

    @pytest.mark.parametrize("name", sorted(LABEL_SETS))
    def test_colors_differ(self, name):
        colors = [structure.color for structure in get_label_set(name).structures]
        assert len(set(colors)) == len(colors)

    def test_unknown_name_names_the_nearest(self):
        with pytest.raises(UserError, match="Did you mean 'acdc'"):
            get_label_set("accd")


class TestMapping:
    def test_by_hand(self):
        mmwhs = get_label_set("mmwhs")
        values = np.array([[0, 205, 420], [421, 500, 850]], dtype=np.uint16)
        training = mmwhs.to_training(values)
        assert training.dtype == np.uint8
        np.testing.assert_array_equal(training, [[0, 1, 2], [2, 3, 7]])
        source = mmwhs.to_source(training)
        assert source.dtype == np.uint16
        np.testing.assert_array_equal(
            source, [[0, 205, 420], [420, 500, 850]]
        )  # 421 becomes the first value of its structure

    def test_small_values_are_written_as_bytes(self):
        assert get_label_set("acdc").to_source(np.zeros((1, 1, 1), np.uint8)).dtype == np.uint8

    @pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int64, np.float32, np.float64])
    def test_any_real_type_that_holds_whole_numbers(self, dtype):
        acdc = get_label_set("acdc")
        np.testing.assert_array_equal(acdc.to_training(np.array([0, 3, 1], dtype=dtype)), [0, 3, 1])

    def test_a_mask_is_a_label(self):
        acdc = get_label_set("acdc")
        np.testing.assert_array_equal(acdc.to_training(np.array([False, True])), [0, 1])

    @given(st.sampled_from(sorted(LABEL_SETS)), st.data())
    def test_round_trip(self, name, data):
        label_set = get_label_set(name)
        shape = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)
        training = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, label_set.classes - 1)))
        np.testing.assert_array_equal(label_set.to_training(label_set.to_source(training)), training)

    @pytest.mark.parametrize(
        ("values", "listed"),
        [
            (np.array([0, 4, 4, 9, 1], np.uint8), r"4 \(2 voxels\) and 9 \(1 voxel\)"),
            (np.array([-1, 3], np.int16), r"-1 \(1 voxel\)"),
            (np.array([70000, 3, 70000], np.int32), r"70000 \(2 voxels\)"),
            (np.arange(40), r"11 \(1 voxel\) and 28 more"),
        ],
    )
    def test_unknown_values_are_listed_with_their_voxels(self, values, listed):
        with pytest.raises(UserError, match=listed) as caught:
            get_label_set("acdc").to_training(values, where="x_gt.nii.gz")
        assert caught.value.where == "x_gt.nii.gz"
        assert "2 LV myocardium" in caught.value.what

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            (np.array([0.0, 1.5, 2.5]), "such as 1.5, are in 2 voxels"),
            (np.array([0.0, np.nan]), "such as nan, are in 1 voxel"),
            (np.array([np.inf, 1.0], np.float32), "such as inf, are in 1 voxel"),
            (np.array([1 + 0j]), "these are complex128"),
        ],
    )
    def test_values_that_are_no_whole_numbers(self, values, said):
        with pytest.raises(UserError, match=said):
            get_label_set("acdc").to_training(values)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_rounded_values_are_the_whole_numbers_that_were_saved(self, dtype):
        values = np.array([0.0, 0.99998, 2.00001, 2.9991], dtype)
        np.testing.assert_array_equal(get_label_set("acdc").to_training(values), [0, 1, 2, 3])

    @pytest.mark.parametrize(
        ("value", "shown"),
        [(0.5, "0.5"), (1.0015, "1.0015"), (2.998, "2.998"), (30000.25, "30000.25"), (3e38, "2147483648 ")],
    )
    def test_fractions_are_shown_with_the_digits_that_make_them_one(self, value, shown):
        with pytest.raises(UserError, match=shown.replace(".", r"\.")):
            get_label_set("acdc").to_training(np.array([0, 1, value], np.float32))

    def test_training_label_of_a_role(self):
        acdc = get_label_set("acdc")
        assert (acdc.role_index("lv"), acdc.role_index("rv")) == (3, 1)


class TestOwnSets:
    def test_from_json_with_defaults(self, tmp_path):
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(make_set()))
        mine = get_label_set(path)
        assert mine.names == ["LV cavity", "Scar"]
        assert mine.classes == 3
        assert len({structure.color for structure in mine.structures}) == 2
        assert mine.role_index("lv") == 1
        assert mine.role_index("rv") is None
        np.testing.assert_array_equal(mine.to_source(np.array([0, 1, 2])), [0, 7, 300])

    @pytest.mark.parametrize("name", sorted(LABEL_SETS))
    def test_json_round_trip(self, tmp_path, name):
        path = tmp_path / "set.json"
        path.write_text(get_label_set(name).model_dump_json())
        assert get_label_set(path) == get_label_set(name)

    @pytest.mark.parametrize(
        ("labels", "values"),
        [
            ({"background": 0, "RV": 1, "MLV": 2, "ignore": 3}, {"RV": (1,), "MLV": (2,)}),
            ({"0": "background", "1": "RV", "2": "MLV"}, {"RV": (1,), "MLV": (2,)}),  # as nnU-Net 1 wrote it
        ],
    )
    def test_from_a_dataset_of_nnunet(self, tmp_path, labels, values):
        path = tmp_path / "dataset.json"
        path.write_text(json.dumps({"name": "Task027", "labels": labels}))
        found = get_label_set(path)
        assert {each.name: each.source_values for each in found.structures} == values
        assert (found.role_index("rv"), found.role_index("lv")) == (1, None)

    def test_a_name_that_stands_for_two_things_has_no_role(self, tmp_path):
        path = tmp_path / "dataset.json"
        path.write_text(json.dumps({"labels": {"background": 0, "LV": 1, "left ventricle": 2, "myocardium": 3}}))
        found = get_label_set(path)
        assert (found.role_index("lv"), found.role_index("myo")) == (None, 3)

    def test_regions_of_nnunet_are_refused(self, tmp_path):
        path = tmp_path / "dataset.json"
        path.write_text(json.dumps({"labels": {"background": 0, "whole": [1, 2]}}))
        with pytest.raises(UserError, match=r"labels\.whole: region-based"):
            get_label_set(path)

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (make_set(structures=[]), "structures"),
            (make_set(extra=1), "extra"),
            (make_set(plane="oblique"), "plane: got 'oblique'"),
            (make_set(structures=[{"name": "A", "source_values": [0]}]), r"structures.0.source_values.0: got 0"),
            (make_set(structures=[{"name": "A", "source_values": []}]), "source_values"),
            (make_set(structures=[{"name": "A", "source_values": [1], "color": [1, 2, 256]}]), "color.2: got 256"),
            (make_set(structures=[{"name": "++", "source_values": [1]}]), "at least one letter"),
            (
                make_set(structures=[{"name": "A b", "source_values": [1]}, {"name": "a-B", "source_values": [2]}]),
                "name a_b",
            ),
            (
                make_set(structures=[{"name": "A", "source_values": [1]}, {"name": "B", "source_values": [2, 1]}]),
                "value 1",
            ),
            (
                make_set(
                    structures=[
                        {"name": "A", "source_values": [1], "role": "lv"},
                        {"name": "B", "source_values": [2], "role": "lv"},
                    ]
                ),
                "role lv",
            ),
            ([1, 2], "got"),
        ],
    )
    def test_mistakes_name_the_field(self, tmp_path, data, said):
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(data))
        with pytest.raises(UserError, match=said) as caught:
            get_label_set(path)
        assert str(path) in str(caught.value)

    def test_a_file_that_is_no_json(self, tmp_path):
        path = tmp_path / "mine.json"
        path.write_text("{")
        with pytest.raises(UserError, match="not a readable JSON"):
            get_label_set(path)

    def test_sets_cannot_be_changed(self):
        with pytest.raises(ValueError, match="frozen"):
            get_label_set("acdc").name = "other"

    def test_keys_are_fit_for_file_names(self):
        named = LabelSet.model_validate(
            {"name": "x", "structures": [{"name": "Left  atrium (LA)", "source_values": [1]}]}
        )
        assert named.structures[0].key == "Left_atrium_LA"
