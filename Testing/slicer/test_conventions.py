"""What holds for every file of the module: what it may import and call, its texts, and that PyTorch stays outside."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

from Testing.slicer.engine_jobs import ROOT, workingPackage
from Testing.slicer.panel.support import UI

FILES = sorted((ROOT / "SemiCardiacSeg").rglob("*.py"))
HEAVY = {"torch", "torchvision", "matplotlib", "pandas"}
GONE_OR_UNSAFE = {"imp", "distutils", "pkg_resources", "threading", "multiprocessing"}
"""Not in the Python of the next Slicer, or not safe beside Qt."""

UNWANTED = re.compile(r"(?i)\b(mend|mended|mends|tells?|told|go on|goes on|stranger)\b|(^|\s)--[a-z]")
"""Words for which there are plainer ones, and options, which a panel does not have."""
BETTER_LEFT = {"print", "getNode", "saveNode", "exportNode", "delayDisplay"}
"""Functions for scripts and self-tests."""


def nodesOf(path: Path) -> Iterator[tuple[ast.AST, bool]]:
    """Each node of a file's syntax tree, and whether it is not run when the file is imported."""

    def walk(node: ast.AST, inFunction: bool) -> Iterator[tuple[ast.AST, bool]]:
        for child in ast.iter_child_nodes(node):
            forTypes = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            inside = inFunction or forTypes or isinstance(child, ast.FunctionDef | ast.Lambda)
            yield child, inside
            yield from walk(child, inside)

    return walk(ast.parse(path.read_text(encoding="utf-8")), False)


def importsOf(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    return {node.module.partition(".")[0]} if isinstance(node, ast.ImportFrom) and not node.level else set()


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def test_imports(path: Path):
    for node, inFunction in nodesOf(path):
        names = importsOf(node)
        assert not names & (HEAVY | GONE_OR_UNSAFE)
        if isinstance(node, ast.ImportFrom) and node.module == "semicardiac.methods.registry":
            continue  # a table of names that needs no package, see test_layers
        assert inFunction or "semicardiac" not in names, "the engine's packages may not be installed yet"


def test_no_call_that_slicer_has_better_ones_for(path: Path):
    for node, _inFunction in nodesOf(path):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            assert name not in BETTER_LEFT or path.stem == "SemiCardiacSeg"


def test_texts_are_literal_and_translated_when_they_are_shown(path: Path):
    for node, inFunction in nodesOf(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
            (text,) = node.args
            assert isinstance(text, ast.Constant), f"line {node.lineno}"
            assert isinstance(text.value, str)
            assert inFunction, f"line {node.lineno}: at import time there is no translator yet"


def test_texts_use_everyday_words_and_no_option_of_the_command_line():
    texts = [text.text for text in ElementTree.parse(UI).iter("string") if text.text]
    for file in FILES:
        for node, _inFunction in nodesOf(file):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
                texts.append(node.args[0].value)
    assert len(texts) > 400
    assert [text for text in texts if UNWANTED.search(text)] == []


@pytest.mark.slow
def test_pytorch_stays_out_of_the_process(tmp_path: Path):
    model = workingPackage(tmp_path / "model", {"labeled_volumes": 1})
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "SemiCardiacSeg")!r}]
from Testing.slicer import boot
boot.boot()
from Testing.slicer.scenes import makeHeartSegmentation, makeVolume
from SemiCardiacSegLib.logic import SemiCardiacSegLogic
logic = SemiCardiacSegLogic()
volume = makeVolume("patient01")
byHand = makeHeartSegmentation(volume)
logic.dataSet().addVolume(volume, byHand)
unlabeled = logic.dataSet().addVolume(makeVolume("patient02"))
logic.dataSet().allProblems()
job = logic.startSegmentation({str(model)!r}, [volume], device="cpu", flips=False, entropy=True)
assert job.wait() == "done"
segmentation, entropy = logic.loadResults(job)
logic.discardResults(job)
logic.volumesTable(byHand)
logic.compare(byHand, byHand, volume)
job = logic.startUncertainty({str(model)!r}, device="cpu")
assert job.wait() == "done"
assert len(logic.uncertainties(job)) == 1
logic.discardResults(job)
print([name for name in sys.modules if name.partition(".")[0] in ("torch", "torchvision")])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONUTF8": "1"}, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


#: A part of the library imports only from those that stand before it; of one row, none from another.
ORDER = (("i18n",), ("engine",), ("parameters",), ("scene",), ("table",), ("tasks",), ("logic", "panels"), ("widget",))


def test_the_library_is_read_from_left_to_right():
    places = {name: floor for floor, row in enumerate(ORDER) for name in row}
    library = ROOT / "SemiCardiacSeg" / "SemiCardiacSegLib"
    wrong = []
    for path in sorted(library.rglob("*.py")):
        own = path.relative_to(library).with_suffix("").parts
        if own == ("__init__",):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = [*own[: len(own) - node.level], *(node.module or "").split(".")]
                target = next(filter(None, base), None) or node.names[0].name
                if target != own[0] and places[target] >= places[own[0]]:
                    wrong.append(f"{'/'.join(own)} imports {target}")
    assert wrong == []
