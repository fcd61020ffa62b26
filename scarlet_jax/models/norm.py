"""Batch normalisation in PyTorch's conventions, fused with the shortcut and the ReLU that follow it.

It differs from Flax's BatchNorm in three ways: the running variance is unbiased, padding rows of a short batch do not
enter the statistics, and the backward pass is hand-written, which makes a ResNet-20 step about 9% faster on CPU.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from scarlet_jax.models.conv.triton.fused import Convolved, Pending, scaled

EPSILON = 1e-5
MOMENTUM = 0.9  # share of the old running value that is kept in each step; PyTorch calls this momentum 0.1


class BatchNorm(nn.Module):
    """relu(batch_norm(y) + shortcut) over all axes but the last.

    Parameters `scale`, `bias` [channels]; `batch_stats` `mean`, `var` [channels], var unbiased (n / max(n - 1, 1)).

    Attributes:
        relu: whether a ReLU follows.
    """

    relu: bool = True

    @nn.compact
    def __call__(
        self, y: jax.Array | Convolved, train: bool, mask: jax.Array | None = None, shortcut: jax.Array | None = None
    ) -> Any:
        """Normalise with the batch's statistics (train) or the running ones.

        Args:
            y: [B, ..., channels], or the record of a convolution.
            train: True also updates the running statistics, if the collection `batch_stats` is mutable.
            mask: bool[B]; rows where it is False are padding: they do not enter the statistics, and are zeros in the
                result of training. Such rows of y and of the shortcut must be zeros. `zero_padding` at the model's
                entry makes them so, and convolutions without bias keep zeros. A batch of padding alone changes no
                running statistic. The gradient in padding rows of y has no meaning. The mask is ignored if not
                training.
            shortcut: added before the ReLU; of y's shape.

        Returns:
            Array of y's shape; of a record, with a ReLU, the record that the next convolution computes it from.
        """
        sums = y.sums if isinstance(y, Convolved) else None
        y = jnp.asarray(y.y if isinstance(y, Convolved) else y)
        channels = y.shape[-1:]
        scale = self.param("scale", nn.initializers.ones_init(), channels)
        bias = self.param("bias", nn.initializers.zeros_init(), channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        var = self.variable("batch_stats", "var", jnp.ones, channels)
        if sums is not None:
            batch = _moments(sums[0], sums[1], y.shape, mask) if train else (mean.value, var.value, None)
            factor = scale * lax.rsqrt(batch[1] + EPSILON)
            pending = Pending(y, factor, bias - batch[0] * factor, shortcut, mask if train else None)
            if train:
                self._move(mean, var, *batch)
            return pending if self.relu else scaled(pending)
        if not train:  # autodiff is good enough here, because training does not use this mode
            factor = scale * lax.rsqrt(var.value + EPSILON)
            z = y * factor + (bias - mean.value * factor)
            z = z if shortcut is None else z + shortcut
            return (jnp.maximum(z, 0) if self.relu else z).astype(y.dtype)
        z, batch_mean, batch_var, count = _normalise(self.relu, shortcut is not None, y, shortcut, scale, bias, mask)
        self._move(mean, var, batch_mean, batch_var, count)
        return z

    def _move(self, mean: Any, var: Any, batch_mean: jax.Array, batch_var: jax.Array, count: jax.Array) -> None:
        """Move the running statistics towards the batch's."""
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            unbiased = batch_var * (count / jnp.maximum(count - 1, 1))
            mean.value = _moved(mean.value, batch_mean, count)
            var.value = _moved(var.value, unbiased, count)


def _moved(running: jax.Array, batch: jax.Array, count: jax.Array) -> jax.Array:
    return jnp.where(count > 0, MOMENTUM * running + (1 - MOMENTUM) * lax.stop_gradient(batch), running)


def _at_least_float32(x: jax.Array) -> jax.Array:
    """The type for sums and moments: at least float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def zero_padding(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """x [B, ...] with zeros in the rows where `mask` bool[B] is False; x itself without a mask."""
    return x if mask is None else jnp.where(mask.reshape(-1, *(1,) * (x.ndim - 1)), x, 0)


def _statistics(y: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and biased variance [channels] over the rows that are no padding, and the number of values of a channel.

    If all rows are padding: mean 0 and variance 1, so that nothing overflows, although no row counts in the loss.
    """
    axes = tuple(range(y.ndim - 1))
    # Padding rows are zeros and add nothing.
    return _moments(jnp.sum(y, axes), jnp.sum(jnp.square(y), axes), y.shape, mask)


def _moments(
    total: jax.Array, squares: jax.Array, shape: tuple[int, ...], mask: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`_statistics` of rows of `shape`, from their sums [channels]: as they are, and of their squares."""
    rows = shape[0] if mask is None else jnp.sum(mask, dtype=total.dtype)
    count = jnp.asarray(rows * math.prod(shape[1:-1]), total.dtype)
    # Multiplied by the inverse: whether XLA replaces a division by a product depends on the number of devices.
    per_value = 1 / jnp.maximum(count, 1)
    mean = total * per_value
    var = squares * per_value - jnp.square(mean)
    var = jnp.maximum(var, 0)  # the difference of two squares can round below zero
    return mean, jnp.where(count > 0, var, 1), count


def _real_rows_only(offset: jax.Array, mask: jax.Array | None, ndim: int) -> jax.Array:
    """An offset [channels] as [B, 1, .., channels] that is 0 in padding rows.

    All other terms of such a row are 0, so the row stays 0. This is cheaper than selecting every pixel.
    """
    if mask is None:
        return offset
    return jnp.where(mask[:, None], offset, 0).reshape(mask.shape[0], *(1,) * (ndim - 2), offset.shape[0])


def _forward(
    relu: bool,
    added: bool,
    y: jax.Array,
    shortcut: jax.Array | None,
    scale: jax.Array,
    bias: jax.Array,
    mask: jax.Array | None,
) -> tuple[tuple[jax.Array, ...], Any]:
    wide = _at_least_float32(y)
    mean, var, count = _statistics(wide, mask)
    inverse = lax.rsqrt(var + EPSILON)
    factor = scale * inverse
    z = wide * factor + _real_rows_only(bias - mean * factor, mask, y.ndim)
    if shortcut is not None:
        z = z + shortcut
    if relu:
        z = jnp.maximum(z, 0)
    z = z.astype(y.dtype)
    return (z, mean, var, count), (y, z if relu else None, mean, inverse, scale, mask, count)


def _backward(relu: bool, added: bool, saved: Any, cotangents: tuple[jax.Array, ...]) -> tuple[Any, ...]:
    y, z, mean, inverse, scale, mask, count = saved
    dtype, y = y.dtype, _at_least_float32(y)
    d = _at_least_float32(cotangents[0])  # the others belong to the running statistics, which have no gradient
    d = zero_padding(d, mask) if z is None else jnp.where(z > 0, d, 0)  # z is 0 in padding rows
    axes = tuple(range(y.ndim - 1))
    d_bias = jnp.sum(d, axes)
    d_scale = (jnp.sum(d * y, axes) - mean * d_bias) * inverse
    factor = scale * inverse
    per_value = factor * (1 / jnp.maximum(count, 1))  # see _statistics
    slope = per_value * inverse * d_scale
    # In padding rows dy is not 0, and need not be: the inputs of the convolution are zeros there, so that the weights
    # get no gradient, and they come from a ReLU or `zero_padding`, which pass none on. Clearing dy would cost time.
    dy = d * factor - y * slope - (per_value * d_bias - mean * slope)
    return dy.astype(dtype), d.astype(dtype) if added else None, d_scale, d_bias, None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _normalise(
    relu: bool,
    added: bool,
    y: jax.Array,
    shortcut: jax.Array | None,
    scale: jax.Array,
    bias: jax.Array,
    mask: jax.Array | None,
) -> tuple[jax.Array, ...]:
    """Normalised rows, and the batch's mean, biased variance and count, in which it is not differentiable."""
    return _forward(relu, added, y, shortcut, scale, bias, mask)[0]


_normalise.defvjp(_forward, _backward)
