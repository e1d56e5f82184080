"""A stand-in for what installs packages in Slicer: `slicer.packaging` of Slicer 5.12 and the extension PyTorch.

Both belong to the application and cannot be installed here. What they were asked for is kept, packages are installed
as mere names and versions, and the same is refused as there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

LIGHT_THE_TORCH = """
import json, sys
from pathlib import Path
site = Path(__file__).parent
arguments = sys.argv[1:]
constraints = Path(arguments[-1]).read_text(encoding="utf-8")
(site / "light_the_torch.json").write_text(json.dumps([arguments, constraints]), encoding="utf-8")
print("Collecting torch")
print("Préparing", flush=True)
if (site / "hangs").exists():
    import os, time
    (site / "hangs").write_text(str(os.getpid()))
    time.sleep(300)
if (site / "fails").exists():
    print("ERROR: No matching distribution found for torch")
    print("a hint about pip")
    sys.exit(1)
for name in ("torch", "torch-2.9.0+cpu.dist-info"):
    (site / name).mkdir(exist_ok=True)
(site / "torch" / "__init__.py").write_text("")
(site / "torch-2.9.0+cpu.dist-info" / "METADATA").write_text("Name: torch\\nVersion: 2.9.0+cpu\\n")
"""
"""Slicer runs `PythonSlicer -m light_the_torch`."""

PIP = """
import json, sys
from pathlib import Path
site = Path(__file__).parent
arguments = sys.argv[1:]
constraints = Path(arguments[-1]).read_text(encoding="utf-8")
(site / "pip.json").write_text(json.dumps([arguments, constraints]), encoding="utf-8")
(site / "nibabel").mkdir()
(site / "nibabel" / "__init__.py").touch()
(site / "nibabel-99.dist-info").mkdir()
(site / "nibabel-99.dist-info" / "METADATA").write_text("Name: nibabel\\nVersion: 99\\n", encoding="utf-8")
"""
"""Slicer 5.10 has no `slicer.packaging`: there `PythonSlicer -m pip` is run."""


def installed(site: Path, name: str, version: str, *, module: bool = True, metadata: bool = True) -> None:
    """Puts a package into a folder of packages, in the place of another version of it."""
    name = name.replace("-", "_")  # as installers write it
    if module:
        (site / name).mkdir(exist_ok=True)
        (site / name / "__init__.py").touch()
    for folder in site.glob(f"{name}-*.dist-info"):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    if metadata:
        folder = site / f"{name}-{version}.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(text, encoding="utf-8")
        (folder / "top_level.txt").write_text(f"{name}\n", encoding="utf-8")


class Packaging(ModuleType):
    """`slicer.packaging`, as far as it installs.

    Attributes:
        asked: The requirements of each installation.
        constraints: The content of the file of constraints of each.
        files: Where these files were.
        status: The exit status that pip will have.
        testing: Whether Slicer tests itself: then it waits for pip and calls nobody back.
    """

    def __init__(self, site: Path) -> None:
        super().__init__("slicer.packaging")
        self.site = site
        self.asked: list[list[str]] = []
        self.constraints: list[str] = []
        self.files: list[Path] = []
        self.status = 0
        self.testing = False
        self._looks = 0
        self._after: list = []

    def pip_install(
        self, requirements, constraints=None, no_deps_requirements=None, skip_packages=None, blocking=True,
        show_progress=True, requester=None, logCallback=None, completedCallback=None,
    ):  # fmt: skip
        if skip_packages is not None and not blocking:
            raise ValueError("skip_packages requires blocking=True.")
        self.asked.append(requirements)
        self.files.append(Path(constraints))
        self.constraints.append(Path(constraints).read_text(encoding="utf-8"))

        def finish() -> None:
            if self.status == 0:
                self.install(requirements)
            if not self.testing:
                for line in ("Collecting things", *(["ERROR: no network", "a hint"] if self.status else [])):
                    logCallback(line)
                completedCallback(self.status)

        if self.testing or blocking:
            finish()
        else:
            self._looks, self._after = 3, [finish]

    def isPipInstallInProgress(self) -> bool:
        """True a few times: whoever waits has to come back."""
        self._looks -= 1
        if self._looks == 0:
            self._after.pop()()
        return self._looks > 0

    def install(self, requirements: list[str]) -> None:
        from packaging.requirements import Requirement

        for text in requirements:
            requirement = Requirement(text)
            installed(self.site, requirement.name, next(iter(requirement.specifier)).version)


def pytorchUtils(site: Path) -> ModuleType:
    """The module of the extension PyTorch, as far as it installs PyTorch."""

    class PyTorchUtilsLogic:
        @staticmethod
        def _installLightTheTorch() -> None:
            (site / "light_the_torch.py").write_text(LIGHT_THE_TORCH, encoding="utf-8")

        @staticmethod
        def _getPipInstallArguments(
            forceComputationBackend=None, torchVersionRequirement=None, torchvisionVersionRequirement=None
        ):
            torchvision = f"torchvision{torchvisionVersionRequirement or ''}"
            numpy = ["numpy<2"] if sys.platform == "darwin" else []
            return ["install", f"torch{torchVersionRequirement or ''}", torchvision, *numpy]

        def installTorch(self, *_, **__) -> None:
            raise AssertionError("this would freeze the window and import PyTorch into Slicer")

    module = ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic
    return module
