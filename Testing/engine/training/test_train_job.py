"""The work of a train job around the training itself: sound inputs first, and the same ones for every seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from semicardiac.base.errors import UserError
from semicardiac.base.events import EventLog, Progress, Result
from semicardiac.data.cases import Case
from semicardiac.images import volumes
from semicardiac.images.volumes import write_labels
from semicardiac.jobs.job import TrainJob
from semicardiac.jobs.train import run_train
from semicardiac.training import loop

from Testing.engine.networks import heart, same_weights
from Testing.engine.support import ACDC
from Testing.engine.training.support import config_of, weights


@pytest.fixture
def own(tmp_path: Path, cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """The cases in files that a test may change."""
    there = shutil.copytree(cases[0].image.parent, tmp_path / "own")
    places = ({"image": each.image, "labels": each.labels} for each in cases)
    moved = ({key: path and there / path.name for key, path in each.items()} for each in places)
    return tuple(case.model_copy(update=update) for case, update in zip(cases, moved, strict=True))


def run_job(folder: Path, cases: tuple[Case, ...], *listeners, **fields) -> None:
    folder.mkdir(exist_ok=True)
    job = TrainJob(cases=cases, labels=ACDC, config=config_of(schedule={"steps": 2}), device="cpu", **fields)
    run_train(job, folder, EventLog(folder / "events.jsonl", *listeners), lambda: False)


def test_the_model_of_several_seeds_is_that_of_the_first(tmp_path: Path, own: tuple[Case, ...]):
    heard = []
    run_job(tmp_path / "job", own, heard.append, seeds=2)
    prepared = [event.seed for event in heard if isinstance(event, Progress) and event.stage == "preparing slices"]
    assert prepared == sorted(prepared)
    assert set(prepared) == {0, 1}
    first, second = (weights(tmp_path / "job" / f"seed{seed}") for seed in range(2))
    assert same_weights(weights(tmp_path / "job"), first)
    assert not same_weights(first, second)


def test_every_file_is_read_and_unpacked_once_before_the_first_step(
    tmp_path: Path, own: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
):
    """By checks, the search for hearts and both banks together; what the inputs hold is told by their packed bytes."""
    opened, before = [], []
    original = volumes._reading

    def watched(path: Path):
        opened.append(path)
        return original(path)

    def first_step(self: loop.Loop, run=loop.Loop.run) -> None:
        before.extend(opened)
        run(self)

    monkeypatch.setattr(volumes, "_reading", watched)
    monkeypatch.setattr(loop.Loop, "run", first_step)
    run_job(tmp_path / "job", own)
    assert sorted(before) == sorted(path for case in own for path in (case.image, case.labels) if path is not None)


def test_an_image_that_changes_between_two_seeds_is_refused(tmp_path: Path, own: tuple[Case, ...]):
    def change(event) -> None:
        if isinstance(event, Result):  # the first seed has ended
            shutil.copy(own[1].image, own[2].image)

    with pytest.raises(UserError, match=f"image of {own[2].name} is not what"):
        run_job(tmp_path / "job", own, change, seeds=2)


def test_inputs_are_checked_as_long_as_no_training_has_begun(tmp_path: Path, own: tuple[Case, ...]):
    (tmp_path / "job" / "work").mkdir(parents=True)  # as a kill leaves it
    _, labels = heart(0, shape=(3, 20, 20))
    write_labels(own[0].labels, labels, ACDC)
    with pytest.raises(UserError, match="same grid"):
        run_job(tmp_path / "job", own)
