"""NIfTI files, 3D and 4D."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from .files import atomic_path
from .geometry import Frames, matrix_from_itk, not_a_stack, not_scalar, regular_times, require_real, unreadable

SUFFIXES = (".nii.gz", ".nii")

_KINDS = {348: nib.Nifti1Image, 540: nib.Nifti2Image}  # by the size of the header, which stands first
_GZIP = b"\x1f\x8b"  # every gzip file begins so
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
)


def read_nifti(path: Path) -> Frames:
    """Reads a NIfTI file: voxels through nibabel, since ITK silently fills the missing part of a cut file with zeros.

    Raises:
        UserError: If it is damaged or cut short, or its voxels are not scalar and real.
    """
    try:
        data = path.read_bytes()
        if data[:2] == _GZIP:
            data = gzip.decompress(data)  # to the very end, where the checksum is
        image = _kind(data).from_bytes(data)
        array = np.asanyarray(image.dataobj)
    except _DAMAGE as error:
        raise unreadable(error, path) from None
    require_real(array.dtype, path)
    shape = array.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 4:
        raise not_scalar(f"a volume of {' x '.join(map(str, shape))}", path)
    if len(shape) < 3:
        raise not_a_stack(path)
    array = array.reshape((*shape[:3], -1)).astype(array.dtype.newbyteorder("="), copy=False)
    array = np.ascontiguousarray(array.T)
    step = float(image.header["pixdim"][4]) * _SECONDS.get(image.header.get_xyzt_units()[1], 0.0)
    return Frames(array, _matrix(path, image), regular_times(len(array), step))


def count_frames(path: Path) -> int:
    """How many frames a file holds, by its header alone.

    Raises:
        UserError: If it has none.
    """
    try:
        with open(path, "rb") as file:
            open_any = gzip.open if file.read(2) == _GZIP else open
        with open_any(path, "rb") as file:
            data = file.read(max(_KINDS))
        kind = _kind(data)
        shape = kind.header_class(data[: kind.header_class.sizeof_hdr]).get_data_shape()
    except _DAMAGE as error:
        raise unreadable(error, path) from None
    return int(np.prod(shape[3:]))


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


def _kind(data: bytes) -> type[nib.Nifti1Image]:
    for byte_order in ("little", "big"):
        if kind := _KINDS.get(int.from_bytes(data[:4], byte_order)):
            return kind
    raise ValueError("no NIfTI header")


def _matrix(path: Path, image: nib.Nifti1Image) -> np.ndarray:
    """IJK to RAS as ITK, and so Slicer, understands the header's matrices; as nibabel does where ITK refuses them."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # a sheared sform and no qform
        return np.array(image.affine, dtype=float)
    if reader.GetDimension() < 3:
        raise not_a_stack(path)
    return matrix_from_itk(reader.GetDirection(), reader.GetSpacing(), reader.GetOrigin())
