"""Forms of the convolution, composed of matrix products and XLA's forward convolution. `cpu.py` chooses among them.

Each has a hand-written backward pass, because the weight gradient of autodiff is slow on CPU.
Shapes: x [B, H, W, in], w [kh, kw, in, out], y and dy [B, ho, wo, out].
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Shape = tuple[int, ...]


class Geometry(NamedTuple):
    """Stride and zero padding, the same in both directions and on all sides."""

    stride: int
    padding: int

    def output_size(self, x_shape: Shape, w_shape: Shape) -> tuple[int, int]:
        """Height and width of the result."""
        height, width = ((x_shape[1 + a] + 2 * self.padding - w_shape[a]) // self.stride + 1 for a in range(2))
        return height, width


class Form(NamedTuple):
    """One way to compute a convolution and its gradients."""

    forward: Callable[[jax.Array, jax.Array, Geometry], tuple[jax.Array, Any]]  # x, w -> y, saved
    backward: Callable[[Any, jax.Array, Geometry], tuple[jax.Array, jax.Array]]  # saved, dy -> dx, dw


def plain(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """XLA's convolution in the layout for which it has a fast path."""
    return lax.conv_general_dilated(
        x,
        w,
        (geometry.stride,) * 2,
        [(geometry.padding,) * 2] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def pad_image(x: jax.Array, padding: int) -> jax.Array:
    """Zeros around the image."""
    return jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0))) if padding else x


def flatten(x: jax.Array) -> jax.Array:
    """All pixels of all images as the rows of a matrix."""
    return x.reshape(-1, x.shape[-1])


def _tap(padded: jax.Array, row: int, column: int, size: tuple[int, int], stride: int) -> jax.Array:
    """The pixels that the weight at (row, column) of the kernel is multiplied by: [B, ho, wo, in]."""
    batch, _, _, channels = padded.shape
    end = (batch, row + (size[0] - 1) * stride + 1, column + (size[1] - 1) * stride + 1, channels)
    return lax.slice(padded, (0, row, column, 0), end, (1, stride, stride, 1))


# -------------------------------------------------------------------------------------------------------------- slices


def slices_forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """One matrix product for each weight position; its gradients and its `vmap` are matrix products, too."""
    size = geometry.output_size(x.shape, w.shape)
    padded = pad_image(x, geometry.padding)
    products = [
        _tap(padded, i, j, size, geometry.stride) @ w[i, j] for i in range(w.shape[0]) for j in range(w.shape[1])
    ]
    return functools.reduce(operator.add, products)


# -------------------------------------------------------------------------------------------------------------- sliced

# Images per block of the weight gradient, so that the slices stay in the CPU's cache; wider layers have small images.
_BLOCK_MAX = 10
_BLOCK_MAX_INPUTS = 16


def input_gradient(w: jax.Array, dy: jax.Array, x_shape: Shape, geometry: Geometry) -> jax.Array:
    """Gradient in x: a convolution of dy, dilated by the stride, with the weights rotated by 180 degrees."""
    stride, padding = geometry
    pads = []
    for axis in range(2):
        before = w.shape[axis] - 1 - padding
        spread = (dy.shape[1 + axis] - 1) * stride + 1
        pads.append((before, x_shape[1 + axis] + w.shape[axis] - 1 - spread - before))
    turned = w[::-1, ::-1].transpose(0, 1, 3, 2)  # explicit, because XLA's fast path needs the plain layout
    return lax.conv_general_dilated(
        dy, turned, (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _slice_products(x: jax.Array, dy: jax.Array, w_shape: Shape, geometry: Geometry) -> jax.Array:
    size = (dy.shape[1], dy.shape[2])
    padded, gradient = pad_image(x, geometry.padding), flatten(dy)
    products = [
        flatten(_tap(padded, i, j, size, geometry.stride)).T @ gradient
        for i in range(w_shape[0])
        for j in range(w_shape[1])
    ]
    return jnp.stack(products).reshape(w_shape)


def weight_gradient(x: jax.Array, dy: jax.Array, w_shape: Shape, geometry: Geometry) -> jax.Array:
    """Gradient in w: a matrix product for each weight position, summed over blocks of images."""
    batch = x.shape[0]
    block = max(size for size in range(1, _BLOCK_MAX + 1) if batch % size == 0)
    if w_shape[2] > _BLOCK_MAX_INPUTS or block == batch or block < _BLOCK_MAX // 2:  # small blocks would be slower
        return _slice_products(x, dy, w_shape, geometry)

    def products(images: tuple[jax.Array, jax.Array]) -> jax.Array:
        return _slice_products(*images, w_shape, geometry)

    split = (x.reshape(-1, block, *x.shape[1:]), dy.reshape(-1, block, *dy.shape[1:]))
    return jnp.sum(lax.map(products, split), axis=0)


def _sliced_forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> tuple[jax.Array, Any]:
    return plain(x, w, geometry), (x, w)


def _sliced_backward(saved: Any, dy: jax.Array, geometry: Geometry) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    return input_gradient(w, dy, x.shape, geometry), weight_gradient(x, dy, w.shape, geometry)


SLICED = Form(_sliced_forward, _sliced_backward)

# ------------------------------------------------------------------------------------------------------------- windows


def _row_windows(x: jax.Array, w_shape: Shape, geometry: Geometry) -> list[jax.Array]:
    """For each row of the kernel, the matrix [B ho wo, kw in] of its pixels: kw times as many channels as the image."""
    height, width = geometry.output_size(x.shape, w_shape)
    stride = geometry.stride
    padded = pad_image(x, geometry.padding)
    batch, rows, _, channels = padded.shape
    columns = [
        lax.slice(padded, (0, 0, j, 0), (batch, rows, j + (width - 1) * stride + 1, channels), (1, 1, stride, 1))
        for j in range(w_shape[1])
    ]
    wide = jnp.concatenate(columns, axis=-1)
    return [
        flatten(_tap(wide, i, 0, (height, width), 1)) if stride == 1 else flatten(wide[:, i::stride][:, :height])
        for i in range(w_shape[0])
    ]


def _windows_forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> tuple[jax.Array, Any]:
    rows = _row_windows(x, w.shape, geometry)
    y = functools.reduce(operator.add, [row @ w[i].reshape(-1, w.shape[3]) for i, row in enumerate(rows)])
    return y.reshape(x.shape[0], *geometry.output_size(x.shape, w.shape), w.shape[3]), (x, w)


def _windows_backward(saved: Any, dy: jax.Array, geometry: Geometry) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    gradient = flatten(dy)
    dw = jnp.stack([row.T @ gradient for row in _row_windows(x, w.shape, geometry)]).reshape(w.shape)
    # In a first layer the gradient of the images is not used, and XLA removes it.
    return input_gradient(w, dy, x.shape, geometry), dw


WINDOWS = Form(_windows_forward, _windows_backward)

# ----------------------------------------------------------------------------------------------------------- pointwise


def _pointwise_forward(x: jax.Array, w: jax.Array, geometry: Geometry) -> tuple[jax.Array, Any]:
    return x[:, :: geometry.stride, :: geometry.stride] @ w[0, 0], (x, w)


def _pointwise_backward(saved: Any, dy: jax.Array, geometry: Geometry) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    stride = geometry.stride
    dw = flatten(x[:, ::stride, ::stride]).T @ flatten(dy)
    dx = dy @ w[0, 0].T
    gap = [(0, x.shape[a] - (dy.shape[a] - 1) * stride - 1, stride - 1) for a in (1, 2)]
    return lax.pad(dx, jnp.zeros((), dx.dtype), [(0, 0, 0), *gap, (0, 0, 0)]), dw[None, None]


POINTWISE = Form(_pointwise_forward, _pointwise_backward)
