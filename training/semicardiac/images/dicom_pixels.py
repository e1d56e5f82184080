"""The pixels of DICOM files, plain or compressed.

GDCM (in SimpleITK) knows every compression. But it gives all frames of a file the rescale of the first one, fails where
frames lie at one place, and makes room for any length that a header claims. So it gets nothing but pixels to decode.
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from ..base.errors import UserError
from .dicom_headers import DicomFile, Header, Plane

_PLAIN = {"": "<", ImplicitVRLittleEndian: "<", ExplicitVRLittleEndian: "<", ExplicitVRBigEndian: ">"}
"""Ways to store pixels as they are, and their byte order."""
_NEEDED = (
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip
"""What tells how to decode pixels."""
_ITEM = 0xE000FFFE


def pixels_of(planes: list[Plane]) -> np.ndarray:
    """The rescaled pixels [frame, row, col] of the images of a file.

    Raises:
        UserError: If they cannot be decoded, or are not what the header says.
    """
    file, header = planes[0].file, planes[0].header
    try:
        dataset = pydicom.dcmread(file.path, force=True, specific_tags=list(_NEEDED))
        array = _plain(dataset.PixelData, file, header) if file.syntax in _PLAIN else _decoded(dataset, file)
        array = array.reshape(file.frames, *file.size)
    except (MemoryError, OSError):
        raise
    except Exception:  # pydicom raises whatever it stumbles on, and what ITK says may quote the header
        stored = f", stored as '{file.syntax.name}'," if file.syntax else ""
        what = f"the pixels of this DICOM file{stored} are damaged or cut short"
        raise UserError(what, where=file.path, hint="Copy or export it again, without compression") from None
    return _rescaled(array, planes)


def _plain(data: bytes, file: DicomFile, header: Header) -> np.ndarray:
    bits = float(header.required("BitsAllocated", 1)[0])
    used, high = header.number("BitsStored"), header.number("HighBit")
    used = used if used and 0 < used <= bits else bits
    high = high if high is not None and used <= high + 1 <= bits else used - 1
    kind = "i" if header.number("PixelRepresentation") else "u"
    dtype = np.dtype(f"{_PLAIN[file.syntax]}{kind}{bits / 8:g}")
    array = np.frombuffer(data, dtype, count=file.frames * file.size[0] * file.size[1])
    array = array.astype(dtype.newbyteorder("="))
    return (array << int(bits - 1 - high)) >> int(bits - used)  # what lies in other bits is no part of the number


def _decoded(dataset: pydicom.FileDataset, file: DicomFile) -> np.ndarray:
    """Pixels that are compressed, by way of a file that has nothing else in it."""
    at = 0
    while at < len(dataset.PixelData):
        tag, length = struct.unpack_from("<II", dataset.PixelData, at)
        at += 8 + length
        if tag != _ITEM or at > len(dataset.PixelData):
            raise ValueError
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = "1.2.3"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = file.syntax
    dataset.preamble = bytes(128)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.dcm"
        dataset.save_as(path)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))


def _rescaled(array: np.ndarray, planes: list[Plane]) -> np.ndarray:
    """Pixels with the slope and intercept of each frame."""
    slopes = np.array([plane.header.number("RescaleSlope") or 1 for plane in planes], dtype=np.float32)
    intercepts = np.array([plane.header.number("RescaleIntercept") or 0 for plane in planes], dtype=np.float32)
    if (slopes == 1).all() and (intercepts == 0).all():
        return array
    return array * slopes[:, None, None] + intercepts[:, None, None]
