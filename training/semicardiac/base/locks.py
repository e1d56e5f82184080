"""A lock that says that no other engine runs a job."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from platform import node
from typing import BinaryIO

from .errors import UserError
from .processes import may_run

# Not by the package filelock: Slicer asks whether a job runs before any package is installed, and on Windows filelock
# locks the first byte of a file, so that nobody could read in it who holds it.
if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

#: What a file system without locks answers, and what one that has them says of a lock that is taken.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
_TAKEN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
_LOCKED_BYTE = 1 << 30  # far behind the text: Windows forbids reading a locked byte


class HeldError(UserError):
    """Another process holds the lock."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds a lock file for as long as the block runs; it names the process that holds it.

    The operating system frees the lock when the process dies, so what a killed engine left behind is taken over. On a
    file system without locks, a second file tells who holds it.

    Raises:
        HeldError: If another engine holds the lock, with its process number.
    """
    with open(path, "a+", encoding="ascii", errors="replace") as file, ExitStack() as stack:
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno in _TAKEN:
                hint = "Wait until it is done, or stop it with a file named STOP in the job folder"
                raise _runs_already(path, hint) from None
            if error.errno not in _NO_LOCKS:
                raise
            stack.enter_context(_held_by_name(holder_of(path)))
        file.truncate(0)
        file.write(f"process {os.getpid()}\n")
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Whether another process holds a lock file. To find out, the lock is taken for a moment; nothing is written."""
    file: BinaryIO
    try:
        try:
            file = open(path, "rb+")  # noqa: SIM115 - what fails in here is another matter than what fails below
        except PermissionError:
            file = open(path, "rb")  # noqa: SIM115 - this does for local disks
    except OSError:  # nobody has locked it yet, or it is out of reach
        return False
    with file:
        try:
            _lock(file.fileno())
        except OSError as error:
            return error.errno in _TAKEN or (error.errno in _NO_LOCKS and _lives(_read(holder_of(path))))
    return False


def is_lock(path: Path) -> bool:
    """Whether a file is what `exclusive` makes, and so never anything of the user's."""
    return re.fullmatch(r"(process \d+\n)?", _read(path)) is not None


def holder_of(path: Path) -> Path:
    """The file beside a lock file that stands for the lock where the file system has none."""
    return path.with_name(f"{path.name}-holder")


@contextmanager
def _held_by_name(path: Path) -> Iterator[None]:
    """Holds a file that only one process can make; that of a process that is gone is taken over."""
    while True:
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(f"{os.getpid()} {node()}\n")
            break
        except FileExistsError:
            before = _read(path)
            if _lives(before):
                hint = f"Wait until it is done; if no engine runs there any more, delete {path.name}"
                raise _runs_already(path, hint) from None
            moved = path.with_name(f"{path.name}-{os.getpid()}")
            with suppress(FileNotFoundError):
                os.replace(path, moved)
                if _read(moved) == before:
                    os.unlink(moved)
                else:  # somebody was faster: this is theirs
                    os.replace(moved, path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _lives(holder: str) -> bool:
    """Whether who signed a holder's file may still be there; that of another machine always."""
    pid, _, machine = holder.strip().partition(" ")
    return bool(holder) and (machine != node() or not pid.isdecimal() or may_run(int(pid)))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _runs_already(path: Path, hint: str) -> HeldError:
    holder = _read(path).strip().removeprefix("process ")
    return HeldError(f"another engine runs this job (process {holder})", where=path.parent, hint=hint)


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
