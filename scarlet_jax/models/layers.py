"""Layers that several models use."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scarlet_jax.models.conv.api import conv
from scarlet_jax.models.conv.triton import fused
from scarlet_jax.models.conv.triton.fused import Pending, activated

# He-normal, fan-in, not truncated: PyTorch's kaiming_normal_ (Flax's he_normal draws from a truncated normal).
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# The same by fan-out, with which torchvision starts the convolutions of its ResNets.
he_normal_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Conv(nn.Module):
    """Convolution without bias (a BatchNorm follows everywhere). Parameter `kernel` [size, size, in, features].

    Attributes:
        features: output channels.
        size: height and width of the kernel.
        stride: of the windows.
        implementation: as in `scarlet_jax.models.conv.api.conv`.
        kernel_init: starting weights.
    """

    features: int
    size: int
    stride: int
    implementation: str
    kernel_init: nn.initializers.Initializer = he_normal

    @nn.compact
    def __call__(self, x: jax.Array | Pending, keep: bool = False) -> Any:
        """[B, H, W, in] -> [B, ceil(H / stride), ceil(W / stride), features] (padding size // 2), of x's dtype.

        Args:
            x: images; a record of them where the implementation is `triton`.
            keep: also return x as an array, for others that read it: (result, x).

        Returns:
            What `BatchNorm` takes: an array; a record where the implementation is `triton`.
        """
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, x.shape[-1], self.features))
        if self.implementation == "triton" and fused.covers(x, kernel, self.stride):
            result: Any
            result, z = fused.fused_conv(x, kernel, self.stride, keep)
        else:
            z = activated(x)
            y = conv(z, kernel.astype(z.dtype), self.stride, self.size // 2, self.implementation)
            result = fused.convolved(y) if self.implementation == "triton" else y
        return (result, z) if keep else result


def linear(features: int, name: str, dtype: str | None = None, bound: float | None = None) -> nn.Dense:
    """Dense layer with He-normal weights [in, features] and zero bias [features].

    Args:
        features: length of the output.
        name: of the layer.
        dtype: that it computes in; None is the wider type of input and weights, so that logits are at least float32.
        bound: if given, weights and bias start uniform between -bound and bound instead.
    """
    if bound is None:
        return nn.Dense(features, dtype=dtype, kernel_init=he_normal, name=name)

    def uniform(key: jax.Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        del out_sharding  # initializers of Flax are given it
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nn.Dense(features, dtype=dtype, kernel_init=uniform, bias_init=uniform, name=name)


def compute_in(x: jax.Array, dtype: str | None) -> jax.Array:
    """Images in the type that a model computes in; None does not convert them."""
    return x if dtype is None else x.astype(dtype)


def max_pool(x: jax.Array, size: int, stride: int, padding: int = 0) -> jax.Array:
    """Largest value of each window of images [B, H, W, channels]; incomplete windows at the end are left out, as in
    PyTorch.

    It is composed of slices, because on CPU the gradient of XLA's own window reduction is a slow scatter.
    """
    height, width = ((x.shape[a] + 2 * padding - size) // stride + 1 for a in (1, 2))
    if padding:
        edge = (padding, padding)
        x = jnp.pad(x, ((0, 0), edge, edge, (0, 0)), constant_values=-jnp.inf)
    rows = [x[:, i : i + (height - 1) * stride + 1 : stride] for i in range(size)]
    tallest = _largest(rows)
    return _largest([tallest[:, :, j : j + (width - 1) * stride + 1 : stride] for j in range(size)])


def _largest(arrays: list[jax.Array]) -> jax.Array:
    result = arrays[0]
    for array in arrays[1:]:
        result = jnp.maximum(result, array)
    return result
