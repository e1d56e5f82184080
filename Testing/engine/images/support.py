"""What the tests of volumes share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation
from semicardiac.images.volumes import Volume

FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")


def make_matrix(seed: int, *, left_handed: bool = False) -> np.ndarray:
    """A random oblique, anisotropic IJK-to-RAS matrix."""
    rng = np.random.default_rng(seed)
    axes = Rotation.random(random_state=seed).as_matrix()
    if left_handed:
        axes[:, rng.integers(3)] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = axes * rng.uniform(0.3, 12, 3)
    matrix[:3, 3] = rng.uniform(-300, 300, 3)
    return matrix


def make_volume(seed: int = 0, shape: tuple[int, int, int] = (3, 5, 4), dtype: type = np.int16, **options) -> Volume:
    rng = np.random.default_rng(seed)
    return Volume(rng.integers(0, 200, shape).astype(dtype), make_matrix(seed, **options))


def matrix_by_simpleitk(path: Path) -> np.ndarray:
    """The matrix as SimpleITK sees it, in RAS; computed voxel by voxel, not by our own formula."""
    image = sitk.ReadImage(str(path))
    points = [
        image.TransformContinuousIndexToPhysicalPoint(index) for index in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    origin, *steps = (np.array([-x, -y, z]) for x, y, z in points)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([*(step - origin for step in steps), origin])
    return matrix
