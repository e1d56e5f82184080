"""Volumes with exact geometry, read and written as NIfTI, NRRD, Slicer segmentations, MetaImage and DICOM folders.

Everywhere in the engine ijk is (column, row, slice), arrays are [slice, row, col], and `ijk_to_ras` maps the center of
a voxel to millimeters in RAS (right, anterior, superior).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base.errors import UserError
from . import dicom, itk, nifti, seg_nrrd
from .geometry import SAME_VOXEL, Doubt, Frames, corners_of, on_grid, require_place
from .image_files import as_text, require_file, too_large
from .labels import LabelSet

SUFFIXES = (seg_nrrd.SUFFIX, ".seq.nrrd", *nifti.SUFFIXES, *itk.SUFFIXES)
"""Names of volume files end in one of these; the longer ones come first."""

_STORED_AS = {"bool": np.uint8, "float16": np.float32, "int64": np.int32, "uint64": np.uint32}
"""For types that not every format holds."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar volume and where it lies in the patient."""

    array: np.ndarray
    """[slice, row, col]."""
    ijk_to_ras: np.ndarray
    """(4, 4) float64: (col, row, slice, 1) of a voxel's center to mm, RAS."""
    time_s: float | None = None
    """Time of this frame from the first one of its series on, in seconds, where that is known."""
    doubts: tuple[Doubt, ...] = ()
    """What a person has to decide on in the header that it was read from."""

    def __post_init__(self) -> None:
        assert self.array.ndim == 3, self.array.shape
        assert self.ijk_to_ras.shape == (4, 4), self.ijk_to_ras.shape

    @property
    def spacing(self) -> np.ndarray:
        """(3,) distances between neighboring voxels in mm, in the order (col, row, slice)."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in milliliters."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000

    def with_array(self, array: np.ndarray) -> Volume:
        """Another array of the same shape on the same grid."""
        assert array.shape == self.array.shape, (array.shape, self.array.shape)
        return Volume(array, self.ijk_to_ras, self.time_s, self.doubts)


def stem(path: Path | str) -> str:
    """The name of a file without its folder and volume suffix; the name of a DICOM folder. It is always text."""
    name = as_text(Path(path).name)
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name) or name


def is_volume_file(path: Path) -> bool:
    """Whether the name is that of a volume file, and not of one that some systems hide beside it."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def read_volume(path: Path | str, *, frame: int | None = None) -> Volume:
    """Reads a 3D scalar volume, with the numbers and the type that the file holds.

    Args:
        path: A NIfTI, NRRD or MetaImage file, or a folder with one DICOM series.
        frame: Which frame of a time series to take, counted from 0; None for a file that holds a single volume.

    Raises:
        UserError: If it is missing, damaged, cut short, not scalar and real, or a time series and no frame is named.
    """
    return pick_frame(read_series(path), frame, path)


def read_series(path: Path | str) -> list[Volume]:
    """Reads the frames of a time series; a file with a single volume gives a list of one.

    Raises:
        UserError: If it is missing, damaged, cut short, or not scalar and real.
    """
    path = Path(path)
    with _reading(path):
        frames = _read_frames(path)
    require_place(frames.ijk_to_ras, path)
    times = frames.times_s or [None] * len(frames.array)
    return [
        Volume(array, frames.ijk_to_ras, time, frames.doubts) for array, time in zip(frames.array, times, strict=True)
    ]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What holds whenever a file is opened: it is one, the library stays quiet, and a full memory has the file's name.

    Raises:
        UserError: If it is missing, no file or too large.
    """
    require_file(path)
    try:
        with itk.quiet():
            yield
    except MemoryError:
        raise too_large(path) from None


def _read_frames(path: Path) -> Frames:
    name = path.name.lower()
    if path.is_dir():
        frames = dicom.read_dicom(path)
    elif name.endswith(nifti.SUFFIXES):
        frames = nifti.read_nifti(path)
    elif name.endswith(itk.SUFFIXES):
        frames = itk.frames_of(itk.read_image(path), path)
    else:
        hint = f"Volumes end in {', '.join(SUFFIXES)}, or are folders with a DICOM series"
        raise UserError("this is not a volume file that can be read", where=path, hint=hint)
    return frames


def count_frames(path: Path) -> int:
    """How many frames a volume file or a DICOM folder holds, by the headers alone.

    Raises:
        UserError: If it is damaged.
    """
    name = path.name.lower()
    if path.is_dir():
        return dicom.count_frames(path)
    if name.endswith(seg_nrrd.SUFFIX):  # several values in a voxel are layers there
        return 1
    with _reading(path):
        return nifti.count_frames(path) if name.endswith(nifti.SUFFIXES) else itk.count_frames(path)


def size_and_spacing(path: Path) -> tuple[Sequence[int], Sequence[float]]:
    """Columns, rows and slices of a file, and its spacing in mm in this order, by the header alone.

    Raises:
        UserError: If it is no file, or damaged.
    """
    with _reading(path):
        read = nifti.read_information if path.name.lower().endswith(nifti.SUFFIXES) else itk.read_information
        reader = read(path)
    return reader.GetSize()[:3], reader.GetSpacing()[:3]


def pick_frame(frames: Sequence[Volume], frame: int | None, path: Path | str) -> Volume:
    """One frame of a series that was read from `path`.

    Raises:
        UserError: If there is no such frame, or none is named where there are several.
    """
    if frame is None and len(frames) > 1:
        what = f"this is a time series of {len(frames)} frames where a single volume is expected"
        raise UserError(what, where=path, hint="Say which frame to take, in the column 'frame' of a case list")
    if frame is not None and not 0 <= frame < len(frames):
        raise UserError(f"there is no frame {frame}", where=path, hint=f"Frames go from 0 to {len(frames) - 1}")
    return frames[frame or 0]


def read_labels(
    path: Path | str, label_set: LabelSet, *, frame: int | None = None, grid: Volume | None = None
) -> Volume:
    """Reads labels as training labels, uint8.

    Label volumes are read by the source values of the set, Slicer segmentations by segment names and codes.

    Args:
        path: A label volume or a .seg.nrrd.
        label_set: What the labels mean.
        frame: Which frame to take of a time series; a single volume is taken as it is, whatever the frame.
        grid: What was segmented. Slicer may crop a segmentation to its segments; it comes back on the grid that its
            header names, else on this one where the voxels coincide.

    Raises:
        UserError: As `read_volume`, and for values or segments that are not in the label set.
    """
    path = Path(path)
    if path.name.lower().endswith((".nrrd", ".nhdr")):
        with _reading(path):
            image = itk.read_image(path)
            if seg_nrrd.is_segmentation(image):
                labels = Volume(*seg_nrrd.read_segmentation(image, label_set, path))
                if grid is None:
                    return labels
                placed = on_grid(labels.array, labels.ijk_to_ras, grid.array.shape, grid.ijk_to_ras)
                return labels if placed is None else Volume(placed, grid.ijk_to_ras, grid.time_s)
    frames = read_series(path)
    volume = pick_frame(frames, frame if len(frames) > 1 else None, path)
    return volume.with_array(label_set.to_training(volume.array, where=path))


def write_volume(path: Path | str, volume: Volume) -> None:
    """Writes a volume in the format that the suffix names: .nii.gz, .nii, .nrrd or .mha. Whole or not at all.

    Raises:
        UserError: For another suffix, a full disk or a place that is not writable.
    """
    write_series(path, [volume])


def write_series(path: Path | str, frames: Sequence[Volume]) -> None:
    """Writes frames that share one grid as a 4D file, a single frame as a 3D file.

    Raises:
        UserError: As `write_volume`.
    """
    path = Path(path)
    array = np.stack([frame.array for frame in frames])
    times = tuple(frame.time_s for frame in frames if frame.time_s is not None)
    packed = Frames(
        array.astype(_STORED_AS.get(array.dtype.name, array.dtype), copy=False),
        frames[0].ijk_to_ras,
        times if len(times) == len(frames) else None,
    )
    name = path.name.lower()
    if name.endswith(nifti.SUFFIXES):
        nifti.write_nifti(path, packed)
    elif name.endswith(itk.WRITABLE_SUFFIXES):
        itk.write_image(path, packed)
    else:
        hint = f"End it with {', '.join((*nifti.SUFFIXES, *itk.WRITABLE_SUFFIXES))}"
        raise UserError("no volume can be written under this name", where=path, hint=hint)


def write_labels(path: Path | str, volume: Volume, label_set: LabelSet) -> None:
    """Writes training labels with their source values; as .seg.nrrd with names, colors and codes too.

    Args:
        path: Where to.
        volume: Training labels.
        label_set: What they mean.

    Raises:
        UserError: As `write_volume`.
    """
    path = Path(path)
    if path.name.lower().endswith(seg_nrrd.SUFFIX):
        seg_nrrd.write_segmentation(path, volume.array, volume.ijk_to_ras, label_set)
    else:
        write_volume(path, volume.with_array(label_set.to_source(volume.array)))


def same_geometry(a: Volume, b: Volume) -> str | None:
    """None if two volumes lie on the same grid, else by how much they differ.

    Grids are the same if no corner lies farther from its twin than `SAME_VOXEL` of the shortest voxel side.
    """
    if a.array.shape != b.array.shape:
        return f"the sizes are {_times(a.array.shape[::-1])} and {_times(b.array.shape[::-1])} voxels"
    apart = float(np.linalg.norm((a.ijk_to_ras - b.ijk_to_ras)[:3] @ corners_of(a.array.shape), axis=0).max())
    if apart <= SAME_VOXEL * min(*a.spacing, *b.spacing):
        return None
    details = []
    if not np.allclose(a.spacing, b.spacing, rtol=1e-3):
        details.append(f"the spacings are {_times(a.spacing)} and {_times(b.spacing)} mm")
    cosines = ((a.ijk_to_ras[:3, :3] / a.spacing) * (b.ijk_to_ras[:3, :3] / b.spacing)).sum(axis=0)
    angle = float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())
    if angle > 0.1:
        details.append(f"the axes are turned by up to {angle:.1f} degrees")
    shift = float(np.linalg.norm(a.ijk_to_ras[:3, 3] - b.ijk_to_ras[:3, 3]))
    if shift > 1e-3:
        details.append(f"the first voxels are {shift:.4g} mm apart")
    return f"voxels lie up to {apart:.4g} mm apart: {', '.join(details)}"


def _times(numbers: Iterable[float]) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)
