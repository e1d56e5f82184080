"""Errors of libraries and of the system, said in the user's words where the user can fix them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from . import files
from .errors import UserError

_LONGEST = 300
"""Letters of an error of ours that are shown."""


def explain(error: Exception, place: Path | str = "", *, reading: bool = False) -> UserError | None:
    """What a user can do about an error, or None if it is ours.

    Args:
        error: Whatever was raised.
        place: The job folder, for what is written; without one, errors of the system that name no file have no place.
        reading: It was raised while `place` was read.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError):
        return _of_the_system(error, place, reading)
    if _is_out_of_memory(error):
        hint = "Close other programs; in a training, choose smaller batches (optim.batch_labeled, optim.batch_mixed)"
        where = getattr(error, "filename", "") or (place if reading else "")
        return UserError("the memory does not suffice", where=where, hint=hint)
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("semicardiac"):
        package = str(error.name).partition(".")[0]
        return UserError(f"the Python package '{package}' is not installed", hint=f"Install it: pip install {package}")
    return None


def fault_of_ours(error: Exception, report: Path | str = "", *, where: object = "") -> UserError:
    """What is said of an error that is ours: its beginning, since its text may hold whatever was at hand.

    Args:
        error: Whatever was raised.
        report: Where the crash report is, if there is one.
        where: The job folder.
    """
    text = " ".join(str(error)[:_LONGEST].split())
    what = f"an error inside semicardiac: {type(error).__name__}: {text}{'...' if len(str(error)) > _LONGEST else ''}"
    hint = f"Send us {report}, which names no patient and no file" if report else ""
    return UserError(what, where=where, hint=hint)


def _is_out_of_memory(error: Exception) -> bool:
    """Also as PyTorch says it, which is not imported for this: an error of its own on a GPU, a text on a CPU."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


def _of_the_system(error: OSError, place: Path | str, reading: bool) -> UserError | None:
    named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    where = named or place
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and named:
        return UserError("this file or folder is not there any more", where=where, hint="Put it back, and run again")
    if error.errno in (errno.EACCES, errno.EPERM) and named:  # to read or to write it: that is not told
        reading = reading or (os.path.exists(named) and not os.access(named, os.R_OK))
        what = "this cannot be read: permission is denied" if reading else "permission is denied"
        return UserError(what, where=where, hint="Check the rights to this file and to the folder that it lies in")
    explained = files.as_user_error(error, where, reading=reading)
    return explained if isinstance(explained, UserError) else None
