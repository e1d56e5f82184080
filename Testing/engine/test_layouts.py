"""Finding cases in folders and case lists."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers_cases import DATA, table
from semicardiac.cases import Case, discover, load_image, read_case_list
from semicardiac.errors import UserError
from semicardiac.events import EventLog, Result
from semicardiac.volumes import Volume, write_series


def touch(*paths: Path) -> None:
    """Files of these names: finding cases looks at names alone."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


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


class TestLabelsInAFolderOfTheirOwn:
    @pytest.mark.parametrize(
        ("image", "labels"),
        [
            ("images/a.nii.gz", "labels/a.nii.gz"),
            ("images/a.nii.gz", "masks/a_mask.nrrd"),
            ("img/images/a_image.nii.gz", "img/segmentations/a_image.nii.gz"),
            ("imagesTs/a.nii.gz", "labelsTs/a.nii.gz"),
            ("a.nii.gz", "labels/a.nii.gz"),
            ("images/anna/a.nii.gz", "labels/anna/a.seg.nrrd"),
            ("train/images/a.nii.gz", "train/labels/a.nii.gz"),
        ],
    )
    def test_pairs(self, tmp_path, image, labels):
        touch(tmp_path / image, tmp_path / labels, tmp_path / "unlabeled" / "b.nii.gz", tmp_path / "labeled" / "c.nrrd")
        assert sorted(table(discover([tmp_path]), "image", "labels"), key=str) == sorted(
            [
                (tmp_path / image, tmp_path / labels),
                (tmp_path / "unlabeled" / "b.nii.gz", None),
                (tmp_path / "labeled" / "c.nrrd", None),
            ],
            key=str,
        )

    def test_the_parts_of_a_data_set_are_not_mixed_up(self, tmp_path):
        touch(
            tmp_path / "images_a" / "x.nii.gz", tmp_path / "images_b" / "x.nii.gz", tmp_path / "labels_b" / "x.nii.gz"
        )
        assert table(discover([tmp_path]), "name", "role") == [("images_a_x", "unlabeled"), ("images_b_x", "labeled")]

    def test_as_files(self, tmp_path):
        paths = [tmp_path / "images" / "a.nii.gz", tmp_path / "labels" / "a.nii.gz"]
        touch(*paths)
        assert table(discover(paths), "image", "labels") == [tuple(paths)]

    def test_labels_are_never_images(self, tmp_path):
        touch(tmp_path / "images" / "a.nii.gz", tmp_path / "labels" / "b.nii.gz")
        with pytest.raises(UserError, match="An image named b is expected"):
            discover([tmp_path])

    def test_labels_in_two_places(self, tmp_path):
        touch(*(tmp_path / name for name in ("images/a.nii.gz", "images/a_gt.nii.gz", "labels/a.nii.gz")))
        with pytest.raises(UserError, match="are both labels of 'a'"):
            discover([tmp_path])

    def test_what_the_folder_itself_is_called_does_not_count(self, tmp_path):
        touch(tmp_path / "labels" / "data" / "a.nii.gz")
        assert table(discover([tmp_path / "labels" / "data"]), "name") == [("a",)]

    def test_data_sets_of_nnunet_in_a_folder(self, tmp_path):
        for name in ("Dataset001", "Dataset002"):
            touch(
                *(tmp_path / name / file for file in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b.nii"))
            )
        assert table(discover([tmp_path]), "name", "labels") == [
            (f"Dataset00{number}_imagesTr_a", tmp_path / f"Dataset00{number}" / "labelsTr" / "a.nii.gz")
            for number in (1, 2)
        ]


class TestWhatTheEngineWrote:
    def job(self, folder: Path, kind: str, *results: str) -> None:
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps({"format": 1, "kind": kind}), encoding="utf-8")
        log = EventLog(folder / "events.jsonl")
        for path in results:
            log.emit(Result(kind="segmentation", path=path))

    @pytest.mark.parametrize("kind", ["train", "segment", "evaluate"])
    def test_folders_of_jobs(self, tmp_path, kind):
        touch(tmp_path / "a.nii.gz", tmp_path / "runs" / "first" / "seed1" / "x.nii.gz")
        (tmp_path / "runs" / "first" / "job.json").write_text(json.dumps({"kind": kind}), encoding="utf-8")
        assert table(discover([tmp_path]), "name") == [("a",)]

    def test_a_job_that_is_none_of_ours(self, tmp_path):
        touch(tmp_path / "a" / "a.nii.gz")
        (tmp_path / "a" / "job.json").write_text('{"scanner": 3}', encoding="utf-8")
        assert table(discover([tmp_path]), "name") == [("a",)]

    def test_results_beside_the_job(self, tmp_path):
        self.job(tmp_path / "results" / "segment-job", "segment", "../a.nii.gz", "../b_frame01.seg.nrrd")
        results = tmp_path / "results"
        touch(tmp_path / "a.nii.gz", results / "a.nii.gz", results / "b_frame01.seg.nrrd", results / "new.nii.gz")
        assert table(discover([tmp_path]), "image") == [(tmp_path / "a.nii.gz",), (results / "new.nii.gz",)]

    def test_results_far_from_the_job_and_among_the_images(self, tmp_path):
        self.job(tmp_path / "jobs" / "one", "segment", str(tmp_path / "a.nrrd"))
        touch(tmp_path / "a.nii.gz", tmp_path / "a.nrrd")
        assert table(discover([tmp_path]), "image") == [(tmp_path / "a.nii.gz",)]

    def test_a_segmentation_beside_its_image_may_have_been_corrected(self, tmp_path):
        self.job(tmp_path / "segment-job", "segment", "../a.seg.nrrd")
        touch(tmp_path / "a.nii.gz", tmp_path / "a.seg.nrrd")
        assert table(discover([tmp_path]), "labels") == [(tmp_path / "a.seg.nrrd",)]

    def test_maps(self, tmp_path):
        maps = [f"a_{kind}.nii.gz" for kind in ("confidence", "entropy", "threshold", "pseudo_labels")]
        touch(*(tmp_path / name for name in ("a.nii.gz", *maps)))
        assert table(discover([tmp_path]), "name", "role") == [("a", "unlabeled")]

    def test_nothing_but_results(self, tmp_path):
        self.job(tmp_path / "segment-job", "segment", "../a.nii.gz")
        touch(tmp_path / "a.nii.gz")
        with pytest.raises(UserError, match="holds no volumes"):
            discover([tmp_path])


@pytest.mark.skipif(os.name == "nt", reason="links need rights there that not everybody has")
class TestLinks:
    def test_patients_elsewhere(self, tmp_path):
        touch(tmp_path / "store" / "anna" / "anna_ED.nii.gz", tmp_path / "store" / "anna" / "anna_ED_gt.nii.gz")
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "anna").symlink_to(tmp_path / "store" / "anna", target_is_directory=True)
        assert table(discover([tmp_path / "data"]), "patient", "role", "image") == [
            ("anna", "labeled", tmp_path / "data" / "anna" / "anna_ED.nii.gz")
        ]

    def test_loops_and_folders_that_come_twice(self, tmp_path):
        touch(tmp_path / "anna" / "a.nii.gz")
        (tmp_path / "anna" / "loop").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "twin").symlink_to(tmp_path / "anna", target_is_directory=True)
        assert table(discover([tmp_path]), "name") == [("a",)]


class TestCaseList:
    def write(self, folder: Path, text: str, name: str = "cases.csv") -> Path:
        (folder / name).write_bytes(text.encode("utf-8"))
        return folder / name

    def test_all_columns(self, tmp_path):
        path = self.write(
            tmp_path,
            "image,labels,patient,role,phase,frame,name,roi,remark\n"
            'img/a.nii.gz,gt/a.nii.gz,Ann,validation,es,3,Ann-ES,"-1 1 -2.5 2 0 90",late\n'
            "/abs/b.nii.gz,,Bob,,,,,,\n",
        )
        assert read_case_list(path) == [
            Case(
                name="Ann-ES",
                patient="Ann",
                image=tmp_path / "img" / "a.nii.gz",
                labels=tmp_path / "gt" / "a.nii.gz",
                frame=3,
                phase="ES",
                role="validation",
                roi=(-1, 1, -2.5, 2, 0, 90),
            ),
            Case(name="b", patient="Bob", image=Path("/abs/b.nii.gz")),
        ]

    def test_what_is_not_said_comes_from_the_name(self, tmp_path):
        path = self.write(tmp_path, "image,labels\nx/patient001_frame01.nii.gz,y.nii.gz\n../p2_ES.nrrd,\n")
        assert table(read_case_list(path), "name", "patient", "phase", "role", "image") == [
            ("patient001_frame01", "patient001", None, "labeled", tmp_path / "x" / "patient001_frame01.nii.gz"),
            ("p2_ES", "p2", "ES", "unlabeled", tmp_path.parent / "p2_ES.nrrd"),
        ]

    @pytest.mark.parametrize(
        "text",
        [
            "image;labels\na.nii.gz;a_gt.nii.gz\n",  # Excel in much of Europe
            "\ufeffimage,labels\r\na.nii.gz,a_gt.nii.gz\r\n",  # Excel elsewhere
            " image , labels \na.nii.gz, a_gt.nii.gz\n\n,\n",
        ],
    )
    def test_tables_as_spreadsheets_write_them(self, tmp_path, text):
        path = self.write(tmp_path, text)
        assert table(read_case_list(path), "name", "labels") == [("a", tmp_path / "a_gt.nii.gz")]

    def test_frames_of_one_file_get_names(self, tmp_path):
        path = self.write(tmp_path, "image,frame\ncine.nii.gz,0\ncine.nii.gz,7\n")
        assert table(read_case_list(path), "name", "frame") == [("cine_frame01", 0), ("cine_frame08", 7)]

    def test_frames_of_a_cine_are_called_as_in_its_folder(self, tmp_path):
        path = self.write(tmp_path, "image,frame\npatient101_4d.nii.gz,0\npatient101_4d.nii.gz,13\n")
        assert table(read_case_list(path), "name", "patient") == [
            ("patient101_frame01", "patient101"),
            ("patient101_frame14", "patient101"),
        ]

    def test_files_of_one_name_are_different_patients_unless_the_list_says_who_it_is(self, tmp_path):
        rows = "a/img.nii.gz,\nb/img.nii.gz,\nc/img.nii.gz,carl\nd/img.nii.gz,carl\n"
        path = self.write(tmp_path, f"image,patient\n{rows}")
        expected = [("a_img", "a_img"), ("b_img", "b_img"), ("c_img", "carl"), ("d_img", "carl")]
        assert table(read_case_list(path), "name", "patient") == table(discover([path]), "name", "patient") == expected

    def test_names_of_the_list_stay_and_the_patients_are_told_apart(self, tmp_path):
        path = self.write(tmp_path, "image,name\na/img.nii.gz,x\nb/img.nii.gz,y\n")
        assert table(read_case_list(path), "name", "patient") == [("x", "a_img"), ("y", "b_img")]

    def test_files_named_by_the_phase_alone(self, tmp_path):
        path = self.write(tmp_path, "image\nanna/ED.nii.gz\nanna/ES.nii.gz\n")
        assert table(read_case_list(path), "patient", "phase") == [("anna", "ED"), ("anna", "ES")]

    def test_labels_of_an_unlabeled_case_stay_hidden(self, tmp_path):
        path = self.write(tmp_path, "image,labels,role\na.nii.gz,a_gt.nii.gz,unlabeled\n")
        assert read_case_list(path)[0].labels is None

    def test_a_folder_with_a_list_is_what_the_list_says(self, tmp_path):
        touch(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
        self.write(tmp_path, "name,image\nonly,a.nii.gz\n")
        assert table(discover([tmp_path]), "name") == [("only",)]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("case,phase\na,ED\n", "no column 'image'; its columns are case, phase"),
            ("", "its columns are none"),
            ("image\n", "is empty"),
            ("image,role\na.nii.gz,labelled\n", r"line 2: there is no role 'labelled'. Did you mean 'labeled'"),
            ("image,patient\na.nii.gz,x\n,y\n", "line 3: this row names no image"),
            ("image,frame\na.nii.gz,two\n", "line 2: frame: got 'two'"),
            ("image,phase\na.nii.gz,mid\n", "line 2: phase: got 'MID'"),
            ("image,roi\na.nii.gz,1 2 3\n", "line 2: roi"),
            ("image,name\na.nii.gz,x\nb.nii.gz,x\n", "the name 'x' stands in more than one row"),
            ("image,name\na.nii.gz,x/y\n", "line 2: name: got 'x/y'"),
        ],
    )
    def test_mistakes_name_the_line(self, tmp_path, text, said):
        with pytest.raises(UserError, match=said) as caught:
            read_case_list(self.write(tmp_path, text))
        assert "cases.csv" in caught.value.where

    def test_a_list_that_is_no_text(self, tmp_path):
        (tmp_path / "cases.csv").write_bytes(b"\xff\xfe\x00image")
        with pytest.raises(UserError, match="UTF-8"):
            read_case_list(tmp_path / "cases.csv")


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
