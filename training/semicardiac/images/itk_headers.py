"""Headers of NRRD and MetaImage files, looked at before ITK opens them.

Both may name further files with the voxels: ITK would follow them anywhere, and takes the name as a format of C's
printf. What a header announces must also fit what is there, since ITK allocates it unseen.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..base.errors import UserError
from .geometry import unreadable
from .image_files import require_room

_LONGEST = 1 << 24
"""Bytes of a header, with the entries that programs add to it."""
_MOST_LINES = 10_000
"""ITK takes the longer for each entry the more there are."""
_PACKING = 1100
"""Bytes that gzip can make of one, at most."""
_LINE = re.compile(rb"([^\r\n]*)(?:\r\n|\r|\n|$)")
_PATTERN = re.compile(r"([^%]*)(%0?\d?d)([^%]*?)\s+(\d{1,6})\s+(\d{1,6})\s+(\d{1,6})(?:\s+\d)?")
"""slice%03d.raw 1 12 1: a plain number in a name, its first and last value, and the step."""

_BYTES = {"char": 1, "short": 2, "shortint": 2, "int": 4, "longlong": 8, "longlongint": 8, "float": 4, "double": 8}
_BYTES |= {"int8": 1, "int16": 2, "int32": 4, "int64": 8}
"""Of a voxel, by the names that NRRD has for types, without sign and spaces."""
_META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
"""The same for MetaImage, after MET_ and MET_U."""
_MOST_DIMENSIONS = 6
_LIST = "LIST"
_YES = ("T", "t", "1", "Y", "y")
_META_PLACE = ("Offset", "Position", "Origin", "ElementSpacing", "TransformMatrix", "Rotation", "Orientation")
_META_TEXTS = (
    *("ObjectType", "ObjectSubType", "Name", "Comment", "TransformType", "AnatomicalOrientation", "Modality"),
    *("AcquisitionDate", "IntensityUnits", "ElementType", "ElementDataFile"),
)
_NRRD_FIELDS = (
    *("content", "number", "type", "blocksize", "dimension", "space", "spacedimension", "sizes", "spacings"),
    *("thicknesses", "axismins", "axismin", "axismaxs", "axismax", "spacedirections", "centers", "centerings", "kinds"),
    *("labels", "units", "spaceunits", "spaceorigin", "measurementframe", "min", "max", "oldmin", "oldmax", "endian"),
    *("encoding", "lineskip", "byteskip", "sampleunits", "datafile"),
)
_NUMBERS = re.compile(r"[-+0-9.eE(), ]*(?:(?:nan|none)[-+0-9.eE(), ]*)*", re.IGNORECASE)
_META_LONGEST_TEXT, _NRRD_LONGEST, _LONGEST_LINE = 250, 200, 4000
"""Letters of a text and of any line. ITK copies them into buffers of 255 bytes or so without counting."""

_OTHER_LENGTHS = re.compile(r'"\s*([cuµn]?m|in|inch(?:es)?|microns?|(?:centi)?met(?:er|re)s?)\s*"', re.IGNORECASE)
"""Units of NRRD that ITK passes over, so that all would be of another size."""


class Header(NamedTuple):
    """What a header says."""

    fields: Mapping[str, str]
    """As they stand there; the names of NRRD in lower case and without spaces."""
    end: int
    """Where the header ends in its file."""
    files: tuple[Path, ...]
    """The files with the voxels; none where these are behind the header itself."""
    reader: str
    """The one of ITK's readers that this header is for; another could see something else in the file."""


def read_header(path: Path) -> Header:
    """The header of a NRRD or MetaImage file, found sound.

    Raises:
        UserError: If the file cannot be read or is none of the two, names files that are not plain ones beside it, or
            announces more voxels than there are or than can be worked on.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(_LONGEST)
        return (_nrrd if start.startswith(b"NRRD") else _meta)(start, path)
    except UserError:
        raise
    except (OSError, EOFError, ValueError, OverflowError) as error:
        raise unreadable(error, path) from None


def _nrrd(start: bytes, path: Path) -> Header:
    fields: dict[str, str] = {}
    lines = _lines(start)
    end = 0
    for line, end in lines:  # noqa: B007 - where the last one ends
        name, _, value = line.partition(":")
        if not line:
            break
        if value.startswith("=") or line.startswith(("#", "NRRD")):  # an entry of a program, or a comment
            continue
        name = name.replace(" ", "").lower()
        if name not in _NRRD_FIELDS or not value.startswith(" "):
            raise ValueError(f"its header has a line that says nothing: {line[:40]!r}")
        if len(line) > _NRRD_LONGEST and not (_NUMBERS.fullmatch(value) and len(line) < _LONGEST_LINE):
            raise ValueError(f"a line of its header, of {name!r}, has more than {_NRRD_LONGEST} letters")
        _require_once(name not in fields, name)
        fields[name] = value.strip()
        if name == "datafile" and fields[name].startswith(_LIST):
            break
    if other := _OTHER_LENGTHS.search(fields.get("spaceunits", "")):
        hint = "Write the space directions and the origin in mm, or export the volume again"
        raise UserError(f"its header gives lengths in {other[1]}, where mm are expected", where=path, hint=hint)
    sizes = _sizes(fields, "sizes", "dimension")
    kinds = (fields.get("kinds", "").lower().split() + ["domain"] * len(sizes))[: len(sizes)]
    frames_last = sorted(zip(kinds, sizes, strict=True), key=lambda axis: axis[0] not in ("domain", "space"))
    kind = re.sub(r"unsigned|signed|^u|_t|\s", "", fields.get("type", "").lower())
    needed = require_room([size for _, size in frames_last], _bytes_each(_BYTES, kind), path)
    if re.search("nan|inf", fields.get("spaceorigin", "").lower()):  # ITK would take it for 0
        raise ValueError("its place is not finite")
    files = _files(fields["datafile"], lines, path) if "datafile" in fields else ()
    encoding, skip = fields.get("encoding", "").lower(), int(fields.get("byteskip", 0))
    text = encoding in ("text", "txt", "ascii", "hex")
    packed = not text and encoding != "raw"
    if skip < -1 or (packed and skip > _LONGEST):
        raise ValueError(f"byte skip: {skip}")
    skipped = 0 if packed else max(skip, 0) + (0 if files else end)  # of packed files it counts what they hold
    _require_bytes(math.prod(sizes) if text else needed, files or (path,), skipped, packed)
    return Header(fields, end, files, "NrrdImageIO")


def _meta(start: bytes, path: Path) -> Header:
    fields: dict[str, str] = {}
    lines = _lines(start)
    end = 0
    for line, end in lines:  # noqa: B007 - where the last one ends
        name, _, value = (part.strip() for part in (*re.split("([=:])", line, maxsplit=1), "", "")[:3])
        longest = _META_LONGEST_TEXT if name in _META_TEXTS else _LONGEST_LINE
        if len(os.fsencode(line)) > longest:
            raise ValueError(f"a line of its header, of {name[:20]!r}, has more than {longest} letters")
        _require_once(name not in fields or name in ("", "Comment"), name)
        fields[name] = value
        if name == "ElementDataFile":
            break
    _require_once(start.count(b"ElementDataFile") == 1 and "ElementDataFile" in fields, "ElementDataFile")
    sizes = _sizes(fields, "DimSize", "NDims")
    channels = int(fields.get("ElementNumberOfChannels", 1))
    each = _bytes_each(_META_BYTES, re.sub("^MET_U?", "", fields.get("ElementType", "")))
    needed = require_room([*sizes, channels], each, path)
    if not all(math.isfinite(float(number)) for name in _META_PLACE for number in fields.get(name, "").split()):
        raise ValueError("its place is not finite")
    place = fields["ElementDataFile"]
    files = () if place in ("LOCAL", "Local", "local") else _files(place, lines, path)
    if place.startswith(_LIST) or "%" in place:
        _require_parts(place, sizes, len(files))
    skip = int(fields.get("HeaderSize", 0))
    if skip < -1:
        raise ValueError(f"HeaderSize = {skip}")
    packed, text = fields.get("CompressedData", "").startswith(_YES), not fields.get("BinaryData", "T").startswith(_YES)
    skipped = max(skip, 0) + (0 if files else end)
    there = _require_bytes(math.prod(sizes) * channels if text else needed, files or (path,), skipped, packed)
    if not 0 <= int(fields.get("CompressedDataSize", 0)) <= there:
        raise EOFError(f"its header announces {fields['CompressedDataSize']} packed bytes, and there are {there}")
    return Header(fields, end, files, "MetaImageIO")


def _sizes(fields: Mapping[str, str], sizes: str, dimensions: str) -> list[int]:
    """The size of each dimension."""
    found = [int(size) for size in fields.get(sizes, "").split()]
    if len(found) != int(fields.get(dimensions, 0)) or len(found) > _MOST_DIMENSIONS:
        raise ValueError("its header contradicts itself on the number of dimensions")
    return found


def _require_once(once: bool, name: str) -> None:
    if not once:
        raise ValueError(f"its header does not name {name[:20]!r} once")


def _require_parts(place: str, sizes: Sequence[int], files: int) -> None:
    """Sees that a list or pattern of MetaImage names as many files as there are: ITK leaves out what is missing."""
    words = place.split()
    dimensions = int(words[1]) if words[0] == _LIST and len(words) > 1 else len(sizes) - 1
    if files != math.prod(sizes[dimensions:]):
        raise EOFError(f"its header names {files} files for {math.prod(sizes[dimensions:])} parts")


def _lines(start: bytes) -> Iterator[tuple[str, int]]:
    """The lines of a header, and where each ends; the last one is whole or an error."""
    for number, found in enumerate(_LINE.finditer(start)):
        if b"\0" in found[1]:
            raise ValueError("its header holds zero bytes")
        if found.end() == _LONGEST or number > _MOST_LINES:
            raise ValueError("its header has no end")
        yield found[1].decode("utf-8", "surrogateescape"), found.end()


def _bytes_each(types: Mapping[str, int], name: str) -> int:
    if name not in types:
        raise ValueError(f"its header names no known type of voxels, but {name[:20]!r}")
    return types[name]


def _files(place: str, lines: Iterator[tuple[str, int]], path: Path) -> tuple[Path, ...]:
    """The files that a header names: one, those of a pattern, or those in the lines after LIST."""
    if place.startswith(_LIST):
        names = [line.strip() for line, _ in lines if line.strip()]
    elif pattern := _PATTERN.fullmatch(place):
        first, last, step = (int(number) for number in pattern.groups()[3:])
        names = [f"{pattern[1]}{pattern[2] % number}{pattern[3]}" for number in range(first, last + 1, step)]
    else:
        names = [place]
    return tuple(_beside(name, path) for name in names)


def _beside(name: str, path: Path) -> Path:
    """The path of a file with voxels."""
    folder = path.absolute().parent
    file = folder / name
    if "%" in name or name in ("", "-") or ".." in Path(name).parts or not file.is_relative_to(folder):
        what = f"its header names {name!r} as the file with the voxels, which is no plain name of a file beside it"
        hint = "Put both into one folder, and write the name of the file alone into the header"
        raise UserError(what, where=path, hint=hint)
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        hint = "Copy it there, too: this file holds the header alone"
        raise UserError(f"the file with the voxels, {name!r}, is missing beside it", where=path, hint=hint) from None
    except OSError as error:
        raise unreadable(error, file) from None
    if not stat.S_ISREG(mode):
        hint = "Look for where this header comes from"
        raise UserError(f"its header names {name!r} as the file with the voxels, which is none", where=path, hint=hint)
    return file


def _require_bytes(needed: int, files: Sequence[Path], skipped: int, packed: bool) -> int:
    """Sees that files can hold so many bytes of voxels behind what is skipped in each; returns what they hold."""
    there = sum(max(file.stat().st_size - skipped, 0) for file in files)
    most = there * _PACKING if packed else there
    if most < needed:
        raise EOFError(f"its header announces {needed} bytes of voxels, and there are at most {most}")
    return there
