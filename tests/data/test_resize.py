"""Images in another size, against means of their pixels in NumPy."""

import numpy as np
import pytest

from scarlet_jax.data import resize
from scarlet_jax.errors import UserError


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 12, 3), (12, 8, 1), (24, 4, 3), (4, 24, 1), (24, 24, 3)])
def test_a_smaller_side_is_the_mean_of_areas(height, width, channels):
    image = noise(24, 24, channels)
    small = resize.in_size(image, height, width)
    areas = image.reshape(height, 24 // height, width, 24 // width, channels).astype(float).mean((1, 3))
    assert small.shape == (height, width, channels)
    np.testing.assert_allclose(small, areas, atol=0.51)  # rounded to whole values


def test_a_larger_side_repeats_pixels_and_each_side_scales_by_itself():
    image = noise(4, 8, 3)
    np.testing.assert_array_equal(resize.in_size(image, 8, 16), image.repeat(2, 0).repeat(2, 1))
    mixed = resize.in_size(image, 8, 4)
    areas = image.reshape(4, 4, 2, 3).astype(float).mean(2).repeat(2, 0)
    np.testing.assert_allclose(mixed, areas, atol=0.51)


def test_gray_is_repeated_and_colour_is_its_luminance():
    gray, colour = noise(2, 4, 4, 1), noise(2, 4, 4, 3)
    np.testing.assert_array_equal(resize.convert(gray, (4, 4, 3), "x"), np.repeat(gray, 3, axis=3))
    luminance = colour.astype(float) @ [0.299, 0.587, 0.114]  # ITU-R BT.601
    np.testing.assert_allclose(resize.convert(colour, (4, 4, 1), "x")[..., 0], luminance, atol=0.51)


def test_the_same_shape_is_the_same_array():
    images = noise(2, 4, 4, 1)
    assert resize.convert(images, (4, 4, 1), "x") is images


@pytest.mark.parametrize(("channels", "wanted"), [(4, 3), (3, 4), (2, 1)])
def test_other_numbers_of_channels_are_refused(channels, wanted):
    with pytest.raises(UserError, match=rf"have {channels} channels while the private ones have {wanted}; allowed is"):
        resize.convert(noise(1, 4, 4, channels), (4, 4, wanted), "x")
