"""Model packages and finished jobs on disk: listed, sent, received, deleted."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import pytest
from semicardiac.models.package import CHECKSUMS, CONTENT, SETTINGS, WEIGHTS, open_package
from SemiCardiacSegLib.tasks import models

from Testing.engine.jobs.support import sign
from Testing.slicer.engine_jobs import modelPackage, unprivileged

FILES = sorted((*CONTENT, CHECKSUMS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A package to copy from."""
    return modelPackage(tmp_path_factory.mktemp("made") / "package")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "Módels 心"
    folder.mkdir()
    return folder


def put(whole: Path, place: Path, hour: int = 12) -> Path:
    """A copy of the package, written at this hour of a day."""
    shutil.copytree(whole, place)
    for path in place.iterdir():
        os.utime(path, (1.7e9 + 3600 * hour,) * 2)
    return place


def putJob(whole: Path, folder: Path, hour: int = 12) -> Path:
    put(whole, folder / "model", hour)
    (folder / "job.json").write_text("{}", encoding="utf-8")
    (folder / "history.csv").write_text("step\n", encoding="utf-8")
    return folder


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


class TestFind:
    def test_packages_and_finished_jobs_newest_first(self, whole: Path, library: Path):
        old, job, new = (
            put(whole, library / "old", 1),
            putJob(whole, library / "job", 2),
            put(whole, library / "new", 3),
        )
        found = models.findModels(library)
        assert [model.path for model in found] == [new, job, old]
        assert [model.name for model in found] == ["new", "job", "old"]
        assert all(model.problem == "" for model in found)
        assert found[0].about["validation_mean_dice"] == 0.81
        assert found[0].labels.names == ["RV cavity", "LV myocardium", "LV cavity"]
        assert (found[0].created - found[2].created).total_seconds() == 2 * 3600

    def test_what_is_no_model_is_not_listed(self, whole: Path, library: Path):
        (library / "unfinished").mkdir()
        (library / "unfinished" / "job.json").write_text("{}", encoding="utf-8")
        (library / "other program").mkdir()
        (library / "other program" / SETTINGS).write_text("{}", encoding="utf-8")
        (library / "other program" / "README.md").write_text("", encoding="utf-8")
        (library / "file.txt").touch()
        assert models.findModels(library) == []
        assert models.findModels(library / "nowhere") == []

    @pytest.mark.parametrize("name", FILES)
    def test_a_missing_file_is_told(self, whole: Path, library: Path, name: str):
        (put(whole, library / "mine") / name).unlink()
        (model,) = models.findModels(library)
        assert name in model.problem
        assert (model.name, model.labels, model.about) == ("mine", None, {})

    @pytest.mark.parametrize("name", CONTENT)
    def test_a_damaged_file_is_told(self, whole: Path, library: Path, name: str):
        damage(put(whole, library / "mine") / name)
        (model,) = models.findModels(library)
        assert f"{name} is not what it was" in model.problem

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda settings: settings.update(format="1"), "config.json: format: got '1'"),
            (lambda settings: settings.update(format=None), "config.json: format: got None"),
            (lambda settings: settings.update(about=[]), "config.json: about: got []"),
            (
                lambda settings: settings["about"].update(validation_mean_dice="high"),
                "'validation_mean_dice' must",
            ),
            (lambda settings: settings["config"].update(method=1), "config.json: config.method"),
            (lambda settings: settings["labels"].update(structures=[None]), "config.json: labels.structures.0"),
        ],
    )
    def test_a_bad_one_is_a_line_beside_the_others(self, whole: Path, library: Path, change, told: str):
        put(whole, library / "good")
        bad = put(whole, library / "bad")
        settings = json.loads((bad / SETTINGS).read_text(encoding="utf-8"))
        change(settings)
        (bad / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")
        sign(bad)
        found = {model.name: model.problem for model in models.findModels(library)}
        assert found.keys() == {"good", "bad"}
        assert found["good"] == ""
        assert told in found["bad"]

    def test_a_job_killed_while_its_model_was_replaced_is_listed_once(self, whole: Path, library: Path):
        job = putJob(whole, library / "job")
        (job / "model").rename(job / ".model.old")
        put(whole, job / ".model.new")
        put(whole, library / ".mine.new")
        (model,) = models.findModels(library)
        assert (model.path, model.name, model.problem) == (job, "job", "")

    def test_damage_is_noticed_later_too(self, whole: Path, library: Path):
        put(whole, library / "mine")
        assert models.findModels(library)[0].problem == ""
        (library / "mine" / WEIGHTS).write_bytes(b"")
        assert WEIGHTS in models.findModels(library)[0].problem

    def test_one_that_is_no_model(self, library: Path):
        with pytest.raises(ValueError, match="no model in") as error:
            models.describeModel(library)
        assert str(library) in str(error.value)


class TestSend:
    @pytest.mark.parametrize("make", [put, putJob])
    def test_there_and_back(self, whole: Path, library: Path, tmp_path: Path, make):
        file = models.exportModel(make(whole, library / "mine"), tmp_path / "for you.v2")
        assert file == tmp_path / "for you.v2.zip"
        received = models.importModel(file, tmp_path / "new folder")
        assert received.path == tmp_path / "new folder" / "for you.v2"
        assert received.problem == ""
        assert received.about == models.describeModel(library / "mine").about
        assert {path.name: path.read_bytes() for path in received.path.iterdir()} == {
            path.name: path.read_bytes() for path in whole.iterdir()
        }

    def test_a_file_that_is_there_is_kept(self, whole: Path, tmp_path: Path):
        file = tmp_path / "mine.zip"
        file.write_text("precious", encoding="utf-8")
        with pytest.raises(ValueError, match="already"):
            models.exportModel(whole, file)
        assert file.read_text(encoding="utf-8") == "precious"

    def test_a_damaged_model_is_not_sent(self, whole: Path, library: Path, tmp_path: Path):
        damage(put(whole, library / "mine") / WEIGHTS)
        with pytest.raises(ValueError, match="is not what it was"):
            models.exportModel(library / "mine", tmp_path / "mine.zip")
        assert not (tmp_path / "mine.zip").exists()


class TestReceive:
    @pytest.fixture
    def sent(self, whole: Path, tmp_path: Path) -> Path:
        return models.exportModel(whole, tmp_path / "sent.zip")

    def repacked(self, sent: Path, change) -> Path:
        """The zip with its list of (name, content) changed."""
        with zipfile.ZipFile(sent) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
        path = sent.with_name("changed.zip")
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in change(members):
                archive.writestr(name, content)
        return path

    def test_none_is_overwritten(self, sent: Path, library: Path):
        first, second = models.importModel(sent, library), models.importModel(sent, library)
        assert (first.path.name, second.path.name) == ("sent", "sent-2")
        assert open_package(first.path).read(WEIGHTS) == open_package(second.path).read(WEIGHTS)

    def test_a_folder_that_somebody_zipped_by_hand(self, sent: Path, library: Path):
        file = self.repacked(sent, lambda members: [(f"package/{name}", content) for name, content in members])
        assert models.importModel(file, library).problem == ""

    @pytest.mark.parametrize(
        "name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"]
    )
    def test_nothing_gets_outside(self, sent: Path, library: Path, tmp_path: Path, name: str):
        file = self.repacked(sent, lambda members: [*members, (name, b"evil")])
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match="outside of its folder"):
            models.importModel(file, library)
        assert sorted(tmp_path.rglob("*")) == before
        assert not Path("/tmp/evil.txt").exists()

    def test_only_the_files_of_a_package_are_taken(self, sent: Path, library: Path):
        file = self.repacked(sent, lambda members: [*members, ("sitecustomize.py", b"evil")])
        assert sorted(path.name for path in models.importModel(file, library).path.iterdir()) == FILES

    @pytest.mark.parametrize("name", CONTENT)
    def test_a_changed_file(self, sent: Path, library: Path, name: str):
        file = self.repacked(sent, lambda members: [(each, data + b" " * (each == name)) for each, data in members])
        with pytest.raises(ValueError, match=rf"{name} is (not what it was|larger than it can be)"):
            models.importModel(file, library)
        assert list(library.iterdir()) == []

    def test_what_is_no_package(self, library: Path, tmp_path: Path):
        (tmp_path / "a.zip").write_bytes(b"PK nonsense")
        with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
            archive.writestr("photo.txt", b"")
        for name in ("a.zip", "b.zip", "nowhere.zip"):
            with pytest.raises(ValueError, match=name):
                models.importModel(tmp_path / name, library)
        assert list(library.iterdir()) == []

    def test_what_was_begun_is_removed_when_it_fails(self, sent: Path, library: Path, monkeypatch):
        from semicardiac.models import package

        real = package.atomic_path

        def full(path: Path):
            if path.name == CHECKSUMS:
                raise OSError(28, "No space left on device")
            return real(path)

        monkeypatch.setattr(package, "atomic_path", full)
        with pytest.raises(OSError, match="No space left"):
            models.importModel(sent, library)
        assert list(library.iterdir()) == []

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the permissions of POSIX")
    def test_a_read_only_folder(self, sent: Path, library: Path):
        library.chmod(0o555)
        for folder in sent.parents:  # pytest lets only its own user look into its folders
            if folder == Path(tempfile.gettempdir()):
                break
            folder.chmod(folder.stat().st_mode | 0o055)
        with unprivileged(), pytest.raises(ValueError, match="not writable"):
            models.importModel(sent, library)
        library.chmod(0o755)
        assert list(library.iterdir()) == []


class TestDelete:
    def test_a_package(self, whole: Path, library: Path):
        mine, other = put(whole, library / "mine"), put(whole, library / "other")
        models.deleteModel(mine)
        assert list(library.iterdir()) == [other]

    def test_of_a_job_only_the_model(self, whole: Path, library: Path):
        job = putJob(whole, library / "job")
        models.deleteModel(job)
        assert sorted(path.name for path in job.iterdir()) == ["history.csv", "job.json"]

    def test_what_a_kill_left_goes_along(self, whole: Path, library: Path):
        job = putJob(whole, library / "job")
        put(whole, job / ".model.old")
        put(whole, job / ".model.new")
        models.deleteModel(job)
        assert sorted(path.name for path in job.iterdir()) == ["history.csv", "job.json"]
        with pytest.raises(ValueError, match="no model in"):
            models.describeModel(job)

    def test_a_folder_in_it_is_not_deleted(self, whole: Path, library: Path):
        mine = put(whole, library / "mine")
        (mine / "README.md").unlink()
        (mine / "README.md").mkdir()
        with pytest.raises(ValueError, match=r"README\.md"):
            models.deleteModel(mine)
        assert (mine / "README.md").is_dir()

    def test_a_damaged_one(self, whole: Path, library: Path):
        (put(whole, library / "mine") / SETTINGS).unlink()
        models.deleteModel(library / "mine")
        assert list(library.iterdir()) == []

    def test_what_is_no_model_stays(self, library: Path):
        (library / "thesis").mkdir()
        (library / "thesis" / "config.json").write_text("{}", encoding="utf-8")
        for path in (library / "thesis", library):
            with pytest.raises(ValueError, match="no model in"):
                models.deleteModel(path)
        assert (library / "thesis" / "config.json").exists()

    def test_other_files_in_it_are_not_deleted(self, whole: Path, library: Path):
        mine = put(whole, library / "mine")
        (mine / "thesis.docx").touch()
        with pytest.raises(ValueError, match=r"thesis\.docx"):
            models.deleteModel(mine)
        assert len(list(mine.iterdir())) == len(FILES) + 1
