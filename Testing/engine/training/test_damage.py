"""What a training keeps for itself: damaged, of another training, of an earlier version, or left by a kill."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from semicardiac.base.errors import Stopped, UserError
from semicardiac.base.events import Warned
from semicardiac.base.files import sha256
from semicardiac.base.sealed import read_sealed, write_sealed
from semicardiac.base.temporaries import temporary_beside
from semicardiac.data.cases import Case
from semicardiac.models.model import load_model
from semicardiac.training import locator
from torch import nn

from Testing.engine.networks import same_weights, stop_after
from Testing.engine.training.support import STEPS, config_of, events, history, run, weights


def stop_in_mid_training(folder: Path, cases: tuple[Case, ...], **changes) -> Path:
    schedule = {"steps": STEPS, "checkpoint_s": 0.0}
    with pytest.raises(Stopped):
        run(folder, cases, config_of(schedule=schedule, **changes), stop=stop_after(40))
    assert (folder / "checkpoint.pt").exists()
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, cases: tuple[Case, ...]) -> Path:
    return stop_in_mid_training(tmp_path_factory.mktemp("stopped") / "job", cases)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, cases: tuple[Case, ...]) -> Path:
    """Another training on the same cases with the same network."""
    return stop_in_mid_training(tmp_path_factory.mktemp("other") / "job", cases)


@pytest.fixture
def folder(tmp_path: Path, stopped: Path) -> Path:
    """One that was stopped in mid-training, to be damaged."""
    return shutil.copytree(stopped, tmp_path / "job")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit, a third of the way through: in the middle lies what pads a checkpoint."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Another content that is as well-formed as the one before."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


class TestMadeAnew:
    """What can be made again is, and the result is the same."""

    @pytest.mark.parametrize(
        ("name", "damage"),
        [
            ("work/bank/index.json", cut),
            (
                "work/bank/index.json",
                lambda path: edit(path, lambda index: index["ranges"].update(patient002_ed=[0, 1])),
            ),
            ("work/bank/index.json", lambda path: path.write_text("[]")),
            ("work/bank/images.f16", flip),
            ("work/bank/labels.u8", flip),
            ("work/bank", shutil.rmtree),
            ("work/coarse/index.json", cut),
            ("work/coarse/images.f16", flip),
            ("history.csv", lambda path: path.write_bytes(b"\0" * 3000)),
            ("validation.csv", lambda path: path.write_bytes(b"step,case\n" + b"x" * 200_000)),
        ],
    )
    def test_it_is(self, folder: Path, cases: tuple[Case, ...], job: Path, name: str, damage: Callable[[Path], object]):
        damage(folder / name)
        run(folder, cases)
        assert same_weights(weights(folder), weights(job))

    def test_the_bank_of_another_training(self, folder: Path, cases: tuple[Case, ...], job: Path, other: Path):
        """Whole, of the same cases and settings, but perhaps around other centers; here, it is black."""
        shutil.rmtree(folder / "work" / "bank")
        bank = shutil.copytree(other / "work" / "bank", folder / "work" / "bank")
        (bank / "images.f16").write_bytes(bytes((bank / "images.f16").stat().st_size))
        index = read_sealed(bank / "index.json")
        index["sha256"]["images.f16"] = sha256(bank / "images.f16")
        write_sealed(bank / "index.json", index)
        run(folder, cases)
        assert same_weights(weights(folder), weights(job))

    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"schedule": 3, "summary": 4}', "\0"])
    def test_the_note_that_it_has_finished(self, tmp_path: Path, cases: tuple[Case, ...], job: Path, content: str):
        folder = shutil.copytree(job, tmp_path / "job")
        (folder / "work" / "finished.json").write_text(content)
        assert run(folder, cases)["steps"] == STEPS
        assert same_weights(weights(folder), weights(job))

    def test_the_model_of_a_finished_training(self, tmp_path: Path, cases: tuple[Case, ...], job: Path):
        folder = shutil.copytree(job, tmp_path / "job")
        shutil.rmtree(folder / "model")
        run(folder, cases)
        assert same_weights(weights(folder), weights(job))


class TestRefused:
    """What is lost for good is named, and nothing is trained on what is left."""

    @pytest.mark.parametrize(
        ("name", "damage"),
        [
            ("work/locator.safetensors", cut),
            ("work/locator.safetensors", flip),
            ("work/locator.safetensors", Path.unlink),
            ("work/findings.json", cut),
            ("work/findings.json", lambda path: edit(path, lambda kept: kept["centers"].update(patient002_ed=[9, 9]))),
            ("work/findings.json", lambda path: path.write_text('{"centers": 3}')),
            ("work/identity.json", cut),
            ("checkpoint.pt", flip),
        ],
    )
    def test_what_is_damaged(self, folder: Path, cases: tuple[Case, ...], name: str, damage: Callable[[Path], object]):
        damage(folder / name)
        with pytest.raises(UserError) as caught:
            run(folder, cases)
        assert str(folder / name) in caught.value.where

    @pytest.mark.parametrize("name", ["checkpoint.pt", "work/locator.safetensors", "work/findings.json"])
    def test_what_is_of_another_training(self, folder: Path, cases: tuple[Case, ...], other: Path, name: str):
        shutil.copy(other / name, folder / name)
        if name.endswith("locator.safetensors"):
            flip(folder / name)  # two trainings with one seed have the same
        with pytest.raises(UserError, match="of another training") as caught:
            run(folder, cases)
        assert caught.value.where == str(folder / name)
        assert caught.value.hint

    @pytest.mark.parametrize("key", ["optimizer", "offsets", "window", "mixed_since", "labels"])
    def test_a_checkpoint_that_lacks_something(self, folder: Path, cases: tuple[Case, ...], key: str):
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        torch.save({name: value for name, value in state.items() if name != key}, folder / "checkpoint.pt")
        with pytest.raises(UserError, match="checkpoint"):
            run(folder, cases)


def of_format_1(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as it was when there was one method."""
    method, window = state.pop("method"), state.pop("window")
    sums = {name: value for name, (value, _) in window["sums"].items()}
    zero, none = torch.zeros(()), torch.zeros(len(method["ratio"]))
    parts = [sums.get(name, zero) for name in ("loss", "loss_supervised", "loss_unsupervised", "loss_contrast")]
    vector = torch.cat([torch.stack([*parts, zero]), sums.get("passed", none), sums.get("own", none)])
    del state["job"]
    return state | {
        "format": 1, "threshold": method["threshold"], "ratio": method["ratio"],
        "alpha": method["_extra_state"]["alpha"], "sums": vector, "window_s": window["seconds"],
        "window": [window["steps"], window["mixed"], window["images"]], "closed_looks": state.pop("closed"),
    }  # fmt: skip


def test_weights_of_the_locator_that_may_not_be_read_are_not_called_damaged(tmp_path: Path, monkeypatch):
    def fail(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(locator, "sha256", fail)
    with pytest.raises(PermissionError):  # which the job explains
        locator.load_locator(tmp_path / "locator.safetensors", nn.Identity(), "0")


class TestOfAnEarlierVersion:
    """Jobs of b899f49 hold no numbers, no checksums and no notes of their inputs."""

    @pytest.fixture
    def old(self, folder: Path) -> Path:
        (folder / "work" / "identity.json").unlink()
        for name, keys in (
            ("findings.json", ("job", "locator_sha256")), ("bank/index.json", ("sha256",)),
            ("coarse/index.json", ("sha256",)),
        ):  # fmt: skip
            path = folder / "work" / name
            kept = read_sealed(path)
            path.write_text(json.dumps({key: value for key, value in kept.items() if key not in keys}))
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        torch.save(of_format_1(state), folder / "checkpoint.pt")
        return folder

    def test_it_continues_and_is_known_from_then_on(self, old: Path, cases: tuple[Case, ...], job: Path):
        built = (old / "work" / "bank" / "images.f16").stat().st_mtime_ns
        with pytest.raises(Stopped):
            run(old, cases, stop=stop_after(8))
        assert (old / "work" / "bank" / "images.f16").stat().st_mtime_ns == built
        assert (old / "work" / "identity.json").exists()
        run(old, cases)
        assert same_weights(weights(old), weights(job))

    def test_a_case_that_was_not_there_is_an_error(self, old: Path, cases: tuple[Case, ...]):
        new = cases[-1].model_copy(update={"name": "new"})
        with pytest.raises(UserError, match="not there when the training began") as caught:
            run(old, (*cases, new))
        assert caught.value.where == "new"

    def test_a_case_that_is_gone_is_an_error(self, old: Path, cases: tuple[Case, ...]):
        with pytest.raises(UserError, match="does not fit"):
            run(old, cases[:-1])

    def test_other_widths_of_the_locator_are_an_error(self, old: Path, cases: tuple[Case, ...]):
        with pytest.raises(UserError, match=r"locate\.widths"):
            run(old, cases, config_of(locate={"widths": (8, 8)}))


class TestInputs:
    def test_images_may_be_gone_once_the_slices_are_prepared(
        self, folder: Path, tmp_path: Path, cases: tuple[Case, ...], job: Path
    ):
        shutil.rmtree(folder)
        there = shutil.copytree(cases[0].image.parent, tmp_path / "data")
        moved = tuple(
            case.model_copy(
                update={"image": there / case.image.name, "labels": case.labels and there / case.labels.name}
            )
            for case in cases
        )
        stop_in_mid_training(folder, moved)
        shutil.rmtree(there)
        run(folder, moved)
        assert same_weights(weights(folder), weights(job))
        before = weights(folder)
        with pytest.raises(UserError, match="missing"):  # prolonging needs them, and leaves the model alone
            run(folder, moved, config_of(schedule={"steps": STEPS + 2}))
        assert same_weights(weights(folder), before)
        load_model(folder)

    def test_a_validation_image_that_is_gone_is_told_before_the_training(
        self, tmp_path: Path, validated: tuple[Case, ...]
    ):
        gone = validated[-1].model_copy(update={"image": tmp_path / "gone.nii.gz"})
        with pytest.raises(UserError, match="missing") as caught:
            run(tmp_path / "job", (*validated[:-1], gone))
        assert caught.value.where == str(tmp_path / "gone.nii.gz")
        assert not (tmp_path / "job" / "checkpoint.pt").exists()


class TestLeftovers:
    def test_a_finished_training_loses_what_a_kill_at_its_end_left(
        self, tmp_path: Path, cases: tuple[Case, ...], job: Path, stopped: Path
    ):
        folder = shutil.copytree(job, tmp_path / "job")
        for name in ("bank", "coarse"):
            shutil.copytree(stopped / "work" / name, folder / "work" / name)
        before, rows = weights(folder), history(folder)
        run(folder, cases)
        assert sorted(path.name for path in (folder / "work").iterdir() if path.is_dir()) == []
        assert (same_weights(weights(folder), before), history(folder)) == (True, rows)

    def test_temporary_files_are_removed_wherever_they_are(
        self, folder: Path, cases: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("os.getpid", lambda: 2**22 + 7)  # of a process that is gone
        places = [folder, folder / "work", folder / "work" / "bank", folder / "previews", folder / "model"]
        left = [temporary_beside(place / "checkpoint.pt") for place in places]
        left += [folder / ".0a1b2c3d.checkpoint.pt", folder / "previews" / ".0a1b2c3d.step000020.png"]  # of old
        users = [folder / ".0a1b2c3d.notes.txt", folder / ".hidden", folder / "work" / ".0a1b.checkpoint.pt"]
        monkeypatch.undo()
        for path in left + users:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"half of it")
        run(folder, cases)
        assert [path for path in left + users if path.exists()] == users


def test_a_finished_training_without_its_checkpoint_says_that_it_starts_anew(tmp_path: Path, cases: tuple[Case, ...]):
    folder = tmp_path / "job"
    run(folder, cases, config_of(schedule={"steps": 2}))
    (folder / "checkpoint.pt").unlink()
    run(folder, cases, config_of(schedule={"steps": 3}))
    told = [each.where for each in events(folder, Warned) if "from the beginning" in each.warning]
    assert told == [str(folder / "checkpoint.pt")]
