"""Reading case lists."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from semicardiac.base.errors import UserError
from semicardiac.data.cases import Case
from semicardiac.data.discover import discover, read_case_list

from Testing.engine.data.support import table, touch


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
            "image\tlabels\na.nii.gz\ta_gt.nii.gz\n",
            "sep=;\r\nimage;labels\r\na.nii.gz;a_gt.nii.gz\r\n",  # what Excel asks for where commas are decimal
            '\ufeff"sep=|"\nimage|labels\na.nii.gz|a_gt.nii.gz\n',
            "image,labels\ra.nii.gz,a_gt.nii.gz\r",
            "\n\nimage,labels,,\r\na.nii.gz,a_gt.nii.gz,,\n\n",
            '"image","labels"\n"a.nii.gz","a_gt.nii.gz"\n',
            "Image,LABELS,Role\na.nii.gz,a_gt.nii.gz,Labeled\n",
            "image,labels\na.nii.gz,a_gt.nii.gz\u2028\n",
        ],
    )
    def test_tables_as_spreadsheets_write_them(self, tmp_path, text):
        path = self.write(tmp_path, text)
        assert table(read_case_list(path), "name", "labels") == [("a", tmp_path / "a_gt.nii.gz")]

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
    def test_text_that_says_how_it_is_encoded(self, tmp_path, encoding):
        (tmp_path / "cases.csv").write_bytes("image\tpatient\na.nii.gz\tJosé\n".encode(encoding))
        assert table(read_case_list(tmp_path / "cases.csv"), "name", "patient") == [("a", "José")]

    @pytest.mark.skipif(os.sep != "/", reason="backslashes are the separators here")
    def test_paths_written_on_windows(self, tmp_path):
        touch(tmp_path / "anna" / "a.nii.gz", tmp_path / "odd\\name.nii.gz")
        path = self.write(tmp_path, "image\nanna\\a.nii.gz\n.\\b.nii.gz\nodd\\name.nii.gz\n")
        expected = [(tmp_path / name,) for name in ("anna/a.nii.gz", "b.nii.gz", "odd\\name.nii.gz")]
        assert table(read_case_list(path), "image") == expected
        with pytest.raises(UserError, match=r"line 2: C:.data.a.nii.gz lies on a Windows drive"):
            read_case_list(self.write(tmp_path, "image\nC:\\data\\a.nii.gz\n"))

    @pytest.mark.parametrize(("on_disk", "in_list"), [("NFD", "NFC"), ("NFC", "NFD")])
    def test_names_in_another_form_of_unicode(self, tmp_path, on_disk, in_list):
        file = tmp_path / unicodedata.normalize(on_disk, "Zoë") / unicodedata.normalize(on_disk, "é.nii.gz")
        touch(file)
        rows = [f"Zoë/é.nii.gz,{unicodedata.normalize(form, 'José')}" for form in (in_list, "NFC", "NFD")]
        path = self.write(tmp_path, unicodedata.normalize(in_list, "image,patient\n") + "\n".join(rows))
        cases = read_case_list(path)
        assert {case.patient for case in cases} == {"José"}
        assert all(case.image.exists() for case in cases)

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
            ("image,name\na.nii.gz,x\nb.nii.gz,X\n", "the name 'x' stands in more than one row"),
            ("image,frame\na.nii.gz,\N{SUPERSCRIPT TWO}\n", "line 2: frame: got"),
            (f"image,phase\na.nii.gz,{'x' * 4000}\n", r"line 2: phase: got 'X{59}: "),
            (f"image,frame\na.nii.gz,{'9' * 5000}\n", "line 2: the cell in the column 'frame' holds 5,000 letters"),
            (f"image,patient\na.nii.gz,{'x' * 140_000}\n", r"line 2: this table cannot be read \(field larger"),
            ('image,labels\n"a.nii.gz,x\nb.nii.gz,y\n', "cannot be read .*See whether a quotation mark is missing"),
            ('image,labels\n"a.nii.gz,x\n"b.nii.gz,y\n', "cannot be read .*See whether a quotation mark is missing"),
            ("image,labels\nmy,scan.nii.gz,x\n", r"line 2: this row has 3 cells, and the head has 2 \(image, labels\)"),
            ("image,labels,labels\na.nii.gz,x,y\n", "line 1: there are two columns 'labels'"),
            ("image,label\na.nii.gz,x\n", "the column 'label' would be left alone, and is nearly called 'labels'"),
            ("image,patient_id\na.nii.gz,x\n", "nearly called 'patient'"),
            ("image,roles\na.nii.gz,ignore\n", "nearly called 'role'"),
            ("image labels\na.nii.gz x\n", "its columns are image labels. Add the column, with commas or semicolons"),
            ("image\na.nii.gz\0\n", "holds NUL bytes"),
        ],
    )
    def test_mistakes_name_the_line(self, tmp_path, text, said):
        with pytest.raises(UserError, match=said) as caught:
            read_case_list(self.write(tmp_path, text))
        assert "cases.csv" in caught.value.where

    @pytest.mark.parametrize(
        "content", [b"image,patient\na.nii.gz,M\xfcller\n", b"\xff\xfe\x00image!", b"\x1f\x8b\x08"]
    )
    def test_a_list_that_is_no_text(self, tmp_path, content):
        (tmp_path / "cases.csv").write_bytes(content)
        with pytest.raises(UserError, match="UTF-8"):
            read_case_list(tmp_path / "cases.csv")

    def test_data_listed_in_json(self, tmp_path):
        (tmp_path / "datalist.json").write_text('{"training": [{"image": "a.nii.gz", "label": "b.nii.gz"}]}')
        with pytest.raises(UserError, match=r"not listed in JSON here.*case list \(.csv\)"):
            discover([tmp_path / "datalist.json"])
