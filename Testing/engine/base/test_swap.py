"""A folder is replaced whole: killed at any moment, it has its old or its new content, and a person's files stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from semicardiac.base import swap
from semicardiac.base.errors import UserError
from semicardiac.base.swap import folder_beside, present, remove_leftovers, replaced_folder, set_aside, successor

from Testing.engine.support import engine_environment


def fill(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        (folder / name).write_text(text)
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def replace(folder: Path, text: str = "new") -> None:
    with replaced_folder(folder) as new:
        fill(new, text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "library" / "model", "old")


NEW, OLD = {"a": "new", "b": "new"}, {"a": "old", "b": "old"}


class TestReplace:
    def test_a_folder_that_was_not_there(self, tmp_path: Path):
        replace(tmp_path / "x" / "model")
        assert texts(tmp_path / "x" / "model") == NEW
        assert os.listdir(tmp_path / "x") == ["model"]

    def test_the_old_one_is_there_until_the_new_one_is_whole(self, folder: Path):
        with replaced_folder(folder) as new:
            fill(new, "new")
            assert texts(folder) == OLD
            assert list(folder.parent.iterdir()) != [folder]
        assert texts(folder) == NEW
        assert os.listdir(folder.parent) == ["model"]

    @pytest.mark.skipif(os.name == "nt", reason="Windows cannot flush a folder")
    def test_the_new_one_is_on_disk_before_the_old_one_goes(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        flushed = []

        def watched(descriptor: int, fsync=os.fsync) -> None:
            flushed.append((os.fstat(descriptor).st_ino, set_aside(folder).exists()))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", watched)
        replace(folder)
        number = {path.stat().st_ino: path.name for path in (folder.parent, folder, *folder.iterdir())}
        *content, new, parent = [(number[each], old_is_aside) for each, old_is_aside in flushed]
        assert sorted(content) == [("a", False), ("b", False)]
        assert (new, parent) == (("model", False), ("library", True))

    @pytest.mark.parametrize("error", [UserError("x"), KeyboardInterrupt(), OSError(28, "No space left on device")])
    def test_what_fails_leaves_the_old_one(self, folder: Path, error: BaseException):
        with pytest.raises((UserError, KeyboardInterrupt)), replaced_folder(folder) as new:  # noqa: PT012
            fill(new, "half")
            raise error
        assert texts(folder) == OLD
        assert os.listdir(folder.parent) == ["model"]

    def test_a_persons_own_files_move_along(self, folder: Path):
        (folder / "notes.docx").write_text("precious")
        fill(folder / "figures", "precious")
        replace(folder)
        assert (folder / "notes.docx").read_text() == "precious"
        assert texts(folder / "figures") == {"a": "precious", "b": "precious"}
        assert (folder / "a").read_text() == "new"

    @pytest.mark.skipif(os.name == "nt", reason="links need a permission there")
    def test_a_link_to_a_folder_elsewhere_is_replaced_and_that_folder_is_not(self, folder: Path, tmp_path: Path):
        elsewhere = folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(elsewhere)
        replace(folder)
        assert texts(folder) == NEW
        assert texts(elsewhere) == OLD
        assert os.listdir(folder.parent) == ["model"]

    def test_a_place_to_try_is_gone_afterwards(self, folder: Path):
        with folder_beside(folder) as trial:
            fill(trial, "new")
        assert texts(folder) == OLD
        assert os.listdir(folder.parent) == ["model"]


class TestAfterAKill:
    def test_what_was_set_aside_is_present_and_comes_back(self, folder: Path):
        os.rename(folder, set_aside(folder))
        fill(successor(folder), "new")
        assert texts(present(folder)) == OLD
        with pytest.raises(KeyboardInterrupt), replaced_folder(folder):
            raise KeyboardInterrupt
        assert texts(folder) == OLD
        assert os.listdir(folder.parent) == ["model"]

    def test_what_was_superseded_is_not(self, folder: Path):
        fill(set_aside(folder), "older")
        (set_aside(folder) / "notes.docx").write_text("precious")
        assert present(folder) == folder
        replace(folder)
        assert texts(folder) == {**NEW, "notes.docx": "precious"}
        assert os.listdir(folder.parent) == ["model"]

    def test_with_the_folder_go_its_leftovers(self, folder: Path):
        fill(set_aside(folder), "older")
        fill(successor(folder), "half")
        remove_leftovers(folder)
        assert os.listdir(folder.parent) == ["model"]


class TestInUse:
    """Windows renames no folder while a program has a file in it open."""

    @pytest.fixture
    def refused(self, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        """Renames are refused as many times as this list is long."""
        real, refusals = os.rename, []

        def rename(path: Path, target: Path) -> None:
            if refusals and refusals.pop() == Path(path).name:
                raise PermissionError(13, "Access is denied")
            real(path, target)

        monkeypatch.setattr(os, "rename", rename)
        monkeypatch.setattr(swap, "PATIENCE", (0.0, 0.0, 0.0))
        return refusals

    def test_it_is_tried_again(self, folder: Path, refused: list[str]):
        refused += ["model"] * 2
        replace(folder)
        assert texts(folder) == NEW

    @pytest.mark.parametrize("which", ["model", ".model.new"])
    def test_after_a_while_it_is_told_and_the_old_one_stays(self, folder: Path, refused: list[str], which: str):
        refused += [which] * 4 + ["nothing"] * (which == ".model.new")  # of the first rename
        with pytest.raises(UserError, match="another program") as caught:
            replace(folder)
        assert caught.value.hint
        assert texts(folder) == OLD
        assert os.listdir(folder.parent) == ["model"]


KILLED = """
import contextlib, io, json, os, shutil, sys
from pathlib import Path
from Testing.engine.networks import ACDC, new_method, tiny_config
import torch
from semicardiac.cli.results import Info
from semicardiac.base.errors import UserError
from semicardiac.models.model import Model, build_locator, load_model, rehearse_saving, save_model
from semicardiac.models.networks import build_network
from semicardiac.models.package import open_package

job, config = Path(sys.argv[1]), tiny_config()
os.fsync = lambda file: None  # of no consequence for a kill, and slow
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link"}

def model(device, value):
    network = build_network(config.network, ACDC.classes)
    with torch.no_grad():
        next(iter(network.parameters())).fill_(value)
    return Model(network, build_locator(config), new_method(config), config, ACDC, (1.0, 2.0), {"device": device})

def killed_at(operation, do):
    child = os.fork()
    if child == 0:
        left = [operation]
        def count(event, arguments):
            if event in CHANGES or (event == "open" and arguments[1] not in (None, "r", "rb")):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
        sys.addaudithook(count)
        do()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

def state():
    try:
        found = load_model(job)
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            Info(job).run()
        device = found.about["device"]
        assert next(iter(found.network.parameters())).unique().tolist() == [{"old": 1.0, "new": 2.0}[device]]
        assert device in shown.getvalue()
        return device
    except UserError as error:
        return error.what

def every_kill(do, first):
    states, operation, killed = [], 0, True
    while killed:
        shutil.rmtree(job)
        job.mkdir()
        (job / "job.json").write_text('{"kind": "train"}')
        if not first:
            shutil.copytree(job.parent / "old", job / "model")
            (job / "model" / "notes.docx").write_text("precious")
        killed = killed_at(operation, do)
        states.append(state())
        save_model(job / "model", new)
        assert open_package(job).about["device"] == "new", operation
        assert sorted(os.listdir(job)) == ["job.json", "model"], operation
        assert first or (job / "model" / "notes.docx").read_text() == "precious"
        operation += 1
    return states

new = model("new", 2)
save_model(job.parent / "old", model("old", 1))
print(json.dumps({
    "prolonged": every_kill(lambda: save_model(job / "model", new), False),
    "first": every_kill(lambda: save_model(job / "model", new), True),
    "trial": every_kill(lambda: rehearse_saving(job / "model", new), False),
}))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes of POSIX")
def test_killed_at_any_file_operation_a_model_is_the_old_or_the_new_one(tmp_path: Path):
    """Killed before each operation in turn, of a save over a model, a first one, and a trial; then saved again."""
    (tmp_path / "job").mkdir()
    environment = engine_environment()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "job")], env=environment, capture_output=True, encoding="utf-8",
        timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    states = json.loads(done.stdout)
    assert len(states["prolonged"]) > 20
    assert set(states["prolonged"]) == {"old", "new"}
    assert states["prolonged"] == sorted(states["prolonged"], reverse=True)  # first the old one, then the new one
    assert set(states["first"]) == {"there is no model here", "new"}
    assert set(states["trial"]) == {"old"}
