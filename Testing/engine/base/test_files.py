"""Files are whole or not there, and full disks and closed folders are told clearly."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from semicardiac.base import files, temporaries
from semicardiac.base.errors import UserError
from semicardiac.base.sealed import read_sealed


def fails_with(number: int):
    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    return fail


def flushes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    """Watches `os.fsync`: the inode of what was flushed, and what a folder held then without temporary files."""
    flushed: list[tuple[int, list[str]]] = []

    def watched(descriptor: int, fsync=os.fsync) -> None:
        found = os.fstat(descriptor)
        names = os.listdir(descriptor) if stat.S_ISDIR(found.st_mode) else []
        flushed.append((found.st_ino, sorted(name for name in names if not temporaries.is_temporary(Path(name)))))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    return flushed


class TestAtomicPath:
    def test_the_file_appears_whole_and_nothing_else(self, tmp_path: Path):
        with files.atomic_path(tmp_path / "new" / "a.nii.gz") as temporary:
            temporary.write_bytes(b"abc")
            assert temporary.name.endswith(".a.nii.gz")
            assert not (tmp_path / "new" / "a.nii.gz").exists()
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.nii.gz"]
        assert (tmp_path / "new" / "a.nii.gz").read_bytes() == b"abc"

    @pytest.mark.skipif(os.name == "nt", reason="Windows cannot flush a folder")
    @pytest.mark.parametrize("replace", [True, False])
    def test_after_a_power_cut_it_is_there_under_its_name(self, tmp_path: Path, monkeypatch, replace: bool):
        path, flushed = tmp_path / "a.txt", flushes(monkeypatch)
        with files.atomic_path(path, replace=replace) as temporary:
            temporary.write_text("text")
            number = temporary.stat().st_ino
        assert flushed == [(number, []), (tmp_path.stat().st_ino, ["a.txt"])]

    @pytest.mark.skipif(os.name == "nt", reason="Windows cannot flush a folder")
    def test_a_drive_that_cannot_flush_folders_takes_files_all_the_same(self, tmp_path: Path, monkeypatch):
        def file_only(descriptor: int, fsync=os.fsync) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "Invalid argument")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", file_only)
        files.write_text(tmp_path / "a.txt", "text")
        assert (tmp_path / "a.txt").read_text() == "text"

    def test_an_error_leaves_the_old_file_and_no_temporary_one(self, tmp_path: Path):
        path = tmp_path / "a.txt"
        path.write_text("old")

        def fail() -> None:
            with files.atomic_path(path) as temporary:
                temporary.write_text("half of the n")
                raise RuntimeError("cut short")

        with pytest.raises(RuntimeError, match="cut short"):
            fail()
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("place", ["fsync", "replace"])
    def test_a_full_disk_is_told_and_leaves_nothing(self, tmp_path: Path, monkeypatch, place: str):
        monkeypatch.setattr(files.os, place, fails_with(errno.ENOSPC))
        path = tmp_path / "a.txt"
        with pytest.raises(UserError, match="the disk is full") as caught:
            files.write_text(path, "text")
        assert caught.value.where == str(path)
        assert not list(tmp_path.iterdir())

    def test_a_disk_that_fills_up_in_the_middle_of_a_large_file(self, tmp_path: Path):
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here")

        def fill() -> None:
            with files.atomic_path(tmp_path / "a.bin") as temporary:
                temporary.symlink_to("/dev/full")  # every write to it says that the disk is full
                with open(temporary, "wb") as file:
                    file.write(b"x" * 100_000)

        with pytest.raises(UserError, match="the disk is full"):
            fill()
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
    def test_a_closed_folder_is_told(self, tmp_path: Path, monkeypatch, number: int):
        monkeypatch.setattr(files.os, "replace", fails_with(number))
        with pytest.raises(UserError, match="not writable"):
            files.write_text(tmp_path / "a.txt", "text")

    @pytest.mark.parametrize(
        ("number", "what"),
        [
            (errno.EFBIG, "no file may grow this large"),
            (errno.EIO, "drive failed"),
            (errno.ESTALE, "does not answer"),
            (errno.ENAMETOOLONG, "too long"),
            (errno.EMFILE, "too many files"),
        ],
    )
    def test_what_else_a_user_can_do_something_about_is_told(self, tmp_path: Path, monkeypatch, number: int, what: str):
        monkeypatch.setattr(files.os, "replace", fails_with(number))
        with pytest.raises(UserError, match=what) as caught:
            files.write_text(tmp_path / "a.txt", "text")
        assert caught.value.where == str(tmp_path / "a.txt")
        assert caught.value.hint
        assert not list(tmp_path.iterdir())

    def test_other_errors_of_the_system_stay_what_they_are(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr(files.os, "replace", fails_with(errno.ECHILD))
        with pytest.raises(OSError, match=os.strerror(errno.ECHILD)):
            files.write_text(tmp_path / "a.txt", "text")

    @pytest.mark.parametrize("name", ["a" * 247 + ".nii.gz", "ä" * 123 + ".seg.nrrd", "a"])
    def test_a_name_may_be_as_long_as_the_disk_allows(self, tmp_path: Path, name: str):
        with files.atomic_path(tmp_path / name) as temporary:
            temporary.write_bytes(b"x")
            assert temporary.name.endswith("".join(Path(name).suffixes))
        assert [path.name for path in tmp_path.iterdir()] == [name]


class TestNewFiles:
    @pytest.fixture(params=["links", "no links"])
    def _system(self, request, monkeypatch) -> None:
        if request.param == "no links":
            monkeypatch.setattr(files.os, "link", fails_with(errno.EPERM))

    @pytest.mark.usefixtures("_system")
    def test_a_file_that_appears_meanwhile_stays(self, tmp_path: Path):
        def write() -> None:
            with files.atomic_path(tmp_path / "a.txt", replace=False) as temporary:
                temporary.write_text("ours")
                (tmp_path / "a.txt").write_text("theirs")

        with pytest.raises(UserError, match="a file of this name already"):
            write()
        assert (tmp_path / "a.txt").read_text() == "theirs"
        assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]

    @pytest.mark.usefixtures("_system")
    def test_a_new_name_is_taken(self, tmp_path: Path):
        with files.atomic_path(tmp_path / "a.txt", replace=False) as temporary:
            temporary.write_text("ours")
        assert (tmp_path / "a.txt").read_text() == "ours"
        assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]

    def test_a_disk_that_fails_without_links_leaves_no_empty_file(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr(files.os, "link", fails_with(errno.ENOTSUP))
        monkeypatch.setattr(files.os, "replace", fails_with(errno.ENOSPC))
        with pytest.raises(UserError, match="full"), files.atomic_path(tmp_path / "a", replace=False) as temporary:
            temporary.write_text("ours")
        assert not list(tmp_path.iterdir())


class TestAbandoned:
    """What killed processes leave behind."""

    @staticmethod
    def left_by(folder: Path, pid: int, *, machine: str | None = None) -> Path:
        path = temporaries.temporary_beside(folder / "model.safetensors")
        name = path.name.replace(f"-{os.getpid()}-", f"-{pid}-")
        path = path.with_name(name if machine is None else name.replace(name.split("-")[1], machine))
        path.write_text("half")
        return path

    @pytest.fixture
    def gone(self) -> int:
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        return process.pid

    def test_is_removed_and_nothing_else(self, tmp_path: Path, gone: int):
        mine = [".semicardiac", ".semicardiac-notes.txt", ".1a2b3c4d.scan.nii.gz", "scan.nii.gz"]
        for name in mine:
            (tmp_path / name).touch()
        used = {self.left_by(tmp_path, os.getpid()), self.left_by(tmp_path, gone, machine="00000000")}
        self.left_by(tmp_path, gone)
        unpacked = temporaries.temporary_beside(tmp_path / "model").name.replace(f"-{os.getpid()}-", f"-{gone}-")
        (tmp_path / unpacked / "inside").mkdir(parents=True)
        temporaries.remove_abandoned(tmp_path)
        assert set(tmp_path.iterdir()) == used | {tmp_path / name for name in mine}

    def test_on_another_machine_counts_as_such_after_an_hour(self, tmp_path: Path, gone: int):
        path = self.left_by(tmp_path, gone, machine="00000000")
        os.utime(path, (time.time() - 4000, time.time() - 4000))
        temporaries.remove_abandoned(tmp_path)
        assert not path.exists()

    def test_is_nothing_that_makes_a_folder_other_than_empty(self, tmp_path: Path, gone: int):
        self.left_by(tmp_path, gone)
        assert files.output_folder(tmp_path) == tmp_path


class TestJson:
    def test_nan_and_infinity_become_null(self, tmp_path: Path):
        files.write_json(tmp_path / "a.json", {"a": [1.5, float("nan")], "b": (float("inf"), {"c": -float("inf")})})
        assert files.read_json(tmp_path / "a.json") == {"a": [1.5, None], "b": [None, {"c": None}]}

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (None, "missing"),
            (b"{", "not a readable"),
            (b"\xff\xfe\x00", "not a readable"),
            (b"[" * 100_000, "nested too deeply"),
        ],
    )
    def test_unreadable_files_are_the_users_to_mend(self, tmp_path: Path, content: bytes | None, what: str):
        path = tmp_path / "a.json"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=what) as caught:
            files.read_json(path)
        assert caught.value.where == str(path)

    @pytest.mark.parametrize("read", [files.read_json, read_sealed])
    def test_a_file_that_cannot_be_read_is_not_called_damaged(self, tmp_path: Path, monkeypatch, read):
        monkeypatch.setattr(files.Path, "read_text", fails_with(errno.EACCES))
        with pytest.raises(UserError, match="cannot be read: permission is denied") as caught:
            read(tmp_path / "a.json")
        assert "right to read" in caught.value.hint

    def test_a_byte_order_mark_does_no_harm(self, tmp_path: Path):
        (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
        assert files.read_json(tmp_path / "a.json") == {"a": 1}

    def test_text_is_the_same_on_every_system(self, tmp_path: Path):
        files.write_json(tmp_path / "a.json", {"name": "Müller"})
        content = (tmp_path / "a.json").read_bytes()
        assert b"\r" not in content
        assert json.loads(content) == {"name": "Müller"}


def test_a_name_that_is_not_utf8_does_not_stop_a_text(tmp_path: Path):
    files.write_text(tmp_path / "a.html", "M\udcfcller")
    assert (tmp_path / "a.html").read_text() == "M?ller"


def test_sha256_of_known_content(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class TestOutputFolder:
    def test_makes_folders_and_leaves_no_trace_of_its_probe(self, tmp_path: Path):
        made = files.output_folder(tmp_path / "a" / "b")
        assert made.is_dir()
        assert not list(made.iterdir())

    def test_refuses_a_folder_with_something_in_it(self, tmp_path: Path):
        (tmp_path / "mine.txt").touch()
        with pytest.raises(UserError, match="not empty"):
            files.output_folder(tmp_path)
        assert files.output_folder(tmp_path, empty=False) == tmp_path

    def test_refuses_a_file(self, tmp_path: Path):
        (tmp_path / "a").touch()
        with pytest.raises(UserError, match="a file, not a folder"):
            files.output_folder(tmp_path / "a")

    def test_refuses_a_place_below_a_file(self, tmp_path: Path):
        (tmp_path / "a").touch()
        with pytest.raises(UserError, match="cannot be made"):
            files.output_folder(tmp_path / "a" / "b")

    def test_refuses_a_place_that_is_not_writable(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr(files.Path, "touch", fails_with(errno.EACCES))
        with pytest.raises(UserError, match="not writable"):
            files.output_folder(tmp_path / "a")
