"""Names of files that are being written, by which whoever comes later knows what a killed process has left behind."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
import zlib
from contextlib import suppress
from pathlib import Path
from platform import node

from .processes import may_run

_TEMPORARY = re.compile(r"\.semicardiac-([0-9a-f]{8})-(\d{1,10})-[0-9a-f]{8}\..*", re.DOTALL)
_ABANDONED_S = 3600.0
"""So long nobody writes to a temporary file that is in use. It decides where the process cannot be asked for."""


def temporary_beside(path: Path) -> Path:
    """A new name in the same folder for what will be renamed to `path`; it tells the machine and the process.

    It is short however long the name of `path` is, and ends as that does.
    """
    return path.with_name(f".semicardiac-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.{path.name[-16:]}")


def is_temporary(path: Path) -> bool:
    """Whether this is a name of `temporary_beside`, and so never anything of the user's."""
    return _TEMPORARY.fullmatch(path.name) is not None


def remove_abandoned(folder: Path) -> None:
    """Removes the temporary files and folders that killed processes have left in a folder, and nothing else."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            with suppress(OSError):
                if _is_abandoned(path):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _is_abandoned(path: Path) -> bool:
    name = _TEMPORARY.fullmatch(path.name)
    if name is None:  # it is the user's
        return False
    machine, pid = name.groups()
    if machine == _machine() and not may_run(int(pid)):
        return True
    return time.time() - path.lstat().st_mtime > _ABANDONED_S


def _machine() -> str:
    return f"{zlib.crc32(node().encode()):08x}"
