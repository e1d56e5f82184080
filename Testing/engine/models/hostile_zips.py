"""Zips of models that were made to do harm: bombs, and headers that lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semicardiac.models.package import LICENCE, WEIGHTS

from Testing.engine.models.hostile_packages import ESCAPE, FILES, KINDS, Kind

HUGE = 1_500_000_000
ZIPS: dict[str, Kind] = {}


@dataclass
class Member:
    """A file in a zip, whose headers may lie."""

    name: str
    data: bytes
    method: int = 8
    size: int | None = None
    flags: int = 0
    extra: bytes = b""
    offset: int | None = None
    local_name: str | None = None
    crc: int | None = None
    raw: bytes = b""

    def packed(self) -> bytes:
        if self.raw:
            return self.raw
        pack = zlib.compressobj(9, zlib.DEFLATED, -15)
        return pack.compress(self.data) + pack.flush() if self.method == 8 else self.data


def write_lying_zip(path: Path, members: list[Member], *, entries: int | None = None, tail: bytes = b"") -> Path:
    """A zip as the members say, true or not."""
    body, table = bytearray(), bytearray()
    for member in members:
        packed, name = member.packed(), member.name.encode("utf-8", "surrogateescape")
        size = len(member.data) if member.size is None else member.size
        crc = zlib.crc32(member.data) if member.crc is None else member.crc
        rest = struct.pack("<HHHHIII", member.flags, member.method, 0, 33, crc, len(packed), size)
        offset = len(body) if member.offset is None else member.offset
        local = (member.local_name or member.name).encode("utf-8", "surrogateescape")
        body += b"PK\3\4" + struct.pack("<H", 20) + rest + struct.pack("<HH", len(local), 0) + local + packed
        table += b"PK\1\2" + struct.pack("<HH", 20, 20) + rest
        table += struct.pack("<HHHHHII", len(name), len(member.extra), 0, 0, 0, 0, offset) + name + member.extra
    count = min(len(members), 65535) if entries is None else entries
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(table), len(body), len(tail)) + tail
    path.write_bytes(body + table + end)
    return path


def zeros(size: int) -> bytes:
    """The deflated form of so many zeros, without deflating them all."""
    block = 1 << 20
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = pack.compress(bytes(block)) + pack.flush(zlib.Z_FULL_FLUSH)
    again = pack.compress(bytes(block)) + pack.flush(zlib.Z_FULL_FLUSH)
    return head + again * (size // block - 1) + pack.flush()


def _zipped(change: Callable[[dict[str, Member]], object], **options: Any) -> Callable[[Path, Path], Path]:
    def make(whole: Path, folder: Path) -> Path:
        members = {name: Member(name, (whole / name).read_bytes()) for name in FILES}
        found = change(members)
        return write_lying_zip(folder / "p.zip", found if isinstance(found, list) else [*members.values()], **options)

    return make


def _set(which: str, **changes: object) -> Callable[[dict[str, Member]], object]:
    return lambda members: vars(members[which]).update(changes)


def _zip64(*numbers: int) -> bytes:
    return struct.pack(f"<HH{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


_ZEROS = zeros(HUGE)
for _name in FILES:
    ZIPS |= {
        f"zip: {_name} of 1.5 GB": Kind(_zipped(_set(_name, raw=_ZEROS, size=HUGE)), "larger than"),
        f"zip: {_name} of more than is told": Kind(
            _zipped(_set(_name, raw=_ZEROS, size=100)), "damaged|not what it was|not readable"
        ),
        f"zip: {_name} of 2^60 bytes": Kind(
            _zipped(_set(_name, size=0xFFFFFFFF, extra=_zip64(2**60))), "larger than|damaged"
        ),
        f"zip: {_name} is missing": Kind(_zipped(lambda members, name=_name: members.pop(name) and None), "missing"),
        f"zip: {_name} twice": Kind(
            _zipped(lambda members, name=_name: [*members.values(), Member(name, b"other")]), "more than once"
        ),
        f"zip: {_name} encrypted": Kind(_zipped(_set(_name, flags=1)), "encrypted"),
    }
ZIPS |= {
    "zip: weights of 900 MB that nobody needs": Kind(
        _zipped(_set(WEIGHTS, raw=zeros(900 << 20), size=900 << 20, crc=0)), "damaged|not what it was"
    ),
    "zip: LZMA, damaged": Kind(_zipped(_set(LICENCE, method=14, data=b"\x09\x04\x05\0" + b"\xff" * 90)), "method"),
    "zip: bzip2": Kind(_zipped(_set(LICENCE, method=12)), "method"),
    "zip: an unknown method": Kind(_zipped(_set(LICENCE, method=99)), "method"),
    "zip: damaged deflate": Kind(_zipped(_set(LICENCE, raw=b"\xff" * 50)), "damaged"),
    "zip: another checksum": Kind(_zipped(_set(LICENCE, crc=1)), "damaged"),
    "zip: another name at the file": Kind(_zipped(_set(LICENCE, local_name="notes.txt")), "damaged"),
    "zip: a place behind the end": Kind(_zipped(_set(LICENCE, offset=10**9)), "damaged"),
    "zip: a place at 2^63": Kind(_zipped(_set(LICENCE, offset=0xFFFFFFFF, extra=_zip64(2**63))), "damaged"),
    "zip: a broken extra field": Kind(_zipped(_set(LICENCE, extra=b"\1\0\xff\xff")), "damaged"),
    "zip: a folder of that name": Kind(_zipped(_set(LICENCE, name=f"{LICENCE}/")), "is missing"),
    "zip: files of two models": Kind(
        _zipped(lambda members: [Member(f"{at}/{each.name}", each.data) for at in "ab" for each in members.values()]),
        "more than once",
    ),
    "zip: each file in a folder of its own": Kind(
        _zipped(lambda members: [Member(f"{at}/{each.name}", each.data) for at, each in enumerate(members.values())]),
        "is missing",
    ),
    "zip: names out of it": Kind(
        _zipped(lambda members: [Member(f"../../{each.name}", each.data) for each in members.values()]), None, False
    ),
    "zip: names with control characters": Kind(
        _zipped(lambda members: [*members.values(), Member(f"{ESCAPE}\0.txt", b""), Member("\udcff", b"")]), None, False
    ),
    "zip: fifty thousand files": Kind(
        _zipped(lambda members: [*members.values(), *[Member(f"{n}", b"", 0) for n in range(50_000)]]), "damaged"
    ),
    "zip: a zip in it": Kind(
        _zipped(lambda members: [Member("p.zip", b"".join(each.data for each in members.values()))]), "is missing"
    ),
    "zip: of nothing": Kind(_zipped(lambda members: []), "is missing|not a model"),
    "zip: more files than there are": Kind(_zipped(lambda members: None, entries=60_000), None, listed=False),
    "zip: a long comment": Kind(_zipped(lambda members: None, tail=bytes(60_000)), None, listed=False),
    "zip: a second end": Kind(_zipped(lambda members: None, tail=b"PK\5\6" + bytes(60_000)), "is missing"),
}


def _cut(share: float) -> Callable[[Path, Path], Path]:
    def make(whole: Path, folder: Path) -> Path:
        path = _zipped(lambda members: None)(whole, folder)
        content = path.read_bytes()
        path.write_bytes(content[int(len(content) * share) :] if share > 0.5 else content[: int(len(content) * share)])
        return path

    return make


ZIPS |= {"zip: its first half": Kind(_cut(0.5), "not a model"), "zip: its end": Kind(_cut(0.9), "damaged|missing")}


def make_all(whole: Path, folder: Path) -> dict[str, Path]:
    """Every hostile package, by its name, each in a folder of its own."""
    made = {}
    for number, (name, kind) in enumerate({**KINDS, **ZIPS}.items()):
        own = folder / f"{number:03}"
        own.mkdir(parents=True)
        made[name] = kind.make(whole, own)
    return made
