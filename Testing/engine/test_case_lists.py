"""Reading case lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_cases import table, touch
from semicardiac.cases import Case, discover, read_case_list
from semicardiac.errors import UserError


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
