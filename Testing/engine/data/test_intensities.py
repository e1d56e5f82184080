"""Intensities: the same z-scores whatever the scale, the type, the padding and the stray voxels of a file."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semicardiac.data.intensities import contrast_fault, normalize
from semicardiac.data.slices import as_stack, sample_images
from semicardiac.images.volumes import Volume

from Testing.engine.support import draw_heart

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)
SHAPE = (8, 64, 60)
IMAGE = draw_heart(1, shape=SHAPE)[0].astype(np.float64)
PLAIN = ((IMAGE - IMAGE.mean()) / IMAGE.std()).astype(np.float32)
SIGNS = st.sampled_from([-1.0, 1.0])


def volume(array: np.ndarray) -> Volume:
    return Volume(array, np.diag([2.0, 2.0, 8.0, 1.0]))


def scattered(seed: int, values: np.ndarray, image: np.ndarray = IMAGE) -> tuple[np.ndarray, np.ndarray]:
    """The image with these values somewhere; and where it is as it was."""
    places = np.random.default_rng(seed).choice(image.size, len(values), replace=False)
    array = image.copy()
    array.flat[places] = values
    kept = np.ones(image.shape, bool)
    kept.flat[places] = False
    return array, kept


class TestWithoutAnythingOdd:
    def test_it_is_the_z_score_of_all_voxels(self):
        normal = normalize(IMAGE)
        assert normal.array.dtype == np.float32
        np.testing.assert_allclose(normal.array, PLAIN, atol=1e-5)
        assert normal.first == (0, 0)
        assert normal.lowest == pytest.approx(float(PLAIN.min()), abs=1e-5)

    @pytest.mark.parametrize("width", [0, 9])
    def test_a_dark_background_counts(self, width: int):
        rows, cols = np.mgrid[: SHAPE[1], : SHAPE[2]]
        array = np.where(np.hypot(rows - 31.5, cols - 29.5) < 20, IMAGE.clip(1), 0)
        array[(np.random.default_rng(0).uniform(size=SHAPE) < 0.3) & (array == 0)] = 2
        array = np.pad(array, ((0, 0), (width, width), (width, width)))
        np.testing.assert_allclose(normalize(array).array, (array - array.mean()) / array.std(), atol=1e-5)

    def test_a_row_of_zeros_beside_dark_air_counts(self):
        array = IMAGE.clip(40) - 40
        array[:, 0] = 0
        np.testing.assert_allclose(normalize(array).array, (array - array.mean()) / array.std(), atol=1e-5)

    @pytest.mark.parametrize("shares", [[1.0, 0.0], [0.9, 0.1], [0.9999, 0.0001]])
    def test_two_values_count_as_they_are(self, shares: list[float]):
        array = np.random.default_rng(0).choice([7, 4000], SHAPE, p=shares)
        expected = (array - array.mean()) / (array.std() or 1.0)
        np.testing.assert_allclose(normalize(array).array, expected, atol=1e-4)

    def test_an_even_thing_on_an_even_background_counts_with_it(self):
        array = np.full(SHAPE, 20.0)
        array[:, 10:50, 12:40] = 200
        np.testing.assert_allclose(normalize(array).array, (array - array.mean()) / array.std(), atol=1e-4)

    def test_a_small_bright_thing_counts(self):
        array = 50 + np.random.default_rng(0).normal(0, 5, SHAPE)
        array[3:5, 30:36, 30:36] = 300  # a quarter of a percent
        np.testing.assert_allclose(normalize(array).array, (array - array.mean()) / array.std(), atol=1e-4)


class TestScale:
    @given(power=st.floats(-20, 20), sign=SIGNS, offset=st.floats(-1e3, 1e3))
    @PROPERTY
    def test_neither_scale_nor_offset_matters(self, power: float, sign: float, offset: float):
        scaled = IMAGE * sign * 10**power + offset * 10**power
        np.testing.assert_allclose(normalize(scaled).array, sign * PLAIN, atol=1e-4)
        assert contrast_fault(volume(scaled)) is None

    @pytest.mark.parametrize("power", [-300, -200, 200, 300])
    def test_what_cannot_be_squared_can_be_scaled(self, power: int):
        np.testing.assert_allclose(normalize(IMAGE * 10.0**power).array, PLAIN, atol=1e-4)

    @pytest.mark.parametrize("power", [-41, -30, 30, 36])
    def test_as_far_as_single_precision_goes(self, power: int):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = normalize((IMAGE * 10.0**power).astype(np.float32))
        np.testing.assert_allclose(found.array, PLAIN, atol=1e-3)

    @pytest.mark.parametrize(
        "dtype", ["u1", "i1", "<u2", ">u2", "<i2", ">i2", "i4", ">u4", "i8", "u8", "<f2", ">f2", ">f4", ">f8"]
    )
    def test_the_type_in_the_file_does_not_matter(self, dtype: str):
        whole = (IMAGE / 2).round().clip(0)
        expected = (whole - whole.mean()) / whole.std()
        np.testing.assert_allclose(normalize(whole.astype(dtype)).array, expected, atol=1e-5)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint64, np.int64, np.float16])
    def test_the_whole_range_of_a_type_can_be_used(self, dtype: type):
        bounds = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
        spread = np.random.default_rng(0).uniform(size=SHAPE)
        array = (spread * 0.999 * float(bounds.max) + (1 - spread) * 0.999 * float(bounds.min)).astype(dtype)
        expected = (spread - spread.mean()) / spread.std()
        np.testing.assert_allclose(normalize(array).array, expected, atol=0.02)


class TestStrayVoxels:
    @given(values=st.lists(st.tuples(SIGNS, st.floats(0, 38.4)), min_size=1, max_size=6), seed=st.integers(0, 99))
    @PROPERTY
    def test_a_handful_of_any_size_moves_nothing_else(self, values: list[tuple[float, float]], seed: int):
        array, kept = scattered(seed, np.array([sign * 10**power for sign, power in values]))
        found = normalize(array.astype(np.float32)).array
        assert np.isfinite(found).all()
        assert np.abs(found - PLAIN)[kept].max() < 0.1
        assert contrast_fault(volume(array)) is None

    @pytest.mark.parametrize(
        ("dtype", "value"), [("i2", -32768), ("i2", 32767), ("u2", 65535), ("f8", 1e300), ("f8", -1e308)]
    )
    def test_the_ends_of_a_type(self, dtype: str, value: float):
        array, kept = scattered(0, np.array([value]), IMAGE.clip(0).astype(dtype))
        expected = normalize(IMAGE.clip(0).astype(dtype)).array
        assert np.abs(normalize(array).array - expected)[kept].max() < 0.01

    def test_a_stray_voxel_stays_on_its_side_and_does_not_outshine_its_neighbors(self):
        array = IMAGE.copy()
        array[4, 30, 30], array[4, 10, 10] = 3.4e38, -3.4e38
        seen = sample_images(as_stack(volume(array), "acquired"), (60.0, 60.0), 1.7, 64, (-99, 99))
        assert 3 < seen.max() < 30
        assert -30 < seen.min() < -3


class TestPadding:
    @given(
        widths=st.tuples(
            *[st.tuples(st.integers(0, 3), st.integers(0, 3))] + 2 * [st.tuples(*[st.integers(0, 70)] * 2)]
        ),
        value=st.one_of(
            st.sampled_from([-32768.0, -1.0, 0.0, 100.0, 32767.0, 3.4e38]),
            st.floats(-1000, 1000),
            st.floats(-1e30, 1e30),
        ),
    )
    @PROPERTY
    def test_a_frame_of_any_value_on_any_side_changes_nothing(self, widths, value: float):
        padded = np.pad(IMAGE, widths, constant_values=value)
        center, first = (63.0, 59.0), widths[0][0]
        expected = sample_images(as_stack(volume(IMAGE), "acquired"), center, 1.5, 96, (-3, 4))
        shifted = (center[0] + 2 * widths[1][0], center[1] + 2 * widths[2][0])
        found = sample_images(as_stack(volume(padded), "acquired"), shifted, 1.5, 96, (-3, 4))
        assert len(found) == len(padded)
        thin = IMAGE.size > 0.98 * padded.size
        np.testing.assert_allclose(found[first : first + len(IMAGE)], expected, atol=0.2 if thin else 1e-4)

    def test_a_frame_may_have_the_value_of_an_intensity(self):
        padded = np.pad(IMAGE, ((0, 0), (20, 20), (0, 30)), constant_values=200)
        found = normalize(padded)
        assert found.first == (20, 0)
        np.testing.assert_allclose(found.array, PLAIN, atol=1e-5)

    def test_every_side_may_have_a_value_of_its_own(self):
        padded = np.pad(
            np.pad(IMAGE, ((0, 0), (9, 0), (12, 0)), constant_values=-5), ((0, 0), (0, 8), (0, 7)), constant_values=900
        )
        found = normalize(padded)
        assert found.first == (9, 12)
        np.testing.assert_allclose(found.array, PLAIN, atol=1e-5)

    @pytest.mark.parametrize("value", [-32768, 32767])
    def test_corners_and_holes_that_hold_no_intensity_do_not_count(self, value: int):
        rows, cols = np.mgrid[: SHAPE[1], : SHAPE[2]]
        padded = np.hypot(rows - 31.5, cols - 29.5) > 31
        padded[30:34, 30:34] = True
        image = IMAGE.astype(np.int16)
        array = np.where(padded, np.int16(value), image)
        inside = image[:, ~padded]
        expected = (image - inside.mean()) / inside.std()
        np.testing.assert_allclose(normalize(array).array[:, ~padded], expected[:, ~padded], atol=1e-4)

    @given(power=st.floats(-20, 20), seed=st.integers(0, 99), width=st.integers(3, 40), high=st.booleans())
    @PROPERTY
    def test_all_of_it_at_once(self, power: float, seed: int, width: int, high: bool):
        array, kept = scattered(seed, np.array([3e4, -7e9]))
        array = np.pad(array, ((0, 0), (width, 0), (0, width)), constant_values=32767 if high else -32768)
        found = normalize((array * 10**power).astype(np.float32)).array
        assert np.abs(found - PLAIN)[kept].max() < 0.1

    def test_a_volume_of_padding_alone_gives_zeros(self):
        assert not normalize(np.full(SHAPE, -32768, np.int16)).array.any()


class TestContrastFault:
    def test_a_sound_image_has_none(self):
        assert contrast_fault(volume(IMAGE)) is None
        assert contrast_fault(volume(IMAGE.astype(np.uint8))) is None

    def test_few_values(self):
        what, hint = contrast_fault(volume((IMAGE > 100) * np.int16(7)))
        assert "2 different values" in what
        assert hint

    def test_values_of_another_kind_in_more_voxels_than_strays_may_be(self):
        rng = np.random.default_rng(0)
        array, _ = scattered(0, rng.uniform(1e8, 3e8, IMAGE.size // 50))
        what, _ = contrast_fault(volume(array))
        assert "little contrast" in what
        assert "e+08" in what

    def test_padding_smeared_by_an_interpolation(self):
        array = np.pad(IMAGE, ((0, 0), (9, 9), (9, 9)), constant_values=-32768)
        array[:, 8], array[:, :, 8] = array[:, 9] / 2 - 16384, array[:, :, 9] / 2 - 16384
        assert contrast_fault(volume(array)) is not None

    def test_one_voxel_in_a_constant_image(self):
        array = np.random.default_rng(0).choice(np.arange(20.0), SHAPE, p=[0.981, *[0.001] * 19])
        assert contrast_fault(volume(array)) is not None
