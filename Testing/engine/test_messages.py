"""Messages that the module's panel shows, too, name settings and no options of the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import semicardiac

PACKAGE = Path(semicardiac.__file__).parent
COMMAND_LINE = {
    "cli", "commands", "commands_results", "commands_train", "options", "demo",  # the command line itself
    "config", "phantom", "protocols", "report",  # what only its options can ask for
    "page",  # a style sheet
}  # fmt: skip
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


@pytest.mark.parametrize(
    "path", [path for path in sorted(PACKAGE.glob("*.py")) if path.stem not in COMMAND_LINE], ids=lambda path: path.stem
)
def test_no_text_names_an_option(path: Path):
    assert [text for text in texts_of(path) if OPTION.search(text) and "pip install" not in text] == []
