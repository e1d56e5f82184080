"""Folders that jobs are made in."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import slicer

from . import process


@contextmanager
def newFolder(folder: Path | str | None) -> Iterator[Path]:
    """Gives a new or empty folder, which is left as it was if what happens in it fails.

    Args:
        folder: Its place; among Slicer's temporary files without it.

    Raises:
        ValueError: If the folder holds anything, or is not writable.
    """
    process.addToPath()
    from semicardiac.base.files import output_folder

    isNew = folder is None or not Path(folder).exists()
    folder = Path(folder or tempfile.mkdtemp(prefix="SemiCardiacSeg-", dir=slicer.app.temporaryPath)).absolute()
    output_folder(folder, empty=True)
    try:
        yield folder
    except BaseException:
        for path in [folder] if isNew else list(folder.iterdir()):  # it was empty: all that is in it is ours
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        raise
