"""What imports what: one direction only, nothing heavy too early, and never Slicer."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import semicardiac

from Testing.engine.support import REPOSITORY, engine_environment

PACKAGE = Path(semicardiac.__file__).parent

#: A package imports only from those that stand before it.
PACKAGES = (
    "base", "config", "images", "data", "phantom", "methods",
    "models", "evaluation", "training", "jobs", "report", "bench", "cli",
)  # fmt: skip

LIGHT = (
    "base.errors", "base.files", "base.events", "config", "images.labels", "models.package", "jobs.job", "jobs.run",
    "cli.progress", "cli.commands", "cli.main",
)  # fmt: skip
"""What a program without PyTorch, such as the GUI, may import."""


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
    assert not later


def test_models_and_evaluation_know_nothing_of_each_other():
    for one, other in (("models", "evaluation"), ("evaluation", "models")):
        for name in MODULES:
            if package_of(name) == one:
                assert other not in {package_of(target) for target in IMPORTS[name]}, name


def at_import(nodes: Iterable[ast.stmt]) -> Iterator[ast.AST]:
    """The imports that run when a module is imported: none of functions, none for a type checker alone."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.Try | ast.If) and "TYPE_CHECKING" not in ast.dump(node):
            yield from at_import(node.body)


def loads_torch(name: str) -> bool:
    """Whether importing a module imports PyTorch, itself or through others of the engine."""
    waiting, seen = [name], {name}
    while waiting:
        current = waiting.pop()
        nodes = list(at_import(ast.parse(MODULES[current].read_text(encoding="utf-8")).body))
        foreign = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        foreign |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        if any(module.partition(".")[0] == "torch" or module == "safetensors.torch" for module in foreign if module):
            return True
        for target in imports_of(current, nodes):
            known = target if target in MODULES else target.rpartition(".")[0]
            if known in MODULES and known not in seen:
                seen.add(known)
                waiting.append(known)
    return False


WITH_TORCH = ("methods.", "models.", "training.", "bench.")
SOME_WITH_TORCH = {
    "data.augment", "data.batches", "data.block_views", "data.share", "jobs.train", "jobs.segment", "cli.demo",
}  # fmt: skip
"""Modules of other packages that are imported only where something is computed."""


def test_pytorch_is_imported_only_where_something_is_computed():
    heavy = {name for name in MODULES if not name.startswith(WITH_TORCH) and loads_torch(name)}
    assert heavy == SOME_WITH_TORCH
    assert not loads_torch("models.package")


def functions() -> Iterator[tuple[str, ast.FunctionDef, str]]:
    """The functions of engine and module, with their place and the line that begins them."""
    for folder in (PACKAGE, REPOSITORY / "SemiCardiacSeg" / "SemiCardiacSegLib"):
        for path in sorted(folder.rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef):
                    place = f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}"
                    yield place, node, text.splitlines()[node.lineno - 1]


def test_a_function_fits_on_a_screen():
    assert [place for place, node, _ in functions() if node.end_lineno - node.lineno >= 60] == []


def test_more_than_six_parameters_have_a_reason_beside_them():
    many = []
    for place, node, line in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if len([each for each in arguments if each.arg not in ("self", "cls")]) > 6 and "#" not in line:
            many.append(place)
    assert many == []


def test_to_segment_a_volume_nothing_of_training_is_imported():
    names = run_python("import sys, semicardiac.jobs.segment; print(*sys.modules)").split()
    assert "semicardiac.models.predict" in names
    assert not [name for name in names if name.startswith(("semicardiac.training", "semicardiac.report"))]


SLICER_MAY = (
    "base.", "config", "images.", "data.", "evaluation.", "methods.registry", "jobs.job", "models.package",
    "models.container",
)  # fmt: skip
"""What the module in Slicer may import of the engine."""


def test_the_module_in_slicer_imports_what_is_light():
    imported = set()
    for path in (REPOSITORY / "SemiCardiacSeg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("semicardiac."):
                imported.add(node.module.removeprefix("semicardiac."))
    assert "jobs.job" in imported
    assert {name for name in imported if not name.startswith(SLICER_MAY)} == set()
    assert not {name for name in imported if loads_torch(name)}


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


def test_the_list_of_methods_needs_nothing_that_is_to_be_installed():
    code = "import sys; from semicardiac.methods.registry import METHODS; print(len(METHODS), *sys.modules)"
    count, *names = run_python(code).split()
    assert int(count) >= 4
    assert not {"torch", "numpy", "pydantic", "SimpleITK", "scipy", "psutil"} & set(names)


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_where_torch_is_not_installed(module: str):
    run_python(f"import sys; sys.modules['torch'] = None; import semicardiac.{module}")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["segment", "--help"]])
def test_help_does_not_wait_for_heavy_libraries(arguments: list[str]):
    code = f"import sys\nfrom semicardiac.cli import main\nmain({arguments!r})\nprint('LOADED', *sys.modules)"
    names = run_python(code).partition("LOADED")[2].split()
    assert "tyro" in names
    assert not {"torch", "numpy", "pydantic", "SimpleITK", "nibabel", "scipy", "skimage", "matplotlib"} & set(names)
