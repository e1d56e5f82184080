"""Volumes with exact geometry, and their files: NIfTI, NRRD, Slicer segmentations, MetaImage and DICOM folders.

Everywhere in the engine, ijk is (column, row, slice), the array is [slice, row, col], and `ijk_to_ras` maps the center
of a voxel to millimeters in RAS (right, anterior, superior). Files of ITK hold LPS; the two are told apart only here.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from .errors import UserError
from .files import atomic_path
from .labels import LabelSet, as_whole_numbers

NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = (".seg.nrrd", ".seq.nrrd", *NIFTI_SUFFIXES, *ITK_SUFFIXES)
DICOM_SUFFIXES = (".dcm", ".ima")

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS to RAS, and back


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar volume and where it lies in the patient."""

    array: np.ndarray
    """[slice, row, col]."""
    ijk_to_ras: np.ndarray
    """(4, 4) float64: (col, row, slice, 1) of a voxel's center to mm, RAS."""
    time_s: float | None = None
    """Time of this frame in its series, in seconds, where that is known."""

    def __post_init__(self) -> None:
        assert self.array.ndim == 3, self.array.shape
        assert self.ijk_to_ras.shape == (4, 4), self.ijk_to_ras.shape

    @property
    def spacing(self) -> np.ndarray:
        """(3,) distances between voxels in mm, in the order (col, row, slice)."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in milliliters."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000

    def with_array(self, array: np.ndarray) -> Volume:
        """Another array of the same shape on the same grid."""
        assert array.shape == self.array.shape, (array.shape, self.array.shape)
        return Volume(array, self.ijk_to_ras, self.time_s)


def stem(path: Path | str) -> str:
    """The name of a file without its folder and volume suffix; a DICOM folder's name."""
    name = Path(path).name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def is_volume_file(path: Path) -> bool:
    """Whether a file's name is that of a volume that can be read."""
    return not path.name.startswith(".") and path.name.lower().endswith(SUFFIXES)


def read_volume(path: Path | str, *, frame: int | None = None) -> Volume:
    """Reads a 3D scalar volume, with the numbers and the type of the file.

    Args:
        path: A NIfTI, NRRD or MetaImage file, or a folder with one DICOM series.
        frame: Which frame of a time series to take, counted from 0; None for a file that holds a single volume.

    Raises:
        UserError: If it is missing, unreadable, cut short, not scalar and real, or a time series where no frame is asked for.
    """
    frames = _read(Path(path))
    if frame is None:
        if len(frames) > 1:
            raise UserError(
                f"this is a time series of {len(frames)} frames where a single volume is expected", where=path, hint="Say which frame to take"
            )
        return frames[0]
    if not 0 <= frame < len(frames):
        raise UserError(f"there is no frame {frame}; frames go from 0 to {len(frames) - 1}", where=path)
    return frames[frame]


def read_series(path: Path | str) -> list[Volume]:
    """Reads the frames of a time series; a file with a single volume gives a list of one.

    Raises:
        UserError: As `read_volume`.
    """
    return _read(Path(path))


def read_labels(path: Path | str, label_set: LabelSet, *, frame: int | None = None) -> Volume:
    """Reads labels as training labels, uint8.

    Label volumes are read by the source values of the set, Slicer segmentations by segment names or terminology codes.

    Args:
        path: A label volume or a .seg.nrrd.
        label_set: What the labels mean.
        frame: Which frame to take where the file is a time series.

    Raises:
        UserError: As `read_volume`, and for values or segments that are not in the label set.
    """
    path = Path(path)
    if path.name.lower().endswith(".nrrd"):
        image = _read_itk(path)
        segments = _segments(image)
        if segments:
            return _read_segmentation(image, segments, label_set, path)
    frames = _read(path)
    volume = frames[0] if len(frames) == 1 else read_volume(path, frame=frame)
    return volume.with_array(label_set.to_training(volume.array, where=path))


def write_volume(path: Path | str, volume: Volume) -> None:
    """Writes a volume in the format that the suffix names (.nii.gz, .nii, .nrrd, .mha); the file is whole or not there.

    Raises:
        UserError: For a suffix that cannot be written, a full disk or a folder that is not writable.
    """
    write_series(path, [volume])


def write_series(path: Path | str, frames: list[Volume]) -> None:
    """Writes frames that share one grid as a 4D file, or a single frame as a 3D file.

    Raises:
        UserError: As `write_volume`.
    """
    path = Path(path)
    step = (frames[1].time_s or 0) - (frames[0].time_s or 0) if len(frames) > 1 else 0.0
    arrays = [_storable(frame.array) for frame in frames]
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        data = _nifti_bytes(arrays, frames[0].ijk_to_ras, step)
        with atomic_path(path) as temporary:
            temporary.write_bytes(gzip.compress(data, compresslevel=5, mtime=0) if path.name.lower().endswith(".gz") else data)
    elif path.name.lower().endswith((".nrrd", ".mha")):
        images = [_to_itk(array, frames[0].ijk_to_ras) for array in arrays]
        if len(images) == 1:
            _write_itk(path, images[0])
        else:
            _write_itk(path, sitk.JoinSeries(images, 0.0, step or 1.0))
    else:
        raise UserError(f"'{path.name}' does not end as a volume file that can be written", where=path, hint="End it with .nii.gz, .nrrd, .seg.nrrd or .mha")


def write_labels(path: Path | str, volume: Volume, label_set: LabelSet) -> None:
    """Writes training labels with their source values; as .seg.nrrd, a Slicer segmentation with names, colors and codes.

    Args:
        path: Where to.
        volume: Training labels.
        label_set: What they mean.

    Raises:
        UserError: As `write_volume`.
    """
    path = Path(path)
    values = label_set.to_source(volume.array)
    if not path.name.lower().endswith(".seg.nrrd"):
        write_volume(path, volume.with_array(values))
        return
    image = _to_itk(values, volume.ijk_to_ras)
    for key, value in _segmentation_header(volume.array, label_set).items():
        image.SetMetaData(key, value)
    _write_itk(path, image)


def same_geometry(a: Volume, b: Volume) -> str | None:
    """None if two volumes lie on the same grid, else by how much they differ.

    Grids are the same if no corner lies farther from its twin than 2 % of the smallest voxel side: more than what
    the single precision of NIfTI makes, less than what anyone could see.
    """
    if a.array.shape != b.array.shape:
        sizes = [" x ".join(map(str, volume.array.shape[::-1])) for volume in (a, b)]
        return f"the sizes differ: {sizes[0]} and {sizes[1]} voxels"
    corners = _corners(a.array.shape)
    apart = float(np.linalg.norm((a.ijk_to_ras - b.ijk_to_ras) @ corners, axis=0).max())
    if apart <= 0.02 * min(a.spacing.min(), b.spacing.min()):
        return None
    parts = []
    if not np.allclose(a.spacing, b.spacing, rtol=1e-3):
        spacings = [" x ".join(f"{side:.4g}" for side in volume.spacing) for volume in (a, b)]
        parts.append(f"the spacings are {spacings[0]} and {spacings[1]} mm")
    cosines = ((a.ijk_to_ras[:3, :3] / a.spacing) * (b.ijk_to_ras[:3, :3] / b.spacing)).sum(axis=0)
    angle = float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())
    if angle > 0.1:
        parts.append(f"the axes are turned by {angle:.1f} degrees")
    shift = float(np.linalg.norm(a.ijk_to_ras[:3, 3] - b.ijk_to_ras[:3, 3]))
    if shift > 0:
        parts.append(f"the first voxels are {shift:.4g} mm apart")
    return f"the voxels lie up to {apart:.4g} mm apart ({', '.join(parts)})"


def _corners(shape: tuple[int, ...]) -> np.ndarray:
    last = np.array(shape[::-1]) - 1
    return np.array([[i, j, k, 1] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])], dtype=float).T


# Reading


def _read(path: Path) -> list[Volume]:
    if not path.exists():
        raise UserError("this file is missing", where=path)
    if path.is_dir():
        return _read_dicom(path)
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        return _read_nifti(path)
    if name.endswith(ITK_SUFFIXES):
        return _from_itk(_read_itk(path), path)
    raise UserError(
        "this is not a volume file that can be read",
        where=path,
        hint="Volumes are NIfTI (.nii.gz), NRRD (.nrrd, .seg.nrrd), MetaImage (.mha, .mhd) or a folder with a DICOM series",
    )


def _read_nifti(path: Path) -> list[Volume]:
    """Voxels through nibabel, since ITK fills the missing part of a cut file with zeros and says nothing."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)  # to the last byte, so that the checksum is verified
        kind = nib.Nifti2Image if data[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.Nifti1Image
        image = kind.from_bytes(data)
        array = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise UserError(f"this file is damaged, cut short or not NIfTI ({_last_line(error)})", where=path, hint="Copy or export it again") from None
    if array.dtype.fields:
        raise _not_scalar(path, "an RGB volume")
    shape = array.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 4:
        raise _not_scalar(path, f"a volume of {' x '.join(map(str, shape))}")
    if len(shape) < 3:
        raise _flat(path)
    _check_type(array.dtype, path)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    ijk_to_ras = _nifti_geometry(path, image)
    step = 0.0
    if len(shape) == 4:
        unit = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(image.header.get_xyzt_units()[1], 0.0)
        step = float(image.header.get_zooms()[3]) * unit
    return _frames(np.ascontiguousarray(array.reshape((*shape, 1) if len(shape) == 3 else shape).T), ijk_to_ras, step)


def _nifti_geometry(path: Path, image: nib.Nifti1Image) -> np.ndarray:
    """Geometry as ITK, and so Slicer, understands the two matrices of a NIfTI header; nibabel's for what ITK refuses."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # a sheared sform without a qform
        return np.array(image.affine, dtype=float)
    return _matrix(reader.GetDimension(), reader.GetDirection(), reader.GetSpacing(), reader.GetOrigin())


def _read_itk(path: Path) -> sitk.Image:
    if not path.exists():
        raise UserError("this file is missing", where=path)
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UserError(f"this file is damaged, cut short or not what its name says ({_last_line(error)})", where=path, hint="Copy or export it again") from None


def _from_itk(image: sitk.Image, path: Path) -> list[Volume]:
    dimension = image.GetDimension()
    ijk_to_ras = _itk_geometry(image)
    array = sitk.GetArrayFromImage(image)
    _check_type(array.dtype, path)
    if image.GetNumberOfComponentsPerPixel() > 1:
        if dimension == 3 and _metadata(image, "NRRD_kinds[0]") == "list":  # a Slicer sequence
            return _frames(np.ascontiguousarray(np.moveaxis(array, -1, 0)), ijk_to_ras, 0.0)
        raise _not_scalar(path, f"a volume with {image.GetNumberOfComponentsPerPixel()} values in each voxel")
    if dimension == 2:
        raise _flat(path)
    return _frames(array if dimension == 4 else array[None], ijk_to_ras, image.GetSpacing()[3] if dimension == 4 else 0.0)


def _read_dicom(folder: Path) -> list[Volume]:
    reader = sitk.ImageSeriesReader()
    series = sorted(reader.GetGDCMSeriesIDs(str(folder)))
    if not series:
        raise UserError("this folder holds no DICOM series", where=folder, hint="Name a volume file, or a folder with the files of one DICOM series")
    if len(series) > 1:
        listed = "; ".join(_describe_series(folder, uid) for uid in series[:8])
        raise UserError(f"this folder holds {len(series)} DICOM series: {listed}", where=folder, hint="Put each series into a folder of its own")
    slices: dict[tuple[float, ...], list[tuple[float, str]]] = {}
    for name in reader.GetGDCMSeriesFileNames(str(folder), series[0]):
        header = _dicom_header(name)
        position = tuple(round(float(part), 3) for part in _metadata(header, "0020|0032", "0\\0\\0").split("\\"))
        time = float(_metadata(header, "0018|1060") or _metadata(header, "0020|0013") or 0)  # trigger time in ms, or instance
        slices.setdefault(position, []).append((time, name))
    counts = {len(names) for names in slices.values()}
    if len(counts) > 1:
        raise UserError(
            f"the slice positions hold between {min(counts)} and {max(counts)} images each, so this is neither a volume nor a whole time series",
            where=folder,
            hint="See that all files of the series were exported, and none of another one",
        )
    frames = []
    for index in range(counts.pop()):
        chosen = [sorted(names)[index] for names in slices.values()]
        reader.SetFileNames([name for _, name in chosen])
        reader.MetaDataDictionaryArrayUpdateOff()
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise UserError(f"this DICOM series cannot be read ({_last_line(error)})", where=folder) from None
        gap = float(_metadata(image, "ITK_non_uniform_sampling_deviation") or 0)
        if gap > 0.1:
            raise UserError(f"the distances between the slices differ by up to {gap:.2f} mm: a slice is missing or two series are mixed", where=folder)
        frames.append((chosen[0][0] / 1000, _from_itk(image, folder)[0]))
    return [Volume(volume.array, volume.ijk_to_ras, time - frames[0][0] if len(frames) > 1 else None) for time, volume in frames]


def _describe_series(folder: Path, uid: str) -> str:
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
    text = _metadata(_dicom_header(names[0]), "0008|103e").strip() or uid
    return f"'{text}' ({len(names)} files)"


def _dicom_header(name: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(name)
    reader.ReadImageInformation()
    return reader


def _metadata(image: sitk.Image | sitk.ImageFileReader, key: str, default: str = "") -> str:
    return image.GetMetaData(key) if image.HasMetaDataKey(key) else default


def _frames(array: np.ndarray, ijk_to_ras: np.ndarray, step: float) -> list[Volume]:
    timed = len(array) > 1 and step > 0
    return [Volume(frame, ijk_to_ras, index * step if timed else None) for index, frame in enumerate(array)]


def _check_type(dtype: np.dtype, path: Path) -> None:
    if dtype.kind not in "biuf":
        raise UserError(f"voxels are of type {dtype} where real numbers are expected", where=path, hint="Export the magnitude as a scalar volume")


def _not_scalar(path: Path, found: str) -> UserError:
    return UserError(f"this is {found} where one number in each voxel is expected", where=path, hint="Export it as a scalar (grayscale) volume")


def _flat(path: Path) -> UserError:
    return UserError("this is a two-dimensional image where a volume is expected", where=path, hint="Export the whole stack of slices as one volume")


def _itk_geometry(image: sitk.Image) -> np.ndarray:
    return _matrix(image.GetDimension(), image.GetDirection(), image.GetSpacing(), image.GetOrigin())


def _matrix(dimension: int, direction: tuple[float, ...], spacing: tuple[float, ...], origin: tuple[float, ...]) -> np.ndarray:
    size = min(dimension, 3)
    lps = np.eye(4)
    lps[:size, :size] = (np.reshape(direction, (dimension, dimension)) * spacing)[:size, :size]
    lps[:size, 3] = origin[:size]
    return _FLIP @ lps


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


# Writing


def _storable(array: np.ndarray) -> np.ndarray:
    """Types that every format holds."""
    wider = {"bool": np.uint8, "float16": np.float32, "int64": np.int32, "uint64": np.uint32}
    return np.ascontiguousarray(array, dtype=wider.get(array.dtype.name, array.dtype))


def _nifti_bytes(arrays: list[np.ndarray], ijk_to_ras: np.ndarray, step: float) -> bytes:
    data = arrays[0].T if len(arrays) == 1 else np.stack([array.T for array in arrays], axis=-1)
    image = nib.Nifti1Image(data, ijk_to_ras)
    axes = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    rigid = np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    image.set_sform(ijk_to_ras, code=1)
    image.set_qform(ijk_to_ras if rigid else None, code=1 if rigid else 0)  # a qform cannot hold shear
    if len(arrays) > 1:
        image.header.set_zooms((*image.header.get_zooms()[:3], step))
    image.header.set_xyzt_units("mm", "sec")
    return image.to_bytes()


def _to_itk(array: np.ndarray, ijk_to_ras: np.ndarray) -> sitk.Image:
    lps = _FLIP @ ijk_to_ras
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def _write_itk(path: Path, image: sitk.Image) -> None:
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OSError(None, _last_line(error)) from error


# Slicer segmentations


@dataclass(frozen=True)
class _Segment:
    name: str
    value: int
    layer: int
    type_code: str
    """scheme^value of the terminology's type, or nothing."""


def _segments(image: sitk.Image) -> list[_Segment]:
    segments = []
    while image.HasMetaDataKey(f"Segment{len(segments)}_ID"):
        prefix = f"Segment{len(segments)}_"
        tags = dict(tag.split(":", 1) for tag in _metadata(image, f"{prefix}Tags").split("|") if ":" in tag)
        entry = tags.get("TerminologyEntry", "").split("~")
        code = "^".join(entry[2].split("^")[:2]) if len(entry) > 2 else ""
        name = _metadata(image, f"{prefix}Name") or _metadata(image, f"{prefix}ID")
        # Files of Slicer before 5 have no label values: one layer for each segment.
        value = int(_metadata(image, f"{prefix}LabelValue", "1"))
        layer = int(_metadata(image, f"{prefix}Layer", str(len(segments))))
        segments.append(_Segment(name, value, layer, code))
    return segments


def _read_segmentation(image: sitk.Image, segments: list[_Segment], label_set: LabelSet, path: Path) -> Volume:
    values = as_whole_numbers(sitk.GetArrayFromImage(image), where=path)
    if image.GetDimension() != 3:
        raise UserError("a segmentation of a single volume is expected", where=path)
    if image.GetNumberOfComponentsPerPixel() == 1:
        values = values[..., None]
    names = {structure.name.lower(): label for label, structure in enumerate(label_set.structures, start=1)}
    codes = [f"{structure.type.scheme}^{structure.type.value}" for structure in label_set.structures]
    training = np.zeros(values.shape[:3], dtype=np.uint8)
    strangers = []
    for segment in segments:
        mask = values[..., segment.layer] == segment.value
        label = names.get(segment.name.strip().lower())
        if label is None and codes.count(segment.type_code) == 1:
            label = codes.index(segment.type_code) + 1
        if label is None:
            if mask.any():
                strangers.append(f"'{segment.name}' ({int(mask.sum())} voxels)")
            continue
        overlap = mask & (training != 0) & (training != label)
        if overlap.any():
            other = label_set.names[int(training[overlap][0]) - 1]
            raise UserError(
                f"the segments of '{label_set.names[label - 1]}' and '{other}' overlap in {int(overlap.sum())} voxels",
                where=path,
                hint="In Slicer's Segment Editor, forbid overlap and correct one of them",
            )
        training[mask] = label
    if strangers:
        raise UserError(
            f"the segments {', '.join(strangers)} are not in the label set '{label_set.name}' ({', '.join(label_set.names)})",
            where=path,
            hint="Rename or remove them, or name the label set that the file follows",
        )
    return Volume(training, _itk_geometry(image))


def _segmentation_header(training: np.ndarray, label_set: LabelSet) -> dict[str, str]:
    header = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for index, structure in enumerate(label_set.structures):
        header |= {
            f"Segment{index}_ID": structure.key,
            f"Segment{index}_Name": structure.name,
            f"Segment{index}_NameAutoGenerated": "0",
            f"Segment{index}_Color": " ".join(f"{channel / 255:.6f}" for channel in structure.color),
            f"Segment{index}_ColorAutoGenerated": "0",
            f"Segment{index}_LabelValue": str(structure.source_values[0]),
            f"Segment{index}_Layer": "0",
            f"Segment{index}_Extent": _extent(training == index + 1),
            # A person has still to look at what a network has drawn.
            f"Segment{index}_Tags": f"Segmentation.Status:inprogress|TerminologyEntry:{structure.terminology}|",
        }
    return header


def _extent(mask: np.ndarray) -> str:
    """First and last column, row and slice of a mask; 0 -1 where it is empty, as Slicer writes it."""
    bounds = []
    for axis in (2, 1, 0):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        bounds += [int(found[0]), int(found[-1])] if len(found) else [0, -1]
    return " ".join(map(str, bounds))
