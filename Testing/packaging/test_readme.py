"""What README.md says of the module, against the module."""

from __future__ import annotations

import ast
import re
from xml.etree import ElementTree

import pytest

from Testing.packaging.support import REPOSITORY

MODULE = REPOSITORY / "SemiCardiacSeg"

REVIEWED = ("Modules", "Installation", "Tutorial", "Publication", "Safety and privacy", "License")
"""Sections that the reviewers of the catalog of extensions look for."""


@pytest.fixture
def readme() -> str:
    return (REPOSITORY / "README.md").read_text(encoding="utf-8")


def section(readme: str, title: str) -> str:
    """The text below a heading, up to the next `##`."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def words_of_the_panel() -> set[str]:
    """What stands on buttons and boxes of the panel."""
    widgets = ElementTree.parse(MODULE / "Resources/UI/SemiCardiacSeg.ui").iter("widget")
    properties = [item for widget in widgets for item in widget.findall("property") if item.get("name") == "text"]
    return {item.findtext("string", "") for item in properties}


@pytest.mark.parametrize("title", REVIEWED)
def test_a_section_that_reviewers_look_for_is_there(readme: str, title: str):
    assert section(readme, title).strip()


def test_the_help_of_the_module_links_to_sections_that_exist(readme: str):
    module = (MODULE / "SemiCardiacSeg.py").read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.+)$", readme, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    linked = set(re.findall(r"\{homepage\}#([\w-]+)", module))
    assert linked
    assert linked <= anchors


def test_every_button_in_the_tutorial_is_in_the_panel(readme: str):
    named = set(re.findall(r"\*\*([^*.]+)\*\*", section(readme, "Tutorial")))
    assert named
    assert named <= words_of_the_panel()


def test_the_console_example_calls_what_exists(readme: str):
    example = re.search(r"```python\n(.*?)```", section(readme, "From the Python console"), re.DOTALL)[1]
    classes = {"logic": ("logic.py", "SemiCardiacSegLogic"), "data": ("table/case_table.py", "DataSet")}
    methods = {}
    for variable, (file, name) in classes.items():
        tree = ast.parse((MODULE / "SemiCardiacSegLib" / file).read_text(encoding="utf-8"))
        body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
        methods[variable] = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    called = {variable: set(re.findall(rf"\b{variable}\.(\w+)\(", example)) for variable in classes}
    for variable, names in called.items():
        assert names
        assert names <= methods[variable]


def test_pictures_exist(readme: str):
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", readme)
    assert pictures
    assert [name for name in pictures if not (REPOSITORY / name).is_file()] == []
