"""Residual networks of He et al., "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scarlet_jax.models.conv.triton.fused import Pending, activated
from scarlet_jax.models.layers import Conv, compute_in, he_normal, he_normal_fan_out, linear, max_pool
from scarlet_jax.models.norm import BatchNorm, zero_padding
from scarlet_jax.models.precision import multiplying, stored


def subsample_shortcut(x: jax.Array, features: int, stride: int) -> jax.Array:
    """Shortcut without parameters ("option A"): every stride-th pixel, with channels of zeros added on both sides.

    features // 4 channels are added on each side, which doubles the number of channels.
    """
    zeros = features // 4
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (zeros, zeros)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Attributes:
        features: output channels.
        stride: of the first convolution and of the shortcut.
        projection: whether a shortcut that changes shape is a 1x1 convolution with BatchNorm instead of
            `subsample_shortcut`.
        conv: implementation of the convolution.
        kernel_init: starting weights of the convolutions.
    """

    features: int
    stride: int
    projection: bool
    conv: str
    kernel_init: nn.initializers.Initializer = he_normal

    @nn.compact
    def __call__(self, x: jax.Array | Pending, train: bool, mask: jax.Array | None) -> jax.Array | Pending:
        """[B, H, W, in] -> [B, H / stride, W / stride, features]."""
        init = self.kernel_init
        y, before = Conv(self.features, 3, self.stride, self.conv, init, name="conv1")(x, keep=True)
        y = BatchNorm(name="bn1")(y, train, mask)
        y = Conv(self.features, 3, 1, self.conv, init, name="conv2")(y)
        if self.stride == 1 and before.shape[-1] == self.features:
            shortcut = before
        elif self.projection:
            shortcut = Conv(self.features, 1, self.stride, self.conv, init, name="shortcut_conv")(before)
            shortcut = BatchNorm(relu=False, name="shortcut_bn")(shortcut, train, mask)
        else:
            shortcut = subsample_shortcut(before, self.features, self.stride)
        return BatchNorm(name="bn2")(y, train, mask, shortcut)


class ResNet(nn.Module):
    """Stem, stages of basic blocks, mean over the image, one linear layer.

    Attributes:
        num_classes: length of a row of logits.
        blocks: blocks in each stage; every stage after the first halves the image.
        features: channels of each stage.
        projection: kind of shortcut, see `BasicBlock`.
        imagenet_stem: 7x7 stride-2 convolution and 3x3 stride-2 maximum, instead of one 3x3 convolution.
        conv: implementation of the convolution, resolved ("auto" is not one).
        precision: what is stored and multiplied, see `precision.py`.
        remat: keep only the inputs of blocks for the backward pass, which computes the rest again.
        torchvision: start as torchvision's ResNets: convolutions He-normal by fan-out, and weights and bias of the
            linear layer uniform between -1/sqrt(in) and 1/sqrt(in), PyTorch's default. Otherwise all weights start
            He-normal by fan-in, and the bias at 0.
    """

    num_classes: int
    blocks: tuple[int, ...]
    features: tuple[int, ...]
    projection: bool
    imagenet_stem: bool
    conv: str
    precision: str | None = None
    remat: bool = False
    torchvision: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        """Images [B, H, W, channels] to logits [B, num_classes]; `mask` bool[B] marks the rows that are not padding."""
        with multiplying(self.precision):
            images = zero_padding(compute_in(x, stored(self.precision)), mask)
            size, stride = (7, 2) if self.imagenet_stem else (3, 1)
            init = he_normal_fan_out if self.torchvision else he_normal
            y = Conv(self.features[0], size, stride, self.conv, init, name="conv1")(images)
            z: jax.Array | Pending = BatchNorm(name="bn1")(y, train, mask)
            if self.imagenet_stem:
                z = max_pool(activated(z), size=3, stride=2, padding=1)
            block_class = nn.remat(BasicBlock, static_argnums=2) if self.remat and train else BasicBlock
            for stage, (count, features) in enumerate(zip(self.blocks, self.features, strict=True)):
                for index in range(count):
                    stride = 2 if stage > 0 and index == 0 else 1
                    how = features, stride, self.projection, self.conv, init
                    block = block_class(*how, name=f"layer{stage + 1}_{index}")
                    z = block(activated(z) if self.remat else z, train, mask)
            pooled = jnp.mean(activated(z), axis=(1, 2))
            self.sow("intermediates", "features", pooled)
            bound = self.features[-1] ** -0.5 if self.torchvision else None
            return linear(self.num_classes, "linear", bound=bound)(pooled)


def cifar_resnet(depth: int, num_classes: int, **how: Any) -> ResNet:
    """ResNet-20, 32, 44, 56, 110 for 32x32 images (section 4.2 of the paper), shortcuts without parameters.

    Raises:
        ValueError: the depth is not 6 n + 2.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"a CIFAR ResNet has depth 6 n + 2, not {depth}.")
    return ResNet(num_classes, (blocks,) * 3, (16, 32, 64), projection=False, imagenet_stem=False, **how)


def resnet18(num_classes: int, imagenet_stem: bool, **how: Any) -> ResNet:
    """ResNet-18 (table 1 of the paper), projection shortcuts; without the ImageNet stem it suits 64x64 images."""
    return ResNet(num_classes, (2,) * 4, (64, 128, 256, 512), projection=True, imagenet_stem=imagenet_stem, **how)
