"""Files that are either whole or not there: atomic writes, content hashes, folders that are safe to fill."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on success it is flushed to disk and renamed onto `path`.

    The temporary name ends as `path` does (all suffixes), since writers choose the format by it.

    Raises:
        UserError: If the disk is full or the folder is not writable; nothing half-written stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise as_user_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def as_user_error(error: OSError, path: Path) -> Exception:
    """The UserError that explains a failed write to `path`, or `error` itself where a user has no say."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            "the disk is full",
            where=path,
            hint="Free some space or choose another output folder; nothing half-written was left",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError("this place is not writable", where=path, hint="Choose an output folder that you may write to")
    return error


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, data: Any) -> None:
    """Writes data as indented JSON, atomically; NaN is written as null."""
    write_text(path, json.dumps(_without_nan(data), indent=2) + "\n")


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
        raise UserError(f"this file cannot be read ({error.strerror})", where=path) from None
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
        UserError: If it is a file, is not writable, or (with `empty`) holds anything.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError("this is a file, not a folder", where=path, hint="Name another output folder")
    if empty and path.exists() and any(path.iterdir()):
        raise UserError(
            "the output folder is not empty",
            where=path,
            hint="Name a new folder, so that nothing of yours is overwritten",
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{secrets.token_hex(4)}"
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


def _without_nan(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without_nan(value) for value in data]
    return None if isinstance(data, float) and (data != data or abs(data) == float("inf")) else data
