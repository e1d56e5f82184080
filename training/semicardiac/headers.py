"""Headers of NRRD and MetaImage files, looked at before ITK opens them.

Both may name further files with the voxels: ITK would follow them anywhere, and takes the name as a format of C's
printf. What a header announces must also fit what is there, since ITK allocates it unseen.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import UserError
from .inputs import require_room, unreadable

_LONGEST = 1 << 24
"""Bytes of a header, with the entries that programs add to it."""
_MOST_LINES = 10_000
"""ITK takes the longer for each entry the more there are."""
_PACKING = 1100
"""Bytes that gzip can make of one, at most."""
_LINE = re.compile(rb"([^\r\n]*)(?:\r\n|\r|\n|$)")
_PATTERN = re.compile(r"([^%]*)(%0?\d?d)([^%]*?)\s+(\d{1,6})\s+(\d{1,6})\s+(\d{1,6})(?:\s+\d)?")
"""slice%03d.raw 1 12 1: a plain number in a name, its first and last value, and the step."""

_NRRD_BYTES = {
    1: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: ("short", "short int", "signed short", "signed short int", "int16", "int16_t", "ushort", "unsigned short")
    + ("unsigned short int", "uint16", "uint16_t"),
    4: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"),
    8: ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t")
    + ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t", "double"),
}
_META_BYTES = {
    1: ("MET_CHAR", "MET_UCHAR"),
    2: ("MET_SHORT", "MET_USHORT"),
    4: ("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"),
    8: ("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"),
}
_LIST = "LIST"
_META_REPEATED = ("Comment",)
_META_PLACE = ("Offset", "Position", "Origin", "ElementSpacing", "TransformMatrix", "Rotation", "Orientation")
_META_TEXTS = ("ObjectType", "ObjectSubType", "Name", "Comment", "TransformType", "AnatomicalOrientation", "Modality")
_META_TEXTS += ("AcquisitionDate", "IntensityUnits", "ElementType", "ElementDataFile")
_META_LONGEST_TEXT, _META_LONGEST_LINE = 250, 4000
"""ITK copies these texts into 255 bytes without counting, and does not read longer lines."""


class Header(NamedTuple):
    """What a header says."""

    fields: Mapping[str, str]
    """As they stand there; the names of NRRD in lower case and without spaces."""
    end: int
    """Where the header ends in its file."""
    files: tuple[Path, ...]
    """The files with the voxels; none where these are behind the header itself."""


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
    for line, end in lines:
        name, _, value = line.partition(":")
        if not line:
            break
        if value and not value.startswith("=") and not line.startswith("#"):  # else an entry of a program, or a comment
            name = name.replace(" ", "").lower()
            if name in fields:
                raise ValueError(f"its header names {name!r} twice")
            fields[name] = value.strip()
            if name.startswith("data") and value.strip().startswith(_LIST):
                break
    sizes = [int(size) for size in fields.get("sizes", "").split()]
    if len(sizes) != int(fields.get("dimension", 0)) or len(sizes) > 8:
        raise ValueError("its header contradicts itself on the number of dimensions")
    kinds = (fields.get("kinds", "").split() + ["domain"] * len(sizes))[: len(sizes)]
    frames_last = sorted(zip(kinds, sizes, strict=True), key=lambda axis: axis[0].lower() not in ("domain", "space"))
    size = require_room([size for _, size in frames_last], _bytes_each(_NRRD_BYTES, fields.get("type", "").lower()), path)
    files = _files(fields["datafile"], lines, path) if "datafile" in fields else ()
    encoding, skip = fields.get("encoding", "").lower(), int(fields.get("byteskip", 0))
    if encoding in ("text", "txt", "ascii", "hex"):  # a digit for each voxel, at least
        size = math.prod(sizes)
    packed = encoding not in ("raw", "text", "txt", "ascii", "hex")
    if re.search("nan|inf", fields.get("spaceorigin", "").lower()):  # ITK would put it at the origin of the scanner
        raise ValueError("its place is not finite")
    if skip < -1 or (packed and skip > _LONGEST):
        raise ValueError(f"byte skip: {skip}")
    _require_bytes(size, files or (path,), 0 if packed else max(skip, 0) + (0 if files else end), packed, path)
    return Header(fields, end, files)


def _meta(start: bytes, path: Path) -> Header:
    fields: dict[str, str] = {}
    lines = _lines(start)
    end = 0
    for line, end in lines:
        name, _, value = (part.strip() for part in (*re.split("([=:])", line, maxsplit=1), "", "")[:3])
        if not name:
            continue
        longest = _META_LONGEST_TEXT if name in _META_TEXTS else _META_LONGEST_LINE
        if len(line.encode(errors="surrogateescape")) > longest:
            raise ValueError(f"line {len(fields) + 1} of its header is longer than {longest} letters")
        if name in fields and name not in _META_REPEATED:
            raise ValueError(f"its header names {name!r} twice")
        fields[name] = value
        if name == "ElementDataFile":
            break
    if start.count(b"ElementDataFile") != 1:
        raise ValueError("its header does not say once where the voxels are")
    sizes = [int(size) for size in fields.get("DimSize", "").split()]
    if len(sizes) != int(fields.get("NDims", 0)) or len(sizes) > 4:
        raise ValueError("its header contradicts itself on the number of dimensions")
    channels = int(fields.get("ElementNumberOfChannels", 1))
    size = require_room([*sizes, channels], _bytes_each(_META_BYTES, fields.get("ElementType", "")), path)
    place, skip = fields.get("ElementDataFile", ""), int(fields.get("HeaderSize", 0))
    files = () if place in ("LOCAL", "Local", "local") else _files(place, lines, path)
    many = place.startswith(_LIST) or "%" in place
    if many and len(files) != (parts := math.prod(sizes[_list_dimension(place, len(sizes)) :])):
        raise EOFError(f"its header names {len(files)} files for {parts} parts")
    if skip < -1:
        raise ValueError(f"HeaderSize = {skip}")
    packed = fields.get("CompressedData", "").lower().startswith(("t", "1", "y"))
    if not fields.get("BinaryData", "True").lower().startswith(("t", "1", "y")):
        size = math.prod(sizes) * channels
    if not all(math.isfinite(float(number)) for name in _META_PLACE for number in fields.get(name, "").split()):
        raise ValueError("its place is not finite")
    there = _require_bytes(size, files or (path,), max(skip, 0) + (0 if files else end), packed, path)
    if not 0 <= int(fields.get("CompressedDataSize", 0)) <= there:
        raise EOFError(f"its header announces {fields['CompressedDataSize']} bytes, and there are {there}")
    return Header(fields, end, files)


def _lines(start: bytes) -> Iterator[tuple[str, int]]:
    """The lines of a header, and where each ends; the last one is whole or an error."""
    for number, found in enumerate(_LINE.finditer(start)):
        if b"\0" in found[1]:
            raise ValueError("its header holds zero bytes")
        if found.end() == _LONGEST or number > _MOST_LINES:
            raise ValueError("its header has no end")
        yield found[1].decode("utf-8", "surrogateescape"), found.end()


def _bytes_each(types: Mapping[int, Sequence[str]], name: str) -> int:
    for each, names in types.items():
        if name in names:
            return each
    raise ValueError(f"its header names the type of voxels {name!r}")


def _list_dimension(place: str, dimensions: int) -> int:
    """How many dimensions each file of a MetaImage list has."""
    words = place.split()
    return int(words[1]) if words[0] == _LIST and len(words) > 1 else dimensions - 1


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


def _require_bytes(needed: int, files: Sequence[Path], skip: int, packed: bool, path: Path) -> int:
    """Sees that files can hold so many bytes of voxels behind what is skipped in each; returns what they hold."""
    there = sum(max(file.stat().st_size - skip, 0) for file in files)
    if there * (_PACKING if packed else 1) < needed:
        more = "at most " if packed else ""
        there *= _PACKING if packed else 1
        raise EOFError(f"its header announces {needed} bytes of voxels, and there are {more}{there}")
    return there
