"""Model packages without PyTorch: what they tell, whether they are whole, and how they are sent."""

from __future__ import annotations

import errno
import json
import shutil
import zipfile
from pathlib import Path

import pytest
from semicardiac.base.errors import UserError
from semicardiac.cli.results import Info
from semicardiac.models import container
from semicardiac.models.package import CHECKSUMS, CONTENT, Package, import_package, open_package, write_zip

from Testing.engine.jobs.support import SETTINGS, write_package
from Testing.engine.support import ACDC


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_package(tmp_path / "few labels")


class TestDetails:
    def test_what_a_list_of_models_shows(self, folder: Path):
        package = open_package(folder)
        assert package.name == "few labels"
        assert package.labels == ACDC
        assert package.about == {"labeled_patients": 7, "validation_mean_dice": 0.886}
        assert package.settings.model_dump(mode="json") == SETTINGS

    def test_names_of_a_job_and_of_a_zip(self, tmp_path: Path, folder: Path):
        write_package(tmp_path / "first" / "model")
        write_zip(open_package(folder), tmp_path / "sent.zip")
        names = [open_package(tmp_path / name).name for name in ("first", "first/model", "sent.zip")]
        assert names == ["first", "first", "sent"]

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("[]", "config.json is not readable"),
            ("{", "config.json is not readable"),
            ("{}", "config.json tells no about, config, format"),
            (json.dumps({**SETTINGS, "format": 99, "version": "9.1"}), r"newer version \(9.1"),
        ],
    )
    def test_settings_that_cannot_be_used(self, folder: Path, text: str, what: str):
        (folder / "config.json").write_text(text)
        with pytest.raises(UserError, match=what) as caught:
            _ = open_package(folder).settings
        assert caught.value.where == str(folder)
        assert caught.value.hint

    @pytest.mark.parametrize(("kind", "hint"), [("train", "has not finished"), ("segment", "is not a training")])
    def test_a_job_without_a_model(self, tmp_path: Path, kind: str, hint: str):
        (tmp_path / "job.json").write_text(json.dumps({"kind": kind}))
        with pytest.raises(UserError, match=f"there is no model here.*{hint}"):
            open_package(tmp_path)

    def test_a_checkpoint_is_no_package(self, tmp_path: Path):
        with zipfile.ZipFile(tmp_path / "checkpoint.pt", "w") as archive:
            archive.writestr("data.pkl", b"")
        with pytest.raises(UserError, match=r"not a model package.*Name a job folder"):
            open_package(tmp_path / "checkpoint.pt")

    def test_labels_that_are_none(self, tmp_path: Path):
        package = open_package(write_package(tmp_path / "p", labels={"name": "x"}))
        with pytest.raises(UserError) as caught:
            _ = package.labels
        assert "config.json: labels.structures" in caught.value.where

    def test_info_has_no_power_over_the_terminal(self, tmp_path: Path, capsys):
        evil = "gpu\x1b]0;owned\x07\n\u202emore"
        structure = {"name": f"RV{evil}", "source_values": [1]}
        about = {"device": evil, evil: 1}
        Info(write_package(tmp_path / "p", labels={"name": "x", "structures": [structure]}, about=about)).run()
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 6  # a line for each entry
        assert all(line.isprintable() for line in lines)
        assert r"gpu\x1b]0;owned\x07\n\u202emore" in lines[4]


class TestReading:
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize(
        ("error", "what"),
        [
            (PermissionError(errno.EACCES, "Permission denied"), "permission is denied"),
            (OSError(errno.ESTALE, "Stale file handle"), "network drive does not answer"),
            (MemoryError(), "memory does not suffice"),
        ],
    )
    def test_a_whole_package_that_cannot_be_read_just_now_is_not_called_damaged(
        self, tmp_path: Path, folder: Path, monkeypatch, packed: bool, error: Exception, what: str
    ):
        package = open_package(folder)
        if packed:
            write_zip(package, tmp_path / "m.zip")
            package = open_package(tmp_path / "m.zip")

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(container.zipfile, "ZipFile", fail)
        monkeypatch.setattr(container, "open", fail, raising=False)
        with pytest.raises(UserError, match=what) as caught:
            package.verify()
        assert "package again" not in caught.value.hint


class TestVerify:
    def test_a_whole_package_passes(self, folder: Path):
        open_package(folder).verify()

    def test_a_successor_that_takes_its_place_meanwhile_is_verified_instead(self, tmp_path: Path, monkeypatch):
        mine = write_package(tmp_path / "p")
        theirs = write_package(tmp_path / "q", about={"device": "another"})
        real, calls = Package.chunks, []

        def swapped(package: Package, name: str, most: int | None = None):
            calls.append(name)
            if len(calls) == 2:  # the first is that of the checksums
                shutil.rmtree(mine)
                theirs.rename(mine)
            return real(package, name, most)

        monkeypatch.setattr(Package, "chunks", swapped)
        assert open_package(mine).verify() == open_package(mine).digests()

    @pytest.mark.parametrize("name", CONTENT)
    def test_a_file_without_a_checksum_is_not_trusted(self, folder: Path, name: str):
        lines = (folder / CHECKSUMS).read_text().splitlines(keepends=True)
        (folder / CHECKSUMS).write_text("".join(line for line in lines if name not in line))
        with pytest.raises(UserError, match=f"{name} is not what it was"):
            open_package(folder).verify()


class TestZip:
    def test_holds_the_package_and_nothing_else(self, tmp_path: Path, folder: Path):
        (folder / "notes.txt").write_text("of the patient Jane Doe")
        write_zip(open_package(folder), tmp_path / "sent.zip")
        with zipfile.ZipFile(tmp_path / "sent.zip") as archive:
            assert sorted(archive.namelist()) == sorted([*CONTENT, CHECKSUMS])
            assert all(archive.read(name) == (folder / name).read_bytes() for name in archive.namelist())

    def test_a_damaged_package_is_not_sent(self, tmp_path: Path, folder: Path):
        (folder / "model.safetensors").write_text("damaged")
        with pytest.raises(UserError, match=r"model\.safetensors"):
            write_zip(open_package(folder), tmp_path / "sent.zip")
        assert not (tmp_path / "sent.zip").exists()

    def test_a_full_disk_leaves_no_half_written_zip(self, tmp_path: Path, folder: Path, monkeypatch):
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(zipfile.ZipFile, "open", full)
        with pytest.raises(UserError, match="disk is full"):
            write_zip(open_package(folder), tmp_path / "sent.zip")
        assert [path.name for path in tmp_path.iterdir()] == ["few labels"]

    def test_a_file_that_is_there_stays(self, tmp_path: Path, folder: Path):
        (tmp_path / "sent.zip").write_text("somebody's")
        with pytest.raises(UserError, match="already"):
            write_zip(open_package(folder), tmp_path / "sent.zip")
        assert (tmp_path / "sent.zip").read_text() == "somebody's"

    def test_a_file_that_appears_meanwhile_stays(self, tmp_path: Path, folder: Path, monkeypatch):
        real = Package.verify

        def slowly(package: Package) -> dict[str, str]:
            (tmp_path / "sent.zip").write_text("somebody's")
            return real(package)

        monkeypatch.setattr(Package, "verify", slowly)
        with pytest.raises(UserError, match="already"):
            write_zip(open_package(folder), tmp_path / "sent.zip")
        assert (tmp_path / "sent.zip").read_text() == "somebody's"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["few labels", "sent.zip"]


class TestImport:
    def test_brings_every_file_of_a_zip(self, tmp_path: Path, folder: Path):
        write_zip(open_package(folder), tmp_path / "sent.zip")
        package = import_package(open_package(tmp_path / "sent.zip"), tmp_path / "models" / "theirs")
        assert package.name == "theirs"
        package.verify()
        assert content(tmp_path / "models" / "theirs") == content(folder)

    def test_writes_nothing_outside_its_folder(self, tmp_path: Path, folder: Path):
        path = tmp_path / "evil.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content(folder).items():
                archive.writestr(f"../../{name}", data)
            archive.writestr("../escaped.txt", "x")
            archive.writestr(str(tmp_path / "absolute.txt"), "x")
            archive.writestr("p/run.py", "x")
        before = set(tmp_path.rglob("*"))
        import_package(open_package(path), tmp_path / "a" / "b" / "c")
        new = {item for item in set(tmp_path.rglob("*")) - before if item.is_file()}
        assert new == {tmp_path / "a" / "b" / "c" / name for name in (*CONTENT, CHECKSUMS)}

    @pytest.mark.parametrize("fault", ["damaged", "newer"])
    def test_what_cannot_be_used_is_not_taken(self, tmp_path: Path, fault: str):
        theirs = write_package(tmp_path / "theirs", format=1 if fault == "damaged" else 99)
        if fault == "damaged":
            (theirs / "README.md").write_text("edited")
        path = Path(shutil.make_archive(str(tmp_path / "sent"), "zip", theirs))
        with pytest.raises(UserError):
            import_package(open_package(path), tmp_path / "mine")
        assert not (tmp_path / "mine").exists()

    def test_a_folder_that_holds_something_is_left_alone(self, tmp_path: Path, folder: Path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "README.md").write_text("my own")
        with pytest.raises(UserError, match="not empty"):
            import_package(open_package(folder), tmp_path / "mine")
        assert content(tmp_path / "mine") == {"README.md": b"my own"}
