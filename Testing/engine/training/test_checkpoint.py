"""Checkpoints: whole or refused, never unpickled."""

from __future__ import annotations

import errno
import pickle
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from semicardiac.base.errors import UserError
from semicardiac.training import checkpoint
from semicardiac.training.checkpoint import State, load_checkpoint, save_checkpoint

from Testing.engine.networks import ACDC, same_weights

NAMES = ACDC.names


def new_state(**changes: object) -> State:
    """What a training keeps, in small."""
    network = torch.nn.Linear(20, 30)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.ones(1, 20)).sum().backward()
    optimizer.step()
    state = State(
        labels=NAMES, job="1a2b", student=network.state_dict(), teacher=network.state_dict(),
        method={"threshold": torch.rand(4, 4), "_extra_state": {"alpha": 0.9}}, optimizer=optimizer.state_dict(),
        scaler={}, generator=torch.Generator().manual_seed(3).get_state(), step=17, chunks=1, used=12.5, cpu=11.0,
        began=(0.1, 2.5), mixed_since=(4, 0.35), ramped=0.5, labeled=torch.arange(3), unlabeled=torch.arange(5),
        offsets=torch.zeros(8, 2), closed=0,
        window={"sums": {"loss": (torch.tensor(2.5), 2)}, "steps": 2, "mixed": 1, "images": 12, "seconds": 0.5},
    )  # fmt: skip
    return replace(state, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "checkpoint.pt", new_state())
    return tmp_path / "checkpoint.pt"


def test_round_trip(tmp_path: Path):
    state = new_state()
    save_checkpoint(tmp_path / "job" / "checkpoint.pt", state)
    loaded = load_checkpoint(tmp_path / "job" / "checkpoint.pt", NAMES)
    assert same_weights(loaded.student, state.student)
    momentum = [each.optimizer["state"][0]["momentum_buffer"] for each in (loaded, state)]
    assert torch.equal(*momentum)
    for name in ("generator", "labeled", "unlabeled", "offsets"):
        assert torch.equal(getattr(loaded, name), getattr(state, name))
    for name in ("labels", "job", "step", "used", "cpu", "began", "mixed_since", "ramped", "window", "closed"):
        assert getattr(loaded, name) == getattr(state, name)
    assert [each.name for each in (tmp_path / "job").iterdir()] == ["checkpoint.pt"]


def test_one_of_another_label_set_names_both(path: Path):
    with pytest.raises(UserError, match=f"{NAMES[0]}.*Left atrium") as caught:
        load_checkpoint(path, ["Left atrium"])
    assert caught.value.where == str(path)
    with pytest.raises(UserError, match="labels"):  # the same structures in another order are other classes
        load_checkpoint(path, NAMES[::-1])


def test_one_of_a_newer_version_asks_for_an_update(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    save_checkpoint(path, new_state())
    monkeypatch.undo()
    with pytest.raises(UserError, match="newer version") as caught:
        load_checkpoint(path, NAMES)
    assert "Update" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02", b"PK\x03\x04" + bytes(50), bytes(5000), b"\xff" * 300])
def test_what_is_no_checkpoint_is_told(path: Path, content: bytes):
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_checkpoint(path, NAMES)
    assert caught.value.where == str(path)
    assert caught.value.hint


@pytest.mark.parametrize("thing", [{"weights": torch.zeros(3)}, torch.zeros(3), [1, 2], {"format": 1, "step": 3}])
def test_what_torch_saved_for_another_purpose_is_told(path: Path, thing: object):
    torch.save(thing, path)
    with pytest.raises(UserError):
        load_checkpoint(path, NAMES)


def test_one_cut_short_anywhere_is_damaged(path: Path):
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="damaged"):
            load_checkpoint(path, NAMES)


def test_whatever_bit_flips_it_is_an_error_of_the_user_or_of_no_consequence(path: Path):
    whole, dice = path.read_bytes(), random.Random(0)
    expected = load_checkpoint(path, NAMES)
    for _ in range(150):
        content = bytearray(whole)
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        path.write_bytes(content)
        try:
            loaded = load_checkpoint(path, NAMES)
        except UserError:
            continue
        assert same_weights(loaded.student, expected.student)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "permission is denied"),
        (OSError(errno.EIO, "Input/output error"), "disk or network drive failed"),
        (MemoryError(), "memory does not suffice"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory does not suffice"),
    ],
)
@pytest.mark.parametrize("reader", [(zipfile, "ZipFile"), (torch, "load")])
def test_a_whole_one_that_cannot_be_read_just_now_is_not_called_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, what: str, reader: tuple[object, str]
):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(*reader, fail)
    with pytest.raises(UserError, match=what) as caught:
        load_checkpoint(path, NAMES)
    assert "again in a new folder" not in caught.value.hint
    monkeypatch.undo()
    assert load_checkpoint(path, NAMES).step == 17


class Bomb:
    went_off = False

    def __reduce__(self):
        return (Bomb.go_off, ())

    @staticmethod
    def go_off() -> int:
        Bomb.went_off = True
        return 1


@pytest.mark.parametrize("how", ["pickle", "torch.save"])
def test_code_in_it_is_refused_unread(path: Path, how: str):
    if how == "pickle":
        path.write_bytes(pickle.dumps({"format": 1, "labels": NAMES, "step": Bomb()}, protocol=2))
    else:
        torch.save({"format": 1, "labels": NAMES, "step": Bomb()}, path)
    with pytest.raises(UserError):
        load_checkpoint(path, NAMES)
    assert not Bomb.went_off


def test_a_full_disk_leaves_the_checkpoint_before(path: Path, monkeypatch: pytest.MonkeyPatch):
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> int:
        with open(self, "wb") as file:
            file.write(bytes(content)[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="disk is full"):
        save_checkpoint(path, new_state(step=18))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]
