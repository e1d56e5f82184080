"""Volumes as nobody should send them: cut, blown up, contradictory, or made to lead the reader elsewhere."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

SHAPE = (6, 7, 5)
"""(cols, rows, slices) of the sound ones."""
VOXELS = np.random.default_rng(0).integers(0, 900, SHAPE[::-1]).astype("<i2").tobytes()
DAMAGED = "damaged, cut short or not what its name says"
SOUND = ""
BESIDE = "no plain name of a file beside it"
PLACE = "no usable spacing|[Oo]rthonormal|[Zz]ero-valued spacing|damaged"

Make = Callable[[Path], object]
HOSTILE: dict[str, tuple[str, Make]] = {}
"""By name: what the error says, or SOUND where it is to be read; and what writes the file."""


def volume(name: str, expected: str, make: Make) -> None:
    assert name not in HOSTILE, name
    HOSTILE[name] = (expected, make)


def raw(content: bytes) -> Make:
    return lambda path: path.write_bytes(content)


# NIfTI: fields of the header by their offset and form.
_DIM, _TYPE, _PIXDIM, _OFFSET, _SLOPE, _FORMS, _SROW = 40, 70, 76, 108, 112, 252, 280


def nifti(
    *changes: tuple[int, str, tuple], data: bytes = VOXELS, order: str = "<", extension: bytes = bytes(4)
) -> bytes:
    header = bytearray(348)
    put = [
        (0, "i", (348,)),
        (_DIM, "8h", (3, *SHAPE, 1, 1, 1, 1)),
        (_TYPE, "2h", (4, 16)),
        (_PIXDIM, "8f", (1, 1.5, 1.5, 8, 1, 1, 1, 1)),
        (_OFFSET, "f", (352,)),
        (_FORMS, "2h", (0, 1)),
        (_SROW, "12f", (-1.5, 0, 0, 10, 0, -1.5, 0, 20, 0, 0, 8, 30)),
        (344, "4s", (b"n+1\0",)),
    ]
    for offset, form, values in (*put, *changes):
        struct.pack_into(order + form, header, offset, *values)
    return bytes(header) + extension + data


def both(name: str, expected: str, *changes: tuple[int, str, tuple], **options: object) -> None:
    """A NIfTI file as it is and packed."""
    content = nifti(*changes, **options)
    volume(f"{name}.nii", expected, raw(content))
    volume(f"{name}.nii.gz", expected, raw(gzip.compress(content)))


both("sound", SOUND)
both("cut", DAMAGED, data=VOXELS[:-9])
both("without voxels", DAMAGED, data=b"")
both("huge", "GB of memory", (_DIM, "8h", (3, 32767, 32767, 32767, 1, 1, 1, 1)))
both("seven dimensions", "one number in each voxel", (_DIM, "8h", (7, *[32767] * 7)))
both("negative", DAMAGED, (_DIM, "8h", (3, -6, 7, 5, 1, 1, 1, 1)))
both("no slices", DAMAGED, (_DIM, "8h", (3, 6, 7, 0, 1, 1, 1, 1)))
both("no dimensions", "two-dimensional|damaged", (_DIM, "8h", (0, 6, 7, 5, 1, 1, 1, 1)))
both("thousand dimensions", DAMAGED, (_DIM, "8h", (1000, 6, 7, 5, 1, 1, 1, 1)))
both("NaN place", PLACE, (_SROW, "12f", (float("nan"), 0, 0, 10, 0, 1, 0, 20, 0, 0, 8, 30)))
both("infinite place", PLACE, (_SROW, "12f", (float("inf"), 0, 0, 10, 0, 1, 0, 20, 0, 0, 8, 30)))
both("singular place", PLACE, (_SROW, "12f", (1, 1, 0, 10, 1, 1, 0, 20, 0, 0, 8, 30)))
both("no place", PLACE, (_SROW, "12f", (0,) * 12), (_PIXDIM, "8f", (0,) * 8))
both("RGB", "RGB", (_TYPE, "2h", (128, 24)), data=VOXELS * 2)
both("complex", "complex", (_TYPE, "2h", (32, 64)), data=VOXELS * 4)
both("unknown type", DAMAGED, (_TYPE, "2h", (77, 16)))
both("bits against type", f"{DAMAGED}|^$", (_TYPE, "2h", (4, 64)))
both("voxels beyond the end", DAMAGED, (_OFFSET, "f", (9e8,)))
both("voxels before the start", DAMAGED, (_OFFSET, "f", (-400,)))
both("voxels at NaN", DAMAGED, (_OFFSET, "f", (float("nan"),)))
both("voxels at infinity", DAMAGED, (_OFFSET, "f", (float("inf"),)))
both("unit of nothing", SOUND, (123, "B", (192,)))
both("slope NaN", SOUND, (_SLOPE, "2f", (float("nan"), 0)))
both("slope infinite", f"{DAMAGED}|^$", (_SLOPE, "2f", (float("inf"), float("inf"))))
both(
    "endless extension",
    f"{DAMAGED}|^$",
    (_OFFSET, "f", (368,)),
    extension=struct.pack("<4Bii8x", 1, 0, 0, 0, 2**31 - 1, 6),
)
both(
    "negative extension", f"{DAMAGED}|^$", (_OFFSET, "f", (368,)), extension=struct.pack("<4Bii8x", 1, 0, 0, 0, -16, 6)
)
both("a lot behind", DAMAGED, data=VOXELS + bytes(40 << 20))
volume("other byte order.nii", DAMAGED, raw(nifti(order=">")[:348] + bytes(4) + VOXELS[:50]))
volume("trailing garbage.nii.gz", DAMAGED, raw(gzip.compress(nifti()) + b"garbage"))
volume("two parts.nii.gz", SOUND, raw(gzip.compress(nifti()[:300]) + gzip.compress(nifti()[300:])))
volume("a million parts.nii.gz", DAMAGED, raw(gzip.compress(nifti()) + gzip.compress(b"") * 300_000))
volume("nothing.nii", DAMAGED, raw(b""))
volume("nothing.nii.gz", DAMAGED, raw(b""))
volume("not gzip.nii.gz", DAMAGED, raw(b"\x1f\x8b" + bytes(500)))
volume("random.nii.gz", DAMAGED, raw(b"\x1f\x8b\x08" + np.random.default_rng(1).bytes(5000)))


volume("bomb.nii.gz", DAMAGED, raw(gzip.compress(nifti() + bytes(200 << 20), compresslevel=1)))
volume("bomb of 4 GB in parts.nii.gz", DAMAGED, raw(gzip.compress(nifti()) + gzip.compress(bytes(1 << 20)) * 4096))


# NRRD
_NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": " ".join(map(str, SHAPE)),
    "space directions": "(1.5,0,0) (0,1.5,0) (0,0,8)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(0,0,0)",
}


def nrrd(data: bytes | None = VOXELS, more: str = "", **changes: str | None) -> bytes:
    """A NRRD file; without data, the header alone."""
    fields = _NRRD | {name.replace("_", " "): value for name, value in changes.items()}
    head = "".join(["NRRD0005\n", *(f"{name}: {value}\n" for name, value in fields.items()), more])
    return head.encode("latin-1") + (b"" if data is None else b"\n" + data)


def detached(place: str, data: bytes = VOXELS) -> Make:
    """A header that says so where its voxels are, and voxels.raw beside it; HERE stands for the folder."""

    def make(path: Path) -> None:
        (path.parent / "voxels.raw").write_bytes(data)
        path.write_bytes(nrrd(None, data_file=place.replace("HERE", str(path.parent))))

    return make


volume("sound.nrrd", SOUND, raw(nrrd()))
volume("cut.nrrd", DAMAGED, raw(nrrd(VOXELS[:-9])))
volume("packed and cut.nrrd", DAMAGED, raw(nrrd(gzip.compress(VOXELS)[:-40], encoding="gzip")))
volume("packed and short.nrrd", DAMAGED, raw(nrrd(gzip.compress(VOXELS[:-8]), encoding="gzip")))
volume("huge.nrrd", "GB of memory", raw(nrrd(sizes="100000 100000 100000")))
volume("larger than it can be.nrrd", DAMAGED, raw(nrrd(gzip.compress(VOXELS), encoding="gzip", sizes="900 900 90")))
volume("negative.nrrd", DAMAGED, raw(nrrd(sizes="-6 7 5")))
volume("no slices.nrrd", DAMAGED, raw(nrrd(sizes="6 7 0")))
volume("too many sizes.nrrd", DAMAGED, raw(nrrd(sizes="6 7 5 1")))
volume("sizes of letters.nrrd", DAMAGED, raw(nrrd(sizes="6 seven 5")))
volume("a size without end.nrrd", DAMAGED, raw(nrrd(sizes=f"6 7 {'9' * 5000}")))
volume("hundred dimensions.nrrd", DAMAGED, raw(nrrd(dimension="100", sizes="1 " * 100)))
volume("blocks.nrrd", DAMAGED, raw(nrrd(type="block", more="block size: 1000000000\n")))
volume("unknown type.nrrd", DAMAGED, raw(nrrd(type="quaternion")))
volume("NaN place.nrrd", PLACE, raw(nrrd(space_origin="(nan,nan,nan)")))
volume("infinite place.nrrd", PLACE, raw(nrrd(space_directions="(inf,0,0) (0,1,0) (0,0,8)")))
volume("singular place.nrrd", PLACE, raw(nrrd(space_directions="(1,1,0) (1,1,0) (0,0,8)")))
volume("no spacing.nrrd", PLACE, raw(nrrd(space_directions="(0,0,0) (0,1,0) (0,0,8)")))
volume(
    "colors.nrrd",
    "one number in each voxel",
    raw(
        nrrd(
            VOXELS * 3,
            dimension="4",
            sizes="3 6 7 5",
            kinds="RGB-color domain domain domain",
            space_directions="none (1,0,0) (0,1,0) (0,0,8)",
        )
    ),
)
volume(
    "four axes in space.nrrd",
    DAMAGED,
    raw(
        nrrd(
            VOXELS * 2,
            dimension="4",
            sizes="6 7 5 2",
            kinds="domain domain domain domain",
            space_directions="(1,0,0) (0,1,0) (0,0,8) none",
        )
    ),
)
volume("zero byte.nrrd", DAMAGED, raw(nrrd(more="comment\0:=x\n")))
volume("a line of 16 MB.nrrd", DAMAGED, raw(nrrd(more=f"long:={'x' * (17 << 20)}\n")))
volume("100000 lines.nrrd", DAMAGED, raw(nrrd(more="".join(f"key{index}:=x\n" for index in range(100_000)))))
volume("key of no text.nrrd", SOUND, raw(nrrd(more="M\xfcller index values:=1 2\n")))
volume("no end.nrrd", DAMAGED, raw(b"NRRD0005\n" + b"key:=value\n" * 50))
volume("skip beyond the end.nrrd", DAMAGED, raw(nrrd(more="byte skip: 999999999999\n")))
volume("negative skip.nrrd", DAMAGED, raw(nrrd(more="byte skip: -5\n")))
volume("standard input.nrrd", BESIDE, detached("-"))
volume("printf.nhdr", BESIDE, detached("%s%s%n%d.raw 1 3 1"))
volume("wide printf.nhdr", BESIDE, detached("%999999999d.raw 1 3 1"))
volume("absolute.nhdr", BESIDE, detached("/etc/passwd"))
volume("absolute beside.nhdr", SOUND, detached("HERE/voxels.raw"))
volume("above.nhdr", BESIDE, detached("../HERE/voxels.raw"))
volume("sound.nhdr", SOUND, detached("voxels.raw"))
volume("list.nhdr", SOUND, detached("LIST 3\nvoxels.raw"))
volume("list from elsewhere.nhdr", BESIDE, detached("LIST 3\n/etc/passwd"))
volume("listing.nhdr", DAMAGED, detached("LISTING.raw"))
volume("missing.nhdr", "gone.raw", detached("gone.raw"))
volume("short.nhdr", DAMAGED, detached("voxels.raw", VOXELS[:-9]))
volume("twice.nhdr", DAMAGED, raw(nrrd(None, more="data file: a\ndatafile: /etc/passwd\n")))
volume(
    "sound.seq.nrrd",
    SOUND,
    raw(
        nrrd(
            VOXELS * 2,
            dimension="4",
            sizes="2 6 7 5",
            kinds="list domain domain domain",
            space_directions="none (1,0,0) (0,1,0) (0,0,8)",
        )
    ),
)
volume(
    "huge.seq.nrrd",
    "GB of memory",
    raw(
        nrrd(
            VOXELS,
            dimension="4",
            sizes="2000000000 6 7 5",
            kinds="list domain domain domain",
            space_directions="none (1,0,0) (0,1,0) (0,0,8)",
        )
    ),
)
volume(
    "time.nrrd",
    SOUND,
    raw(
        nrrd(
            VOXELS * 2,
            dimension="4",
            sizes="6 7 5 2",
            kinds="domain domain domain time",
            space_directions="(1,0,0) (0,1,0) (0,0,8) none",
        )
    ),
)


# Slicer segmentations
def segmentation(more: str = "", **changes: str) -> Make:
    segment = "Segment0_ID:=a\nSegment0_Name:=LV cavity\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n"
    return raw(nrrd(bytes(209) + b"\1", more=segment + more, **({"type": "uchar"} | changes)))


_GEOMETRY = "Segmentation_ConversionParameters:=Reference image geometry|{};|text&\n"
volume("sound.seg.nrrd", SOUND, segmentation())
volume("singular place.seg.nrrd", PLACE, segmentation(space_directions="(1,1,0) (1,1,0) (0,0,8)"))
volume("NaN place.seg.nrrd", PLACE, segmentation(space_origin="(nan,nan,nan)"))
volume("singular grid.seg.nrrd", SOUND, segmentation(_GEOMETRY.format(";".join(["0"] * 15 + ["1", *"050604"]))))
volume(
    "NaN grid.seg.nrrd",
    DAMAGED.replace("cut.*", "") + "|damaged",
    segmentation(_GEOMETRY.format(";".join(["nan"] * 22))),
)
volume("infinite grid.seg.nrrd", "damaged", segmentation(_GEOMETRY.format(";".join(["inf"] * 22))))
volume(
    "huge grid.seg.nrrd",
    "damaged|GB of memory",
    segmentation(_GEOMETRY.format(";".join([*"1000010000100001", *["0", "999999"] * 3]))),
)
volume(
    "empty grid.seg.nrrd", "damaged", segmentation(_GEOMETRY.format(";".join([*"1000010000100001", *["0", "-9"] * 3])))
)
volume("layer that is not there.seg.nrrd", "damaged", segmentation("Segment1_ID:=b\nSegment1_Layer:=999999999999\n"))
volume("negative layer.seg.nrrd", "damaged", segmentation("Segment1_ID:=b\nSegment1_Layer:=-1\n"))


# MetaImage
_META = {
    "ObjectType": "Image",
    "NDims": "3",
    "DimSize": " ".join(map(str, SHAPE)),
    "ElementSpacing": "1.5 1.5 8",
    "ElementType": "MET_SHORT",
}


def meta(data: bytes = VOXELS, place: str = "LOCAL", **changes: str) -> bytes:
    lines = [f"{name} = {value}" for name, value in (_META | changes).items()]
    return "\n".join([*lines, f"ElementDataFile = {place}", ""]).encode() + data


def beside(place: str, data: bytes = VOXELS, **changes: str) -> Make:
    def make(path: Path) -> None:
        (path.parent / "voxels.raw").write_bytes(data)
        path.write_bytes(meta(b"", place.replace("HERE", str(path.parent)), **changes))

    return make


volume("sound.mha", SOUND, raw(meta()))
volume("cut.mha", DAMAGED, raw(meta(VOXELS[:-9])))
volume("huge.mha", "GB of memory", raw(meta(DimSize="100000 100000 100000")))
volume("negative.mha", DAMAGED, raw(meta(DimSize="6 -7 5")))
volume("no slices.mha", DAMAGED, raw(meta(DimSize="6 7 0")))
volume("more dimensions than sizes.mha", DAMAGED, raw(meta(NDims="200")))
volume("more sizes than dimensions.mha", DAMAGED, raw(meta(DimSize="6 " * 1000)))
volume("hundred dimensions.mha", DAMAGED, raw(meta(NDims="100", DimSize="1 " * 100)))
volume("channels.mha", "GB of memory", raw(meta(ElementNumberOfChannels="2000000000")))
volume("colors.mha", "one number in each voxel", raw(meta(VOXELS * 3, ElementNumberOfChannels="3")))
volume("unknown type.mha", DAMAGED, raw(meta(ElementType="MET_OTHER")))
volume("NaN place.mha", PLACE, raw(meta(ElementSpacing="nan nan nan")))
volume("infinite place.mha", PLACE, raw(meta(Offset="inf 0 0")))
volume("singular place.mha", PLACE, raw(meta(TransformMatrix="1 1 0 1 1 0 0 0 1")))
volume("no spacing.mha", PLACE, raw(meta(ElementSpacing="0 1 1")))
volume("name of 300 letters.mha", DAMAGED, raw(meta(Name="A" * 300)))
volume("comment of 5000 letters.mha", DAMAGED, raw(meta(Comment="A" * 5000)))
volume("line of 16 MB.mha", DAMAGED, raw(meta(Other="A" * (17 << 20))))
volume("matrix of 2000 numbers.mha", DAMAGED, raw(meta(TransformMatrix="1 " * 2000)))
volume("packed size.mha", DAMAGED, raw(meta(CompressedData="True", CompressedDataSize="99999999999")))
volume("negative packed size.mha", DAMAGED, raw(meta(CompressedData="True", CompressedDataSize="-1")))
volume("larger than it can be.mha", DAMAGED, raw(meta(CompressedData="True", DimSize="900 900 90")))
volume("skip beyond the end.mha", DAMAGED, raw(meta(HeaderSize="999999999")))
volume("numbers as text.mha", DAMAGED, raw(meta(BinaryData="False", DimSize="900 900 90")))
volume("place in the middle of a line.mhd", DAMAGED, raw(meta(b"").replace(b"ElementDataFile", b"xElementDataFile")))
volume("text of 5000 letters.nrrd", DAMAGED, raw(nrrd(endian="x" * 5000)))
volume("field of 5000 letters.nrrd", DAMAGED, raw(nrrd(more=f"{'x' * 5000}: y\n")))
volume("two places.mha", DAMAGED, raw(meta(b"ElementDataFile = /etc/passwd\n" + VOXELS)))
volume("printf.mhd", BESIDE, beside("%s%s%n%d 1 3 1"))
volume("printf in a list.mhd", BESIDE, beside("LIST\n%s%n\nvoxels.raw\nvoxels.raw\nvoxels.raw\nvoxels.raw"))
volume("absolute.mhd", BESIDE, beside("/etc/passwd"))
volume("above.mhd", BESIDE, beside("../HERE/voxels.raw"))
volume("sound.mhd", SOUND, beside("voxels.raw"))
volume("itself.mhd", DAMAGED, beside("itself.mhd"))
volume("short.mhd", DAMAGED, beside("voxels.raw", VOXELS[:-9]))
volume("missing.mhd", "gone.raw", beside("gone.raw"))
volume("list of too few.mhd", DAMAGED, beside("LIST 2\nvoxels.raw"))
volume(
    "pattern.mhd",
    SOUND,
    lambda path: (
        beside("part%02d.raw 1 5 1")(path),
        [(path.parent / f"part{n:02d}.raw").write_bytes(VOXELS[84 * (n - 1) : 84 * n]) for n in range(1, 6)],
    ),
)
volume("pattern of too few.mhd", DAMAGED + "|missing beside", beside("part%02d.raw 1 4 1"))
volume("pattern without step.mhd", DAMAGED, beside("part%02d.raw 1 5 0"))


# Whatever the format
def link_to(target: str) -> Make:
    return lambda path: path.symlink_to(target)


if os.name != "nt":
    for ending in (".nii", ".nii.gz", ".nrrd", ".mha"):
        volume(f"pipe{ending}", "device or a pipe", lambda path: os.mkfifo(path))
        volume(f"zeros{ending}", "device or a pipe", link_to("/dev/zero"))
        volume(f"circle{ending}", "cannot be read", lambda path: path.symlink_to(path.name))
        volume(f"folder{ending}", "DICOM|Is a directory", lambda path: path.mkdir())
        volume(f"link to nothing{ending}", "missing", link_to("nothing"))
    volume(
        "voxels from a device.mhd",
        "which is none",
        lambda path: (beside("zero.raw")(path), (path.parent / "zero.raw").symlink_to("/dev/zero")),
    )
    volume(
        "voxels from a pipe.nhdr",
        "which is none",
        lambda path: (detached("pipe.raw")(path), os.mkfifo(path.parent / "pipe.raw")),
    )
    volume(
        "voxels in a circle.mhd",
        "cannot be read",
        lambda path: (beside("round.raw")(path), (path.parent / "round.raw").symlink_to("round.raw")),
    )
