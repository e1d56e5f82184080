"""The extension, configured, built and installed by CMake."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGED = ("CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml", "SemiCardiacSeg", "training")
MODULES = Path("lib/Slicer-5.12/qt-scripted-modules")
"""Where Slicer looks for scripted modules, in the build folder and in an installed extension."""


@dataclass(frozen=True)
class Extension:
    """A copy of the sources, and the folders that CMake builds and installs it in."""

    source: Path
    build: Path
    prefix: Path

    @property
    def modules(self) -> Path:
        """What users get: the folder of the scripted modules."""
        return self.prefix / MODULES

    def configure(self, *options: str) -> None:
        emulation = Path(__file__).parent / "slicer"
        cmake("cmake", "-S", self.source, "-B", self.build, f"-DSlicer_DIR={emulation}", *options)

    def install(self) -> None:
        """Builds and installs, as the packages of the Extension Manager are made."""
        cmake("cmake", "--build", self.build)
        cmake("cmake", "--install", self.build, "--prefix", self.prefix, "--component", "RuntimeLibraries")


def cmake(*command: object) -> str:
    """Runs CMake or CTest; returns its output, and fails with all of it."""
    finished = subprocess.run(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", timeout=240
    )
    if finished.returncode:
        pytest.fail(finished.stdout, pytrace=False)
    return finished.stdout


def unbuilt_extension(folder: Path) -> Extension:
    """A copy of the sources, for tests that change them or outlive them."""
    if not shutil.which("cmake") or not shutil.which("c++"):
        pytest.skip("needs CMake and a C++ compiler, which every extension's project() looks for")
    source = folder / "source"
    source.mkdir()
    for name in PACKAGED:
        original = REPOSITORY / name
        if original.is_dir():
            shutil.copytree(original, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(original, source / name)
    return Extension(source, folder / "build", folder / "installed")


def macro_options(kind: str) -> list[str]:
    """The options that choose our emulation of the macros, or those of Slicer and CTK."""
    if kind == "emulated":
        return []
    sources = {name: os.environ.get(name) for name in ("SLICER_SOURCE_DIR", "CTK_SOURCE_DIR")}
    if not all(sources.values()):
        pytest.skip("for the macros of Slicer and CTK, name their sources in SLICER_SOURCE_DIR and CTK_SOURCE_DIR")
    return [f"-DPYTHON_EXECUTABLE={sys.executable}", *(f"-D{name}={path}" for name, path in sources.items())]
