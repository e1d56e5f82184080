"""Which segmentation is measured against which reference."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from semicardiac.base.errors import UserError
from semicardiac.evaluation.matching import match
from semicardiac.images.volumes import write_volume

from Testing.engine.evaluation.support import flat_image, labels_of, write_labels_of, write_segmented_study


@pytest.fixture
def study(tmp_path):
    return write_segmented_study(tmp_path)


class TestMatching:
    @pytest.mark.parametrize(
        ("prediction", "reference"),
        [
            ("patient001_frame01.nii.gz", "patient001_frame01_gt.nii.gz"),
            ("patient001_frame01.seg.nrrd", "patient001_frame01.nii.gz"),
            ("deep/er/heart.nrrd", "heart_label.nii.gz"),
            ("mr_train_1001_image.nii.gz", "mr_train_1001_label.nii.gz"),
            ("heart_0000.nii.gz", "heart.nii.gz"),
            ("scan_seg.nii.gz", "some/where/scan-label.nrrd"),
        ],
    )
    def test_names_meet_without_their_endings(self, tmp_path, prediction, reference):
        for folder, name in (("predictions", prediction), ("reference", reference)):
            write_labels_of((tmp_path / folder / name).parent, Path(name).name, labels_of(2, 2, 2))
        pairs, unmatched, _ = match(tmp_path / "predictions", tmp_path / "reference")
        assert [(pair.prediction, pair.reference) for pair in pairs] == [
            (tmp_path / "predictions" / prediction, tmp_path / "reference" / reference)
        ]
        assert pairs[0].image is None
        assert unmatched == []

    def test_an_image_is_never_taken_for_a_reference(self, study):
        predictions, reference, _ = study
        write_volume(reference / "patient001" / "patient001_frame05.nii.gz", flat_image())  # no labels
        write_labels_of(predictions, "patient001_frame05.nii.gz", labels_of(2, 2, 2))
        pairs, unmatched, _ = match(predictions, reference)
        assert [pair.reference.name for pair in pairs] == [
            f"patient{number}_gt.nii.gz" for number in ("001_frame01", "001_frame12", "002_frame01", "002_frame09")
        ]
        assert [pair.image.name for pair in pairs[:1]] == ["patient001_frame01.nii.gz"]
        assert [path.name for path in unmatched] == ["patient001_frame05.nii.gz"]

    def test_patients_and_phases_from_the_reference(self, study):
        pairs, _, _ = match(study[0], study[1])
        assert [(pair.patient, pair.phase) for pair in pairs] == [
            ("patient001", "ED"), ("patient001", "ES"), ("patient002", "ED"), ("patient002", "ES"),
        ]  # fmt: skip

    def test_phases_without_images(self, tmp_path):
        for name in ("a_frame01", "a_frame08"):
            write_labels_of(tmp_path / "p", f"{name}.nii.gz", labels_of(2, 2, 2))
            write_labels_of(tmp_path / "r", f"{name}_gt.nii.gz", labels_of(2, 2, 2))
        pairs, _, _ = match(tmp_path / "p", tmp_path / "r")
        assert [(pair.patient, pair.phase) for pair in pairs] == [("a", "ED"), ("a", "ES")]

    def test_phases_from_the_info_beside_references_without_images(self, tmp_path):
        for name in ("a_frame01", "a_frame08"):
            write_labels_of(tmp_path / "p", f"{name}.seg.nrrd", labels_of(2, 2, 2))
            write_labels_of(tmp_path / "r", f"{name}_gt.nii.gz", labels_of(2, 2, 2))
        (tmp_path / "r" / "Info.cfg").write_text("ED: 8\nES: 1\n")
        pairs, _, _ = match(tmp_path / "p", tmp_path / "r")
        assert [(pair.patient, pair.phase) for pair in pairs] == [("a", "ES"), ("a", "ED")]

    def test_patients_from_a_list_beside_references_without_images(self, tmp_path):
        write_labels_of(tmp_path / "p", "x_seg.nii.gz", labels_of(2, 2, 2))
        write_labels_of(tmp_path / "r" / "truth", "x_gt.nii.gz", labels_of(2, 2, 2))
        (tmp_path / "r" / "cases.csv").write_text("image,patient,phase\n../x.nii.gz,anna,ES\n")
        (pair,), _, _ = match(tmp_path / "p", tmp_path / "r")
        assert (pair.patient, pair.phase, pair.image) == ("anna", "ES", None)

    def test_nnunet_layout(self, tmp_path):
        data = tmp_path / "Dataset001"
        write_labels_of(data / "labelsTr", "heart_01.nii.gz", labels_of(2, 2, 2))
        (data / "imagesTr").mkdir()
        write_volume(data / "imagesTr" / "heart_01_0000.nii.gz", flat_image())
        write_labels_of(tmp_path / "p", "heart_01_0000.nii.gz", labels_of(2, 2, 2))
        (pair,), _, _ = match(tmp_path / "p", data)
        assert pair.reference == data / "labelsTr" / "heart_01.nii.gz"
        assert pair.image == data / "imagesTr" / "heart_01_0000.nii.gz"

    def test_a_case_list(self, tmp_path):
        write_labels_of(tmp_path / "truth", "x.nii.gz", labels_of(2, 2, 2))
        write_volume(tmp_path / "scan7.nii.gz", flat_image())
        (tmp_path / "cases.csv").write_text("image,labels,patient,phase\nscan7.nii.gz,truth/x.nii.gz,anna,ES\n")
        write_labels_of(tmp_path / "p", "scan7.nrrd", labels_of(2, 2, 2))
        (pair,), _, _ = match(tmp_path / "p" / "scan7.nrrd", tmp_path / "cases.csv")
        assert (pair.reference.name, pair.image.name, pair.patient, pair.phase) == (
            "x.nii.gz",
            "scan7.nii.gz",
            "anna",
            "ES",
        )

    def test_labels_in_a_case_list_are_references_whatever_the_role(self, tmp_path):
        write_volume(tmp_path / "cine_4d.nii.gz", flat_image())
        rows = ["image,labels,role,frame,name"]
        for name, role in (("a", "unlabeled"), ("b", ""), ("c", "ignore"), ("d", "validation")):
            write_labels_of(tmp_path / "truth", f"{name}.nii.gz", labels_of(2, 2, 2))
            write_volume(tmp_path / f"{name}.nii.gz", flat_image())
            write_labels_of(tmp_path / "p", f"{name}.nii.gz", labels_of(2, 2, 2))
            rows.append(f"{name}.nii.gz, ./truth/{name}.nii.gz,{role},,")
        rows += ["cine_4d.nii.gz,truth/a.nii.gz,unlabeled,3,anna", "cine_4d.nii.gz,,unlabeled,4,"]
        write_labels_of(tmp_path / "p", "anna.nii.gz", labels_of(2, 2, 2))
        write_labels_of(tmp_path / "p", "cine_frame05.nii.gz", labels_of(2, 2, 2))
        (tmp_path / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        pairs, unmatched, missing = match(tmp_path / "p", tmp_path / "cases.csv")
        assert [(pair.case, pair.reference.name, pair.frame) for pair in pairs] == [
            ("a", "a.nii.gz", None), ("anna", "a.nii.gz", 3), ("b", "b.nii.gz", None), ("c", "c.nii.gz", None),
            ("d", "d.nii.gz", None),
        ]  # fmt: skip
        assert [path.name for path in unmatched] == ["cine_frame05.nii.gz"]
        assert missing == []

    def test_references_without_segmentation_are_named_once(self, tmp_path):
        rows = ["image,labels,name"]
        for name, patient in (("scan1", "anna"), ("scan2", "bob")):
            write_volume(tmp_path / f"{name}.nii.gz", flat_image())
            write_labels_of(tmp_path / "truth", f"{name}.nii.gz", labels_of(2, 2, 2))
            rows.append(f"{name}.nii.gz,truth/{name}.nii.gz,{patient}")
        (tmp_path / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        write_labels_of(tmp_path / "p", "scan1.nii.gz", labels_of(2, 2, 2))
        _, _, missing = match(tmp_path / "p", tmp_path / "cases.csv")
        assert [case.name for case in missing] == ["bob"]

    def test_labels_that_lost_their_image_do_not_spoil_the_others(self, study):
        (study[1] / "patient001" / "patient001_frame12.nii.gz").unlink()
        pairs, _, _ = match(study[0], study[1])
        assert len(pairs) == 4
        assert all(pair.reference.name.endswith("_gt.nii.gz") for pair in pairs)

    def test_a_mistake_in_a_case_list_is_told(self, study):
        (study[1] / "list.csv").write_text("picture,labels\na.nii.gz,b.nii.gz\n")
        with pytest.raises(UserError, match="image"):
            match(study[0], study[1] / "list.csv")

    def test_a_mistake_in_the_case_list_of_a_folder_is_told(self, study):
        (study[1] / "cases.csv").write_text("image,labels,role\na.nii.gz,b.nii.gz,labelled\n")
        with pytest.raises(UserError, match="Did you mean 'labeled'"):
            match(study[0], study[1])

    def test_references_of_one_file_name_are_told_apart_by_their_folders(self, tmp_path):
        for folder in ("anna", "bob"):
            write_volume(tmp_path / "r" / folder / "sax.nii.gz", flat_image())
            write_labels_of(tmp_path / "r" / folder, "sax_gt.nii.gz", labels_of(2, 2, 2))
        write_labels_of(tmp_path / "p", "anna_sax.nii.gz", labels_of(2, 2, 2))
        write_labels_of(tmp_path / "p", "sax.nii.gz", labels_of(2, 2, 2))  # whose?
        pairs, unmatched, _ = match(tmp_path / "p", tmp_path / "r")
        (pair,) = pairs
        assert (pair.case, pair.patient, pair.reference.parent.name) == ("anna_sax", "anna_sax", "anna")
        assert [path.name for path in unmatched] == ["sax.nii.gz"]

    def test_confidence_maps_are_no_segmentations(self, study):
        write_volume(study[0] / "patient001_frame01_confidence.nii.gz", flat_image())
        pairs, unmatched, _ = match(study[0], study[1])
        assert len(pairs) == 4
        assert unmatched == []

    @pytest.mark.skipif(os.name == "nt", reason="links need rights there that not everybody has")
    def test_linked_folders(self, tmp_path):
        for place in ("p", "store"):
            write_labels_of(tmp_path / place, "a.nii.gz", labels_of(1, 1, 1))
        (tmp_path / "r").mkdir()
        (tmp_path / "r" / "anna").symlink_to(tmp_path / "store", target_is_directory=True)
        assert [pair.case for pair in match(tmp_path / "p", tmp_path / "r")[0]] == ["a"]

    def test_nothing_in_common_names_an_example_of_each(self, tmp_path):
        write_labels_of(tmp_path / "p", "a.nii.gz", labels_of(1, 1, 1))
        write_labels_of(tmp_path / "r", "b.nii.gz", labels_of(1, 1, 1))
        with pytest.raises(UserError, match=r"segmentations: such as 'a'; references: such as 'b'"):
            match(tmp_path / "p", tmp_path / "r")

    @pytest.mark.parametrize(("predictions", "reference"), [("nowhere", "r"), ("p", "nowhere")])
    def test_missing_folder(self, tmp_path, predictions, reference):
        write_labels_of(tmp_path / "p", "a.nii.gz", labels_of(1, 1, 1))
        write_labels_of(tmp_path / "r", "a.nii.gz", labels_of(1, 1, 1))
        with pytest.raises(UserError, match="no such file or folder"):
            match(tmp_path / predictions, tmp_path / reference)

    def test_two_files_for_one_case(self, study):
        write_labels_of(study[0] / "again", "patient001_frame01.nrrd", labels_of(1, 1, 1))
        with pytest.raises(UserError, match="two files for one case"):
            match(study[0], study[1])


@pytest.mark.parametrize(
    ("segmented", "reference"),
    [
        ("tab\there.nii.gz", "tab\there_gt.nii.gz"),
        ("two\nlines.nii.gz", "two\nlines_gt.nii.gz"),
        ("a<b>.nii.gz", "a<b>_gt.nii.gz"),
        ("Mu\u0308ller.nii.gz", "M\u00fcller_gt.nii.gz"),
        (" .nii.gz", " _gt.nii.gz"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_references_alone_meet_segmentations_of_any_name(tmp_path, segmented, reference):
    for folder, name in (("results", segmented), ("references", reference)):
        write_volume(tmp_path / folder / name, flat_image())
    pairs, unmatched, missing = match(tmp_path / "results", tmp_path / "references")
    assert (len(pairs), unmatched, missing) == (1, [], [])
