"""Matplotlib as we use it: in its own style, without a word on the terminal or a trace in the home folder."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..base.errors import UserError

_FOLDER = "MPLCONFIGDIR"
"""The variable that says where matplotlib keeps its list of fonts, read when it is imported."""


def require_matplotlib() -> None:
    """Imports matplotlib. Raises a UserError that names the extra to install where it is missing.

    Its list of fonts goes into a temporary folder, unless the user has said where; it takes seconds to make, so that
    the next report finds it there.
    """
    own = _font_folder() if "matplotlib" not in sys.modules and _FOLDER not in os.environ else None
    try:
        if own:
            os.environ[_FOLDER] = str(own)
        with _quiet():
            import matplotlib.font_manager  # noqa: F401
    except ImportError:
        raise UserError(
            "the report draws its charts with matplotlib, which is not installed",
            where="report",
            hint="Install it with: pip install matplotlib",
        ) from None
    finally:
        if own:
            os.environ.pop(_FOLDER, None)  # programs that we start have their own


@contextmanager
def drawing(style: Mapping[Any, Any]) -> Iterator[None]:
    """While figures are drawn: these settings of matplotlib, and its defaults for all else, whatever the user's are."""
    require_matplotlib()
    import matplotlib  # 0.3 s and an optional dependency: only who draws pays for it

    with _quiet(), matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps matplotlib's remarks on fonts, glyphs and axes off the terminal."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _font_folder() -> Path | None:
    """A temporary folder that is this user's alone: that of last time, or a new one where others may write to that.

    None where there is no place for one: then matplotlib looks for its own.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    try:
        folder = Path(tempfile.gettempdir()) / f"semicardiac-matplotlib-{user}"
        if _is_own(folder, user):
            return folder
        folder = Path(tempfile.mkdtemp(prefix="semicardiac-matplotlib-"))
    except OSError:
        return None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _is_own(folder: Path, user: int) -> bool:
    """Whether a folder, which is made if need be, is nobody else's to write to."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:  # a file
        return False
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and (os.name == "nt" or (found.st_uid == user and not found.st_mode & 0o077))
