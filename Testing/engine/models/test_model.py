"""The model package: whole and unharmed, or an error that says what is wrong; never unpickled."""

from __future__ import annotations

import errno
import json
import pickle
import random
import shutil
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from semicardiac import __version__
from semicardiac.base.errors import UserError
from semicardiac.models.model import Model, build_locator, load_model, save_model
from semicardiac.models.networks import build_network
from semicardiac.models.package import LARGEST, Package, open_package, write_zip

from Testing.engine.jobs.support import sign
from Testing.engine.networks import ACDC, BACKBONES, new_method, same_weights, tiny_config, weights_of

FILES = {"model.safetensors", "config.json", "README.md", "LICENSE.txt", "SHA256SUMS"}


def new_model(*, locator: bool = True) -> Model:
    """A model with random weights."""
    torch.manual_seed(0)
    config = tiny_config(seed=3, method={"lambda_u": 0.25})
    method = new_method(config)
    method.threshold, method.ratio = torch.rand(32, 32), torch.tensor([1.0, 0.9, 0.8, 0.7])
    return Model(
        build_network(config.network, ACDC.classes), build_locator(config) if locator else None, method, config, ACDC,
        (1234.5, 9876.0),
        {"training_steps": 24, "device": "a µ-processor"},
    )  # fmt: skip


@pytest.fixture
def package(tmp_path: Path) -> Path:
    save_model(tmp_path / "package", new_model())
    return tmp_path / "package"


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit_settings(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    sign(folder)


class TestRoundTrip:
    @pytest.mark.parametrize("locator", [True, False])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_everything_comes_back(self, tmp_path: Path, locator: bool, zipped: bool):
        model, path = new_model(locator=locator), tmp_path / "package"
        save_model(path, model)
        if zipped:
            write_zip(open_package(path), tmp_path / "package.zip")
            shutil.rmtree(path)
            path = tmp_path / "package.zip"
        loaded = load_model(path)
        assert same_weights(weights_of(model.network), weights_of(loaded.network))
        assert (loaded.locator is None) == (not locator)
        if locator:
            assert same_weights(weights_of(model.locator), weights_of(loaded.locator))
        assert torch.equal(loaded.method.threshold, model.method.threshold)
        assert torch.equal(loaded.method.ratio, model.method.ratio)
        assert (loaded.config, loaded.labels) == (model.config, model.labels)
        assert loaded.heart_area_mm2 == model.heart_area_mm2
        assert loaded.about == model.about

    def test_it_computes_what_was_saved_and_is_not_trained_any_more(self, package: Path):
        image = torch.randn(1, 1, 32, 32)
        loaded = load_model(package)
        torch.testing.assert_close(loaded.network(image)[0], new_model().network(image)[0], rtol=0, atol=0)
        for network in (loaded.network, loaded.locator):
            assert not network.training
            assert not any(parameter.requires_grad for parameter in network.parameters())

    def test_what_a_package_holds(self, package: Path):
        assert {path.name for path in package.iterdir()} == FILES
        tensors = load_file(package / "model.safetensors")
        assert {name.split(".")[0] for name in tensors} == {"network", "locator", "method"}
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
        settings = json.loads((package / "config.json").read_text())
        assert (settings["format"], settings["version"]) == (2, __version__)
        for line in (package / "SHA256SUMS").read_text().splitlines():  # as sha256sum -c reads it
            digest, name = line.split("  ")
            assert sha256((package / name).read_bytes()).hexdigest() == digest
        card = (package / "README.md").read_text(encoding="utf-8")
        assert all(name in card for name in ACDC.names)
        assert "not for clinical use" in card

    def test_a_job_folder_stands_for_its_model(self, package: Path, tmp_path: Path):
        job = tmp_path / "job"
        shutil.copytree(package, job / "model")
        assert load_model(job).about["training_steps"] == 24

    def test_a_zip_made_by_hand_has_the_folder_in_it(self, package: Path, tmp_path: Path):
        path = Path(shutil.make_archive(str(tmp_path / "by_hand"), "zip", package.parent, package.name))
        assert same_weights(weights_of(load_model(path).network), weights_of(new_model().network))

    def test_a_successor_that_takes_its_place_meanwhile_is_loaded_instead(self, package: Path, monkeypatch):
        real, later = Package.verify, new_model()
        later.about = {"device": "another"}

        def then_replaced(self: Package) -> dict[str, str]:
            digests = real(self)
            monkeypatch.undo()
            save_model(package, later)
            return digests

        monkeypatch.setattr(Package, "verify", then_replaced)
        assert load_model(package).about == {"device": "another"}

    def test_saving_again_replaces_it(self, package: Path):
        model = new_model()
        with torch.no_grad():
            next(iter(model.network.parameters())).fill_(7)
        save_model(package, model)
        assert same_weights(weights_of(load_model(package).network), weights_of(model.network))
        assert {path.name for path in package.iterdir()} == FILES

    @pytest.mark.parametrize("name", BACKBONES)
    def test_every_backbone_predicts_the_same_bits(self, tmp_path: Path, name: str):
        model = new_model()
        model.config = tiny_config(network={"name": name, "widths": (8, 8, 8)}, preprocess={"crop": 64})
        model.network = build_network(model.config.network, ACDC.classes).eval()
        model.method.threshold = torch.rand(64, 64)
        save_model(tmp_path / "package", model)
        loaded, image = load_model(tmp_path / "package"), torch.randn(1, 1, 64, 64)
        assert same_weights(weights_of(loaded.network), weights_of(model.network))
        with torch.no_grad():
            assert torch.equal(loaded.network(image)[0], model.network(image)[0])

    def test_a_network_that_cannot_be_saved_is_told_and_leaves_the_earlier_model(self, package: Path):
        model, before = new_model(), content_of(package)
        weight = next(iter(model.network.parameters())).data
        model.method.threshold, model.method.ratio = (
            weight.view(-1)[:4],
            weight.view(-1)[2:6],
        )  # part of the same memory
        with pytest.raises(UserError, match="cannot be saved"):
            save_model(package, model)
        assert content_of(package) == before
        assert [path.name for path in package.parent.iterdir()] == ["package"]


class TestDamage:
    @pytest.mark.parametrize("name", sorted(FILES))
    def test_a_changed_file_is_named(self, package: Path, name: str):
        content = bytearray((package / name).read_bytes())
        content[len(content) // 2] ^= 1
        (package / name).write_bytes(content)
        with pytest.raises(UserError) as caught:
            load_model(package)
        assert str(package) in caught.value.where
        if name != "SHA256SUMS":
            assert name in caught.value.what
            assert "damaged or was edited" in caught.value.hint

    @pytest.mark.parametrize("name", sorted(FILES))
    def test_a_missing_file_is_named(self, package: Path, name: str):
        (package / name).unlink()
        with pytest.raises(UserError, match="no model here" if name == "config.json" else name):
            load_model(package)

    def test_a_shortened_file_is_named(self, package: Path):
        weights = package / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        with pytest.raises(UserError, match=r"model\.safetensors"):
            load_model(package)

    def test_whatever_byte_of_a_zip_changes_it_is_an_error_of_the_user_or_of_no_consequence(
        self, package: Path, tmp_path: Path
    ):
        write_zip(open_package(package), tmp_path / "package.zip")
        whole, expected = (tmp_path / "package.zip").read_bytes(), weights_of(new_model().network)
        dice = random.Random(0)
        path, refused = tmp_path / "bad.zip", 0
        for _ in range(60):
            content = bytearray(whole)
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
            path.write_bytes(content if dice.random() < 0.7 else content[: dice.randrange(len(content))])
            try:
                loaded = load_model(path)
            except UserError:
                refused += 1
            else:
                assert same_weights(weights_of(loaded.network), expected)
        assert refused > 40

    def test_weights_of_another_network_do_not_fit(self, package: Path):
        settings = json.loads((package / "config.json").read_text())
        settings["config"]["network"]["widths"] = [4, 16]
        edit_settings(package, config=settings["config"])
        with pytest.raises(UserError, match="do not fit"):
            load_model(package)

    def test_a_full_disk_leaves_no_half_written_weights(self, package: Path, monkeypatch: pytest.MonkeyPatch):
        before = (package / "model.safetensors").read_bytes()

        def full(self: Path, content: bytes) -> int:
            with open(self, "wb") as file:
                file.write(content[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match="disk is full"):
            save_model(package, new_model())
        monkeypatch.undo()
        assert (package / "model.safetensors").read_bytes() == before
        assert {path.name for path in package.iterdir()} == FILES
        assert [path.name for path in package.parent.iterdir()] == ["package"]

    def test_what_is_too_large_to_be_read_again_is_not_saved(self, package: Path, monkeypatch: pytest.MonkeyPatch):
        before, model = content_of(package), new_model()
        monkeypatch.setitem(LARGEST, "model.safetensors", 1000)
        with pytest.raises(UserError, match="more than the"):
            save_model(package, model)
        monkeypatch.undo()
        assert content_of(package) == before


class TestNotAModel:
    def test_a_newer_format_asks_for_an_update(self, package: Path):
        edit_settings(package, format=99, version="9.0")
        with pytest.raises(UserError, match=r"newer version \(9.0") as caught:
            load_model(package)
        assert "Update" in caught.value.hint

    def test_an_unknown_setting_is_named(self, package: Path):
        settings = json.loads((package / "config.json").read_text())
        settings["config"]["method"]["lamda_u"] = 1
        edit_settings(package, config=settings["config"])
        with pytest.raises(UserError, match="no such setting") as caught:
            load_model(package)
        assert "lambda_u" in caught.value.hint

    def test_a_job_that_has_not_finished_says_so(self, tmp_path: Path):
        (tmp_path / "job.json").write_text(json.dumps({"kind": "train"}))
        with pytest.raises(UserError, match="no model here") as caught:
            load_model(tmp_path)
        assert "resume" in caught.value.hint

    @pytest.mark.parametrize(
        "kind", ["missing", "empty folder", "text", "picture", "zip of something else", "empty file"]
    )
    def test_what_is_no_package_is_told(self, tmp_path: Path, kind: str):
        path = tmp_path / "thing.zip"
        if kind == "empty folder":
            path.mkdir()
        elif kind == "zip of something else":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("notes.txt", "hello")
        elif kind != "missing":
            path.write_bytes({"text": b"hello", "picture": b"\x89PNG\r\n\x1a\n" + bytes(100), "empty file": b""}[kind])
        with pytest.raises(UserError) as caught:
            load_model(path)
        assert str(path) in caught.value.where
        assert caught.value.hint


class Bomb:
    """Notes when somebody unpickles it."""

    went_off = False

    def __reduce__(self):
        return (Bomb.go_off, ())

    @staticmethod
    def go_off() -> dict:
        Bomb.went_off = True
        return {}


class TestNeverUnpickled:
    @pytest.mark.parametrize("how", ["pickle", "torch.save", "bare"])
    def test_a_pickle_that_calls_itself_safetensors_is_refused_unread(self, package: Path, tmp_path: Path, how: str):
        weights = package / "model.safetensors"
        if how == "torch.save":
            torch.save({"network": Bomb()}, weights)
        else:
            weights.write_bytes(pickle.dumps(Bomb(), protocol=2))
        if how != "bare":
            sign(package)
        with pytest.raises(UserError):
            load_model(package)
        zipped = shutil.make_archive(str(tmp_path / "package"), "zip", package)
        with pytest.raises(UserError):
            load_model(Path(zipped))
        assert not Bomb.went_off
        pickle.loads(pickle.dumps(Bomb()))
        assert Bomb.went_off  # the bomb works
        Bomb.went_off = False

    def test_tensors_of_another_origin_do_not_fit(self, package: Path):
        (package / "model.safetensors").write_bytes(save({"weight": torch.zeros(3)}))
        sign(package)
        with pytest.raises(UserError, match="do not fit"):
            load_model(package)
