"""The convolution on CPU without C++: for each shape a form of matrix products, for one client after another."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.custom_batching import custom_vmap

from scarlet_jax.models.conv import forms, winograd
from scarlet_jax.models.conv.forms import Form, Geometry, Shape
from scarlet_jax.models.precision import products, within

# With fewer input channels than this, a vector register is not filled; a row of the window is gathered first.
_FEW_CHANNELS = 8
# From this many channels on, Winograd's 16 products save more time than its transforms take (16 loses, 32 wins).
_WINOGRAD_CHANNELS = 32


def conv(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The convolution in the form that `form_for` chooses."""
    return _one_by_one(form_for(x.shape, w.shape, geometry), geometry, products())(x, w)


def winograd_conv(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    """The convolution in Winograd's form, for shapes that it applies to."""
    return _one_by_one(winograd.FORM, geometry, products())(x, w)


def winograd_covers(x: Any, w: Any, geometry: Geometry) -> bool:
    """Whether Winograd's form computes this convolution."""
    return winograd.applies(x.shape, w.shape, geometry)


def form_for(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> Form:
    """The form for this shape.

    For the shapes of a CIFAR ResNet-20 it was the fastest when measured (batch 50, float32, clients in `lax.map`). For
    1x1, 5x5, 7x7 and odd sizes it is correct and composed of matrix products, but was not compared with others.
    """
    kernel_height, kernel_width, inputs, outputs = w_shape
    if kernel_height == kernel_width == 1:
        return forms.POINTWISE
    if inputs < _FEW_CHANNELS:
        return forms.WINDOWS
    if min(inputs, outputs) >= _WINOGRAD_CHANNELS and winograd.applies(x_shape, w_shape, geometry):
        return winograd.FORM
    return forms.SLICED


@functools.cache
def _one_by_one(form: Form, geometry: Geometry, precision: str | None) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Make a differentiable function of a form, which runs stacked clients one after another."""
    forward = _map_over_clients(within(precision, lambda x, w: form.forward(x, w, geometry)[0]))
    forward_saving = _map_over_clients(within(precision, lambda x, w: form.forward(x, w, geometry)))
    backward = _map_over_clients(within(precision, lambda saved, dy: form.backward(saved, dy, geometry)))
    function = jax.custom_vjp(forward)
    function.defvjp(forward_saving, backward)
    return function


def _map_over_clients(function: Callable) -> Callable:
    """Make `vmap` of `function` a loop over clients, whose working set is that of one client."""
    mapped = custom_vmap(function)

    @mapped.def_vmap
    def rule(size, batched, *args):  # type: ignore[no-untyped-def]
        leaves, structure = jax.tree.flatten(args)
        stacked = jax.tree.leaves(batched)

        def one(moving: list[jax.Array]) -> object:
            moving_leaves = iter(moving)
            one_client = [next(moving_leaves) if b else leaf for leaf, b in zip(leaves, stacked, strict=True)]
            # `mapped`, not `function`, so that an outer vmap finds this rule again.
            return mapped(*jax.tree.unflatten(structure, one_client))

        out = lax.map(one, [leaf for leaf, b in zip(leaves, stacked, strict=True) if b])
        return out, jax.tree.map(lambda _: True, out)

    return mapped
