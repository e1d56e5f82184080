"""Finding cases by the names of files: layouts of public data sets."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from semicardiac.base.errors import UserError
from semicardiac.data.cases import load_image
from semicardiac.data.discover import discover
from semicardiac.images.volumes import Volume, write_series

from Testing.engine.data.support import DATA, table, touch


class TestAcdcLayout:
    def acdc(self, folder: Path, *, patients: tuple[int, ...] = (1, 2)) -> Path:
        for number in patients:
            name = f"patient{number:03d}"
            files = ["4d", "frame01", "frame01_gt", "frame12", "frame12_gt"]
            touch(*(folder / name / f"{name}_{ending}.nii.gz" for ending in files))
        return folder

    def test_labels_patients_and_phases(self, tmp_path):
        cases = discover([self.acdc(tmp_path)])
        assert table(cases, "name", "patient", "phase", "frame", "role") == [
            ("patient001_frame01", "patient001", "ED", None, "labeled"),
            ("patient001_frame12", "patient001", "ES", None, "labeled"),
            ("patient002_frame01", "patient002", "ED", None, "labeled"),
            ("patient002_frame12", "patient002", "ES", None, "labeled"),
        ]
        assert cases[1].labels == tmp_path / "patient001" / "patient001_frame12_gt.nii.gz"

    @pytest.mark.parametrize("text", ["ED: 12\nES: 1\nGroup: DCM\n", "Group: NOR\r\nED = 12\r\nES = 1\r\n"])
    def test_info_cfg_decides_on_the_phase(self, tmp_path, text):
        self.acdc(tmp_path, patients=(1,))
        (tmp_path / "patient001" / "Info.cfg").write_text(text)
        assert table(discover([tmp_path]), "name", "phase") == [
            ("patient001_frame01", "ES"),
            ("patient001_frame12", "ED"),
        ]

    def test_a_table_beside_the_patients_decides_on_the_phase(self, tmp_path):
        self.acdc(tmp_path, patients=(1,))
        (tmp_path / "cases.csv").write_text(
            "case,patient,phase\npatient001_frame01,patient001,ES\npatient001_frame12,x,ED\n"
        )
        assert table(discover([tmp_path]), "phase") == [("ES",), ("ED",)]

    def test_a_table_that_has_changed_is_read_again(self, tmp_path):
        self.acdc(tmp_path, patients=(1,))
        for first, second in (("ED", "ES"), ("ES", "ED")):
            rows = f"patient001_frame01,{first}\npatient001_frame12,{second}\n"
            (tmp_path / "cases.csv").write_text(f"case,phase\n{rows}", encoding="utf-8")
            assert table(discover([tmp_path]), "phase") == [(first,), (second,)]

    def test_a_table_with_semicolons(self, tmp_path):
        self.acdc(tmp_path, patients=(1,))
        (tmp_path / "cases.csv").write_text("case; phase\npatient001_frame01; ES\npatient001_frame12; ED\n")
        assert table(discover([tmp_path]), "phase") == [("ES",), ("ED",)]

    def test_more_than_two_frames_have_no_phase(self, tmp_path):
        self.acdc(tmp_path, patients=(1,))
        touch(tmp_path / "patient001" / "patient001_frame07.nii.gz")
        assert table(discover([tmp_path]), "phase", "role") == [
            (None, "labeled"),
            (None, "unlabeled"),
            (None, "labeled"),
        ]

    def test_a_cine_without_frames_gives_the_frames_of_info_cfg(self, tmp_path):
        touch(tmp_path / "patient101" / "patient101_4d.nii.gz")
        (tmp_path / "patient101" / "Info.cfg").write_text("ED: 1\nES: 14\n")
        assert table(discover([tmp_path]), "name", "patient", "phase", "frame", "role") == [
            ("patient101_frame01", "patient101", "ED", 0, "unlabeled"),
            ("patient101_frame14", "patient101", "ES", 13, "unlabeled"),
        ]

    def test_a_cine_without_anything_gives_all_its_frames(self, tmp_path):
        frames = [Volume(np.full((2, 3, 3), index, np.uint8), np.eye(4)) for index in range(3)]
        write_series(tmp_path / "patient101" / "patient101_4d.nii.gz", frames)
        cases = discover([tmp_path])
        assert table(cases, "name", "frame") == [(f"patient101_frame0{index + 1}", index) for index in range(3)]
        assert [int(load_image(case).array.max()) for case in cases] == [0, 1, 2]

    def test_hidden_files_are_left_alone(self, tmp_path):
        self.acdc(tmp_path, patients=(1,))
        touch(tmp_path / "patient001" / "._patient001_frame01.nii.gz", tmp_path / ".cache" / "x.nii.gz")
        assert len(discover([tmp_path])) == 2


class TestOtherLayouts:
    def test_mmwhs(self, tmp_path):
        for name in ("mr_train_1001", "ct_train_1001"):
            touch(tmp_path / f"{name[:8]}" / f"{name}_image.nii.gz", tmp_path / f"{name[:8]}" / f"{name}_label.nii.gz")
        touch(tmp_path / "mr_test" / "mr_test_2001_image.nii.gz")
        assert sorted(table(discover([tmp_path]), "name", "patient", "role")) == [
            ("ct_train_1001", "ct_train_1001", "labeled"),
            ("mr_test_2001", "mr_test_2001", "unlabeled"),
            ("mr_train_1001", "mr_train_1001", "labeled"),
        ]

    def nnunet(self, folder: Path) -> Path:
        touch(
            folder / "imagesTr" / "patient001_frame01_0000.nii.gz",
            folder / "imagesTr" / "patient002_frame01_0000.nii.gz",
            folder / "labelsTr" / "patient001_frame01.nii.gz",
            folder / "imagesTs" / "patient003_frame01_0000.nii.gz",
        )
        (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "cine"}, "labels": {"background": 0}}))
        return folder

    def test_nnunet(self, tmp_path):
        cases = discover([self.nnunet(tmp_path)])
        assert table(cases, "name", "patient", "role") == [
            ("patient001_frame01", "patient001", "labeled"),
            ("patient002_frame01", "patient002", "unlabeled"),
        ]
        assert cases[0].labels == tmp_path / "labelsTr" / "patient001_frame01.nii.gz"

    def test_phases_in_nnunet_layout(self, tmp_path):
        touch(*(tmp_path / "imagesTr" / f"patient001_{frame}_0000.nii.gz" for frame in ("frame01", "frame12")))
        assert table(discover([tmp_path]), "phase") == [("ED",), ("ES",)]

    def test_nnunet_with_several_channels(self, tmp_path):
        self.nnunet(tmp_path)
        (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "T1", "1": "T2"}}))
        with pytest.raises(UserError, match="2 channels"):
            discover([tmp_path])
        (tmp_path / "dataset.json").unlink()
        touch(tmp_path / "imagesTr" / "patient001_frame01_0001.nii.gz")
        with pytest.raises(UserError, match="channel 0001"):
            discover([tmp_path])

    @pytest.mark.parametrize("description", [[1], "text", 3])
    def test_a_description_that_is_none(self, tmp_path, description):
        self.nnunet(tmp_path)
        (tmp_path / "dataset.json").write_text(json.dumps(description))
        with pytest.raises(UserError, match="not the description of a data set"):
            discover([tmp_path])

    @pytest.mark.parametrize("channels", ["MRI", ["MRI"], {"0": "MRI"}, None])
    def test_one_channel_however_it_is_written(self, tmp_path, channels):
        self.nnunet(tmp_path)
        (tmp_path / "dataset.json").write_text(json.dumps({"modality": channels}), encoding="utf-8-sig")
        assert len(discover([tmp_path])) == 2

    def test_four_digits_that_tell_patients(self, tmp_path):
        touch(tmp_path / "imagesTr" / "mr_train_1001.nii.gz", tmp_path / "labelsTr" / "mr_train_1001.nii.gz")
        assert table(discover([tmp_path]), "name", "role") == [("mr_train_1001", "labeled")]

    @pytest.mark.skipif(os.name == "nt", reason="no name holds a line end there")
    def test_a_name_with_a_line_end(self, tmp_path):
        touch(tmp_path / "imagesTr" / "first\nsecond_0000.nii.gz", tmp_path / "labelsTr" / "first\nsecond.nii.gz")
        assert table(discover([tmp_path]), "name", "role") == [("first_second", "labeled")]

    def test_nnunet_labels_without_image(self, tmp_path):
        self.nnunet(tmp_path)
        touch(tmp_path / "labelsTr" / "other.nii.gz")
        with pytest.raises(UserError, match="other_0000"):
            discover([tmp_path])

    @pytest.mark.parametrize(
        "labels", ["a_gt.nii.gz", "a_seg.nrrd", "a-label.nrrd", "a_mask.mha", "a_Labels.nii", "a.seg.nrrd"]
    )
    def test_labels_beside_an_image(self, tmp_path, labels):
        touch(tmp_path / "a.nii.gz", tmp_path / labels, tmp_path / "b.mha", tmp_path / "notes.txt")
        assert table(discover([tmp_path]), "name", "labels", "role") == [
            ("a", tmp_path / labels, "labeled"),
            ("b", None, "unlabeled"),
        ]

    def test_phase_in_a_name(self, tmp_path):
        touch(tmp_path / "SC-HF-I-01_ED.nii.gz", tmp_path / "SC-HF-I-01_es.nii.gz")
        assert table(discover([tmp_path]), "patient", "phase") == [("SC-HF-I-01", "ED"), ("SC-HF-I-01", "ES")]

    def test_dicom_folders(self, tmp_path):
        touch(tmp_path / "ann" / "1.dcm", tmp_path / "ann" / "2.dcm", tmp_path / "bob" / "1.IMA", tmp_path / "c.nrrd")
        assert sorted(table(discover([tmp_path]), "name", "image")) == [
            ("ann", tmp_path / "ann"),
            ("bob", tmp_path / "bob"),
            ("c", tmp_path / "c.nrrd"),
        ]

    def test_dicom_folders_named_by_the_phase_alone(self, tmp_path):
        touch(tmp_path / "ann" / "ED" / "1.dcm", tmp_path / "ann" / "ES" / "1.dcm")
        assert table(discover([tmp_path]), "name", "patient", "phase") == [
            ("ann_ED", "ann", "ED"),
            ("ann_ES", "ann", "ES"),
        ]

    def test_the_folder_that_one_is_in(self, tmp_path, monkeypatch):
        touch(tmp_path / "ann" / "1.dcm", tmp_path / "bob" / "ES.nii.gz")
        for name in ("ann", "bob"):
            monkeypatch.chdir(tmp_path / name)
            assert table(discover([Path()]), "patient") == [(name,)]

    def test_files(self, tmp_path):
        paths = [tmp_path / name for name in ("b.nii.gz", "b_gt.nii.gz", "a.nrrd")]
        touch(*paths)
        assert table(discover(paths), "name", "role") == [("b", "labeled"), ("a", "unlabeled")]

    def test_names_that_repeat_get_their_folder(self, tmp_path):
        paths = [tmp_path / "x" / "img.nii.gz", tmp_path / "y" / "img.nii.gz", tmp_path / "z.nii.gz"]
        touch(*paths)
        assert table(discover(paths), "name") == [("x_img",), ("y_img",), ("z",)]
        assert table(discover([paths[0], tmp_path / "x"]), "name") == [("x_img",), ("x_img_2",)]

    def test_patients_of_one_name_are_not_merged(self, tmp_path):
        names = ["patient001_frame01", "patient001_frame12", "patient002_frame01"]
        touch(*(tmp_path / "lyon" / name[:10] / f"{name}.nii.gz" for name in names))
        touch(tmp_path / "oslo" / "patient001" / "patient001_frame01.nii.gz")
        assert sorted(table(discover([tmp_path]), "name", "patient", "phase")) == [
            ("lyon_patient001_frame01", "lyon_patient001", "ED"),
            ("lyon_patient001_frame12", "lyon_patient001", "ES"),
            ("oslo_patient001_frame01", "oslo_patient001", None),
            ("patient002_frame01", "patient002", None),
        ]

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            (["anna/sa_ED", "anna/sa_ES", "bob/sa_ED"], [("anna_sa", "ED"), ("anna_sa", "ES"), ("bob_sa", "ED")]),
            (["ED/anna", "ED/bob", "ES/anna"], [("anna", "ED"), ("anna", "ES"), ("bob", None)]),
            (["anna/ED", "anna/ES", "bob/ED"], [("anna", "ED"), ("anna", "ES"), ("bob", "ED")]),
            (["anna/frame01", "anna/frame09"], [("anna", "ED"), ("anna", "ES")]),
        ],
    )
    def test_volumes_of_a_patient_stay_together_whatever_tells_who_it_is(self, tmp_path, files, expected):
        touch(*(tmp_path / f"{name}.nii.gz" for name in files))
        assert sorted(table(discover([tmp_path]), "patient", "phase"), key=str) == expected

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            (
                ["sub-01_ses-01_cine", "sub-01_ses-02_run-1_cine", "sub-02_ses-01_cine"],
                {"sub-01_ses-01_cine": "sub-01", "sub-01_ses-02_run-1_cine": "sub-01", "sub-02_ses-01_cine": "sub-02"},
            ),
            (
                ["sub-01/ses-01/cine", "sub-01/ses-02/cine"],
                {"sub-01_ses-01_cine": "sub-01", "sub-01_ses-02_cine": "sub-01"},
            ),
            (["sub-01/anat/x", "sub-02/anat/x"], {"sub-01_anat_x": "sub-01", "sub-02_anat_x": "sub-02"}),
            (
                ["sub-01/anat/sub-01_x", "sub-01/func/sub-01_x"],
                {"anat_sub-01_x": "sub-01", "func_sub-01_x": "sub-01"},
            ),
            (
                ["A/sub-01/ses-1/sub-01_ses-1_x", "A/sub-01/ses-2/sub-01_ses-2_x", "B/sub-01/ses-1/sub-01_ses-1_x"],
                {"A_sub-01_ses-1_x": "A_sub-01", "A_sub-01_ses-2_x": "A_sub-01", "B_sub-01_ses-1_x": "B_sub-01"},
            ),
            (["A/sub-01_x", "B/sub-01_x"], {"A_sub-01_x": "A_sub-01", "B_sub-01_x": "B_sub-01"}),
            (
                ["sub-anna_ses-1_x", "sub-anna_ses-2_x"],
                {"sub-anna_ses-1_x": "sub-anna", "sub-anna_ses-2_x": "sub-anna"},
            ),
            (["sub-acute_001", "sub-set2/p1"], {"sub-acute_001": "sub-acute_001", "p1": "p1"}),  # not BIDS
        ],
    )
    def test_a_subject_of_bids_is_one_patient(self, tmp_path, files, expected):
        touch(*(tmp_path / f"{name}.nii.gz" for name in files))
        assert dict(table(discover([tmp_path]), "name", "patient")) == expected

    def test_frames_of_sessions_are_not_mixed(self, tmp_path):
        names = [f"sub-01_ses-{session}_frame{frame}" for session in "12" for frame in ("01", f"1{session}")]
        touch(*(tmp_path / f"{name}.nii.gz" for name in names))
        assert table(discover([tmp_path]), "patient", "phase") == [("sub-01", "ED"), ("sub-01", "ES")] * 2

    def test_a_cine_and_the_frames_of_another_session(self, tmp_path):
        frames = [Volume(np.zeros((2, 3, 3), np.uint8), np.eye(4))] * 2
        write_series(tmp_path / "sub-01_ses-1_4d.nii.gz", frames)
        touch(tmp_path / "sub-01_ses-2_frame01.nii.gz")
        names = ["sub-01_ses-1_frame01", "sub-01_ses-1_frame02", "sub-01_ses-2_frame01"]
        assert table(discover([tmp_path]), "name") == [(name,) for name in names]

    def test_a_cine_beside_its_own_frames_is_left_out_in_bids_too(self, tmp_path):
        touch(*(tmp_path / f"sub-01_ses-1_{ending}.nii.gz" for ending in ("4d", "frame01", "frame12")))
        assert table(discover([tmp_path]), "name") == [("sub-01_ses-1_frame01",), ("sub-01_ses-1_frame12",)]

    def test_files_that_differ_in_upper_case_alone(self, tmp_path):
        touch(tmp_path / "x" / "A.nii.gz", tmp_path / "y" / "a.nii.gz")
        names = [name.casefold() for (name,) in table(discover([tmp_path]), "name")]
        assert len(set(names)) == 2

    def test_a_folder_named_twice_is_no_second_patient(self, tmp_path):
        touch(
            tmp_path / "patient001" / "patient001_frame01.nii.gz", tmp_path / "patient001" / "patient001_frame09.nii.gz"
        )
        assert {case.patient for case in discover([tmp_path, tmp_path])} == {"patient001"}

    @pytest.mark.parametrize(
        ("files", "said"),
        [
            ([], "holds no volumes"),
            (["readme.txt"], "no DICOM series"),
            (["a_gt.nii.gz", "b.nii.gz"], "An image named a is expected"),
            (["a.nii.gz", "a.nrrd"], "are both images of 'a'"),
            (["a.nii.gz", "a_gt.nii.gz", "a_seg.nrrd"], "are both labels of 'a'"),
        ],
    )
    def test_folders_that_make_no_sense(self, tmp_path, files, said):
        touch(*(tmp_path / name for name in files))
        with pytest.raises(UserError, match=said):
            discover([tmp_path])

    def test_a_path_that_is_not_there(self, tmp_path):
        with pytest.raises(UserError, match="no such file or folder"):
            discover([tmp_path / "away"])

    def test_a_file_that_is_no_volume(self, tmp_path):
        touch(tmp_path / "a.png")
        with pytest.raises(UserError, match="not a volume file"):
            discover([tmp_path / "a.png"])


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real volumes at {DATA}")
class TestRealFolders:
    def test_acdc_phases_are_those_of_its_table(self):
        with open(DATA / "acdc" / "cases.csv", newline="") as file:
            expected = {row["case"]: (row["patient"], row["phase"]) for row in csv.DictReader(file)}
        cases = discover([DATA / "acdc"])
        assert {case.name: (case.patient, case.phase) for case in cases} == expected
        assert all(case.role == "labeled" for case in cases)

    @pytest.mark.parametrize(("folder", "count", "with_labels"), [("scd", 32, 32), ("la", 8, 8), ("extras/mnms", 4, 0)])
    def test_the_other_folders(self, folder, count, with_labels):
        cases = discover([DATA / folder])
        assert len(cases) == count
        assert sum(case.labels is not None for case in cases) == with_labels
