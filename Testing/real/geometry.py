"""Does a segmentation land on the heart when other programs read it back?

    python Testing/real/geometry.py MODEL OUT VOLUME...

Segments each volume through the command line, into a label volume and into a Slicer segmentation, reads image and
result back with SimpleITK and with nibabel, and compares in patient coordinates: the grids, the centroid of each
structure, and whether the LV cavity lies on brighter voxels than the myocardium around it. Pictures go to OUT.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from semicardiac.cli import main as semicardiac
from semicardiac.labels import get_label_set
from semicardiac.overlays import overlay_montage, write_png
from semicardiac.volumes import read_labels, read_volume, stem

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def centroids_by_itk(path: Path, values: list[int]) -> dict[int, np.ndarray]:
    """RAS centroid of each label in mm, as SimpleITK sees the file."""
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    found = {}
    for value in values:
        index = np.argwhere(array == value).mean(axis=0)[::-1]
        found[value] = np.array(image.TransformContinuousIndexToPhysicalPoint(index.tolist())) * LPS_TO_RAS
    return found


def centroids_by_nibabel(path: Path, values: list[int]) -> dict[int, np.ndarray]:
    """RAS centroid of each label in mm, as nibabel sees the file."""
    image = nib.load(path)
    array = np.asarray(image.dataobj)
    return {value: nib.affines.apply_affine(image.affine, np.argwhere(array == value).mean(axis=0)) for value in values}


def main(model: str, out: str, volumes: list[str]) -> int:
    folder, labels = Path(out), get_label_set("acdc")
    failures = 0
    for suffix in ("nii.gz", "seg.nrrd"):
        status = semicardiac(["segment", model, *volumes, "--out", str(folder / suffix), "--format", suffix])
        if status:
            return status
    for name in map(Path, volumes):
        result = folder / "nii.gz" / f"{stem(name)}.nii.gz"
        values = [value for value in (1, 2, 3) if (np.asarray(nib.load(result).dataobj) == value).any()]
        itk, nibabel = centroids_by_itk(result, values), centroids_by_nibabel(result, values)
        between = max(float(np.linalg.norm(itk[value] - nibabel[value])) for value in values)
        grid = float(np.abs(nib.load(result).affine - nib.load(name).affine).max())
        volume, found = read_volume(name), read_labels(result, labels)
        slicer = read_labels(folder / "seg.nrrd" / f"{stem(name)}.seg.nrrd", labels, grid=volume)
        same = bool((slicer.array == found.array).all())
        bright = [float(np.median(volume.array[found.array == value])) for value in (3, 2)]
        good = between < 1e-3 and grid < 1e-4 and same and bright[0] > bright[1]
        failures += not good
        write_png(folder / f"{stem(name)}.png", overlay_montage(volume, found, labels))
        print(
            f"{'ok  ' if good else 'FAIL'} {stem(name)}: SimpleITK and nibabel {between:.1e} mm apart, "
            f"grids {grid:.1e}, seg.nrrd {'the same' if same else 'DIFFERS'}, "
            f"median LV cavity {bright[0]:.0f}, myocardium {bright[1]:.0f}"
        )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
