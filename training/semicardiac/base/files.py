"""Files that are either whole or not there: atomic writes, content hashes, folders that are safe to fill."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError
from .temporaries import is_temporary, temporary_beside

#: What file systems without hard links answer (FAT, some network drives).
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EMLINK)
#: What file systems answer whose folders cannot be flushed, and folders that may be written to and not be read.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
#: Errors of the system that a user can do something about, besides those above.
_CURABLE = {
    errno.EFBIG: ("no file may grow this large here", "Raise the limit (ulimit -f), or choose another output folder"),
    errno.ENAMETOOLONG: ("this name is too long for the file system", "Choose shorter names of files and folders"),
    errno.EMFILE: ("too many files are open", "Close other programs, or raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many files are open", "Close other programs, or raise the limit (ulimit -n)"),
    errno.EISDIR: ("there is a folder where a file belongs", "Move it away"),
    errno.EIO: ("the disk or network drive failed", "Check the drive and its connection, then run the same again"),
    **dict.fromkeys(
        (errno.ESTALE, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ETIMEDOUT),
        ("the network drive does not answer", "Check its connection, then run the same again"),
    ),
}


@contextmanager
def atomic_path(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on success it is flushed to disk and renamed onto `path`.

    After that the file outlasts a power cut: the folder is flushed, too.

    The temporary name ends as `path` does (all suffixes), since writers choose the format by it.

    Args:
        path: Where the file will be.
        replace: Whether it may take the place of a file of this name; without it, one that is there, even if it
            appeared a moment ago, stays as it is.

    Raises:
        UserError: If the disk is full, the folder is not writable, or the name is taken; nothing half-written stays.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
            sync_folder(path.parent)
        elif not move_new(temporary, path):
            raise UserError("there is a file of this name already", where=path, hint="Name a new file")
    except OSError as error:
        raise as_user_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def move_new(temporary: Path, path: Path) -> bool:
    """Gives a file its name, unless something has that name; in between, nothing can come.

    Returns:
        Whether it has the name now; else both files stay as they are.
    """
    try:
        if os.name == "nt":
            os.rename(temporary, path)  # which never replaces there
            return True
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # keeps the name, for an instant
            try:
                os.replace(temporary, path)
            except OSError:
                os.unlink(path)
                raise
        else:
            os.unlink(temporary)
    except FileExistsError:
        return False
    sync_folder(path.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Flushes the names in a folder to disk, so that a file renamed just now is there after a power cut.

    Windows has no call for it; NTFS keeps a journal of its own.
    """
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def is_taken(path: Path) -> bool:
    """Whether something has this name, be it a link to nothing.

    Raises:
        UserError: If nothing can have it, since it is too long, or the folder cannot be looked into.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise as_user_error(error, path, reading=True) from error
    return True


def as_user_error(error: OSError, path: Path | str, *, reading: bool = False) -> Exception:
    """The UserError that explains a failed write to `path`, or `error` itself where a user has no say.

    Args:
        error: What the system said.
        path: What was to be written.
        reading: It was to be read.
    """
    if error.errno in _FULL and not reading:
        return UserError(
            "the disk is full",
            where=path,
            hint="Free some space or choose another output folder; nothing half-written was left",
        )
    if error.errno in _DENIED:
        if reading:
            return UserError("this cannot be read: permission is denied", where=path, hint="Get the right to read it")
        return UserError("this place is not writable", where=path, hint="Choose an output folder that you may write to")
    if error.errno in _CURABLE:
        what, hint = _CURABLE[error.errno]
        return UserError(f"{what} ({error.strerror})", where=path, hint=hint)
    return error


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically as UTF-8; ? stands for what a file's name holds that is none."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")


def write_json(path: Path, data: Any) -> None:
    """Writes data as indented JSON, atomically; NaN is written as null."""
    write_text(path, json.dumps(without_nan(data), indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        UserError: If the file is missing, cannot be read, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))  # a byte order mark is Windows' habit
    except FileNotFoundError:
        raise UserError("this file is missing", where=path) from None
    except OSError as error:
        explained = as_user_error(error, path, reading=True)
        if isinstance(explained, UserError):
            raise explained from error
        raise UserError(f"this file cannot be read ({error.strerror})", where=path) from error
    except RecursionError:
        raise UserError("this is not a readable JSON file (it is nested too deeply)", where=path) from None
    except ValueError as error:
        raise UserError(f"this is not a readable JSON file ({error})", where=path) from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def output_folder(path: Path, *, empty: bool = True) -> Path:
    """Makes a folder for results, sure that nothing of the user's is in the way.

    Raises:
        UserError: If it is a file, is not writable, or (with `empty`) holds anything but
            what a killed process of ours left behind.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError("this is a file, not a folder", where=path, hint="Name another output folder")
    if empty and path.exists() and not all(map(is_temporary, path.iterdir())):
        raise UserError(
            "the output folder is not empty",
            where=path,
            hint="Name a new folder, so that nothing of yours is overwritten",
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = temporary_beside(path / "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        explained = as_user_error(error, path)
        if isinstance(explained, UserError):
            raise explained from error
        raise UserError(
            f"this folder cannot be made ({error.strerror})", where=path, hint="Choose another output folder"
        ) from error
    return path


def without_nan(data: Any) -> Any:
    """Data as JSON can hold them: null in place of NaN and infinity."""
    if isinstance(data, dict):
        return {key: without_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [without_nan(value) for value in data]
    return None if isinstance(data, float) and (data != data or abs(data) == float("inf")) else data
