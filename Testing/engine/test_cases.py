"""Finding cases in folders and lists, and giving them roles."""

from __future__ import annotations

import csv
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from helpers import SHARED_DATA
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from semicardiac import protocols
from semicardiac.cases import Case, discover, load_image, load_labels, read_case_list, split
from semicardiac.errors import UserError
from semicardiac.labels import get_label_set
from semicardiac.volumes import Volume, write_labels, write_series, write_volume

DATA = Path(os.environ.get("SEMICARDIAC_DATA", SHARED_DATA))


def touch(*paths: Path) -> None:
    """Files of these names: finding cases looks at names alone."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def table(cases: list[Case], *fields: str) -> list[tuple]:
    return [tuple(getattr(case, field) for field in fields) for case in cases]


def make_case(name: str, patient: str | None = None, **more) -> Case:
    return Case(name=name, patient=patient or name, image=Path(f"{name}.nii.gz"), **more)


def labeled(name: str, patient: str | None = None, **more) -> Case:
    return make_case(name, patient, labels=Path(f"{name}_gt.nii.gz"), role="labeled", **more)


class TestCase:
    def test_an_unlabeled_case_has_no_labels(self):
        case = Case(name="a", patient="a", image=Path("a.nii.gz"), labels=Path("a_gt.nii.gz"), role="unlabeled")
        assert case.labels is None

    def test_labels_are_lost_on_the_way_to_unlabeled_and_do_not_come_back(self):
        hidden = labeled("a").with_role("unlabeled")
        assert hidden.labels is None
        assert hidden.with_role("labeled").labels is None
        assert labeled("a").with_role("validation").labels == Path("a_gt.nii.gz")

    def test_json_round_trip(self):
        case = labeled("a", roi=(0, 1, 2, 3, 4, 5), phase="ED", frame=3)
        assert Case.model_validate_json(case.model_dump_json()) == case

    @pytest.mark.parametrize(
        "mistake",
        [
            {"name": "a/b"},
            {"name": ".."},
            {"name": ""},
            {"frame": -1},
            {"phase": "MID"},
            {"role": "test"},
            {"roi": (1, 0, 0, 1, 0, 1)},
            {"roi": (0, 1)},
            {"colour": "red"},
        ],
    )
    def test_mistakes(self, mistake):
        with pytest.raises(ValidationError):
            Case.model_validate({"name": "a", "patient": "a", "image": "a.nii.gz"} | mistake)


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

    def test_files(self, tmp_path):
        paths = [tmp_path / name for name in ("b.nii.gz", "b_gt.nii.gz", "a.nrrd")]
        touch(*paths)
        assert table(discover(paths), "name", "role") == [("b", "labeled"), ("a", "unlabeled")]

    def test_names_that_repeat_get_their_folder(self, tmp_path):
        paths = [tmp_path / "x" / "img.nii.gz", tmp_path / "y" / "img.nii.gz", tmp_path / "z.nii.gz"]
        touch(*paths)
        assert table(discover(paths), "name") == [("x_img",), ("y_img",), ("z",)]
        assert table(discover([paths[0], tmp_path / "x"]), "name") == [("x_img",), ("x_img_2",)]

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
        assert table(read_case_list(path), "name", "frame") == [("cine_t00", 0), ("cine_t07", 7)]

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


class TestLoading:
    def test_labels_follow_the_frame(self, tmp_path):
        acdc = get_label_set("acdc")
        frames = [Volume(np.full((2, 3, 3), value, np.uint8), np.eye(4)) for value in (1, 2, 3)]
        for name in ("a.nii.gz", "a_gt.nii.gz"):
            write_series(tmp_path / name, frames)
        case = Case(
            name="a", patient="a", image=tmp_path / "a.nii.gz", labels=tmp_path / "a_gt.nii.gz", frame=1, role="labeled"
        )
        assert load_image(case).array.max() == 2
        assert load_labels(case, acdc).array.max() == 2

    def test_a_segmentation_lands_on_the_grid_of_its_image(self, tmp_path):
        acdc = get_label_set("acdc")
        image = Volume(np.random.default_rng(0).integers(0, 99, (4, 6, 5)).astype(np.int16), np.diag([1.5, 1.5, 8, 1]))
        write_volume(tmp_path / "a.nii.gz", image)
        write_labels(tmp_path / "a.seg.nrrd", image.with_array(np.full((4, 6, 5), 2, np.uint8)), acdc)
        (case,) = discover([tmp_path])
        assert load_labels(case, acdc).array.shape == (4, 6, 5)

    def test_a_case_without_labels(self):
        with pytest.raises(UserError, match="no labels"):
            load_labels(make_case("a"), get_label_set("acdc"))


def acdc_cases(numbers: range = range(1, 101)) -> list[Case]:
    return [
        labeled(f"patient{number:03d}_{phase}", f"patient{number:03d}") for number in numbers for phase in ("ED", "ES")
    ]


def patients_by_role(cases: list[Case]) -> dict[str, set[str]]:
    patients = defaultdict(set)
    for case in cases:
        patients[case.role].add(case.patient)
    return patients


class TestPublishedSplits:
    def test_facts(self):
        assert len(set(protocols.P70_TRAINING)) == 70
        assert len(set(protocols.P70_VALIDATION)) == 10
        assert not set(protocols.P70_TRAINING) & set(protocols.P70_VALIDATION)
        for count, names in protocols.P80_LABELED.items():
            assert len(set(names)) == count
            assert set(names) <= set(protocols.P80_TRAINING)

    @pytest.mark.data
    @pytest.mark.skipif(not DATA.is_dir(), reason=f"no real volumes at {DATA}")
    def test_the_lists_are_those_of_the_data(self):
        given_lists = json.loads((DATA / "acdc" / "splits.json").read_text())
        assert list(protocols.P70_TRAINING) == given_lists["train_patients"]
        assert list(protocols.P70_VALIDATION) == given_lists["val_patients"]
        assert [list(names) for names in protocols.P80_LABELED.values()] == list(
            given_lists["ssci_80_20"]["labelled"].values()
        )
        for count, names in given_lists["labelled"].items():
            roles = patients_by_role(split(acdc_cases(), protocol="p70", labeled=int(count)))
            assert roles["labeled"] == set(names)

    def test_p70(self):
        roles = patients_by_role(split(acdc_cases(), protocol="p70", labeled=7))
        assert {role: len(patients) for role, patients in roles.items()} == {
            "labeled": 7,
            "unlabeled": 63,
            "validation": 10,
            "ignore": 20,
        }
        assert roles["labeled"] == {f"patient{number:03d}" for number in (99, 38, 50, 100, 58, 21, 49)}

    @pytest.mark.parametrize(
        ("share", "count"), [(0.1, 7), (0.05, 4), (0.2, 14), (0.001, 1), (1, 1), (1.0, 1), (70, 70)]
    )
    def test_p70_by_share_or_count(self, share, count):
        assert len(patients_by_role(split(acdc_cases(), protocol="p70", labeled=share))["labeled"]) == count

    @pytest.mark.parametrize(("asked", "count"), [(None, 8), (8, 8), (0.1, 8), (2, 2), (0.025, 2), (1, 1), (0.0125, 1)])
    def test_p80(self, asked, count):
        roles = patients_by_role(split(acdc_cases(), protocol="p80", labeled=asked))
        assert len(roles["labeled"]) == count
        assert len(roles["unlabeled"]) == 80 - count
        assert not roles["validation"]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"protocol": "p70", "labeled": 71}, "got 71 of 70 patients"),
            ({"protocol": "p70", "labeled": 0}, "got 0 of 70 patients"),
            ({"protocol": "p70", "labeled": 2.5}, r"got 2\.5 of 70"),
            ({"protocol": "p70", "validation": 5}, "validation patients of p70 are fixed"),
            ({"protocol": "p80", "labeled": 7}, r"no list of 7 labeled patients. Choose 1, 2, 8"),
            ({"protocol": "p71"}, r"Did you mean 'p7"),
        ],
    )
    def test_mistakes(self, options, said):
        with pytest.raises(UserError, match=said):
            split(acdc_cases(), **options)

    def test_data_of_another_kind(self):
        with pytest.raises(
            UserError, match=r"7 of the 7 labeled patients of p70 are not there.*patient099.*'fraction'"
        ):
            split([labeled("mr_train_1001")], protocol="p70")

    def test_a_labeled_patient_without_labels(self):
        cases = [case.with_role("unlabeled") if case.patient == "patient038" else case for case in acdc_cases()]
        with pytest.raises(UserError, match="1 of the 7 labeled patients of p70 have no labels: patient038"):
            split(cases, protocol="p70")


class TestDrawnSplits:
    @given(st.integers(1, 12), st.integers(0, 5), st.integers(0, 50))
    def test_a_patient_has_one_role_and_hidden_labels_stay_hidden(self, count, held_out, seed):
        cases = split(acdc_cases(range(1, 18)), protocol="fraction", labeled=count, validation=held_out, seed=seed)
        roles = patients_by_role(cases)
        assert (len(roles["labeled"]), len(roles["validation"])) == (count, held_out)
        assert len(roles["unlabeled"]) == 17 - count - held_out
        assert sum(len(patients) for patients in roles.values()) == 17  # none stands twice
        assert all((case.labels is None) == (case.role == "unlabeled") for case in cases)

    def test_more_labels_keep_the_ones_before_and_the_validation(self):
        few, many = (
            patients_by_role(split(acdc_cases(), protocol="fraction", labeled=count, validation=0.1, seed=3))
            for count in (5, 20)
        )
        assert few["labeled"] < many["labeled"]
        assert few["validation"] == many["validation"]
        assert len(few["validation"]) == 10

    def test_the_seed_draws_and_the_order_of_the_cases_does_not(self):
        chosen = [
            patients_by_role(split(cases, protocol="fraction", labeled=10, seed=seed))["labeled"]
            for cases, seed in ((acdc_cases(), 0), (acdc_cases()[::-1], 0), (acdc_cases(), 1))
        ]
        assert chosen[0] == chosen[1] != chosen[2]

    def test_without_a_number_all_labels_are_used(self):
        cases = [*acdc_cases(range(1, 6)), make_case("x")]
        roles = patients_by_role(split(cases, protocol="fraction", validation=2))
        assert {role: len(patients) for role, patients in roles.items()} == {
            "labeled": 3,
            "validation": 2,
            "unlabeled": 1,
        }

    def test_only_patients_with_labels_are_drawn(self):
        cases = [*acdc_cases(range(1, 4)), *(make_case(f"u{index}") for index in range(20))]
        roles = patients_by_role(split(cases, protocol="fraction", labeled=2, validation=1))
        assert roles["labeled"] | roles["validation"] == {"patient001", "patient002", "patient003"}
        with pytest.raises(
            UserError, match="4 labeled and 0 validation patients are asked for, but of 23 patients only 3"
        ):
            split(cases, protocol="fraction", labeled=4)

    def test_no_labels_are_left(self):
        with pytest.raises(UserError, match="1 labeled and 3 validation"):
            split(acdc_cases(range(1, 4)), protocol="fraction", validation=3)

    def test_a_frame_without_labels_of_a_labeled_patient_is_left_out(self):
        cases = [labeled("p1_a", "p1"), make_case("p1_b", "p1"), make_case("p2")]
        assert table(split(cases, protocol="fraction", labeled=1), "name", "role") == [
            ("p1_a", "labeled"),
            ("p1_b", "ignore"),
            ("p2", "unlabeled"),
        ]

    @pytest.mark.parametrize(("share", "count"), [(0.1, 2), (0.2, 4), (0.4, 8)])
    def test_mmwhs_takes_the_same_share_of_mr_and_ct(self, share, count):
        cases = [labeled(f"{modality}_train_{1000 + index}") for modality in ("mr", "ct") for index in range(20)]
        chosen = patients_by_role(split(cases, protocol="mmwhs", labeled=share))["labeled"]
        assert sum(name.startswith("mr") for name in chosen) == count
        assert sum(name.startswith("ct") for name in chosen) == count

    def test_given_roles_stay(self):
        cases = [labeled("a"), make_case("b")]
        assert split(cases) == cases


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
