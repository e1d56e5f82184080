"""What README.md and the pages in docs/ say, against the module, the commands and the files."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from semicardiac.cli.commands import COMMANDS

from Testing.packaging.support import REPOSITORY

MODULE = REPOSITORY / "SemiCardiacSeg"
DOCS = REPOSITORY / "docs"
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "SECURITY.md",
    *sorted(DOCS.glob("*.md")),
]

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


def anchors(text: str) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(text: str) -> list[str]:
    """Where the links and pictures of a page lead, but for other sites."""
    return re.findall(r"\]\((?!https?://)([^)]+)\)", text)


def test_the_help_of_the_module_links_to_sections_that_exist(readme: str):
    module = (MODULE / "SemiCardiacSeg.py").read_text(encoding="utf-8")
    linked = set(re.findall(r"\{homepage\}#([\w-]+)", module))
    assert linked
    assert linked <= anchors(readme)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for link in links(text):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_readme_leads_to_every_page(readme: str):
    linked = {REPOSITORY / link.partition("#")[0] for link in links(readme)}
    assert set(DOCS.glob("*.md")) - {DOCS / "index.md"} <= linked


def test_the_site_has_every_page():
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    assert sorted(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)) == sorted(
        page.name for page in DOCS.glob("*.md")
    )


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_every_button_in_a_tutorial_is_in_the_panel(page: str, readme: str):
    text = section(readme, "Tutorial") if page == "README.md" else (REPOSITORY / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\*\*([^*.]+)\*\*", text))
    assert named
    assert named <= words_of_the_panel()


def test_every_option_on_the_page_of_the_command_line_is_one_of_its_command():
    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    options = {
        command: {"--" + field.name.replace("_", "-") for field in dataclasses.fields(options)}
        for command, options in COMMANDS.items()
    }
    examples = re.findall(r"\bsemicardiac (\w+)([^`\n]*)", text)
    assert {command for command, _ in examples} == set(COMMANDS)
    for command, arguments in examples:
        assert set(re.findall(r"--[a-z-]+", arguments)) <= options[command], (command, arguments)
    alone = set(re.findall(r"`(--[a-z-]+)", text))
    assert alone <= set().union(*options.values()) | {"--help"}


def test_the_console_example_calls_what_exists():
    example = re.search(r"```python\n(.*?)```", (DOCS / "python-console.md").read_text(encoding="utf-8"), re.DOTALL)[1]
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
