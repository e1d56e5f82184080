"""What imports what: one direction only, nothing heavy too early, and never Slicer."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import semicardiac
from helpers import engine_environment

PACKAGE = Path(semicardiac.__file__).parent

#: A module imports only from those that stand before it.
LAYERS = [
    name
    for row in (
        "wording terminal streams errors processes temporaries files swap",
        "tables events anatomy config labels container tensor_file package explain console",
        "geometry inputs headers nifti itk dicom_headers dicom_pixels dicom_stack dicom_times dicom segmentations",
        "volumes protocols spreadsheet layouts cases matching",
        "compute budget context sealed identity intensities preprocess",
        "findings environment label_order check_names checks",
        "dataset sampling augment",
        "network weights teacher thresholds losses step checkpoint model locate inference",
        "metrics clinical summary overlays evaluation",
        "history validation previews prepare device_bank refine loop trainer",
        "phantom_heart phantom_scene phantom_patient phantom",
        "jobs record page plotting figures report_compare report_results report_segmented report_training report",
        "crash train_job segment_job runner demo options commands_train commands_results commands cli",
    )
    for name in row.split()
]

LIGHT = ("errors", "files", "events", "config", "labels", "package", "jobs", "runner", "console", "commands", "cli")
"""What a program without PyTorch, such as the GUI, may import."""


def imports_of(path: Path) -> set[str]:
    """Names of this package's modules that a module imports, at its top or in its functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return found & {module.stem for module in PACKAGE.glob("*.py")}


def modules() -> list[str]:
    return sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__"))


def test_every_module_has_its_layer():
    assert sorted(LAYERS) == modules()


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_from_those_before_it(module: str):
    later = {name for name in imports_of(PACKAGE / f"{module}.py") if LAYERS.index(name) >= LAYERS.index(module)}
    assert not later


@pytest.mark.parametrize("module", modules())
def test_the_engine_never_imports_slicer(module: str):
    foreign = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
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
