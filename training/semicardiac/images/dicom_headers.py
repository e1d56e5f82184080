"""What the headers of DICOM files say of each image in them; a multi-frame file holds several."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ..base.errors import UserError
from .geometry import not_scalar

SUFFIXES = (".dcm", ".ima")

_GROUPS = (
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence",
    "FrameContentSequence", "CardiacSynchronizationSequence", "TemporalPositionSequence",
    "UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence",
)  # fmt: skip
"""Functional groups of enhanced DICOM. Each holds attributes that files of single images have at the top."""
_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_ATTRIBUTES = (
    "ImageType", "EchoTime", "InversionTime",
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription", "NumberOfFrames", "Rows", "Columns",
    "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "NominalScannedPixelSpacing",
    "SpacingBetweenSlices", "SliceThickness", "SliceLocation", "TriggerTime", "NominalPercentageOfCardiacPhase",
    "TemporalPositionIdentifier", "FrameTime", "FrameTimeVector", "FrameIncrementPointer", "AcquisitionDateTime",
    "AcquisitionTime", "ContentTime", "InstanceNumber", _SHARED, _PER_FRAME,
)  # fmt: skip
"""What is read of a file; all else, such as the patient's name, is skipped."""
_UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
_UNPACKED_MAX = 1000
"""No compression of images that mean something makes more bytes of one."""
_SMALL = 64 << 20
"""Bytes that may be unpacked of a file of any size: an empty image compresses to nearly nothing."""
_MAGIC, _MAGIC_END = b"DICM", 132


class DicomFile(NamedTuple):
    """A file with one image or several, of which nothing but the size has been looked at."""

    path: Path
    uid: str
    """Of this image in the world; copies have it too."""
    series: str
    description: str
    """Of the series."""
    frames: int
    size: tuple[int, int]
    """(rows, columns)."""
    syntax: UID
    """How its pixels are stored; empty where that is not said."""
    top: Dataset

    @property
    def multi_frame(self) -> bool:
        """Whether the attributes of an image may lie in functional groups, or those of many in one header."""
        return self.frames > 1 or _PER_FRAME in self.top


class Plane(NamedTuple):
    """One image: a slice at a time."""

    file: DicomFile
    frame: int
    """Its index in the file."""
    header: Header
    position: np.ndarray
    """(3,) of the center of the first pixel, mm, LPS."""
    axes: np.ndarray
    """(2, 3) unit vectors, LPS: to the next column, and to the next row."""
    spacing: np.ndarray
    """(2,) between columns, and between rows, mm."""
    offset_s: float | None
    """Time from the first frame of a plain multi-frame file on."""

    @property
    def name(self) -> str:
        """What a person finds it by."""
        return f"'{self.file.path.name}'" + (f", frame {self.frame + 1}" if self.file.frames > 1 else "")


class Header:
    """The attributes of one image: those of its frame come before those of all frames, then those of the file.

    Raises:
        UserError: On asking, with the file and the attribute, but never with a value that was not understood: it may
            stand in the wrong place, and be a name.
    """

    def __init__(self, path: Path, *parts: Dataset) -> None:
        self.path = path
        self._part_of: dict[int, Dataset] = {tag: part for part in reversed(parts) for tag in part.keys()}  # noqa: SIM118 - not a dict

    def numbers(self, keyword: str, count: int) -> np.ndarray | None:
        """So many finite numbers, or None where the attribute is missing or empty."""
        values = self._values(keyword)
        if not values:
            return None
        try:
            numbers = np.array([float(value) for value in values])
        except (TypeError, ValueError):
            numbers = np.array([np.nan])
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise self._odd(keyword, "a number" if count == 1 else f"{count} numbers")
        return numbers

    def number(self, keyword: str) -> float | None:
        """One finite number, or None."""
        numbers = self.numbers(keyword, 1)
        return None if numbers is None else float(numbers[0])

    def required(self, keyword: str, count: int) -> np.ndarray:
        """So many finite numbers."""
        numbers = self.numbers(keyword, count)
        if numbers is None:
            hint = "Export the series again with its geometry; what was captured from a screen has none"
            raise UserError(f"{keyword} is missing in this DICOM file", where=self.path, hint=hint)
        return numbers

    def text(self, keyword: str) -> str:
        """What stands there, without what would move the cursor of a terminal."""
        text = "\\".join(str(value) for value in self._values(keyword))
        return "".join(letter for letter in text if letter.isprintable()).strip()

    def clock(self, keyword: str) -> float | None:
        """A time of day or a date with a time, in seconds; None where it is missing or not one."""
        found = re.fullmatch(r"(\d{8})?(\d\d):?(\d\d):?(\d\d(?:\.\d*)?)(?:[+-]\d{4})?", self.text(keyword))
        if not found:
            return None
        date, hours, minutes, seconds = found.groups()
        try:
            days = np.datetime64(f"{date[:4]}-{date[4:6]}-{date[6:]}", "D").astype(int) if date else 0
        except ValueError:
            return None
        return float(days) * 86_400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)

    def items(self, keyword: str) -> list[Dataset]:
        """The items of a sequence."""
        values = self._values(keyword)
        if not all(isinstance(value, Dataset) for value in values):
            raise UserError(f"{keyword} is no sequence", where=self.path, hint="Export the series again")
        return values

    def tags(self, keyword: str) -> list[int]:
        """Pointers to other attributes."""
        return [int(value) for value in self._values(keyword) if isinstance(value, int)]

    def _values(self, keyword: str) -> list[Any]:
        tag = tag_for_keyword(keyword)
        if tag is None or tag not in self._part_of:
            return []
        try:
            value = self._part_of[tag][tag].value
        except Exception:  # pydicom raises whatever its parsing stumbles on, with the value in the text
            raise self._odd(keyword, "what it should be") from None
        if value is None or (isinstance(value, str | bytes) and not value):
            return []
        return [value] if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else list(value)

    def _odd(self, keyword: str, expected: str) -> UserError:
        hint = "Export the series again; DICOM writes 1.5 and not 1,5, and a backslash between two numbers"
        return UserError(f"{keyword} in this DICOM file is not {expected}", where=self.path, hint=hint)


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's warnings, which quote values of headers: what matters is an error of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content, and not the list of what a disc holds."""
    return path.name.upper() != "DICOMDIR" and path.is_file() and _head(path).endswith(_MAGIC)


def read_file(path: Path) -> DicomFile | None:
    """What a DICOM file says of itself; None for another file, and for DICOM that is no image, such as a report.

    Raises:
        UserError: If it cannot be read, the header is damaged, or it promises an image that cannot be in the file.
    """
    top = _top(path)
    if top is None:
        return None
    header = Header(path, top, top.file_meta)
    sop_class = UID(header.text("SOPClassUID") or header.text("MediaStorageSOPClassUID"))
    if "Rows" not in top:
        if sop_class.name != sop_class and "Image Storage" not in sop_class.name:
            return None
        raise _damaged(path)
    frames = header.number("NumberOfFrames")
    counts = [1.0 if frames is None else frames, *(header.required(keyword, 1)[0] for keyword in ("Rows", "Columns"))]
    if any(not 1 <= count < 2**31 or count != int(count) for count in counts):
        hint = "Export the series again"
        raise UserError("NumberOfFrames, Rows and Columns are no counts in this DICOM file", where=path, hint=hint)
    file = DicomFile(
        path=path,
        uid=header.text("SOPInstanceUID"),
        series=header.text("SeriesInstanceUID"),
        description=header.text("SeriesDescription"),
        frames=int(counts[0]),
        size=(int(counts[1]), int(counts[2])),
        syntax=UID(header.text("TransferSyntaxUID")),
        top=top,
    )
    _require_room(file, header)
    return file


def planes_of(file: DicomFile) -> list[Plane]:
    """The images of a file, with the places and times that their headers give.

    Raises:
        UserError: If a place is missing or makes no sense, or nothing says where or when the frames of a file lie.
    """
    top = Header(file.path, file.top)
    shared = [group for item in top.items(_SHARED)[:1] for group in _groups(file.path, item)]
    per_frame = top.items(_PER_FRAME)
    if per_frame and len(per_frame) != file.frames:
        what = f"the file has {file.frames} frames, and the header describes {len(per_frame)}"
        raise UserError(what, where=file.path, hint="Export the series again")
    offsets: Sequence[float | None] = [None] * file.frames
    if file.frames > 1 and not per_frame:
        offsets = _frame_times(top, file.frames)
    planes = []
    for frame, offset in enumerate(offsets):
        own = _groups(file.path, per_frame[frame]) if per_frame else []
        header = Header(file.path, *own, *shared, file.top)
        planes.append(Plane(file, frame, header, header.required("ImagePositionPatient", 3), *_grid(header), offset))
    return planes


def _top(path: Path) -> Dataset | None:
    """The header of a file that is DICOM or is called so."""
    head = _head(path)
    bare = head[:2] == b"\10\0" and head[3:4] == b"\0"  # group 8 comes first where there is no preamble
    if not (bare or head.endswith(_MAGIC)):
        if path.suffix.lower() in SUFFIXES:
            raise _damaged(path)
        return None
    if head.endswith(_MAGIC) and _is_deflated(path):
        hint = "Export the series again without this compression"
        raise UserError("this DICOM file is deflated as a whole, which is not supported", where=path, hint=hint)
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_ATTRIBUTES))
    except Exception:  # as in `Header`; also MemoryError for a length that no file has
        raise _damaged(path) from None


def _is_deflated(path: Path) -> bool:
    """Whether all of a file would have to be unpacked, to whatever size, before its header could be read."""
    try:
        syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
    except Exception:
        raise _damaged(path) from None
    return bool(syntax == DeflatedExplicitVRLittleEndian)


def _require_room(file: DicomFile, header: Header) -> None:
    """Raises UserError unless the file can hold what its header promises, before anything makes room for that."""
    samples = header.number("SamplesPerPixel") or 1
    if samples > 1:
        raise not_scalar("a color image", file.path)
    bits = header.required("BitsAllocated", 1)[0]
    if bits < 8:
        hint = "Load it in 3D Slicer and save it as .seg.nrrd"
        raise UserError("this is a DICOM segmentation or another image of single bits", where=file.path, hint=hint)
    rows, columns = file.size
    promised, held = rows * columns * file.frames * bits / 8, file.path.stat().st_size
    if file.syntax in ("", *_UNCOMPRESSED):
        fits = promised <= held
    else:  # each frame is a fragment of at least eight bytes
        fits = promised <= max(held * _UNPACKED_MAX, _SMALL) and file.frames * 8 <= held
    if not fits:
        what = (
            f"the header promises {file.frames} x {rows} x {columns} pixels, which are {promised:,.0f} bytes, "
            f"and the file has {held:,}"
        )
        raise UserError(what, where=file.path, hint="Copy or export it again: it was cut short, or is damaged")


def _groups(path: Path, item: Dataset) -> list[Dataset]:
    """The functional groups of a frame, or of all frames."""
    header = Header(path, item)
    return [group for keyword in _GROUPS for group in header.items(keyword)[:1]]


def _frame_times(top: Header, frames: int) -> list[float]:
    """Times in seconds of the frames of a plain multi-frame file, which lie at one place.

    Raises:
        UserError: If the frames are not such, or it does not say.
    """
    times = {tag_for_keyword("FrameTime"), tag_for_keyword("FrameTimeVector")}
    step = top.number("FrameTime")
    if times.issuperset(top.tags("FrameIncrementPointer")):
        if step is not None and step > 0:
            return [frame * step / 1000 for frame in range(frames)]
        if (steps := top.numbers("FrameTimeVector", frames)) is not None and (steps[1:] > 0).all():
            return [float(time) / 1000 for time in np.cumsum(steps)]
    what = f"nothing says where and when the {frames} frames of this file lie"
    raise UserError(what, where=top.path, hint="Export the series as single images")


def _grid(header: Header) -> tuple[np.ndarray, np.ndarray]:
    """Axes and spacing of an image."""
    axes = header.required("ImageOrientationPatient", 6).reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > 0.01:
        hint = "Export the series again"
        raise UserError("ImageOrientationPatient holds no two perpendicular directions", where=header.path, hint=hint)
    spacing = header.numbers("PixelSpacing", 2)
    if spacing is None and header.text("NominalScannedPixelSpacing"):  # so ITK calls it, unless told the modality
        spacing = header.required("NominalScannedPixelSpacing", 2)
    spacing = (header.required("PixelSpacing", 2) if spacing is None else spacing)[::-1]
    if not (spacing > 0).all():
        hint = "Export the series again"
        raise UserError(f"PixelSpacing is {spacing[1]:g} x {spacing[0]:g} mm", where=header.path, hint=hint)
    normal = np.cross(*axes) / np.linalg.norm(np.cross(*axes))
    down = axes[1] / np.linalg.norm(axes[1])
    return np.stack([np.cross(down, normal), down]), spacing  # headers are rounded; this is how ITK does it


def _head(path: Path) -> bytes:
    """The bytes up to the end of DICOM's magic word."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAGIC_END)
    except OSError as error:
        what, hint = f"this file cannot be read ({error.strerror})", "See whether you may read it"
        raise UserError(what, where=path, hint=hint) from None


def _damaged(path: Path) -> UserError:
    what = "this is no DICOM image, or its header is damaged or cut short"
    return UserError(what, where=path, hint="Copy or export it again, or remove it from the folder")
