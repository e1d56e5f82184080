"""The phantom of the whole heart: seven structures where they belong, and a study that can be trained on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from semicardiac.base.errors import UserError
from semicardiac.cli.main import main
from semicardiac.data.cases import load_labels
from semicardiac.data.checks import check_cases
from semicardiac.data.discover import discover
from semicardiac.images.volumes import Volume, read_labels, same_geometry
from semicardiac.phantom.whole_heart import (
    AORTA,
    CONTRASTS,
    LA,
    LABELS,
    LV,
    MYO,
    PULMONARY,
    RA,
    RV,
    make_whole_heart,
    write_whole_hearts,
)

SEEDS = range(1, 5)


@pytest.fixture(scope="module")
def hearts() -> dict[int, tuple[Volume, Volume]]:
    return {seed: make_whole_heart(seed, spacing_mm=3.0, modality=("ct", "mr")[seed % 2]) for seed in SEEDS}


def middle(labels: Volume, label: int) -> np.ndarray:
    """RAS, mm."""
    index = np.argwhere(labels.array == label).mean(0)[::-1]
    return labels.ijk_to_ras[:3, :3] @ index + labels.ijk_to_ras[:3, 3]


class TestAnatomy:
    def test_all_structures_are_there_and_as_large_as_in_people(self, hearts: dict):
        bounds = {MYO: (60, 250), LA: (25, 180), LV: (25, 220), RA: (25, 200), RV: (25, 250), AORTA: (15, 140)}
        bounds[PULMONARY] = (15, 130)
        for _, labels in hearts.values():
            for label, (low, high) in bounds.items():
                assert low < (labels.array == label).sum() * labels.voxel_ml < high, LABELS.names[label - 1]

    def test_they_lie_where_they_do_in_people(self, hearts: dict):
        for _, labels in hearts.values():
            at = {label: middle(labels, label) for label in range(1, LABELS.classes)}
            assert at[LV][0] < at[RV][0]  # R of RAS: the left ventricle lies farther to the left
            assert at[LV][0] < at[RA][0]
            assert at[RV][1] > at[LA][1]  # and the right ventricle in front of the left atrium
            assert at[AORTA][2] > at[LV][2]
            assert at[PULMONARY][2] > at[RV][2]

    def test_the_wall_lies_around_its_cavity(self, hearts: dict):
        for _, labels in hearts.values():
            around = ndimage.binary_dilation(labels.array == LV) & (labels.array != LV)
            assert (labels.array[around] == MYO).mean() > 0.5
            assert not np.isin(labels.array[around], (RA,)).any()

    def test_each_structure_is_in_one_piece_but_for_what_overlaps(self, hearts: dict):
        for _, labels in hearts.values():
            for label in range(1, LABELS.classes):
                parts, _ = ndimage.label(labels.array == label)
                sizes = np.bincount(parts.ravel())[1:]
                assert sizes.max() / sizes.sum() > 0.9, LABELS.names[label - 1]


class TestPicture:
    def test_blood_is_brighter_than_the_wall(self, hearts: dict):
        for image, labels in hearts.values():
            blood, wall = (np.median(image.array[labels.array == label]) for label in (LV, MYO))
            assert blood > wall

    def test_modalities_differ(self):
        ct, mr = (make_whole_heart(1, spacing_mm=4.0, modality=modality) for modality in CONTRASTS)
        assert np.array_equal(ct[1].array, mr[1].array)
        assert ct[0].array.min() < 0 <= mr[0].array.min() + 200
        assert not np.array_equal(ct[0].array, mr[0].array)

    def test_a_seed_decides_on_every_bit(self):
        one, same, other = (make_whole_heart(seed, spacing_mm=4.0) for seed in (1, 1, 2))
        digests = [
            hashlib.sha256(b"".join(each.array.tobytes() for each in pair)).hexdigest() for pair in (one, same, other)
        ]
        assert digests[0] == digests[1] != digests[2]

    def test_the_spacing_is_that_asked_for(self):
        image, labels = make_whole_heart(3, spacing_mm=5.0)
        assert image.spacing.tolist() == [5, 5, 5]
        assert image.array.shape == (30, 38, 38)
        assert same_geometry(image, labels) is None


class TestStudy:
    def test_from_the_command_line_to_cases_without_faults(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        place = tmp_path / "study"
        counts = {"--labeled": 1, "--unlabeled": 2, "--validation": 1, "--test": 1}
        options = [str(each) for pair in counts.items() for each in pair]
        assert main(["phantom", "--out", str(place), "--whole", "mr", *options]) == 0
        assert "network.dimensions=3" in capsys.readouterr().out
        cases = discover([place])
        assert [case.role for case in cases] == ["labeled", "unlabeled", "unlabeled", "validation"]
        assert [each for each in check_cases(cases, LABELS) if each.level == "error"] == []
        assert set(np.unique(load_labels(cases[0], LABELS).array)) == set(range(8))
        hidden = place / "reference" / "unlabeled" / "heart002.nii.gz"
        assert read_labels(hidden, LABELS).array.any()
        assert (place / "test" / "heart005.nii.gz").exists()
        assert (place / "reference" / "test" / "heart005.nii.gz").exists()

    def test_they_do_not_beat(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        assert main(["phantom", "--out", str(tmp_path / "study"), "--whole", "ct", "--cine", "10"]) == 2
        assert "--cine" in capsys.readouterr().err
        assert not (tmp_path / "study").exists()

    def test_a_folder_that_holds_something_stays_as_it_is(self, tmp_path: Path):
        (tmp_path / "note.txt").write_text("mine")
        with pytest.raises(UserError):
            write_whole_hearts(tmp_path, labeled=1, unlabeled=0, validation=0)
        assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
