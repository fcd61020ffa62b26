"""The table of models. All are called with images, `train` and `mask`, return logits, and have the variables
`{params, batch_stats}`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import flax.linen as nn

from scarlet_jax.errors import UserError
from scarlet_jax.models.conv.api import CONV_NAMES, conv, resolve_conv
from scarlet_jax.models.precision import PRECISIONS
from scarlet_jax.models.resnet import cifar_resnet, resnet18
from scarlet_jax.models.small import CNN, MLP

__all__ = ["CONV_NAMES", "MODELS", "PRECISIONS", "Entry", "build_model", "conv", "resolve_conv", "resolve_conv_for"]


class Entry(NamedTuple):
    """A row of the table of models."""

    build: Callable[..., nn.Module]  # f(num_classes, conv, precision, remat) -> module
    least: int  # pixels of the shorter side of the smallest image that it can take
    convolution: bool = True  # whether it has any


MODELS: dict[str, Entry] = {
    # Residual networks halve by every second pixel, and keep one of one.
    "resnet20": Entry(functools.partial(cifar_resnet, 20), least=1),
    "resnet32": Entry(functools.partial(cifar_resnet, 32), least=1),
    "resnet44": Entry(functools.partial(cifar_resnet, 44), least=1),
    "resnet56": Entry(functools.partial(cifar_resnet, 56), least=1),
    "resnet110": Entry(functools.partial(cifar_resnet, 110), least=1),
    "resnet18": Entry(functools.partial(resnet18, imagenet_stem=True), least=1),
    "resnet18_64": Entry(functools.partial(resnet18, imagenet_stem=False), least=1),
    # Two times the maximum of whole squares of 2x2 pixels: 4x4 become one.
    "cnn": Entry(lambda classes, conv, precision, remat: CNN(classes, conv, precision=precision), least=4),
    "mlp": Entry(lambda classes, conv, precision, remat: MLP(classes, precision=precision), least=1, convolution=False),
}


def build_model(
    name: str, num_classes: int, conv: str = "auto", precision: str | None = None, remat: bool = False
) -> nn.Module:
    """Build a model by its name.

    It is called as `model.apply(variables, x, train, mask)` with x f32[B, H, W, channels], train a Python bool, and
    mask bool[B] or None. Rows where the mask is False are padding and enter no statistic. The result is
    f32[B, num_classes]. Training needs `mutable=["batch_stats"]`; models without BatchNorm (`mlp`) have no such
    collection.

    Args:
        name: one of `MODELS`. resnet20 to resnet110 are for 32x32 images, resnet18 for ImageNet's, resnet18_64 for
            64x64; cnn and mlp for small ones. The table has the smallest image of each.
        num_classes: length of a row of logits.
        conv: one of `CONV_NAMES`; "auto" is replaced by the implementation for the backend in use.
        precision: one of `PRECISIONS`, or None for what JAX's options say; see `precision.py`. bfloat16 rounds images,
            activations and the weights that they are multiplied by; the weights that are trained, all statistics and
            the logits stay float32.
        remat: while training, keep only the inputs of residual blocks, and compute the rest again for the gradient. On
            a GPU this takes less than half the memory and a fifth more traffic (benchmarks/gpu_aot.py). cnn and mlp
            have no such blocks.

    Raises:
        UserError: unknown name or convolution.
    """
    if name not in MODELS:
        raise UserError(f"there is no model {name!r}; allowed are {', '.join(MODELS)}.")
    resolved = resolve_conv(conv) if MODELS[name].convolution else conv
    return MODELS[name].build(num_classes, conv=resolved, precision=precision, remat=remat)


def resolve_conv_for(names: Iterable[str], conv: str, platform: str | None = None) -> str:
    """`resolve_conv` for a run of these models.

    If none of them has a convolution, "auto" and "timed" are "xla": nothing is built and nothing is timed.
    """
    if conv in ("auto", "timed") and not any(MODELS[name].convolution for name in names):
        return "xla"
    return resolve_conv(conv, platform)
