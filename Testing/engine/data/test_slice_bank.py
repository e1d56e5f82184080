"""The slice bank: what is in it, when it is built anew, and that it is read in place."""

from __future__ import annotations

import errno
import mmap
from pathlib import Path

import numpy as np
import pytest
from semicardiac.base.errors import UserError
from semicardiac.data import slice_bank
from semicardiac.data.case_reader import CaseReader
from semicardiac.data.cases import Case, load_image, load_labels
from semicardiac.data.slice_bank import SliceBank, Source, Squares, build_bank
from semicardiac.data.slices import as_stack, sample_images, sample_labels
from semicardiac.images.volumes import Volume, write_series

from Testing.engine.networks import ACDC, heart, ijk_to_ras, write_case

SETTINGS = {"content": "first", "plane": "acquired", "spacing": 2.0, "size": 48, "clip": (-3.0, 4.0)}


class Placer:
    """Takes the middle of the image and notes for which cases it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, case: Case, stack) -> tuple[float, float]:
        self.asked.append(case.name)
        return stack.middle


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """Unlabeled, labeled, unlabeled, labeled; of 2, 3, 4 and 5 slices."""
    made = []
    for number, role in enumerate(["unlabeled", "labeled", "unlabeled", "labeled"]):
        image, labels = heart(number, shape=(2 + number, 36, 40))
        made.append(write_case(tmp_path / "data", f"p{number}", image, labels if role == "labeled" else None, role))
    return made


def build(folder: Path, cases: list[Case], **changes) -> tuple[SliceBank, list[str]]:
    """The bank, and the cases that it was built from if it was built."""
    placer = Placer()
    settings = {**SETTINGS, "place": placer, **changes}
    source = Source(cases, settings.pop("labels", ACDC), CaseReader(), settings.pop("content"))
    progress = {"progress": settings.pop("progress")} if "progress" in settings else {}
    bank = build_bank(folder, source, Squares(**settings), **progress)
    return bank, placer.asked


def cut_off(folder: Path, cases: list[Case], *, after: int) -> None:
    """Begins a bank and is killed after so many cases."""

    def killed(done: int, total: int, name: str) -> None:
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(folder, cases, progress=killed)
    assert not (folder / "index.json").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestContent:
    def test_labeled_cases_come_first_each_in_one_piece(self, tmp_path: Path, cases: list[Case]):
        bank, _ = build(tmp_path / "bank", cases)
        assert bank.ranges == {"p1": (0, 3), "p3": (3, 8), "p0": (8, 10), "p2": (10, 14)}
        assert bank.images.shape == (14, 48, 48)
        assert bank.labels.shape == (8, 48, 48)
        assert bank.labeled_slices == 8

    def test_slices_are_those_of_the_preprocessing_at_the_center_that_was_named(
        self, tmp_path: Path, cases: list[Case]
    ):
        bank, _ = build(tmp_path / "bank", cases, place=lambda case, stack: (20.0, 30.0 + len(stack.array)))
        for case in cases:
            first, last = bank.ranges[case.name]
            stack = as_stack(load_image(case), "acquired")
            center = (20.0, 30.0 + len(stack.array))
            assert bank.centers[case.name] == center
            expected = sample_images(stack, center, 2.0, 48, (-3.0, 4.0))
            np.testing.assert_allclose(bank.images[first:last], expected, atol=2e-3)  # float16
            if case.role == "labeled":
                truth = sample_labels(as_stack(load_labels(case, ACDC), "acquired"), center, 2.0, 48, ACDC.classes)
                np.testing.assert_array_equal(bank.labels[first:last], truth)
                assert set(np.unique(truth)) == {0, 1, 2, 3}

    def test_labels_of_other_roles_never_enter(self, tmp_path: Path):
        image, labels = heart(0)
        validation = write_case(tmp_path / "data", "v", image, labels, "validation")
        labeled = write_case(tmp_path / "data", "a", image, labels, "labeled")
        bank, _ = build(tmp_path / "bank", [validation, labeled])
        assert bank.ranges["a"] == (0, 3)
        assert len(bank.labels) == 3

    def test_without_labeled_cases_there_are_no_labels(self, tmp_path: Path, cases: list[Case]):
        bank, _ = build(tmp_path / "bank", [case for case in cases if case.role == "unlabeled"])
        assert bank.labels.shape == (0, 48, 48)
        assert len(bank.images) == 6
        again, asked = build(tmp_path / "bank", [case for case in cases if case.role == "unlabeled"])
        assert again.labels.shape == (0, 48, 48)
        assert asked == []

    def test_frames_of_a_series_and_of_its_labels(self, tmp_path: Path):
        frames = [heart(number) for number in range(3)]
        matrix = ijk_to_ras((2.0, 2.0, 8.0))
        images = [Volume(image.array, matrix, float(time)) for time, (image, _) in enumerate(frames)]
        write_series(tmp_path / "cine.nii.gz", images)
        write_series(
            tmp_path / "cine_gt.nii.gz",
            [each.with_array(labels.array) for each, (_, labels) in zip(images, frames, strict=True)],
        )
        case = Case(
            name="p_es",
            patient="p",
            image=tmp_path / "cine.nii.gz",
            labels=tmp_path / "cine_gt.nii.gz",
            frame=2,
            role="labeled",
        )
        np.testing.assert_allclose(as_stack(load_image(case), "acquired").array, frames[2][0].array)
        np.testing.assert_array_equal(as_stack(load_labels(case, ACDC), "acquired").array, frames[2][1].array)

    def test_progress_is_told_after_each_case(self, tmp_path: Path, cases: list[Case]):
        told = []
        build(tmp_path / "bank", cases, progress=lambda *args: told.append(args))
        assert told == [(1, 4, "p1"), (2, 4, "p3"), (3, 4, "p0"), (4, 4, "p2")]


class TestReuse:
    def test_it_is_opened_when_nothing_changed(self, tmp_path: Path, cases: list[Case]):
        first, asked = build(tmp_path / "bank", cases)
        assert len(asked) == 4
        again, asked = build(tmp_path / "bank", cases)
        assert asked == []
        np.testing.assert_array_equal(again.images, first.images)
        np.testing.assert_array_equal(again.labels, first.labels)
        assert (again.ranges, again.centers, again.size) == (first.ranges, first.centers, first.size)

    @pytest.mark.parametrize(
        "change", [{"content": "second"}, {"spacing": 2.5}, {"size": 64}, {"clip": (-2.0, 4.0)}, {"plane": "axial"}]
    )
    def test_it_is_built_anew_for_other_settings(self, tmp_path: Path, cases: list[Case], change: dict):
        build(tmp_path / "bank", cases)
        bank, asked = build(tmp_path / "bank", cases, **change)
        assert len(asked) == 4
        assert bank.size == change.get("size", 48)

    def test_it_is_built_anew_for_other_roles(self, tmp_path: Path, cases: list[Case]):
        build(tmp_path / "bank", cases)
        bank, asked = build(
            tmp_path / "bank", [case.with_role("unlabeled") if case.name == "p3" else case for case in cases]
        )
        assert len(asked) == 4
        assert bank.labeled_slices == 3

    @pytest.mark.parametrize("done", [1, 2, 3, 4])
    def test_one_that_was_cut_off_is_continued(self, tmp_path: Path, cases: list[Case], done: int):
        whole, _ = build(tmp_path / "bank", cases)
        cut_off(tmp_path / "other", cases, after=done)
        told = []
        bank, asked = build(tmp_path / "other", cases, progress=lambda *args: told.append(args))
        assert len(asked) == 4 - done
        assert told == [(1, 4, "p1"), (2, 4, "p3"), (3, 4, "p0"), (4, 4, "p2")]
        assert contents(tmp_path / "other") == contents(tmp_path / "bank")
        np.testing.assert_array_equal(bank.images, whole.images)

    @pytest.mark.parametrize("name", ["images.f16", "labels.u8", "built.jsonl"])
    @pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
    def test_what_was_damaged_meanwhile_is_cut_again(self, tmp_path: Path, cases: list[Case], name: str, damage: str):
        build(tmp_path / "bank", cases)
        cut_off(tmp_path / "other", cases, after=3)
        path = tmp_path / "other" / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(content if damage == "changed" else content[: len(content) // 2])
        build(tmp_path / "other", cases)
        assert contents(tmp_path / "other") == contents(tmp_path / "bank")

    def test_what_was_begun_for_other_settings_is_not_continued(self, tmp_path: Path, cases: list[Case]):
        build(tmp_path / "bank", cases, content="second")
        cut_off(tmp_path / "other", cases, after=3)
        _, asked = build(tmp_path / "other", cases, content="second")
        assert len(asked) == 4
        assert contents(tmp_path / "other") == contents(tmp_path / "bank")

    @pytest.mark.parametrize("threads", [1, 3])
    def test_it_is_the_same_whatever_the_number_of_threads(
        self, tmp_path: Path, cases: list[Case], monkeypatch: pytest.MonkeyPatch, threads: int
    ):
        build(tmp_path / "bank", cases)
        monkeypatch.setattr(slice_bank.os, "cpu_count", lambda: threads)
        build(tmp_path / "other", cases)
        assert contents(tmp_path / "other") == contents(tmp_path / "bank")

    @pytest.mark.parametrize("name", ["images.f16", "labels.u8"])
    def test_one_that_lost_its_end_is_built_anew(self, tmp_path: Path, cases: list[Case], name: str):
        whole, _ = build(tmp_path / "bank", cases)
        expected = np.array(whole.images)
        del whole
        with open(tmp_path / "bank" / name, "rb+") as file:
            file.truncate(1000)
        bank, asked = build(tmp_path / "bank", cases)
        assert len(asked) == 4
        np.testing.assert_array_equal(bank.images, expected)


class TestFiles:
    def test_images_and_labels_are_mapped_not_loaded(self, tmp_path: Path, cases: list[Case]):
        bank, _ = build(tmp_path / "bank", cases)
        for array in (bank.images, bank.labels):
            while isinstance(array, np.ndarray):
                array = array.base
            assert isinstance(getattr(array, "obj", array), mmap.mmap)
        assert (bank.images.dtype, bank.labels.dtype) == (np.float16, np.uint8)

    def test_what_a_program_writes_into_the_arrays_stays_out_of_the_files(self, tmp_path: Path, cases: list[Case]):
        bank, _ = build(tmp_path / "bank", cases)
        before = (tmp_path / "bank" / "images.f16").read_bytes()
        bank.images[:] = 0
        del bank
        assert (tmp_path / "bank" / "images.f16").read_bytes() == before

    def test_a_missing_input_is_named(self, tmp_path: Path, cases: list[Case]):
        cases[2].image.unlink()
        with pytest.raises(UserError, match="missing") as caught:
            build(tmp_path / "bank", cases)
        assert str(cases[2].image) in caught.value.where

    def test_an_image_that_is_not_numbers_is_named(
        self, tmp_path: Path, cases: list[Case], monkeypatch: pytest.MonkeyPatch
    ):
        empty = np.full((48, 48), np.nan)
        monkeypatch.setattr(slice_bank, "sample_images", lambda stack, *rest: np.stack([empty] * len(stack.array)))
        with pytest.raises(UserError, match="image of p1 holds values that are not numbers") as caught:
            build(tmp_path / "bank", cases)
        assert caught.value.where == str(cases[1].image)

    def test_a_full_disk_is_told_and_leaves_no_index(
        self, tmp_path: Path, cases: list[Case], monkeypatch: pytest.MonkeyPatch
    ):
        def full(*args: object) -> np.ndarray:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(slice_bank, "sample_images", full)
        with pytest.raises(UserError, match="disk is full"):
            build(tmp_path / "bank", cases)
        assert not (tmp_path / "bank" / "index.json").exists()
