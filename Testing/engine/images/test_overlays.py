"""Pictures of segmentations: what is drawn where, in which color and at which scale."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from semicardiac.images import overlays
from semicardiac.images.volumes import Volume

from Testing.engine.support import ACDC

COLORS = np.array([structure.color for structure in ACDC.structures])
GRAY = np.full((10, 10), 0.5)
SIZE = (100, 100)  # ten pixels a voxel


def _volume(array: np.ndarray, spacing=(1.0, 1.0, 8.0)) -> Volume:
    return Volume(array, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]))  # columns to the left, rows to the back


def _square(label: int, low: int = 3, high: int = 7) -> np.ndarray:
    labels = np.zeros((10, 10), np.uint8)
    labels[low:high, low:high] = label
    return labels


class TestPaintSlice:
    def test_nothing_but_gray_without_labels(self):
        picture = overlays.paint_slice(GRAY, np.zeros((10, 10), np.uint8), COLORS, size=SIZE)
        assert picture.shape == (100, 100, 3)
        assert picture.dtype == np.uint8
        assert set(np.unique(picture)) <= {127, 128}

    def test_fill_of_the_segmentation_and_line_of_the_reference(self):
        picture = overlays.paint_slice(GRAY, _square(3), COLORS, _square(3, 2, 8), size=SIZE).astype(int)
        blend = np.round(127.5 * (1 - overlays.FILL) + COLORS[2] * overlays.FILL)
        np.testing.assert_allclose(picture[50, 50], blend, atol=1)
        np.testing.assert_array_equal(picture[50, 20], COLORS[2])  # the edge of the reference
        np.testing.assert_array_equal(picture[50, 25], 128)  # between the two edges
        np.testing.assert_array_equal(picture[50, 10], 128)
        np.testing.assert_allclose(picture[50, 31], blend, atol=1)  # the edge of the segmentation has no line

    def test_line_around_the_segmentation_alone(self):
        picture = overlays.paint_slice(GRAY, _square(1), COLORS, size=SIZE)
        np.testing.assert_array_equal(picture[50, 30], COLORS[0])
        np.testing.assert_array_equal(picture[50, 29], 128)

    def test_each_structure_in_its_color(self):
        labels = _square(2, 1, 9)
        labels[4:6, 4:6] = 3
        picture = overlays.paint_slice(GRAY, labels, COLORS, size=SIZE)
        np.testing.assert_array_equal(picture[50, 10], COLORS[1])
        np.testing.assert_array_equal(picture[50, 40], COLORS[2])


class TestMontage:
    def test_slices_with_structures_one_more_at_each_end_and_a_margin(self):
        labels = np.zeros((9, 100, 100), np.uint8)
        labels[3:6, 40:60, 45:55] = 1
        picture = overlays.overlay_montage(_volume(np.zeros((9, 100, 100))), _volume(labels), ACDC)
        rows, cols = 20 + 2 * overlays.MARGIN_MM, 10 + 2 * overlays.MARGIN_MM
        width = round(overlays.TILE * cols / rows)
        assert picture.shape == (overlays.TILE, 5 * width + 4 * overlays.GAP, 3)

    def test_true_to_scale_whatever_the_spacing(self):
        labels = np.ones((1, 20, 60), np.uint8)
        picture = overlays.overlay_montage(_volume(labels * 7, (1.0, 2.0, 8.0)), _volume(labels, (1.0, 2.0, 8.0)), ACDC)
        assert picture.shape[:2] == (round(overlays.TILE * 40 / 60), overlays.TILE)

    def test_the_reference_counts_for_the_crop(self):
        image, prediction, reference = (np.zeros((1, 200, 200), np.uint8) for _ in range(3))
        prediction[0, 95:105, 95:105] = 1
        reference[0, 95:105, 20:30] = 1
        picture = overlays.overlay_montage(_volume(image), _volume(prediction), ACDC, _volume(reference))
        assert picture.shape[1] == overlays.TILE
        assert picture.shape[0] == round(overlays.TILE * 40 / 115)

    def test_whole_slices_where_nothing_was_found(self):
        empty = np.zeros((3, 40, 40), np.uint8)
        picture = overlays.overlay_montage(_volume(empty), _volume(empty), ACDC)
        assert picture.shape == (overlays.TILE, 3 * overlays.TILE + 2 * overlays.GAP, 3)

    def test_no_more_slices_than_can_be_seen(self):
        labels = np.ones((60, 30, 30), np.uint8)
        picture = overlays.overlay_montage(_volume(labels), _volume(labels), ACDC)
        rows = overlays.SLICES_MAX // 5
        assert picture.shape[0] == rows * overlays.TILE + (rows - 1) * overlays.GAP

    @pytest.mark.parametrize(("slices", "columns"), [(1, 1), (3, 3), (5, 5), (6, 6), (8, 4), (9, 5), (12, 6), (13, 5)])
    def test_few_places_stay_empty(self, slices, columns):
        labels = np.ones((slices, 30, 30), np.uint8)
        picture = overlays.overlay_montage(_volume(labels), _volume(labels), ACDC)
        assert picture.shape[1] == columns * overlays.TILE + (columns - 1) * overlays.GAP

    @pytest.mark.parametrize("signs", [(1, -1), (-1, 1), (1, 1)])
    def test_the_same_picture_whichever_way_the_file_runs(self, signs):
        rng = np.random.default_rng(0)
        image, labels = rng.normal(size=(2, 30, 40)), np.zeros((2, 30, 40), np.uint8)
        labels[:, 5:15, 20:33] = 2
        expected = overlays.overlay_montage(_volume(image), _volume(labels), ACDC)
        matrix = np.diag([-1.0, -1.0, 8.0, 1.0])
        turned = []
        for array in (image, labels):
            for axis, sign in ((2, signs[0]), (1, signs[1])):
                array = np.flip(array, axis) if sign > 0 else array
            matrix = np.diag([signs[0], signs[1], 8.0, 1.0])
            turned.append(Volume(array, matrix))
        np.testing.assert_array_equal(overlays.overlay_montage(*turned, ACDC), expected)

    @pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf])
    def test_an_image_without_contrast_does_no_harm(self, value):
        labels = np.ones((1, 20, 20), np.uint8)
        assert overlays.overlay_montage(_volume(np.full((1, 20, 20), value)), _volume(labels), ACDC).any()


def test_png_keeps_every_pixel(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    overlays.write_png(tmp_path / "folder" / "a.png", picture)
    with Image.open(tmp_path / "folder" / "a.png") as stored:
        np.testing.assert_array_equal(np.asarray(stored), picture)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a.png"]
