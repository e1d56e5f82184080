"""Cases are read once as long as there is room, and anew when their files have changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from semicardiac.base.errors import UserError
from semicardiac.data.case_reader import CaseReader
from semicardiac.data.cases import Case, load_labels
from semicardiac.images import volumes
from semicardiac.images.volumes import Volume, read_volume, write_labels, write_series, write_volume

from Testing.engine.support import ACDC, draw_heart

GRID = np.diag([2.0, 2.0, 8.0, 1.0])
IMAGE_BYTES = 3 * 40 * 40 * 4


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files as they are opened to be read."""
    names: list[str] = []
    original = volumes._reading

    def watched(path: Path):
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(volumes, "_reading", watched)
    return names


def heart_case(folder: Path, name: str, *, role: str = "labeled", suffix: str = ".nii.gz", seed: int = 0) -> Case:
    image, labels = draw_heart(seed, shape=(3, 40, 40))
    write_volume(folder / f"{name}.nii.gz", Volume(image, GRID))
    write_labels(folder / f"{name}_gt{suffix}", Volume(labels, GRID), ACDC)
    return Case(
        name=name, patient=name, image=folder / f"{name}.nii.gz", labels=folder / f"{name}_gt{suffix}", role=role
    )


@pytest.mark.parametrize("suffix", [".nii.gz", ".seg.nrrd"])
def test_each_file_is_read_once(tmp_path: Path, opened: list[str], suffix: str):
    cases, reader = [heart_case(tmp_path, name, suffix=suffix) for name in "ab"], CaseReader()
    for _ in range(3):
        for case in cases:
            np.testing.assert_array_equal(reader.labels(case, ACDC).array, draw_heart(0, shape=(3, 40, 40))[1])
            assert reader.image(case).array.shape == (3, 40, 40)
    assert sorted(opened) == ["a.nii.gz", f"a_gt{suffix}", "b.nii.gz", f"b_gt{suffix}"]
    reader.clear()
    assert reader.kept == 0
    reader.image(cases[0])
    assert opened.count("a.nii.gz") == 2


def test_a_file_that_has_changed_is_read_anew(tmp_path: Path, opened: list[str]):
    reader, case = CaseReader(), heart_case(tmp_path, "a")
    first, labels = reader.image(case), reader.labels(case, ACDC)
    write_volume(case.image, Volume(draw_heart(1, shape=(3, 40, 40))[0], GRID))
    os.utime(case.image, ns=(0, 0))
    np.testing.assert_array_equal(reader.image(case).array, read_volume(case.image).array)
    assert not np.array_equal(reader.image(case).array, first.array)
    assert reader.labels(case, ACDC) is labels
    case.image.unlink()
    with pytest.raises(UserError, match="missing"):
        reader.image(case)


def test_a_header_whose_voxels_are_elsewhere_tells_no_change_of_these(tmp_path: Path, opened: list[str]):
    import SimpleITK as sitk

    for name in ("a.mhd", "b.mhd"):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), str(tmp_path / name))
    one, other = (Case(name=each, patient=each, image=tmp_path / f"{each}.mhd") for each in "ab")
    reader = CaseReader()
    for case in (one, other, one):
        reader.image(case)
    assert opened == ["a.mhd", "b.mhd", "a.mhd"]


def test_there_is_never_more_than_room_for(tmp_path: Path, opened: list[str]):
    cases = [heart_case(tmp_path, f"p{number}").with_role("unlabeled") for number in range(4)]
    cases += [heart_case(tmp_path, name) for name in "ab"]
    reader = CaseReader(room=2 * IMAGE_BYTES)
    for _ in range(2):
        for case in cases:
            reader.image(case)
            assert reader.kept <= 2 * IMAGE_BYTES
    counts = {name: opened.count(f"{name}.nii.gz") for name in ("p0", "p1", "p2", "p3", "a", "b")}
    assert counts == {"p0": 1, "p1": 2, "p2": 2, "p3": 2, "a": 1, "b": 2}  # unlabeled ones have half of the room


def test_without_room_the_frames_of_one_file_are_still_read_once(tmp_path: Path, opened: list[str]):
    image, labels = draw_heart(0, shape=(3, 40, 40))
    write_series(tmp_path / "a.nii.gz", [Volume(image + frame, GRID) for frame in range(3)])
    write_series(tmp_path / "a_gt.nii.gz", [Volume(labels, GRID)] * 3)
    reader = CaseReader(room=0)
    for frame in range(3):
        case = Case(
            name=f"a{frame}", patient="a", image=tmp_path / "a.nii.gz", labels=tmp_path / "a_gt.nii.gz", frame=frame,
            role="labeled",
        )  # fmt: skip
        np.testing.assert_allclose(reader.image(case).array, image + frame)
        np.testing.assert_array_equal(reader.labels(case, ACDC).array, labels)
    assert opened.count("a.nii.gz") == 1
    assert reader.kept == 0


def test_nobody_changes_what_others_will_read(tmp_path: Path):
    reader, case = CaseReader(), heart_case(tmp_path, "a")
    for volume in (reader.image(case), reader.labels(case, ACDC)):
        with pytest.raises(ValueError, match="read-only"):
            volume.array[0, 0, 0] = 1
    np.testing.assert_array_equal(reader.labels(case, ACDC).array, load_labels(case, ACDC).array)
