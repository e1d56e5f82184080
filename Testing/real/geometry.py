"""Does a segmentation land on the heart when other programs read it back?

    python Testing/real/geometry.py MODEL OUT VOLUME [VOLUME ...]

Segments each volume through the command line, into a label volume and into a Slicer segmentation, reads image and
result back with SimpleITK and with nibabel, and compares in patient coordinates: the grids, the centroid of each
structure, and whether the LV cavity lies on brighter voxels than the myocardium around it. Pictures go to OUT.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from semicardiac.cli.main import main as semicardiac
from semicardiac.images.labels import get_label_set
from semicardiac.images.overlays import overlay_montage, write_png
from semicardiac.images.volumes import read_labels, read_volume, stem

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("volumes", type=Path, nargs="+")
    arguments = parser.parse_args()
    volumes, model = [str(path) for path in arguments.volumes], str(arguments.model)
    for suffix in ("nii.gz", "seg.nrrd"):
        status = semicardiac(["segment", model, *volumes, "--out", str(arguments.out / suffix), "--format", suffix])
        if status:
            return status
    failed = [path for path in arguments.volumes if not agree(path, arguments.out)]
    return 1 if failed else 0


def agree(path: Path, folder: Path) -> bool:
    """Compares the results of a volume, says how, and draws them."""
    labels = get_label_set("acdc")
    result = folder / "nii.gz" / f"{stem(path)}.nii.gz"
    values = [value for value in (1, 2, 3) if (np.asarray(nib.load(result).dataobj) == value).any()]
    if not {2, 3} <= set(values):
        print(f"FAIL {stem(path)}: the LV cavity or the myocardium was not found, so that there is nothing to compare")
        return False
    itk, nibabel = centroids_by_itk(result, values), centroids_by_nibabel(result, values)
    between = max(float(np.linalg.norm(itk[value] - nibabel[value])) for value in values)
    grid = float(np.abs(nib.load(result).affine - nib.load(path).affine).max())
    volume, found = read_volume(path), read_labels(result, labels)
    slicer = read_labels(folder / "seg.nrrd" / f"{stem(path)}.seg.nrrd", labels, grid=volume)
    same = bool((slicer.array == found.array).all())
    bright = [float(np.median(volume.array[found.array == value])) for value in (3, 2)]
    good = between < 1e-3 and grid < 1e-4 and same and bright[0] > bright[1]
    write_png(folder / f"{stem(path)}.png", overlay_montage(volume, found, labels))
    print(
        f"{'ok  ' if good else 'FAIL'} {stem(path)}: SimpleITK and nibabel {between:.1e} mm apart, "
        f"grids {grid:.1e}, seg.nrrd {'the same' if same else 'DIFFERS'}, "
        f"median LV cavity {bright[0]:.0f}, myocardium {bright[1]:.0f}"
    )
    return good


if __name__ == "__main__":
    sys.exit(main())
