"""What a case is, and reading its volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from semicardiac.base.errors import UserError
from semicardiac.data.cases import Case, load_image, load_labels
from semicardiac.data.discover import discover
from semicardiac.images.labels import get_label_set
from semicardiac.images.volumes import Volume, write_labels, write_series, write_volume
from semicardiac.jobs.job import SegmentJob

from Testing.engine.data.support import labeled, make_case


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


def test_a_region_is_checked_wherever_one_is_given():
    turned = (1, 0, 0, 1, 0, 1)
    with pytest.raises(ValidationError, match="minimum below its maximum"):
        Case(name="a", patient="a", image=Path("a.nii.gz"), roi=turned)
    with pytest.raises(ValidationError, match="minimum below its maximum"):
        SegmentJob(model=Path("m"), inputs=(Path("a.nii.gz"),), out=Path("o"), roi=turned)


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
