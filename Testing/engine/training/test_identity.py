"""What a training notes of itself before its first work, and what it refuses when it continues."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from semicardiac.base.errors import UserError
from semicardiac.base.events import EventLog, Progress, Warned
from semicardiac.config import TrainConfig
from semicardiac.data.cases import Case
from semicardiac.images.labels import LabelSet, get_label_set
from semicardiac.training.context import Context
from semicardiac.training.identity import IDENTITY, Identity, fingerprint, identify, inherit
from semicardiac.training.schedule import Budget

from Testing.engine.networks import ACDC, heart, tiny_config, write_case
from Testing.engine.support import write_itk


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """Two labeled and two unlabeled cases."""
    made = []
    for number, role in enumerate(("labeled", "labeled", "unlabeled", "unlabeled")):
        image, labels = heart(number, shape=(2, 24, 28))
        made.append(write_case(tmp_path / "data", f"p{number}", image, labels if role == "labeled" else None, role))
    return made


def run(
    folder: Path, cases: list[Case], config: TrainConfig | None = None, labels: LabelSet = ACDC
) -> tuple[Identity, list]:
    told: list = []
    config = config or tiny_config()
    validation = [case for case in cases if case.role == "validation"]
    trained = [case for case in cases if case not in validation]
    events = EventLog(None, told.append)
    context = Context(folder, trained, labels, config, Budget(config.schedule), events, lambda: False, validation)
    return identify(context), told


def replace(path: Path) -> None:
    """Another heart under the same name."""
    image, labels = heart(77, shape=(2, 24, 28))
    other = write_case(path.parent / "others", "other", image, labels, "labeled")
    shutil.copy(other.labels if "_gt" in path.name else other.image, path)


def touch(path: Path) -> None:
    stamp = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(stamp, stamp))


class TestInputs:
    def test_they_are_read_once(self, tmp_path: Path, cases: list[Case]):
        first, told = run(tmp_path / "work", cases)
        assert [(event.stage, event.step) for event in told] == [("checking inputs", number) for number in range(1, 5)]
        again, told = run(tmp_path / "work", cases)
        assert told == []
        assert again == first

    @pytest.mark.parametrize(("number", "which"), [(0, "image"), (1, "labels"), (3, "image")])
    def test_one_that_was_replaced_is_named(self, tmp_path: Path, cases: list[Case], number: int, which: str):
        run(tmp_path / "work", cases)
        path = getattr(cases[number], which)
        replace(path)
        with pytest.raises(UserError, match=f"the {which} of p{number} .* not what the training began with") as caught:
            run(tmp_path / "work", cases)
        assert caught.value.where == str(path)
        assert "Put the file back" in caught.value.hint

    @pytest.mark.parametrize("which", ["image", "labels"])
    def test_one_of_the_validation_is_named_too_and_changes_nothing_that_is_kept(
        self, tmp_path: Path, cases: list[Case], which: str
    ):
        image, labels = heart(5, shape=(2, 24, 28))
        measured = write_case(tmp_path / "data", "p5", image, labels, "validation")
        alone, _ = run(tmp_path / "alone", cases)
        identity, _ = run(tmp_path / "work", [*cases, measured])
        assert identity.model_copy(update={"job": alone.job}).content == alone.content
        replace(getattr(measured, which))
        with pytest.raises(UserError, match=f"the {which} of p5 .* not what the training began with"):
            run(tmp_path / "work", [*cases, measured])

    def test_one_of_the_same_size_and_time_is_noticed(self, tmp_path: Path, cases: list[Case]):
        path = cases[2].image
        run(tmp_path / "work", cases)
        before, content = path.stat(), bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(UserError, match="p2"):
            run(tmp_path / "work", cases)

    def test_several_are_counted(self, tmp_path: Path, cases: list[Case]):
        run(tmp_path / "work", cases)
        for case in cases:
            replace(case.image)
        with pytest.raises(UserError, match=r"image of p0 is .*nor are files of p1, p2 and p3"):
            run(tmp_path / "work", cases)

    def test_one_that_was_touched_is_read_once_more(self, tmp_path: Path, cases: list[Case]):
        first, _ = run(tmp_path / "work", cases)
        touch(cases[1].labels)
        again, told = run(tmp_path / "work", cases)
        assert again.content == first.content
        assert [event.case for event in told if isinstance(event, Progress)] == ["p1"]
        assert run(tmp_path / "work", cases)[1] == []

    def test_all_may_move_elsewhere(self, tmp_path: Path, cases: list[Case]):
        first, _ = run(tmp_path / "work", cases)
        shutil.copytree(tmp_path / "data", tmp_path / "copy")
        there = {"image": lambda case: tmp_path / "copy" / case.image.name}
        there["labels"] = lambda case: case.labels and tmp_path / "copy" / case.labels.name
        moved = [case.model_copy(update={key: place(case) for key, place in there.items()}) for case in cases]
        assert run(tmp_path / "work", moved)[0].content == first.content

    def test_one_that_is_gone_is_told_and_stops_nothing_by_itself(self, tmp_path: Path, cases: list[Case]):
        first, _ = run(tmp_path / "work", cases)
        cases[2].image.unlink()
        again, (told,) = run(tmp_path / "work", cases)
        assert again == first
        assert isinstance(told, Warned)
        assert told.where == "p2"

    def test_a_new_training_lacks_none(self, tmp_path: Path, cases: list[Case]):
        cases[3].image.unlink()
        with pytest.raises(UserError, match="missing") as caught:
            run(tmp_path / "work", cases)
        assert caught.value.where == str(cases[3].image)
        assert not (tmp_path / "work" / IDENTITY).exists()


class TestFingerprint:
    def test_that_of_a_detached_header_is_of_its_voxels(self, tmp_path: Path):
        path = write_itk(tmp_path / "a.mhd", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
        first = fingerprint(path)
        (voxels,) = (each for each in tmp_path.iterdir() if each.suffix != ".mhd")
        touch(voxels)
        assert fingerprint(path) == first
        write_itk(path, np.arange(1, 25, dtype=np.int16).reshape(2, 3, 4))
        assert fingerprint(path).sha256 != first.sha256
        assert first.stamp == ()  # the header's times tell nothing

    def test_that_of_a_folder_is_of_its_files(self, tmp_path: Path):
        folder = tmp_path / "dicom" / "deeper"
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"slice{number}").write_bytes(bytes([number] * 10))
        first = fingerprint(tmp_path / "dicom")
        (folder / "slice1").rename(folder / "renamed")
        (folder / ".DS_Store").write_bytes(b"of a file browser")
        assert fingerprint(tmp_path / "dicom").sha256 == first.sha256
        (folder / "slice2").write_bytes(bytes([7] * 10))
        assert fingerprint(tmp_path / "dicom").sha256 != first.sha256


class TestCases:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda cases: cases[:-1], "gone: p3"),
            (lambda cases: [*cases, cases[2].model_copy(update={"name": "q"})], "new: q"),
            (lambda cases: cases[::-1], "another order"),
            (lambda cases: [cases[0].with_role("unlabeled"), *cases[1:]], "its role is unlabeled, and was labeled"),
            (lambda cases: [*cases[:3], cases[3].model_copy(update={"frame": 1})], "its frame is 1, and was None"),
            (lambda cases: [*cases[:3], cases[3].model_copy(update={"patient": "p0"})], "its patient is p0"),
            (lambda cases: [*cases[:3], cases[3].model_copy(update={"roi": (0, 1, 0, 1, 0, 1)})], "its roi is"),
        ],
    )
    def test_others_are_refused(self, tmp_path: Path, cases: list[Case], change, told: str):
        run(tmp_path / "work", cases)
        with pytest.raises(UserError, match=told) as caught:
            run(tmp_path / "work", change(cases))
        assert "start a new training" in caught.value.hint


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"locate": {"widths": (4, 4)}}, r"locate.widths = \(4, 4\) does not fit .* began with \(4, 8\)"),
            ({"preprocess": {"spacing_mm": 2.5}}, "preprocess.spacing_mm = 2.5"),
            ({"method": {"lambda_u": 0.5}}, "method.lambda_u = 0.5"),
            ({"seed": 3}, "seed = 3"),
        ],
    )
    def test_others_are_refused(self, tmp_path: Path, cases: list[Case], changes: dict, told: str):
        run(tmp_path / "work", cases)
        with pytest.raises(UserError, match=told) as caught:
            run(tmp_path / "work", cases, tiny_config(**changes))
        assert "job.json" in caught.value.hint

    def test_the_schedule_may_change(self, tmp_path: Path, cases: list[Case]):
        first, _ = run(tmp_path / "work", cases)
        assert run(tmp_path / "work", cases, tiny_config(schedule={"steps": 900, "warmup_steps": 3}))[0] == first

    def test_another_label_set_is_refused(self, tmp_path: Path, cases: list[Case]):
        run(tmp_path / "work", cases)
        with pytest.raises(UserError, match="label set 'mmwhs'"):
            run(tmp_path / "work", cases, labels=get_label_set("mmwhs"))


def test_every_training_has_a_number_of_its_own(tmp_path: Path, cases: list[Case]):
    first, second = (run(tmp_path / name, cases)[0] for name in ("first", "second"))
    assert first.inputs == second.inputs
    assert first.job != second.job
    assert first.content != second.content


def test_a_training_with_another_seed_is_held_to_the_inputs_of_the_first(tmp_path: Path, cases: list[Case]):
    first, _ = run(tmp_path / "seed0", cases)
    inherit(tmp_path / "seed0", tmp_path / "seed1", tiny_config(seed=1))
    second, _ = run(tmp_path / "seed1", cases, tiny_config(seed=1))
    assert (second.inputs, second.job == first.job) == (first.inputs, False)
    inherit(tmp_path / "seed0", tmp_path / "seed2", tiny_config(seed=2))
    replace(cases[3].image)
    with pytest.raises(UserError, match="p3"):
        run(tmp_path / "seed2", cases, tiny_config(seed=2))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"labeled"', '"unlabeled"', 1),
        lambda text: json.dumps([text]),
        lambda text: json.dumps({}),
    ],
)
def test_a_damaged_note_is_an_error(tmp_path: Path, cases: list[Case], spoil):
    run(tmp_path / "work", cases)
    path = tmp_path / "work" / IDENTITY
    path.write_text(spoil(path.read_text()))
    with pytest.raises(UserError) as caught:
        run(tmp_path / "work", cases)
    assert str(path) in caught.value.where
