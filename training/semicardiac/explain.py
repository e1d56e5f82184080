"""Errors of libraries and of the system, said in the user's words where the user can mend them."""

from __future__ import annotations

from pathlib import Path

from . import files
from .errors import UserError


def explain(error: Exception, place: Path) -> UserError | None:
    """What a user can do about an error, or None if it is ours.

    Args:
        error: Whatever was raised.
        place: The folder that the work was done in.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError):
        explained = files.as_user_error(error, Path(error.filename) if isinstance(error.filename, str) else place)
        return explained if isinstance(explained, UserError) else None
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is PyTorch's
        hint = "Close other programs, or choose smaller batches (optim.batch_labeled, optim.batch_mixed)"
        return UserError("the memory does not suffice", where=place, hint=hint)
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("semicardiac"):
        package = str(error.name).partition(".")[0]
        return UserError(f"the Python package '{package}' is not installed", hint=f"Install it: pip install {package}")
    return None
