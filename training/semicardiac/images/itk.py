"""NRRD and MetaImage files through SimpleITK, 3D and 4D; Slicer's sequence files (.seq.nrrd) can be read."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..base.files import atomic_path
from .geometry import FLIP, Frames, matrix_from_itk, not_a_stack, not_scalar, regular_times, require_real, unreadable
from .image_files import is_plain, plain_path, plain_target
from .itk_headers import Header, read_header

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
WRITABLE_SUFFIXES = (".nrrd", ".mha")

_LIST = "list"
_INDEX_VALUES = " index values"
_INDEX_UNIT = "NRRD_units[pixel]"
_SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "msec": 1e-3}

_UNKNOWN_STEP_S = 1.0
"""ITK knows no unknown time step and takes 1; no heart is imaged in steps of exactly one second."""


_quieting = threading.Lock()
_quiet: list[bool] = []
"""What was set before: an entry for each thread that wants quiet."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps what ITK has to say of a file off the terminal; where it matters, it is an error or a doubt of ours.

    The setting is the whole program's: the last of several threads puts it back.
    """
    with _quieting:
        _quiet.append(_quiet[0] if _quiet else sitk.ProcessObject.GetGlobalWarningDisplay())
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        with _quieting:
            before = _quiet.pop()
            if not _quiet:
                sitk.ProcessObject.SetGlobalWarningDisplay(before)


def read_image(path: Path) -> sitk.Image:
    """Reads a NRRD or MetaImage file.

    Raises:
        UserError: If it is damaged or cut short, or as `headers.read_header`.
    """
    header = read_header(path)
    try:
        with _opened(path, header) as place:
            image = sitk.ReadImage(str(place), imageIO=header.reader)
    except RuntimeError as error:
        raise unreadable(error, path) from None
    if (axis := _time_axis(header)) is not None and (step := _step_s(header, axis)) > 0:
        values = " ".join(str(number * step) for number in range(image.GetNumberOfComponentsPerPixel()))
        image.SetMetaData(f"axis {axis}{_INDEX_VALUES}", values)
        image.SetMetaData(_INDEX_UNIT, "s")
    return image


def read_information(path: Path) -> sitk.ImageFileReader:
    """What the header of a NRRD or MetaImage file says.

    Raises:
        UserError: As `read_image`.
    """
    header = read_header(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(header.reader)
    try:
        with _opened(path, header) as place:
            reader.SetFileName(str(place))
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise unreadable(error, path) from None
    return reader


def count_frames(path: Path) -> int:
    """How many frames a file holds, by its header alone.

    Raises:
        UserError: As `read_image`.
    """
    reader = read_information(path)
    if _is_sequence(reader):
        return int(reader.GetNumberOfComponents())
    return reader.GetSize()[3] if reader.GetDimension() == 4 else 1


@contextmanager
def _opened(path: Path, header: Header) -> Iterator[Path]:
    """Where ITK opens a file. It refuses an axis of time that has no direction in space, and reads a list there."""
    content = None
    if _time_axis(header) is not None:
        data = path.read_bytes()
        head = re.sub(rb"(?im)^(spacings|units|centers|centerings): [^\r\n]*(\r\n|\r|\n)", b"", data[: header.end])
        head = re.sub(rb"(?im)^(kinds: [^\r\n]*)\btime\b", rb"\1" + _LIST.encode(), head)
        content = head + data[header.end :]
    with plain_path(path, *header.files, content=content) as place:
        yield place


def _time_axis(header: Header) -> int | None:
    """The axis of a NRRD file that is time and has no direction in space."""
    directions = re.findall(r"none|\([^)]*\)", header.fields.get("spacedirections", "").lower())
    kinds = header.fields.get("kinds", "").lower().split()
    return next((at for at, each in enumerate(zip(kinds, directions, strict=False)) if each == ("time", "none")), None)


def _step_s(header: Header, axis: int) -> float:
    """The time from one frame to the next, in seconds; 0 where it is not known."""
    units = re.findall(r'"([^"]*)"', header.fields.get("units", ""))
    spacings = header.fields.get("spacings", "").split()
    scale = _SECONDS.get(units[axis], 0.0) if axis < len(units) else 0.0
    try:
        step = float(spacings[axis]) * scale
    except (IndexError, ValueError):
        return 0.0
    return step if np.isfinite(step) else 0.0


def frames_of(image: sitk.Image, path: Path) -> Frames:
    """The frames of an image that was read from `path`.

    Raises:
        UserError: If its voxels are not scalar and real, or it is flat.
    """
    array = sitk.GetArrayFromImage(image)
    require_real(array.dtype, path)
    components = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() == 2:
        raise not_a_stack(path)
    if components > 1 and not (image.GetDimension() == 3 and _is_sequence(image)):
        raise not_scalar(f"a volume with {components} values in each voxel", path)
    times = None
    if components > 1:
        array = np.ascontiguousarray(np.moveaxis(array, -1, 0))
        times = _sequence_times(image, len(array))
    elif image.GetDimension() == 4:
        times = regular_times(len(array), image.GetSpacing()[3] if image.GetSpacing()[3] != _UNKNOWN_STEP_S else 0.0)
    else:
        array = array[None]
    return Frames(array, geometry_of(image), times)


def geometry_of(image: sitk.Image) -> np.ndarray:
    """The IJK-to-RAS matrix of an image."""
    return matrix_from_itk(image.GetDirection(), image.GetSpacing(), image.GetOrigin())


def _is_sequence(image: sitk.Image | sitk.ImageFileReader) -> bool:
    """Whether several values in a voxel are frames: Slicer's .seq.nrrd has an axis of the kind `list`."""
    kinds = [key for key in _keys(image) if key.startswith("NRRD_kinds[")]
    return any(image.GetMetaData(key) == _LIST for key in kinds)


def _sequence_times(image: sitk.Image, frames: int) -> tuple[float, ...] | None:
    """The times of a Slicer sequence from its first frame on, if it is indexed by seconds or milliseconds."""
    scale = _SECONDS.get(metadata(image, _INDEX_UNIT))
    values = next((image.GetMetaData(key) for key in _keys(image) if key.endswith(_INDEX_VALUES)), "").split()
    if scale is None or len(values) != frames:
        return None
    try:
        return tuple((float(value) - float(values[0])) * scale for value in values)
    except ValueError:
        return None


def _keys(image: sitk.Image | sitk.ImageFileReader) -> list[str]:
    """The names of the header's entries, without those that are no text, on which SimpleITK ends the process."""
    return [key for key in image.GetMetaDataKeys() if is_plain(key)]


def metadata(image: sitk.Image | sitk.ImageFileReader, key: str, default: str = "") -> str:
    """An entry of the header, or the default."""
    return image.GetMetaData(key) if image.HasMetaDataKey(key) else default


def write_image(path: Path, frames: Frames, header: Mapping[str, str] | None = None) -> None:
    """Writes a NRRD or MetaImage file, 4D for more than one frame.

    Args:
        path: Where to; the suffix decides on the format.
        frames: What to write.
        header: Further key-value pairs for the file's header.

    Raises:
        UserError: If the disk is full or the place is not writable.
    """
    lps = FLIP @ frames.ijk_to_ras
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    images = [sitk.GetImageFromArray(frame) for frame in frames.array]
    for image in images:
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
    image = images[0]
    if len(images) > 1:
        step = frames.times_s[1] - frames.times_s[0] if frames.times_s else 0.0
        image = sitk.JoinSeries(images, 0.0, step if step > 0 else _UNKNOWN_STEP_S)
    for key, value in (header or {}).items():
        image.SetMetaData(key, value)
    with quiet(), atomic_path(path) as temporary, plain_target(temporary) as place:
        try:
            sitk.WriteImage(image, str(place), useCompression=True)
            sitk.ReadImage(str(place))  # a disk that fills up with the last bytes goes unnoticed by the writer
        except RuntimeError as error:
            raise _os_error(error, place, frames.array.nbytes) from error


def _os_error(error: RuntimeError, path: Path, size: int) -> OSError:
    """What the operating system would have said, had ITK passed it on."""
    if not os.access(path.parent, os.W_OK):
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    if shutil.disk_usage(path.parent).free < size:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return OSError(errno.EIO, str(error), str(path))
