"""Small models for small images and quick experiments."""

from __future__ import annotations

import flax.linen as nn
import jax

from scarlet_jax.models.conv.triton.fused import activated
from scarlet_jax.models.layers import Conv, compute_in, linear, max_pool
from scarlet_jax.models.norm import BatchNorm, zero_padding
from scarlet_jax.models.precision import multiplying, stored


class CNN(nn.Module):
    """Two times (3x3 convolution, BatchNorm, ReLU, 2x2 maximum), then one linear layer. For 4x4 images and larger.

    Attributes:
        num_classes: length of a row of logits.
        conv: implementation of the convolution, resolved ("auto" is not one).
        features: channels after each convolution.
        precision: what is stored and multiplied, see `precision.py`.
    """

    num_classes: int
    conv: str
    features: tuple[int, ...] = (16, 32)
    precision: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        """Images [B, H, W, channels] to logits [B, num_classes]; `mask` bool[B] marks the rows that are not padding."""
        with multiplying(self.precision):
            x = zero_padding(compute_in(x, stored(self.precision)), mask)
            for index, features in enumerate(self.features, start=1):
                x = Conv(features, 3, 1, self.conv, name=f"conv{index}")(x)
                x = BatchNorm(name=f"bn{index}")(x, train, mask)
                x = max_pool(activated(x), size=2, stride=2)
            x = x.reshape(x.shape[0], -1)
            self.sow("intermediates", "features", x)
            return linear(self.num_classes, "linear")(x)


class MLP(nn.Module):
    """One hidden layer with ReLU. It has no BatchNorm; therefore it has no `batch_stats` and ignores the mask.

    Attributes:
        num_classes: length of a row of logits.
        hidden: width of the hidden layer.
        precision: as in `CNN`.
    """

    num_classes: int
    hidden: int = 128
    precision: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        """Images [B, H, W, channels] to logits [B, num_classes]."""
        with multiplying(self.precision):
            x = nn.relu(linear(self.hidden, "hidden", stored(self.precision))(x.reshape(x.shape[0], -1)))
            self.sow("intermediates", "features", x)
            return linear(self.num_classes, "linear")(x)
