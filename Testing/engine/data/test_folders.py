"""What in a folder is a case: labels in folders of their own, results of the engine, links."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest
from semicardiac.base.errors import UserError
from semicardiac.base.events import EventLog, Result
from semicardiac.data.discover import discover
from semicardiac.jobs.job import named_inputs

from Testing.engine.data.support import table, touch


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

    def test_monai_label(self, tmp_path):
        for path in (
            "a.nii.gz",
            "b.nii.gz",
            "labels/final/a.nii.gz",
            "labels/original/a.nii.gz",
            "labels/original/b.nrrd",
        ):
            touch(tmp_path / path)
        assert table(discover([tmp_path]), "image", "labels") == [
            (tmp_path / "a.nii.gz", tmp_path / "labels" / "final" / "a.nii.gz"),
            (tmp_path / "b.nii.gz", None),  # what a model has drawn and nobody has handed in
        ]

    @pytest.mark.parametrize(
        ("image", "labels"),
        [
            ("{}.nii.gz", "{}_gt.nii.gz"),
            ("{}.nii.gz", "labels/{}.nii.gz"),
            ("images/{}/a.nii.gz", "labels/{}/a.nii.gz"),
        ],
    )
    def test_letters_in_another_form_of_unicode(self, tmp_path, image, labels):
        one, other = (unicodedata.normalize(form, "Zoé") for form in ("NFC", "NFD"))
        touch(tmp_path / image.format(one), tmp_path / labels.format(other))
        assert table(discover([tmp_path]), "role") == [("labeled",)]

    def test_labels_without_an_image_are_counted_and_a_way_out_is_named(self, tmp_path):
        touch(tmp_path / "images" / "a.nii.gz", tmp_path / "labels" / "b.nii.gz")
        with pytest.raises(UserError, match=r"1 label file has no image beside .* name both in a cases.csv"):
            discover([tmp_path])

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


class TestNamesOfResults:
    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            (["a.nii.gz", "x/b.nrrd"], ["a", "b"]),
            (["42/sa_ED.nii.gz", "42/sa_ES.nii.gz", "43/sa_ED.nii.gz"], ["42_sa_ED", "42_sa_ES", "43_sa_ED"]),
            (["42/sa_4d.nii.gz", "43/sa_4d.nii.gz", "a.nrrd"], ["42_sa_4d", "43_sa_4d", "a"]),
            (["x/a.nii.gz", "y/a.nii.gz", "x_a.nii.gz"], ["x_a", "x_a_2", "y_a"]),
            (["42/ED/1.dcm", "43/ED/1.dcm"], ["42_ED", "43_ED"]),
            (["sub-1/ses-1/sa.nii.gz", "sub-1/ses-2/sa.nii.gz"], ["sub-1_ses-1_sa", "sub-1_ses-2_sa"]),
        ],
    )
    def test_files_of_one_name_are_named_as_the_cases_are(self, tmp_path, monkeypatch, files, expected):
        monkeypatch.setattr("semicardiac.data.layouts.count_frames", lambda path: 2)
        touch(*(tmp_path / name for name in files))
        inputs = named_inputs([tmp_path])
        assert sorted(inputs) == expected
        assert len(set(inputs.values())) == len(inputs)

    def test_files_of_one_name_that_are_named_one_by_one_are_refused(self, tmp_path):
        paths = [tmp_path / name / "a.nii.gz" for name in "xy"]
        touch(*paths)
        with pytest.raises(UserError, match="have the same name"):
            named_inputs(paths)


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
