"""3x3 convolution by Winograd's F(2x2, 3x3): 16 products for every 2x2 block of outputs instead of 36.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, arXiv:1509.09308. The image is cut into
4x4 tiles d, which overlap because their step is 2. For each tile and each 3x3 kernel g:

    y = A' [ (G g G') * (B' d B) ] A        (* elementwise over the 16 positions, a matrix product over the channels)

This is linear in d and in g. The gradients are therefore the transposed transforms around the same 16 products. The
transformed tiles are computed once, in the forward pass, and kept for the backward pass.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from scarlet_jax.models.conv.forms import Form, Geometry, Shape, pad_image

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])  # 4 x 3, of the kernel


def applies(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> bool:
    """Whether this form computes the convolution: 3x3, stride 1, padding 1, even height and width."""
    even = x_shape[1] % 2 == 0 and x_shape[2] % 2 == 0
    return w_shape[:2] == (3, 3) and geometry == Geometry(1, 1) and even


# The transforms act on lists of the four (or two) arrays along one direction of a tile. Their sums are written out,
# which is much cheaper than products with the matrices B and A.


def _tile(d: list[jax.Array]) -> list[jax.Array]:
    """B' d: 4 pixels -> 4."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _tile_transposed(v: list[jax.Array]) -> list[jax.Array]:
    """B v: 4 -> gradient of 4 pixels."""
    return [v[0], v[1] - v[2] + v[3], v[1] + v[2] - v[0], -v[3]]


def _output(m: list[jax.Array]) -> list[jax.Array]:
    """A' m: 4 -> 2 outputs."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _output_transposed(y: list[jax.Array]) -> list[jax.Array]:
    """A y: gradient of 2 outputs -> 4."""
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _kernels(w: jax.Array) -> jax.Array:
    """G g G' for every pair of channels: [16, in, out]."""
    g = jnp.asarray(_G, w.dtype)
    return jnp.einsum("ai,bj,ijco->abco", g, g, w).reshape(16, *w.shape[2:])


def _kernels_transposed(gradient: jax.Array) -> jax.Array:
    """Gradient of the kernels [3, 3, in, out] from that of their transforms [16, in, out]."""
    g = jnp.asarray(_G, gradient.dtype)
    return jnp.einsum("ai,bj,abco->ijco", g, g, gradient.reshape(4, 4, *gradient.shape[1:]))


def _products(a: jax.Array, b: jax.Array, contract: tuple[int, int]) -> jax.Array:
    """16 matrix products that contract the given axes of a and b."""
    return lax.dot_general(a, b, (((contract[0],), (contract[1],)), ((0,), (0,))))


def _to_tiles(x: jax.Array) -> jax.Array:
    """B' d B of every 4x4 tile: [16, B H/2 W/2, in]."""
    batch, height, width, channels = x.shape
    padded = pad_image(x, 1)
    rows = _tile([padded[:, i : i + height - 1 : 2] for i in range(4)])
    tiles = [v for row in rows for v in _tile([row[:, :, j : j + width - 1 : 2] for j in range(4)])]
    return jnp.stack(tiles).reshape(16, batch * (height // 2) * (width // 2), channels)


def _grid(values: jax.Array, shape: Shape) -> jax.Array:
    """[16, tiles, channels] -> [4, 4, B, H/2, W/2, channels] for images of `shape`."""
    return values.reshape(4, 4, shape[0], shape[1] // 2, shape[2] // 2, values.shape[-1])


def _interleave(quarters: list[list[jax.Array]]) -> jax.Array:
    """The image [B, H, W, channels] whose pixel (2i + p, 2j + q) is quarters[p][q][i, j]."""
    batch, height, width, channels = quarters[0][0].shape
    rows = [jnp.stack(row, axis=3) for row in quarters]
    return jnp.stack(rows, axis=2).reshape(batch, 2 * height, 2 * width, channels)


def _from_products(m: jax.Array, shape: Shape) -> jax.Array:
    """A' m A: the output images from the 16 products."""
    grid = _grid(m, shape)
    columns = [_output([grid[a, b] for a in range(4)]) for b in range(4)]
    return _interleave([_output([column[p] for column in columns]) for p in range(2)])


def _from_outputs(dy: jax.Array) -> jax.Array:
    """A dy A': gradient of the products [16, B H/2 W/2, out] from that of the outputs."""
    batch, height, width, channels = dy.shape
    rows = _output_transposed([dy[:, p::2] for p in range(2)])
    tiles = [v for row in rows for v in _output_transposed([row[:, :, q::2] for q in range(2)])]
    return jnp.stack(tiles).reshape(16, batch * (height // 2) * (width // 2), channels)


def _shift(x: jax.Array, axis: int, step: int) -> jax.Array:
    """Move the tiles by one along an axis, and fill with zeros."""
    config = [(step, -step, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _overlap(d: list[jax.Array], axis: int) -> list[jax.Array]:
    """Sum the gradients of each pixel over the two tiles that contain it.

    Pixels 1 and 2 of a tile are the two of its own block. Pixel 0 is the second one of the block before, and pixel 3 is
    the first one of the block after.
    """
    return [d[1] + _shift(d[3], axis, 1), d[2] + _shift(d[0], axis, -1)]


def _tiles_to_image(dv: jax.Array, shape: Shape) -> jax.Array:
    """Gradient of the images from that of the transformed tiles."""
    grid = _grid(dv, shape)
    columns = [_tile_transposed([grid[a, b] for a in range(4)]) for b in range(4)]
    pixels = [_tile_transposed([column[p] for column in columns]) for p in range(4)]  # [row][column] within a tile
    by_column = [_overlap([pixels[p][q] for p in range(4)], axis=1) for q in range(4)]
    return _interleave([_overlap([by_column[q][p] for q in range(4)], axis=2) for p in range(2)])


def _forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> tuple[jax.Array, Any]:
    tiles = _to_tiles(x)
    return _from_products(_products(tiles, _kernels(w), (2, 1)), x.shape), (tiles, w)


def _backward(saved: Any, dy: jax.Array, geometry: Geometry) -> tuple[jax.Array, jax.Array]:
    tiles, w = saved
    gradient = _from_outputs(dy)
    dx = _tiles_to_image(_products(gradient, _kernels(w), (2, 2)), dy.shape)
    return dx, _kernels_transposed(_products(tiles, gradient, (1, 1)))


FORM = Form(_forward, _backward)
