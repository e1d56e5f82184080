"""A folder that is replaced whole: at every moment, and after a kill at any, its old or its new content is there."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import UserError
from .files import as_user_error, sync_folder

PATIENCE = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6) if os.name == "nt" else ()
"""Seconds between tries to rename a folder: Windows does not while another program reads a file in it."""


def set_aside(folder: Path) -> Path:
    """Where the earlier content of a folder is while its successor takes its place, and after a kill just then."""
    return folder.with_name(f".{folder.name}.old")


def successor(folder: Path) -> Path:
    """Where the next content of a folder is written, and what a kill left of it."""
    return folder.with_name(f".{folder.name}.new")


def present(folder: Path) -> Path:
    """Where the content of a folder is: in it, or set aside."""
    folder = Path(folder)
    if not folder.name or os.path.lexists(folder):
        return folder
    return set_aside(folder) if os.path.isdir(set_aside(folder)) else folder


@contextmanager
def folder_beside(folder: Path) -> Iterator[Path]:
    """Gives an empty folder beside `folder`, which is deleted in the end unless it was moved elsewhere.

    Raises:
        UserError: If the disk is full or the place is not writable.
    """
    new = successor(folder)
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        yield new
    except OSError as error:
        raise as_user_error(error, folder) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder beside `folder` to fill; on success it takes the place of `folder`.

    No system renames a folder onto one that holds files, so the earlier one is set aside first, where `present` finds
    it. What it holds besides the files that are replaced, such as a person's notes, moves into the new one.

    Raises:
        UserError: If the disk is full, the place is not writable, or (on Windows) another program has a file open.
    """
    folder = Path(folder)
    old = set_aside(folder)
    with folder_beside(folder) as new:
        if not os.path.lexists(folder) and old.exists():  # killed between the two renames below
            _rename(old, folder)
        _clear(old, folder)
        yield new
        _flush(new)
        if os.path.lexists(folder):
            _rename(folder, old)
        try:
            _rename(new, folder)
        except BaseException:
            with suppress(OSError):
                os.rename(old, folder)
            raise
        sync_folder(folder.parent)  # before the earlier content is deleted
    with suppress(OSError):  # the next replacement tries again
        _clear(old, folder)


def remove_leftovers(folder: Path) -> None:
    """Deletes what kills left beside a folder that is deleted, too."""
    for path in (successor(folder), set_aside(folder)):
        shutil.rmtree(path, ignore_errors=True)


def _clear(old: Path, folder: Path) -> None:
    """Deletes an earlier folder file by file; what has no successor moves into the new one."""
    if old.is_symlink():  # the folder that it points to is somebody's
        old.unlink()
    if not old.exists():
        return
    for item in list(old.iterdir()):
        if os.path.lexists(folder / item.name):
            item.unlink()
        else:
            os.rename(item, folder / item.name)
    old.rmdir()


def _flush(folder: Path) -> None:
    """Writes all that a folder holds to disk: after a power cut its new name must not stand for empty files."""
    for place, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), "rb+") as file:
                os.fsync(file.fileno())
        sync_folder(Path(place))


def _rename(path: Path, target: Path) -> None:
    for pause in (*PATIENCE, None):
        try:
            os.rename(path, target)
            return
        except PermissionError as error:
            if pause is not None:
                time.sleep(pause)
            elif not PATIENCE:
                raise
            else:
                what = "another program has a file in this folder open, so that it could not be replaced"
                raise UserError(what, where=target, hint="Close that program and start this again") from error
