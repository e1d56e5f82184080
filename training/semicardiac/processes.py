"""What a job has to know of processes: that no other engine runs it, and whether its starter still lives."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

if sys.platform == "win32":
    import ctypes
    import msvcrt

    _SYNCHRONIZE, _TIMEOUT, _ACCESS_DENIED = 0x00100000, 0x00000102, 5
    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.OpenProcess.argtypes = [ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32]
    _kernel.OpenProcess.restype = ctypes.c_void_p
    _kernel.WaitForSingleObject.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    _kernel.CloseHandle.argtypes = [ctypes.c_void_p]

    def _open_process(pid: int) -> int | None:
        return _kernel.OpenProcess(_SYNCHRONIZE, False, pid)

    def _has_ended(handle: int) -> bool:
        return _kernel.WaitForSingleObject(handle, 0) != _TIMEOUT
else:
    import fcntl

#: What a file system without locks answers.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
_LOCKED_BYTE = 1 << 30  # far behind the text: Windows forbids reading a locked byte


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds a lock file for as long as the block runs; it names the process that holds it.

    The operating system frees the lock when the process dies, so what a killed engine left behind is taken over.

    Raises:
        UserError: If another engine holds the lock, with its process number.
    """
    with open(path, "a+", encoding="ascii") as file:
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                holder = path.read_text(encoding="ascii").strip()
                hint = "Wait until it is done, or stop it with a file named STOP in the job folder"
                raise UserError(f"another engine runs this job ({holder})", where=path.parent, hint=hint) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}\n")
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Whether another process holds a lock file. To find out, the lock is taken for a moment; nothing is written."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - what fails in here is another matter than what fails below
    except OSError:  # nobody has locked it yet, or it is out of reach
        return False
    with file:
        try:
            _lock(file.fileno())
        except OSError as error:
            return error.errno not in _NO_LOCKS
    return False


def gone_check(pid: int) -> Callable[[], bool]:
    """A function that tells whether the process with this number has ended.

    It holds on to the process where the system allows it (Linux, Windows), so that a later process that was given
    the same number is not taken for it.
    """
    if sys.platform == "win32":
        handle = _open_process(pid)
        return lambda: not handle or _has_ended(handle)
    try:
        poll = select.poll()
        poll.register(os.pidfd_open(pid), select.POLLIN)
        return lambda: bool(poll.poll(0))
    except (AttributeError, OSError, OverflowError):  # not Linux, an old kernel, gone already, or never there
        return lambda: not exists(pid)


def exists(pid: int) -> bool:
    """Whether a process has this number now."""
    if sys.platform == "win32":
        handle = _open_process(pid)
        if not handle:
            return ctypes.get_last_error() == _ACCESS_DENIED  # it is another user's
        ended = _has_ended(handle)
        _kernel.CloseHandle(handle)
        return not ended
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
