"""A convolution together with the normalisation before it and the statistics after it; layers hand on records of these.

    z = relu(y * factor + offset + shortcut), zeros in padding rows
    out = conv(z, w);  sums = sum of out, sum of its square, per channel

BatchNorm is then arithmetic on vectors of channels between two such calls. Autodiff differentiates it, and the
gradients of both sums flow back into out. `benchmarks/gpu_aot.py` counts what a training step reads and writes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from scarlet_jax.models.conv.triton import launches, primitive
from scarlet_jax.models.conv.triton.launches import Problem
from scarlet_jax.models.precision import products, within


class Convolved(NamedTuple):
    """What a convolution made, and what a BatchNorm needs to know of it."""

    y: jax.Array  # [B, H, W, channels]
    sums: jax.Array  # f32[2, channels]: of y, and of its square


class Pending(NamedTuple):
    """relu(y * factor + offset + shortcut), to be computed by the convolution that reads it, or by `activated`."""

    y: jax.Array  # [B, H, W, channels]
    factor: jax.Array  # f32[channels]
    offset: jax.Array  # f32[channels]
    shortcut: jax.Array | None = None  # of y's shape and dtype
    mask: jax.Array | None = None  # bool[B]; False: padding, zeros after the ReLU

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array that this stands for."""
        return self.y.shape


def activated(x: jax.Array | Pending) -> jax.Array:
    """The array that a record stands for; an array itself."""
    return _activation(*x) if isinstance(x, Pending) else x


def scaled(pending: Pending) -> jax.Array:
    """`activated` without the ReLU."""
    return _before(*pending).astype(pending.y.dtype)


def covers(x: jax.Array | Pending, w: jax.Array, stride: int) -> bool:
    """Whether `fused_conv` computes this convolution; XLA computes any other."""
    y = x.y if isinstance(x, Pending) else x
    return w.shape[0] == w.shape[1] and launches.covers(_problem(y[None], w[None], stride), str(y.dtype))


def fused_conv(x: jax.Array | Pending, w: jax.Array, stride: int, keep: bool) -> tuple[Convolved, jax.Array | None]:
    """Convolve; padding is half the size of the kernel.

    Args:
        x: images [B, H, W, in]; where the batch is padded, its record or its rows of zeros say so.
        w: f32[size, size, in, out].
        stride: 1 or 2.
        keep: whether the caller reads z, too.

    Returns:
        The result, and z (`activated(x)`) or None.
    """
    record = x if isinstance(x, Pending) else (x, None, None, None, None)
    out, sums, z = _fused(stride, keep, products())(*record, w)
    return Convolved(out, sums), z


def convolved(y: jax.Array) -> Convolved:
    """The record of what another convolution made."""
    wide = y.astype(jnp.float32)
    return Convolved(y, jnp.stack([jnp.sum(wide, (0, 1, 2)), jnp.sum(jnp.square(wide), (0, 1, 2))]))


def _rows(mask: jax.Array | None, a: jax.Array) -> jax.Array:
    return a if mask is None else jnp.where(mask[:, None, None, None], a, 0)


def _before(y: jax.Array, factor: Any, offset: Any, shortcut: Any, mask: Any) -> jax.Array:
    """What goes into the ReLU, in float32; zeros in padding rows."""
    pre = y.astype(jnp.float32) * factor + offset
    return _rows(mask, pre if shortcut is None else pre + shortcut.astype(jnp.float32))


def _activation(y: jax.Array, factor: Any, offset: Any, shortcut: Any, mask: Any) -> jax.Array:
    return y if factor is None else jnp.maximum(_before(y, factor, offset, shortcut, mask), 0).astype(y.dtype)


@functools.cache
def _fused(
    stride: int, keep: bool, precision: str | None
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array | None]]:
    """`y, factor, offset, shortcut, mask, w -> out, sums, z` of one client; without a factor, z is y."""

    def forward(y, factor, offset, shortcut, mask, w):
        z = _activation(y, factor, offset, shortcut, mask)
        out, sums = _stacked("forward", stride, precision)(z, w)
        return (out, sums, z if keep else None), (y, z, factor, offset, shortcut is not None, mask, w, out)

    def backward(saved, cotangents):
        y, z, factor, offset, added, mask, w, out = saved
        d_out, d_sums, extra = cotangents
        total = d_out.astype(jnp.float32) + d_sums[0] + 2 * d_sums[1] * out.astype(jnp.float32)
        total = _rows(mask, total).astype(out.dtype)  # what reaches out, by itself and through its sums
        dw = _stacked("weight_gradient", stride, precision)(z, total, w)
        if factor is None:
            gradient, _ = _stacked("input_gradient", stride, precision)(total, w, z, None, None, extra, None, None)
            return gradient, None, None, None, None, dw
        shown = z if added or keep else None
        gradient, sums = _stacked("input_gradient", stride, precision)(total, w, z, y, shown, extra, factor, offset)
        dy = (gradient.astype(jnp.float32) * factor).astype(y.dtype)
        return dy, sums[0], sums[1], gradient if added else None, None, dw

    function = jax.custom_vjp(lambda *a: forward(*a)[0])
    function.defvjp(forward, backward)
    return function


@functools.cache
def _stacked(kind: str, stride: int, precision: str | None) -> Callable[..., Any]:
    """A kernel as a function of one client's arrays, for which `vmap` means more clients in one call."""
    operations: dict[str, Callable[..., Any]] = {
        "forward": _forward,
        "input_gradient": _input_gradient,
        "weight_gradient": _weight_gradient,
    }
    mapped = custom_vmap(within(precision, functools.partial(operations[kind], stride)))

    @mapped.def_vmap
    def rule(size, batched, *arrays):  # type: ignore[no-untyped-def]
        def merge(a: jax.Array, own: bool) -> jax.Array:
            a = a if own else jnp.broadcast_to(a, (size, *a.shape))
            return a.reshape(-1, *a.shape[2:])

        out = mapped(*jax.tree.map(merge, arrays, tuple(batched)))  # itself: another vmap finds the rule again
        return jax.tree.map(lambda a: a.reshape(size, -1, *a.shape[1:]), out), jax.tree.map(lambda _: True, out)

    return lambda *arrays: jax.tree.map(lambda a: a[0], mapped(*jax.tree.map(lambda a: a[None], arrays)))


def _problem(x: jax.Array, w: jax.Array, stride: int) -> Problem:
    clients, batch, height, width, inputs = x.shape
    return Problem(clients, batch, height, width, inputs, w.shape[4], w.shape[1], stride)


def _forward(stride: int, z: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    return primitive.forward(z, w, _problem(z, w, stride))


def _weight_gradient(stride: int, z: jax.Array, d: jax.Array, w: jax.Array) -> jax.Array:
    return primitive.weight_gradient(z, d, _problem(z, w, stride))


def _input_gradient(stride: int, d: jax.Array, w: jax.Array, images: jax.Array, *more: Any) -> tuple[Any, Any]:
    problem = _problem(images, w, stride)
    if not problem.few:
        return primitive.input_gradient(d, w, problem, *more)
    # With few channels the input is the images themselves: their gradient is not used, and XLA removes it.
    _, z, extra, factor, _ = more
    given = factor is not None, z is not None, extra is not None
    operation = primitive.Operation("input_gradient", problem, str(d.dtype), "ieee", *given)
    gradient, sums = primitive.pure(operation, d, w, *more)
    return gradient, sums
