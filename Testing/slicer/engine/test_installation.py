"""What is found to be installed, and how the rest gets installed. Slicer's installers are stand-ins, see there."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType

import packaging.requirements
import pytest
from SemiCardiacSegLib.engine import installation, process

from Testing.slicer.engine_jobs import ROOT, exists, launcher, until
from Testing.slicer.installation_standin import PIP, Packaging, installed, pytorchUtils

NEEDED = [requirement.name for requirement in installation.requirements()]
OWN = {"numpy": "2.4.6", "SimpleITK": "2.5.5", "vtk": "9.6.2"}
posix = pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for Slicer's launcher")


@pytest.fixture
def site(tmp_path: Path, monkeypatch) -> Path:
    """A Slicer as it comes: the only folder of packages holds what Slicer itself is built on."""
    folder = tmp_path / "site packages"
    folder.mkdir()
    for name, version in OWN.items():
        installed(folder, name, version)
    others = [path for path in sys.path if "site-packages" not in path]
    monkeypatch.setattr(sys, "path", [str(folder), *others])
    for name in ("torch", "light_the_torch", *OWN):  # find_spec asks these first
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


@pytest.fixture
def application(site: Path, tmp_path: Path, monkeypatch) -> Packaging:
    """Slicer 5.12 with the extension PyTorch: what it was asked to install."""
    packaging = Packaging(site)
    slicer = ModuleType("slicer")
    slicer.packaging = packaging
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", pytorchUtils(site))
    program = launcher(tmp_path / "bin", f'PYTHONPATH=\'{site}\' exec "$PYTHON" "$@"')
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return packaging


def allBut(site: Path, *missing: str) -> None:
    """Installs what the engine needs, at the lowest versions that suffice."""
    for requirement in installation.requirements():
        if requirement.name not in missing and requirement.name not in OWN:
            installed(site, requirement.name, next(iter(requirement.specifier)).version)


class TestStatus:
    def test_here_all_is_installed(self):
        found = installation.status()
        assert found.ready, found.missing
        assert found.torch == importlib.metadata.version("torch")
        assert found.torch in found.text

    def test_the_requirements_are_those_of_the_project(self):
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert [f'"{requirement}"' in text for requirement in installation.requirements()] == [True] * len(NEEDED)
        assert {"torch", "pydantic", "nibabel", "safetensors"} <= set(NEEDED)

    def test_where_installed_they_lie_in_the_package(self, tmp_path: Path, monkeypatch):
        package = tmp_path / "semicardiac"
        package.mkdir()
        (package / "pyproject.toml").write_text('[project]\ndependencies = ["abc>=3"]\n', encoding="utf-8")
        monkeypatch.setattr(process, "packageFolder", lambda: package)
        assert [str(each) for each in installation.requirements.__wrapped__()] == ["abc>=3"]

    def test_nothing_is_installed_but_slicer_itself(self, site: Path):
        found = installation.status()
        assert not found.ready
        assert found.torch is None
        assert {text.split(">")[0] for text in found.missing} == set(NEEDED) - set(OWN)
        assert "nibabel, " in found.text

    def test_what_needs_the_engine_says_that_it_is_not_set_up(self, site: Path):
        with pytest.raises(RuntimeError, match=r"not set up yet\. Not installed: .*nibabel, .* click 'Set up…'"):
            installation.require()
        allBut(site)
        installation.require()

    def test_all_is_installed(self, site: Path):
        allBut(site)
        assert installation.status() == installation.Status(True, [], "2.5", "PyTorch 2.5")

    def test_too_old(self, site: Path):
        allBut(site)
        installed(site, "torch", "2.2.2+cu121")
        installed(site, "tyro", "0.9")
        found = installation.status()
        assert {text.split(">")[0] for text in found.missing} == {"torch", "tyro"}
        assert found.torch == "2.2.2+cu121"
        assert found.text == "Not installed: torch>=2.5 (only 2.2.2+cu121 is), tyro>=1.0 (only 0.9 is)"

    def test_a_version_between_releases_counts(self, site: Path):
        """Slicer 5.10 builds its SimpleITK from between two releases."""
        allBut(site)
        installed(site, "SimpleITK", "2.5.0rc1.post3")
        assert installation.status().ready

    def test_a_package_of_slicer_without_a_version_counts(self, site: Path):
        allBut(site)
        installed(site, "SimpleITK", "", metadata=False)
        assert installation.status().ready

    @pytest.mark.parametrize("kept", ["folder", "metadata"])
    def test_half_of_pytorch(self, site: Path, kept: str):
        allBut(site, "torch")
        if kept == "folder":
            (site / "torch" / "lib").mkdir(parents=True)
        else:
            installed(site, "torch", "2.9.0", module=False)
        found = installation.status()
        assert found.torch is None
        assert [text.split(">")[0] for text in found.missing] == ["torch"]
        assert "installed only in part" in found.text
        assert "PyTorch Utils" in found.text

    def test_an_intel_mac_has_no_pytorch_that_is_new_enough(self, site: Path, application: Packaging, monkeypatch):
        allBut(site)
        installed(site, "torch", "2.2.2")
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        assert "Apple silicon" in installation.status().text
        installer = installation.install()
        assert installer.wait() == "failed"
        assert "Apple silicon" in installer.text
        assert application.asked == []

    def test_nothing_is_imported(self, site: Path):
        allBut(site)
        for name in ("torch", "nibabel", "tyro"):
            (site / name / "__init__.py").write_text("raise AssertionError", encoding="utf-8")
        assert installation.status().ready
        assert "torch" not in sys.modules


@posix
class TestInstall:
    def test_pytorch_by_its_extension_and_the_rest_by_pip(self, site: Path, application: Packaging):
        installer, lines = installation.install(), []
        assert installer.wait(lines.append) == "done"
        assert installation.status().ready
        arguments, constraints = json.loads((site / "light_the_torch.json").read_text(encoding="utf-8"))
        assert arguments[:2] == ["install", "torch>=2.5"]
        held = [f"{name}=={version}" for name, version in OWN.items()]
        assert constraints.splitlines() == held
        (asked,) = application.asked
        assert {packaging.requirements.Requirement(text).name for text in asked} == set(NEEDED) - {"torch", *OWN}
        assert application.constraints[0].splitlines() == [*held, "torch==2.9.0+cpu"]
        assert lines == ["Collecting torch", "Préparing", "Collecting things"]
        assert installer.text == ""  # the first line of the panel says what is there
        assert not installer.restartNeeded

    def test_the_window_does_not_wait(self, site: Path, application: Packaging):
        allBut(site, "nibabel", "torch")
        (site / "hangs").touch()
        installer, lines = installation.install(), []
        begun = time.monotonic()
        lines += installer.poll()
        assert time.monotonic() < begun + 1
        assert installer.state == "running"
        until(lambda: lines.extend(installer.poll()) or "Préparing" in lines)
        assert installer.state == "running"
        assert application.asked == []
        until((site / "hangs").read_text)
        installer.stop()
        assert installer.state == "failed"
        until(lambda: not exists(int((site / "hangs").read_text())), seconds=5)

    def test_pip_that_goes_on_after_a_cancel_can_still_read_its_constraints(self, site: Path, application: Packaging):
        allBut(site, "nibabel")
        given_up = installation.install()
        given_up.poll()
        given_up.stop()
        assert given_up.state == "failed"
        assert application.files[0].is_file()
        while application.isPipInstallInProgress():
            pass
        assert not application.files[0].parent.exists()

    def test_a_mac_keeps_its_numpy(self, site: Path, application: Packaging, monkeypatch):
        allBut(site, "torch")
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(platform, "machine", lambda: "arm64")
        assert installation.install().wait() == "done"
        arguments, _ = json.loads((site / "light_the_torch.json").read_text(encoding="utf-8"))
        assert not [argument for argument in arguments if "numpy" in argument]

    def test_what_is_there_is_left_alone(self, site: Path, application: Packaging):
        allBut(site, "nibabel")
        assert installation.install().wait() == "done"
        assert [text.split(">")[0] for text in application.asked[0]] == ["nibabel"]
        assert "torch==2.5" in application.constraints[0]
        assert not (site / "light_the_torch.json").exists()

    def test_nothing_is_missing(self, site: Path, application: Packaging):
        allBut(site)
        assert installation.install().wait() == "done"
        assert application.asked == []

    def test_without_the_extension_it_says_how_to_get_it(self, application: Packaging, monkeypatch):
        monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
        installer = installation.install()
        assert installer.wait() == "failed"
        assert "Extensions Manager" in installer.text
        assert application.asked == []

    def test_another_version_of_the_extension(self, site: Path, application: Packaging, monkeypatch):
        installed(site, "light_the_torch", "0.8")
        monkeypatch.delattr(sys.modules["PyTorchUtils"].PyTorchUtilsLogic, "_getPipInstallArguments")
        installer = installation.install()
        assert installer.wait() == "failed"
        assert "module PyTorch Utils" in installer.text

    @pytest.mark.parametrize("stops", [False, True])
    def test_the_window_that_goes_on_within_a_step(self, site: Path, application: Packaging, monkeypatch, stops: bool):
        """The pip of Slicer 5.10 lets clock and buttons of the window go on until it returns."""
        logic = sys.modules["PyTorchUtils"].PyTorchUtilsLogic
        install = logic._installLightTheTorch

        def whileTheWindowGoesOn() -> None:
            assert installer.poll() == []
            if stops:
                installer.stop()
            install()

        monkeypatch.setattr(logic, "_installLightTheTorch", staticmethod(whileTheWindowGoesOn))
        installer = installation.install()
        assert installer.wait() == ("failed" if stops else "done")
        assert not stops or installer.text == "Stopped"
        assert installation.status().ready != stops
        assert stops == (application.asked == [])

    def test_pytorch_cannot_be_installed(self, site: Path, application: Packaging):
        (site / "fails").touch()
        installer = installation.install()
        assert installer.wait() == "failed"
        assert "No matching distribution found for torch" in installer.text
        assert application.asked == []

    def test_pip_fails(self, site: Path, application: Packaging):
        allBut(site, "nibabel")
        application.status = 1
        installer = installation.install()
        assert installer.wait() == "failed"
        assert "no network" in installer.text

    def test_slicer_while_it_tests_itself(self, site: Path, application: Packaging):
        """There it waits for pip and calls nobody back."""
        allBut(site, "nibabel")
        application.testing = True
        assert installation.install().wait() == "done"

    def test_what_did_not_help_is_told(self, site: Path, application: Packaging, monkeypatch):
        allBut(site, "nibabel")
        monkeypatch.setattr(application, "install", lambda requirements: None)
        installer = installation.install()
        assert installer.wait() == "failed"
        assert "nibabel" in installer.text

    def test_before_slicer_5_12(self, site: Path, application: Packaging, monkeypatch):
        """pip runs in a process of its own there too; a stand-in for it is found first."""
        allBut(site, "nibabel")
        (site / "pip.py").write_text(PIP, encoding="utf-8")
        monkeypatch.setitem(sys.modules, "slicer.packaging", None)
        installer = installation.install()
        installer.poll()
        assert installer.state == "running"
        assert installer.wait() == "done", installer.text
        arguments, constraints = json.loads((site / "pip.json").read_text(encoding="utf-8"))
        assert arguments[0] == "install"
        assert arguments[1].startswith("nibabel>=")
        assert arguments[2] == "-c"
        assert {"numpy==2.4.6", "SimpleITK==2.5.5", "vtk==9.6.2", "torch==2.5"} == set(constraints.split())

    def test_a_package_in_use_was_replaced(self, site: Path, application: Packaging, monkeypatch):
        allBut(site)
        installed(site, "tyro", "0.5")
        monkeypatch.setitem(sys.modules, "tyro", ModuleType("tyro"))
        installer = installation.install()
        assert installer.wait() == "done"
        assert installer.restartNeeded
        assert "Start Slicer anew" in installer.text

    def test_outside_of_the_application(self, site: Path):
        installer = installation.install()
        assert installer.wait() == "failed"
        assert f'{sys.executable} -m pip install "torch>=2.5"' in installer.text


class TestProbe:
    def test_what_pytorch_computes_on(self):
        probe = installation.probeDevice()
        probe.poll()
        assert probe.state == "running"
        assert probe.wait() == "done"
        assert probe.text.startswith(f"PyTorch {importlib.metadata.version('torch')}")
        assert "cores" in probe.text or "GB" in probe.text

    @posix
    @pytest.mark.parametrize("driver", [True, False])
    def test_a_card_that_pytorch_does_not_use_is_told(
        self, site: Path, application: Packaging, tmp_path: Path, monkeypatch, driver: bool
    ):
        installed(site, "torch", "2.9")
        code = "from types import SimpleNamespace\n__version__ = '2.9'\n"
        code += "cuda = SimpleNamespace(is_available=lambda: False, get_device_name=None, get_device_properties=None)"
        (site / "torch" / "__init__.py").write_text(code, encoding="utf-8")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # a real card is of no interest here
        if driver:
            shutil.copy2(tmp_path / "bin" / "PythonSlicer", tmp_path / "bin" / "nvidia-smi")
        probe = installation.probeDevice()
        assert probe.wait() == "done"
        assert ("NVIDIA card" in probe.text) == driver

    @posix
    def test_a_pytorch_that_does_not_load(self, site: Path, application: Packaging):
        installed(site, "torch", "2.9")
        code = "raise OSError('libcudart.so.13: cannot open shared object file')"
        (site / "torch" / "__init__.py").write_text(code, encoding="utf-8")
        probe = installation.probeDevice()
        assert probe.wait() == "failed"
        assert "libcudart.so.13" in probe.text

    @posix
    def test_a_pytorch_that_hangs(self, site: Path, application: Packaging, monkeypatch):
        installed(site, "torch", "2.9")
        (site / "torch" / "__init__.py").write_text("import time; time.sleep(300)", encoding="utf-8")
        monkeypatch.setattr(installation, "_PROBE_SECONDS", 1)
        probe = installation.probeDevice()
        assert probe.wait() == "failed"
        assert "no answer" in probe.text
