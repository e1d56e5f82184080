"""NIfTI files, 3D and 4D."""

from __future__ import annotations

import gzip
import io
import logging
import os
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from ..base.errors import UserError
from ..base.files import atomic_path
from .geometry import (
    SAME_VOXEL,
    Doubt,
    Frames,
    corners_of,
    matrix_from_itk,
    not_a_stack,
    not_scalar,
    regular_times,
    require_real,
    unreadable,
)
from .image_files import plain_path, require_room

SUFFIXES = (".nii.gz", ".nii")

_KINDS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}  # by the size of the header, which stands first
_GZIP = b"\x1f\x8b"  # every gzip file begins so
_GZIP_WINDOW = zlib.MAX_WBITS | 16
_START = 1 << 16
"""Bytes of a file in which the header is, packed or not."""
_REST = 1 << 20
"""Bytes behind the voxels that do no harm."""
_LONGEST = 1 << 26
"""Bytes before the voxels: the header, and what programs add to it."""
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_QUIET = logging.Logger("nifti", logging.CRITICAL + 1)
"""Takes what nibabel says of what it fixes by itself, such as unknown codes, which is of no use on a terminal."""
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
)
_SAME_ML = 0.01
"""Two sizes of a voxel are one if they differ by no more than this share."""


def read_nifti(path: Path) -> Frames:
    """Reads a NIfTI file: voxels through nibabel, since ITK silently fills the missing part of a cut file with zeros.

    No more is unpacked than the header announces.

    Raises:
        UserError: If it is damaged or cut short, too large for this computer, or its voxels are not scalar and real.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(_START)
            header, shape, end = _header(start, path)
            size = os.fstat(file.fileno()).st_size
            if size > end + _REST:
                raise ValueError(f"its header announces {end} bytes, and there are {size}")
            file.seek(0)
            data = file.read()
        if data[:2] == _GZIP:
            data = _unzip(data, end + _REST)
        if len(data) < end:
            raise EOFError(f"its header announces {end} bytes, and there are {len(data)}")
        array = np.asanyarray(nib.arrayproxy.ArrayProxy(io.BytesIO(data), header))
    except UserError:  # a ValueError, too
        raise
    except _DAMAGE as error:
        raise unreadable(error, path) from None
    array = array.reshape((*shape[:3], -1)).astype(array.dtype.newbyteorder("="), copy=False)
    array = np.ascontiguousarray(array.T)
    matrix, doubts = _place(path, header, packed=start[:2] == _GZIP)
    return Frames(array, matrix, regular_times(len(array), _step_s(header)), doubts)


def count_frames(path: Path) -> int:
    """How many frames a file holds, by its header alone.

    Raises:
        UserError: If it has none.
    """
    try:
        with open(path, "rb") as file:
            _, shape, _ = _header(file.read(_START), path)
    except UserError:
        raise
    except _DAMAGE as error:
        raise unreadable(error, path) from None
    return int(np.prod(shape[3:]))


def read_information(path: Path) -> sitk.ImageFileReader:
    """What the header of a file says.

    Raises:
        UserError: If it is damaged, or ITK refuses it.
    """
    count_frames(path)
    try:
        return _itk_reader(path)
    except RuntimeError as error:
        raise unreadable(error, path) from None


def write_nifti(path: Path, frames: Frames) -> None:
    """Writes a NIfTI file, 4D for more than one frame; the same frames give the same bytes.

    Raises:
        UserError: If the disk is full or the place is not writable.
    """
    array = frames.array.T if len(frames.array) > 1 else frames.array[0].T
    image = nib.Nifti1Image(array, frames.ijk_to_ras)
    axes = frames.ijk_to_ras[:3, :3] / np.linalg.norm(frames.ijk_to_ras[:3, :3], axis=0)
    rigid = np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    image.set_sform(frames.ijk_to_ras, code="scanner")
    image.set_qform(frames.ijk_to_ras if rigid else None, code="scanner" if rigid else 0)  # a qform cannot hold shear
    image.header.set_xyzt_units("mm", "sec")
    if len(frames.array) > 1:
        step = frames.times_s[1] - frames.times_s[0] if frames.times_s else 0.0
        image.header.set_zooms((*image.header.get_zooms()[:3], step))
    data = image.to_bytes()
    if path.name.lower().endswith(".gz"):
        data = gzip.compress(data, compresslevel=5, mtime=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _header(start: bytes, path: Path) -> tuple[nib.Nifti1Header, tuple[int, ...], int]:
    """The header, the shape (cols, rows, slices[, frames]), and where the voxels end, of a file that starts so.

    Raises:
        UserError: If its voxels are not scalar and real, or do not fit into memory.
        Exception: One of _DAMAGE.
    """
    if start[:2] == _GZIP:
        start = gzip.GzipFile(fileobj=io.BytesIO(start)).read(max(_KINDS))
    sizes = (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big"))
    kind = next((_KINDS[size] for size in sizes if size in _KINDS), None)
    if kind is None:
        raise ValueError("no NIfTI header")
    header = kind(start[: kind.sizeof_hdr], check=False)
    header.check_fix(logger=_QUIET)
    shape = header.get_data_shape()
    require_real(header.get_data_dtype(), path)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 4:
        raise not_scalar(f"a volume of {' x '.join(map(str, shape))}", path)
    if len(shape) < 3:
        raise not_a_stack(path)
    size = require_room(shape, header.get_data_dtype().itemsize, path)
    offset = header.get_data_offset()
    if not kind.sizeof_hdr <= offset <= _LONGEST:
        raise ValueError(f"its header says that the voxels begin at byte {offset}")
    return header, shape, offset + size


def _step_s(header: nib.Nifti1Header) -> float:
    """The time from one frame to the next, in seconds; 0 where it is not known."""
    try:
        unit = header.get_xyzt_units()[1]
    except KeyError:  # a code that stands for nothing
        return 0.0
    step = float(header["pixdim"][4]) * _SECONDS.get(unit, 0.0)
    return step if np.isfinite(step) else 0.0


def _unzip(data: bytes, most: int) -> bytes:
    """What a gzip file holds, of one part or several, to the very end, where the checksum is.

    Raises:
        ValueError: If it holds more than `most` bytes.
        EOFError: If it is cut short.
    """
    parts: list[bytes] = []
    held = 0
    while data[:2] == _GZIP or not parts:
        part = zlib.decompressobj(_GZIP_WINDOW)
        parts.append(part.decompress(data, most + 1 - held))
        held += len(parts[-1])
        if held > most:
            raise ValueError("it holds more than its header announces")
        if not part.eof:
            raise EOFError("its end is missing")
        data = part.unused_data
    if data.strip(b"\0"):
        raise ValueError("something else follows its end")
    return b"".join(parts)


def _place(path: Path, header: nib.Nifti1Header, *, packed: bool) -> tuple[np.ndarray, tuple[Doubt, ...]]:
    """IJK to RAS as ITK, and so Slicer, understands the header's matrices; as nibabel does where ITK refuses them."""
    theirs = np.array(header.get_best_affine(), dtype=float)
    unknown_to_itk = isinstance(header, nib.Nifti2Header) or (packed and not path.name.lower().endswith(".gz"))
    if unknown_to_itk or not np.isfinite(theirs).all():  # it would say so on the terminal
        return theirs, ()
    try:
        reader = _itk_reader(path)
    except RuntimeError:  # a sheared sform and no qform
        return theirs, ()
    if reader.GetDimension() < 3:
        raise not_a_stack(path)
    ours = matrix_from_itk(reader.GetDirection(), reader.GetSpacing(), reader.GetOrigin())
    why = "its sform, qform and pixdim contradict each other"
    if not (header["sform_code"] > 0 or header["qform_code"] > 0):
        why = "its header has neither sform nor qform"
    return ours, _doubts(ours, theirs, header.get_data_shape()[2::-1], why)


def _itk_reader(path: Path) -> sitk.ImageFileReader:
    """What ITK understands of a header that was found sound."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    with plain_path(path) as place:
        reader.SetFileName(str(place))
        reader.ReadImageInformation()
    return reader


def _doubts(ours: np.ndarray, theirs: np.ndarray, shape: tuple[int, ...], why: str) -> tuple[Doubt, ...]:
    """What to say where readers place the voxels differently; `shape` is (slices, rows, cols)."""
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return ()
    apart = float(np.linalg.norm((ours - theirs)[:3] @ corners_of(shape), axis=0).max())
    if apart <= SAME_VOXEL * np.linalg.norm(ours[:3, :3], axis=0).min():
        return ()
    what = f"{why}: its voxels lie up to {apart:.3g} mm apart in ITK and Slicer, as here, and in nibabel and FSL"
    our_ml, their_ml = (abs(float(np.linalg.det(matrix[:3, :3]))) / 1000 for matrix in (ours, theirs))
    if their_ml and abs(our_ml / their_ml - 1) > _SAME_ML:
        what += f", and volumes in ml are {our_ml / their_ml:.3g} times theirs"
    return (Doubt(what, "See which is right, and write one place into the headers of the image and of its labels"),)
