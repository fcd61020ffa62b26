"""The native kernels as a differentiable function, which computes all stacked clients in one call.

Shapes: x [B, H, W, in], w [kh, kw, in, out], y and dy [B, ho, wo, out], float32. The kernels take these arrays with a
leading axis of clients.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from scarlet_jax.models.conv import forms
from scarlet_jax.models.conv.forms import Geometry, Shape

CHANNELS = 16  # output channels (for the input gradient: input channels) must be a multiple of this


def covers(x: Any, w: Any, geometry: Geometry) -> bool:
    """Whether the forward pass and the weight gradient are native for these weights; otherwise pure JAX is used."""
    return x.dtype == jnp.float32 and w.shape[3] % CHANNELS == 0


def conv(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The convolution, for weights that `covers` accepts."""
    return _made(geometry)(x, w)


@functools.cache
def _made(geometry: Geometry) -> Callable[[jax.Array, jax.Array], jax.Array]:
    forward = _stacked(lambda x, w: _call("forward", _output_shape(x.shape, w.shape, geometry), (x, w), geometry))

    def backward(saved, dy):
        x, w = saved
        into_weights = _stacked(lambda x, dy: _call("weight_gradient", (x.shape[0], *w.shape), (x, dy), geometry))
        if x.shape[3] % CHANNELS:  # a first layer, whose gradient in x is not used and removed by XLA
            return forms.input_gradient(w, dy, x.shape, geometry), into_weights(x, dy)
        into_images = _stacked(lambda w, dy: _call("input_gradient", (w.shape[0], *x.shape), (w, dy), geometry))
        return into_images(w, dy), into_weights(x, dy)

    function = jax.custom_vjp(forward)
    function.defvjp(lambda x, w: (forward(x, w), (x, w)), backward)
    return function


def _output_shape(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> Shape:
    """The shape of the result for stacked images and weights."""
    return (*x_shape[:2], *geometry.output_size(x_shape[1:], w_shape[1:]), w_shape[4])


def _call(name: str, shape: Shape, arrays: tuple[jax.Array, jax.Array], geometry: Geometry) -> jax.Array:
    """One call of a kernel on arrays [K, ...]."""
    call = jax.ffi.ffi_call(f"scarlet_conv_{name}", jax.ShapeDtypeStruct(shape, jnp.float32))
    return call(*arrays, stride=np.int64(geometry.stride), padding=np.int64(geometry.padding))


def _stacked(kernel: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Make a function of one client's arrays from `kernel`, which takes arrays [K, ...]; `vmap` increases K."""
    mapped = custom_vmap(kernel)

    @mapped.def_vmap
    def rule(size, batched, *arrays):  # type: ignore[no-untyped-def]
        stacked = [a if b else jnp.broadcast_to(a, (size, *a.shape)) for a, b in zip(arrays, batched, strict=True)]
        merged = [a.reshape(-1, *a.shape[2:]) for a in stacked]
        out = mapped(*merged)  # `mapped`, not `kernel`, so that an outer vmap finds this rule again
        return out.reshape(size, -1, *out.shape[1:]), True

    return lambda *arrays: mapped(*(a[None] for a in arrays))[0]
