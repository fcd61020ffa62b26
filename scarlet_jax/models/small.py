"""Small models for small images and quick experiments."""

from __future__ import annotations

import flax.linen as nn
import jax

from scarlet_jax.models.conv.triton.fused import activated
from scarlet_jax.models.layers import Conv, compute_in, linear, max_pool
from scarlet_jax.models.norm import BatchNorm, zero_padding


class CNN(nn.Module):
    """Two times (3x3 convolution, BatchNorm, ReLU, 2x2 maximum), then one linear layer. For 4x4 images and larger.

    Attributes:
        num_classes: length of a row of logits.
        conv: implementation of the convolution, resolved ("auto" is not one).
        features: channels after each convolution.
        dtype: what the model computes in; None is the type of the images. Weights, statistics and logits are float32.
    """

    num_classes: int
    conv: str
    features: tuple[int, ...] = (16, 32)
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        """Images [B, H, W, channels] to logits [B, num_classes]; `mask` bool[B] marks the rows that are not padding."""
        x = zero_padding(compute_in(x, self.dtype), mask)
        for index, features in enumerate(self.features, start=1):
            x = Conv(features, 3, 1, self.conv, name=f"conv{index}")(x)
            x = BatchNorm(name=f"bn{index}")(x, train, mask)
            x = max_pool(activated(x), size=2, stride=2)
        return linear(self.num_classes, "linear")(x.reshape(x.shape[0], -1))


class MLP(nn.Module):
    """One hidden layer with ReLU. It has no BatchNorm; therefore it has no `batch_stats` and ignores the mask.

    Attributes:
        num_classes: length of a row of logits.
        hidden: width of the hidden layer.
        dtype: as in `CNN`.
    """

    num_classes: int
    hidden: int = 128
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        """Images [B, H, W, channels] to logits [B, num_classes]."""
        x = nn.relu(linear(self.hidden, "hidden", self.dtype)(x.reshape(x.shape[0], -1)))
        return linear(self.num_classes, "linear")(x)
