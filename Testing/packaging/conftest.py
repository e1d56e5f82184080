"""What the tests of the packaging share: the extension, built and installed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from Testing.packaging.support import Extension, macro_options, unbuilt_extension


@pytest.fixture(scope="session", params=["emulated", "real"])
def macros(request) -> list[str]:
    """The options for either kind of macros."""
    return macro_options(request.param)


@pytest.fixture
def unbuilt(tmp_path: Path) -> Extension:
    """The extension before CMake has seen it."""
    return unbuilt_extension(tmp_path)


@pytest.fixture(scope="session")
def installed(tmp_path_factory, macros: list[str]) -> Extension:
    """The extension as built and installed with its tests. Not to be changed."""
    extension = unbuilt_extension(tmp_path_factory.mktemp("extension"))
    extension.configure("-DBUILD_TESTING=ON", *macros)
    extension.install()
    return extension
