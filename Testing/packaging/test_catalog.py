"""The entry for the catalog of extensions, and what the catalog's reviewers read in CMakeLists.txt."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from Testing.packaging.support import REPOSITORY, Extension

ENTRY = REPOSITORY / "SemiCardiacSeg.json"

FIELDS = {
    "$schema": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "category": str,
    "enabled": bool,
    "scm_revision": str,
    "scm_type": str,
    "scm_url": str,
    "tier": int,
}
"""Fields of an entry and their types: the published schema 1.0.1 allows no others."""
REQUIRED = {"$schema", "category", "scm_url"}
SCHEMA = "slicer-extension-catalog-entry-schema-v1.0.1.json"


def faults(entry: dict) -> list[str]:
    """What the published schema and the rules of the catalog have against an entry."""
    found = [f"{name} is missing" for name in sorted(REQUIRED - entry.keys())]
    for name, value in entry.items():
        if name not in FIELDS:
            found.append(f"{name} is unknown")
        elif type(value) is not FIELDS[name]:
            found.append(f"{name} is no {FIELDS[name].__name__}")
    if found:
        return found
    if any(not isinstance(name, str) for name in entry.get("build_dependencies", [])):
        found.append("build_dependencies are no names")
    if entry.get("scm_type", "git") not in ("git", "local"):
        found.append("scm_type is unknown")
    if not 1 <= entry.get("tier", 1) <= 5:
        found.append("tier is not 1 to 5")
    url = urlsplit(entry["scm_url"])
    if url.scheme not in ("git", "https") or not Path(url.path).stem.startswith("Slicer"):
        found.append("scm_url names no repository Slicer...")
    return found


@pytest.fixture
def entry() -> dict:
    return json.loads(ENTRY.read_text(encoding="utf-8"))


@pytest.fixture
def metadata() -> dict[str, str]:
    """What CMakeLists.txt sets, in the form that the catalog's checks look for: set(NAME "value")."""
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r'^set\((EXTENSION_\w+) "([^"]+)"\)', text, re.MULTILINE))


def test_the_entry_follows_the_schema(entry: dict):
    assert faults(entry) == []
    assert entry["$schema"].endswith(f"/Schemas/{SCHEMA}#")


def test_the_entry_has_unix_line_ends():
    assert b"\r" not in ENTRY.read_bytes()


def test_entry_and_cmake_agree(entry: dict, metadata: dict[str, str]):
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.findall(r"^project\((\w+)\)", text, re.MULTILINE) == [ENTRY.stem]
    assert not ENTRY.stem.startswith("Slicer")
    assert metadata["EXTENSION_DEPENDS"].split() == entry["build_dependencies"]
    assert metadata["EXTENSION_HOMEPAGE"] == entry["scm_url"].removesuffix(".git")


def test_pictures_lie_in_the_repository(entry: dict, metadata: dict[str, str]):
    repository = (
        entry["scm_url"].removesuffix(".git").replace("https://github.com/", "https://raw.githubusercontent.com/")
    )
    base = f"{repository}/{entry['scm_revision']}/"
    pictures = [metadata["EXTENSION_ICONURL"], *metadata["EXTENSION_SCREENSHOTURLS"].split()]
    assert len(pictures) >= 2
    for url in pictures:
        assert url.startswith(base)
        assert (REPOSITORY / url.removeprefix(base)).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("icon", ["Resources/SemiCardiacSeg.png", "SemiCardiacSeg/Resources/Icons/SemiCardiacSeg.png"])
def test_the_icon_is_a_transparent_square_of_128_pixels(icon: str):
    width, height, bits, color = struct.unpack(">IIBB", (REPOSITORY / icon).read_bytes()[16:26])
    assert (width, height, bits) == (128, 128, 8)
    assert color == 6  # red, green, blue and alpha


def test_the_package_shows_our_licence_and_readme(installed: Extension):
    description = (installed.prefix / "share/Slicer-5.12/SemiCardiacSeg.s4ext").read_text(encoding="utf-8")
    fields = dict(line.split(" ", 1) for line in description.splitlines())
    for name in ("LICENSE", "README"):
        path = Path(fields[f"{name}_FILE"])
        assert path.parent == installed.source
        assert path.stem == name
