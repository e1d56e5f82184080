"""What CMake installs: all of the module and of the engine, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from Testing.packaging.support import Extension, cmake


def files_below(folder: Path) -> dict[str, Path]:
    """Files by their place in a folder, without what Python compiled."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {place: path for place, path in found.items() if not place.endswith(".pyc")}


def expected_files(source: Path) -> dict[str, Path]:
    """What belongs into the folder of the scripted modules, by its place there, as it lies in the source tree."""
    module, engine = source / "SemiCardiacSeg", source / "training/semicardiac"
    expected = {"SemiCardiacSeg.py": module / "SemiCardiacSeg.py"}
    for package in (module / "SemiCardiacSegLib", module / "Resources", engine):
        expected |= {f"{package.name}/{place}": path for place, path in files_below(package).items()}
    return expected | {"semicardiac/pyproject.toml": source / "pyproject.toml"}


def test_all_of_the_module_and_the_engine_is_installed_and_nothing_else(installed: Extension):
    found, expected = files_below(installed.modules), expected_files(installed.source)
    assert sorted(found) == sorted(expected)
    changed = [place for place, path in found.items() if path.read_bytes() != expected[place].read_bytes()]
    assert not changed


def test_slicer_takes_one_of_the_files_for_a_module(installed: Extension):
    # Every Python file directly in the folder is loaded as a module when Slicer starts.
    assert [path.name for path in installed.modules.glob("*.py")] == ["SemiCardiacSeg.py"]


def test_a_new_file_is_installed_without_configuring_anew(unbuilt: Extension, macros: list[str]):
    unbuilt.configure(*macros)
    unbuilt.install()
    new = {
        "SemiCardiacSegLib/panels/new.py": unbuilt.source / "SemiCardiacSeg/SemiCardiacSegLib/panels/new.py",
        "Resources/Icons/new.svg": unbuilt.source / "SemiCardiacSeg/Resources/Icons/new.svg",
        "semicardiac/new.py": unbuilt.source / "training/semicardiac/new.py",
        "semicardiac/report/templates/new.html": unbuilt.source / "training/semicardiac/report/templates/new.html",
    }
    for path in new.values():
        path.parent.mkdir(exist_ok=True)
        path.write_text("# new\n", encoding="utf-8")
    unbuilt.install()
    for place, path in new.items():
        assert (unbuilt.modules / place).read_bytes() == path.read_bytes()


def test_without_tests_none_is_registered(unbuilt: Extension, macros: list[str]):
    unbuilt.configure("-DBUILD_TESTING=OFF", *macros)
    assert "No tests were found" in cmake("ctest", "--test-dir", unbuilt.build)


def test_slicer_finds_the_file_of_every_registered_test(installed: Extension):
    listed = json.loads(cmake("ctest", "--test-dir", installed.build, "--show-only=json-v1"))
    names = set()
    for test in listed["tests"]:
        code = test["command"][-1]
        folders, name = re.search(r"runUnitTest\(\['(.*)'\], '(\w+)'\)", code).groups()
        assert any((Path(folder) / f"{name}.py").is_file() for folder in folders.split("', '"))
        names.add(test["name"])
    assert names == {
        "py_SemiCardiacSeg",
        "py_SemiCardiacSegStartTest",
        "py_nomainwindow_qSlicerSemiCardiacSegModuleGenericTest",
    }


@pytest.mark.parametrize("missing", ["SemiCardiacSeg/SemiCardiacSeg.py", "LICENSE"])
def test_a_missing_file_is_an_error(unbuilt: Extension, missing: str):
    (unbuilt.source / missing).unlink()
    with pytest.raises(pytest.fail.Exception, match=Path(missing).name):
        unbuilt.configure()
