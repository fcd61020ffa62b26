"""Augmentation against a plain loop over images, and the independence of its random numbers."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.data.augment import augment, normalize, offsets, padding

jitted = jax.jit(augment, static_argnums=(2, 3))


def images_of(count: int, height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, height, width, channels), dtype=np.uint8)


PADDING = {1: 1, 5: 1, 8: 1, 10: 1, 16: 2, 28: 4, 32: 4, 48: 6, 64: 8, 224: 8}  # smaller side -> pixels of black


def by_hand(key, images: np.ndarray, flip: bool, crop: bool) -> np.ndarray:
    """The same, image by image and pixel by pixel, from the same offsets."""
    count, height, width, _ = images.shape
    pad = PADDING[min(height, width)]
    top, left, mirrored = map(np.asarray, offsets(key, count, pad))
    result = np.zeros_like(images)
    for i in range(count):
        source = images[i][:, ::-1] if flip and mirrored[i] else images[i]
        for y in range(height):
            for x in range(width):
                row, column = (y + top[i] - pad, x + left[i] - pad) if crop else (y, x)
                if 0 <= row < height and 0 <= column < width:
                    result[i, y, x] = source[row, column]
    return result


@pytest.mark.parametrize("flip,crop", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", [(12, 8, 8, 1), (9, 32, 32, 3), (5, 64, 64, 3), (6, 10, 14, 2), (4, 96, 5, 1)])
def test_equals_a_plain_loop(shape, flip, crop):
    key, images = jax.random.key(3), images_of(*shape)
    result = jitted(key, images, flip, crop)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, by_hand(key, images, flip, crop))


def test_the_draw_of_an_image_does_not_depend_on_the_batch():
    key, images = jax.random.key(1), images_of(20, 8, 8, 3)
    whole = jitted(key, images, True, True)
    np.testing.assert_array_equal(jitted(key, images[:7], True, True), whole[:7])


def test_offsets_reach_every_place_about_equally():
    top, left, mirrored = map(np.asarray, offsets(jax.random.key(0), 20_000, 4))
    for values, places in ((top, 9), (left, 9), (mirrored.astype(int), 2)):
        share = np.bincount(values, minlength=places) / len(values)
        assert len(share) == places
        np.testing.assert_allclose(share, 1 / places, rtol=0.12)
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.03 and abs(np.corrcoef(top, mirrored)[0, 1]) < 0.03


def test_works_the_same_under_vmap_and_scan():
    keys, images = jax.random.split(jax.random.key(5), 3), np.stack([images_of(6, 32, 32, 3)] * 3)
    one_by_one = np.stack([jitted(key, batch, True, True) for key, batch in zip(keys, images, strict=True)])
    np.testing.assert_array_equal(jax.jit(jax.vmap(lambda k, x: augment(k, x, True, True)))(keys, images), one_by_one)
    _, scanned = jax.lax.scan(lambda c, kx: (c, augment(*kx, True, True)), 0, (keys, jnp.asarray(images)))
    np.testing.assert_array_equal(scanned, one_by_one)


def test_normalize_maps_bytes_to_minus_one_to_one():
    values = normalize(jnp.array([0, 51, 255], jnp.uint8))
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, [-1.0, -0.6, 1.0], atol=1e-6)


def test_padding_is_an_eighth_of_the_smaller_side():
    assert {side: padding(side, side) for side in PADDING} == PADDING
    assert padding(8, 64) == padding(64, 8) == 1


def test_a_crop_keeps_most_of_a_small_image():
    """At least 7/8 of each side of the image stays in view, whatever is drawn."""
    image = np.full((200, 8, 8, 1), 255, np.uint8)
    cut = np.asarray(jitted(jax.random.key(2), image, False, True))
    assert (cut > 0).mean(axis=(1, 2, 3)).min() == (7 / 8) ** 2


def test_costs_little_inside_a_loop():
    """Measured 0.2 ms for a batch of 50, far below a training step; the bound leaves room for a busy machine."""
    steps, images = 50, jnp.asarray(images_of(50, 32, 32, 3))

    @jax.jit
    def loop(key):
        def body(total, key):
            return total + augment(key, images, True, True).astype(jnp.uint32).sum(), None

        return jax.lax.scan(body, jnp.uint32(0), jax.random.split(key, steps))[0]

    loop(jax.random.key(0)).block_until_ready()
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        loop(jax.random.key(1)).block_until_ready()
        best = min(best, time.perf_counter() - start)
    assert best / steps < 5e-3
