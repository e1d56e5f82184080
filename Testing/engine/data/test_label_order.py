"""Labels whose order is not that of the label set: the heart's wall encloses the left ventricle."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage
from semicardiac.base.events import Warned, read_events
from semicardiac.data.cases import Case
from semicardiac.data.checks import check_cases
from semicardiac.data.label_order import mixed_up
from semicardiac.images.labels import LabelSet, get_label_set
from semicardiac.images.volumes import Volume, read_labels
from semicardiac.jobs import segment
from semicardiac.jobs.job import SegmentJob, create_job
from semicardiac.jobs.run import run_job

from Testing.engine.data.odd_images import SMALL_BATCHES, write
from Testing.engine.data.support import DATA
from Testing.engine.networks import Thresholder, model_of
from Testing.engine.support import ACDC, draw_heart

GRID = np.diag([2.0, 2.0, 8.0, 1.0])
SWAPPED = (3, 2, 1)
ORDERS = [order for order in itertools.permutations((1, 2, 3)) if order != (1, 2, 3)]


def heart(seed: int = 0) -> np.ndarray:
    """ACDC labels of a heart whose apex has no cavity: [slice,row,col]."""
    labels = draw_heart(seed)[1]
    labels[0][labels[0] == 3] = 2
    return labels


def reordered(labels: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    return np.array([0, *order], np.uint8)[labels]


class TestMixedUp:
    def test_a_heart_is_in_order(self):
        assert mixed_up(Volume(heart(), GRID), ACDC) is None

    @pytest.mark.parametrize("order", ORDERS)
    def test_every_other_order_is_seen(self, order):
        assert mixed_up(Volume(reordered(heart(), order), GRID), ACDC)

    def test_the_sentence_names_what_was_found_and_what_should_be(self):
        what = mixed_up(Volume(reordered(heart(), SWAPPED), GRID), ACDC)
        assert what.startswith("'LV myocardium' encloses 'RV cavity', where 'LV myocardium' should enclose 'LV cavity'")

    def test_slices_need_not_be_stored_along_the_last_axis(self):
        swapped = reordered(heart(), SWAPPED)
        for axes in itertools.permutations(range(3)):
            matrix = np.diag([*((8.0, 2.0, 2.0)[axis] for axis in axes[::-1]), 1.0])
            assert mixed_up(Volume(swapped.transpose(axes), matrix), ACDC)
            assert mixed_up(Volume(heart().transpose(axes), matrix), ACDC) is None

    def test_a_left_ventricle_alone_or_without_a_whole_wall_is_no_reason_for_doubt(self):
        labels = heart()
        for keep in ((3,), (1, 3), (2,), (1, 2), ()):
            assert mixed_up(Volume(np.where(np.isin(labels, keep), labels, 0).astype(np.uint8), GRID), ACDC) is None
        labels[:, :, : labels.shape[2] // 2][labels[:, :, : labels.shape[2] // 2] == 2] = 0
        assert mixed_up(Volume(labels, GRID), ACDC) is None

    def test_a_right_ventricle_whose_wall_is_labeled_too_is_none_either(self):
        labels = heart()
        around = ndimage.binary_dilation(labels == 1, np.ones((1, 3, 3)))
        labels[around & (labels == 0)] = 2
        beside = labels[:, :, np.argwhere(labels == 3)[:, 2].max() :]
        beside[beside == 2] = 0  # here the LV has no wall
        assert mixed_up(Volume(labels, GRID), ACDC) is None

    def test_a_fleck_inside_the_wall_is_no_cavity(self):
        labels = heart()
        labels[labels == 3] = 0
        row, col = np.argwhere(labels[2] == 2)[40]
        labels[labels == 1] = 0
        labels[2, row, col] = 1
        assert mixed_up(Volume(labels, GRID), ACDC) is None

    def test_roles_are_read_off_the_names_where_a_set_gives_none(self):
        names = ("RV", "Myocardium", "LV")
        structures = [{"name": name, "source_values": [value]} for value, name in enumerate(names, start=1)]
        named = LabelSet.model_validate({"name": "own", "structures": structures})
        assert mixed_up(Volume(reordered(heart(), SWAPPED), GRID), named)
        atrium = LabelSet.model_validate({"name": "la", "structures": [{"name": "LA", "source_values": [1]}]})
        assert mixed_up(Volume((heart() > 0).astype(np.uint8), GRID), atrium) is None

    @pytest.mark.data
    @pytest.mark.skipif(not DATA.is_dir(), reason=f"no real volumes at {DATA}")
    def test_real_hearts(self):
        for path in sorted((DATA / "acdc").glob("patient*/*_gt.nii.gz"))[::4]:
            labels = read_labels(path, get_label_set("acdc"))
            assert mixed_up(labels, ACDC) is None, path
            assert mixed_up(labels.with_array(reordered(labels.array, SWAPPED)), ACDC), path


def test_one_case_among_others_is_named(tmp_path: Path):
    cases = []
    for seed, order in enumerate([(1, 2, 3), SWAPPED, (1, 2, 3)]):
        image = write(tmp_path / f"p{seed}.nii.gz", draw_heart(seed)[0])
        labels = write(tmp_path / f"p{seed}_gt.nii.gz", reordered(heart(seed), order))
        cases.append(Case(name=f"p{seed}", patient=f"p{seed}", image=image, labels=labels, role="labeled"))
    (finding,) = [each for each in check_cases(cases, ACDC, SMALL_BATCHES) if "encloses" in each.what]
    assert (finding.level, finding.case) == ("warning", "p1")
    assert "name the label set" in finding.hint


@pytest.mark.parametrize("order", [(1, 2, 3), SWAPPED])
def test_what_a_model_found_is_looked_at_too(tmp_path: Path, monkeypatch, order):
    monkeypatch.setattr(segment, "load_model", lambda _: model_of(Thresholder()))
    monkeypatch.setattr(segment, "hash_of_model", lambda _: "00")
    found = SimpleNamespace(labels=Volume(reordered(heart(), order), GRID), doubt="")
    monkeypatch.setattr(segment.predict, "segment", lambda *_, **__: found)
    scan = write(tmp_path / "scan.nii.gz", draw_heart(0)[0])
    job = create_job(tmp_path / "job", SegmentJob(model=tmp_path, inputs=(scan,), out=tmp_path / "out"))
    assert run_job(job) == 0
    warned = [event for event in read_events(job / "events.jsonl") if isinstance(event, Warned)]
    told = [event.where for event in warned if "encloses 'RV cavity'" in event.warning]
    assert told == (["scan"] if order == SWAPPED else [])
