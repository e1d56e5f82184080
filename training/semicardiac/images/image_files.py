"""What is looked at before a library opens a file: that it is a plain one, has a name that can be opened, and fits."""

from __future__ import annotations

import math
import os
import re
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..base.errors import UserError
from .geometry import unreadable

_NO_TEXT = re.compile("[\ud800-\udfff]")
"""How Python holds bytes of a name that are no UTF-8."""
_COPIES = 2
"""How often the voxels of a file are in memory at most while they are read."""
_WORK_BYTES = 20
"""What the work on a frame takes for each of its voxels: the image, and what the model finds, as floats."""

DETACHED = (".mhd", ".nhdr")
"""Headers whose voxels are in files of other names."""
Stamp = tuple[tuple[int, int, int], ...]
"""Size, time of the last change and of the last renaming of each file of a volume."""


def members(path: Path) -> list[Path]:
    """The files of a DICOM folder without hidden ones; a file itself."""
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.rglob("*") if each.is_file() and not each.name.startswith("."))


def stamp_of(path: Path) -> Stamp:
    """By what one sees, without reading it, that a volume file or a DICOM folder is still the same.

    Of a header in `DETACHED`, that of the header alone.
    """
    found = map(os.stat, members(path))
    return tuple((each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found)


def require_file(path: Path) -> None:
    """Sees that a path is a file or a folder, and not a device or a pipe, which may never end.

    Raises:
        UserError: If it is missing, cannot be reached, or is neither.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        hint = "Look for a typing error, or for a drive that is away"
        raise UserError("this file is missing", where=path, hint=hint) from None
    except OSError as error:
        raise unreadable(error, path) from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError("this is a device or a pipe, not a file", where=path, hint="Name a file with a volume")


def require_room(shape: Sequence[int], bytes_each: int, path: Path) -> int:
    """Sees that a volume, or a time series of four dimensions or more, fits into the memory of this computer.

    Args:
        shape: As the header announces it, the three dimensions of a frame first.
        bytes_each: Of one voxel in the file.
        path: For messages.

    Returns:
        The bytes that the voxels take in the file, once unpacked.

    Raises:
        UserError: If it has no voxels, or does not fit.
    """
    size = " x ".join(map(str, shape))
    if min(shape, default=0) < 1:
        raise unreadable(ValueError(f"its header announces {size or 'no'} voxels"), path)
    needed = _COPIES * math.prod(shape) * bytes_each + _WORK_BYTES * math.prod(shape[:3])
    memory = _memory()
    if memory is not None and needed > memory:
        what = f"its header announces {size} voxels, which take {needed / 2**30:.3g} GB of memory to work on"
        hint = "Crop or resample the volume if it is really so large; else its header is damaged"
        raise UserError(f"{what}; this computer has {memory / 2**30:.3g} GB", where=path, hint=hint)
    return math.prod(shape) * bytes_each


def too_large(path: Path) -> UserError:
    """The error for a volume for which the memory was too small after all."""
    hint = "Close other programs, or crop or resample this volume"
    return UserError("there is not enough memory to read this volume", where=path, hint=hint)


def _memory() -> int | None:
    """The bytes that this computer has; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def as_text(name: str) -> str:
    """A name as text, in one form: two that look alike are equal.

    Bytes that are no UTF-8, as archives of Windows leave them, are taken for letters of Latin-1; letters such as é,
    which macOS takes apart, are in the composed form of Unicode.
    """
    text = _NO_TEXT.sub(lambda found: bytes([ord(found[0]) & 0xFF]).decode("cp1252", "replace"), name)
    return unicodedata.normalize("NFC", text)


def is_plain(path: Path | str) -> bool:
    """Whether ITK can open a path: it takes UTF-8 alone, and on Windows the letters of ASCII alone."""
    text = str(path)
    return text.isascii() if os.name == "nt" else not _NO_TEXT.search(text)


@contextmanager
def plain_path(path: Path, *beside: Path, content: bytes | None = None) -> Iterator[Path]:
    """A path under which ITK can open a file: its own where that is plain, else one for as long as it is needed.

    Args:
        path: The file.
        beside: Further ones that have to lie beside it, under their own names.
        content: What to open in place of what the file holds.
    """
    if is_plain(path) and content is None:
        yield path
        return
    with _plain_folder() as folder:
        suffixes = [suffix for suffix in path.suffixes[-2:] if is_plain(suffix)]
        place = folder / f"volume{''.join(suffixes)}"
        if content is None:
            _link(path, place)
        else:
            place.write_bytes(content)
        for file in beside:
            _link(file, folder / file.name)
        yield place


@contextmanager
def plain_target(path: Path) -> Iterator[Path]:
    """As `plain_path`, for a file that ITK is to write."""
    if is_plain(path):
        yield path
        return
    with _plain_folder() as folder:
        place = folder / f"volume{path.suffix}"
        yield place
        shutil.copyfile(place, path)


@contextmanager
def _plain_folder() -> Iterator[Path]:
    places = (tempfile.gettempdir(), os.environ.get("PUBLIC"))  # a Windows user may be called Müller
    place = next((place for place in places if place and is_plain(place)), None)
    with tempfile.TemporaryDirectory(prefix="semicardiac-", dir=place) as folder:
        yield Path(folder)


def _link(file: Path, link: Path) -> None:
    for make in (os.symlink, os.link, shutil.copyfile):  # Windows keeps links to administrators or to one drive
        try:
            make(file.absolute(), link)
        except OSError:
            continue
        return
    raise UserError("this file cannot be read under this name", where=file, hint="Rename it, with letters of ASCII")
