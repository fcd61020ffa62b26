"""XLA's convolution, whose gradient under `vmap` is the gradient of the vmapped forward pass.

The `vmap` of the gradient would turn each weight gradient into a convolution with a window as large as the image.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from jax.custom_batching import custom_vmap

from scarlet_jax.models.conv import forms
from scarlet_jax.models.conv.forms import Geometry
from scarlet_jax.models.precision import products, within


def conv(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The convolution of one client; under `vmap` a grouped one."""
    return _made(geometry, products())(x, w)


@functools.cache
def _made(geometry: Geometry, precision: str | None) -> Callable[[jax.Array, jax.Array], jax.Array]:
    plain = within(precision, lambda x, w: forms.plain(x, w, geometry))

    def backward(x: jax.Array, w: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(plain, x, w)[1](dy)

    backward_rule = custom_vmap(backward)

    @backward_rule.def_vmap
    def rule(size, batched, x, w, dy):  # type: ignore[no-untyped-def]
        x, w, dy = (
            a if b else jax.numpy.broadcast_to(a, (size, *a.shape)) for a, b in zip((x, w, dy), batched, strict=True)
        )
        return jax.vjp(jax.vmap(plain), x, w)[1](dy), (True, True)

    function = jax.custom_vjp(plain)
    function.defvjp(lambda x, w: (plain(x, w), (x, w)), lambda saved, dy: backward_rule(*saved, dy))
    return function
