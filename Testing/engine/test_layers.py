"""What imports what: one direction only, nothing heavy too early, and never Slicer."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import semicardiac

from Testing.engine.support import engine_environment

PACKAGE = Path(semicardiac.__file__).parent

#: A package imports only from those that stand before it.
PACKAGES = (
    "base", "config", "images", "data", "phantom", "methods",
    "models", "evaluation", "training", "jobs", "report", "cli",
)  # fmt: skip

LIGHT = (
    "base.errors", "base.files", "base.events", "config", "images.labels", "models.package", "jobs.job", "jobs.run",
    "cli.progress", "cli.commands", "cli.main",
)  # fmt: skip
"""What a program without PyTorch, such as the GUI, may import."""

STILL = {
    "models.compute.ComputePlan", "models.predict.square_centroid", "training.step.Batch", "training.context.Context",
}  # fmt: skip
"""Imports that the next step takes away."""


def name_of(path: Path) -> str:
    """The module in a file, without `semicardiac.`: `images.volumes`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def modules() -> dict[str, Path]:
    """The modules of the packages, by name."""
    return {name_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if not path.stem.startswith("__")}


def imports_of(name: str, nodes: Iterable[ast.AST]) -> set[str]:
    """Modules and packages of the engine that a module imports in these nodes, without `semicardiac.`."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            above = name.split(".")[: -node.level]
            base = [*above, *(node.module.split(".") if node.module else ())]
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


MODULES = modules()
IMPORTS = {
    name: imports_of(name, ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for name, path in MODULES.items()
}


def package_of(name: str) -> str:
    return name.partition(".")[0]


def test_every_module_is_in_a_package():
    assert {package_of(name) for name in MODULES} == set(PACKAGES)


@pytest.mark.parametrize("name", MODULES)
def test_a_package_imports_only_from_those_before_it(name: str):
    place = PACKAGES.index(package_of(name))
    later = {other for other in IMPORTS[name] if package_of(other) in PACKAGES[place + 1 :]}
    assert not later - STILL


@pytest.mark.parametrize("name", MODULES)
def test_the_engine_never_imports_slicer(name: str):
    foreign = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            foreign |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            foreign.add(node.module.split(".")[0])
    assert not foreign & {"slicer", "vtk", "qt", "ctk", "mrml"}


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=engine_environment(), capture_output=True, encoding="utf-8", timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_nothing_else():
    names = run_python("import sys, semicardiac; print(*sys.modules)").split()
    assert not {"torch", "numpy", "pydantic", "SimpleITK", "nibabel", "scipy", "skimage", "matplotlib"} & set(names)


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_where_torch_is_not_installed(module: str):
    run_python(f"import sys; sys.modules['torch'] = None; import semicardiac.{module}")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["segment", "--help"]])
def test_help_does_not_wait_for_heavy_libraries(arguments: list[str]):
    code = f"import sys\nfrom semicardiac.cli import main\nmain({arguments!r})\nprint('LOADED', *sys.modules)"
    names = run_python(code).partition("LOADED")[2].split()
    assert "tyro" in names
    assert not {"torch", "numpy", "pydantic", "SimpleITK", "nibabel", "scipy", "skimage", "matplotlib"} & set(names)
