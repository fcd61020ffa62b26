"""Triton kernels: the convolution of stacked clients and its gradients, each with what surrounds it in a network.

Every client has its own images and its own weights. Arrays are contiguous: x [K, B, H, W, CIN], w f32[K, SIZE, SIZE,
CIN, COUT], out and its gradient [K, B, HO, WO, COUT]. A program works on one client, for `LOOP` tiles of `BM` pixels,
whose weights it loads once. Sums over pixels leave a program as a partial sum, to be added in a fixed order afterwards:
a run repeats its bits.

`launches.covers` says which shapes are covered; nothing here checks them. The kernels also run in Triton's interpreter.
"""

from __future__ import annotations

from scarlet_jax.models.conv.triton.kernels.forward import forward, forward_few, forward_rows
from scarlet_jax.models.conv.triton.kernels.input_gradient import (
    input_gradient,
    input_gradient_halved,
    input_gradient_rows,
)
from scarlet_jax.models.conv.triton.kernels.weight_gradient import (
    weight_gradient,
    weight_gradient_few,
    weight_gradient_wide,
)

__all__ = [
    "forward",
    "forward_few",
    "forward_rows",
    "input_gradient",
    "input_gradient_halved",
    "input_gradient_rows",
    "weight_gradient",
    "weight_gradient_few",
    "weight_gradient_wide",
]
