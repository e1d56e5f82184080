"""The files of a model package, in a folder or in a zip, read within bounds: whoever sent it may mean harm."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from ..base.errors import UserError
from ..base.explain import explain

BLOCK = 1 << 20
"""Bytes that are read at a time; also the longest table of contents of a zip: thousands of files."""
AGAIN = "Get the package again"


def chunks(place: Path, name: str, most: int, anchor: str) -> Generator[bytes, None, None]:
    """The content of a file of a package, `BLOCK` bytes at a time.

    Args:
        place: The folder or the zip.
        name: Of the file.
        most: Bytes that it may have.
        anchor: The file whose folder in a zip is the package: zipping by hand puts the folder's name before each.

    Raises:
        UserError: If it is missing, cannot be read, is no plain file, encrypted, larger than that, or damaged.
    """
    left = most
    try:
        with _opened(place, name, anchor) as (file, size):
            while size <= most and (block := file.read(BLOCK)):
                left -= len(block)
                if left < 0:
                    break
                yield block
    except FileNotFoundError:
        raise UserError(f"{name} is missing from the model package", where=place, hint=AGAIN) from None
    except Exception as error:  # damage makes zipfile raise anything from BadZipFile to OverflowError
        if (reason := explain(error, place, reading=True)) is not None:
            raise reason from error
        raise UserError(f"{name} is damaged and cannot be read", where=place, hint=AGAIN) from None
    if size > most or left < 0:
        raise UserError(f"{name} is larger than it can be in this package ({_amount(most)})", where=place, hint=AGAIN)


@contextmanager
def open_zip(file: Path) -> Iterator[zipfile.ZipFile]:
    """A zip, whose table of contents is read only if it is not overly long.

    Raises:
        UserError: If that is damaged or overly long, or the file cannot be read.
    """
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(_Bounded(io.FileIO(file)))
            archive = stack.enter_context(zipfile.ZipFile(stream))
        except Exception as error:  # damage makes zipfile raise anything from BadZipFile to OverflowError
            if (reason := explain(error, file, reading=True)) is not None:
                raise reason from error
            raise UserError("this zip is damaged", where=file, hint=AGAIN) from None
        yield archive


class _Bounded(io.BufferedReader):
    """A file of which nothing large is read at once, as zipfile would read a table of contents."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > BLOCK:
            raise zipfile.BadZipFile
        return super().read(size)


@contextmanager
def _opened(place: Path, name: str, anchor: str) -> Iterator[tuple[IO[bytes], int]]:
    """A file of a package and its size."""
    if place.is_dir():
        status = os.lstat(place / name)
        if not stat.S_ISREG(status.st_mode):
            what = f"{name} is a link, a folder or a device instead of a plain file"
            raise UserError(what, where=place, hint="Put the file itself in its place, or get the package again")
        with open(place / name, "rb") as file:
            yield file, status.st_size
    else:
        with open_zip(place) as archive:
            member = _member(archive, name, anchor, place)
            with archive.open(member) as file:
                yield file, member.file_size


def _member(archive: zipfile.ZipFile, name: str, anchor: str, place: Path) -> zipfile.ZipInfo:
    files = [item.filename for item in archive.infolist()]
    anchors = [file for file in files if file.rpartition("/")[2] == anchor]
    if not anchors:
        raise UserError(f"{anchor} is missing from the model package", where=place, hint=AGAIN)
    shortest = min(anchors, key=len)
    folder = shortest.removesuffix(anchor)
    if len([file for file in anchors if len(file) == len(shortest)]) > 1 or files.count(folder + name) > 1:
        raise UserError(f"{name} is in this zip more than once", where=place, hint="Pack one model into a zip")
    if folder + name not in files:
        raise UserError(f"{name} is missing from the model package", where=place, hint=AGAIN)
    member = archive.getinfo(folder + name)
    if member.flag_bits & 1:
        raise UserError(f"{name} is encrypted", where=place, hint="Unpack the zip, and name the folder")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        what = f"{name} is packed by a method ({member.compress_type}) other than that of usual zips"
        raise UserError(what, where=place, hint="Unpack the zip, and name the folder")
    return member


def _amount(size: int) -> str:
    return f"{size >> 20} MB" if size >= 1 << 20 else f"{size >> 10} kB" if size >= 1 << 10 else f"{size} bytes"
