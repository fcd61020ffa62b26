"""The maximum of windows and its gradient, against plain loops."""

import jax
import numpy as np
import pytest

from scarlet_jax.models.layers import max_pool

# (height, width, size, stride, padding): blocks, blocks that leave something out, overlapping windows, padded ones
CASES = [(4, 6, 2, 2, 0), (7, 5, 2, 2, 0), (9, 8, 3, 3, 0), (7, 6, 3, 2, 0), (8, 8, 3, 2, 1)]


def plain(x, dy, size, stride, padding):
    """Largest values, and the gradient that goes to where they came from. No two values are equal."""
    batch, height, width, channels = x.shape
    y, dx = np.zeros_like(dy), np.zeros_like(x)
    for n, i, j, c in np.ndindex(dy.shape):
        top, left = i * stride - padding, j * stride - padding
        places = [
            (n, a, b, c)
            for a in range(max(0, top), min(height, top + size))
            for b in range(max(0, left), min(width, left + size))
        ]
        y[n, i, j, c] = max(x[place] for place in places)
        dx[max(places, key=lambda place: x[place])] += dy[n, i, j, c]
    return y, dx


@pytest.mark.parametrize("case", CASES, ids=str)
def test_maximum_and_gradient_are_those_of_plain_loops(case):
    height, width, *how = case
    rng = np.random.default_rng(0)
    x = rng.permutation(2 * height * width * 3).reshape(2, height, width, 3).astype(np.float32)  # no two are equal
    y, pull_back = jax.vjp(lambda x: max_pool(x, *how), x)
    dy = rng.integers(-8, 9, y.shape).astype(np.float32)  # sums of these are exact
    expected_y, expected_dx = plain(x, dy, *how)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(pull_back(dy)[0], expected_dx)
