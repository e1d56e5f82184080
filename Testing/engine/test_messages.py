"""Messages that the module's panel shows, too, name settings and no options of the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import semicardiac

PACKAGE = Path(semicardiac.__file__).parent
COMMAND_LINE = (
    "bench/", "cli/", "config.py", "phantom/study.py", "data/splits.py", "training/ranks.py", "report/write.py",
    "report/html.py",
)  # fmt: skip
"""The command line itself, what only its options or torchrun can ask for, and a style sheet."""
OPTION = re.compile(r"(?<![\w-])--[a-z]")


def texts_of(path: Path) -> Iterator[str]:
    """The texts in a file, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    documentation = {
        id(node.value)
        for parent in ast.walk(tree)
        if isinstance(parent, documented)
        for node in parent.body
        if isinstance(node, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(COMMAND_LINE)])
def test_no_text_names_an_option(name: str):
    assert [text for text in texts_of(FILES[name]) if OPTION.search(text) and "pip install" not in text] == []
