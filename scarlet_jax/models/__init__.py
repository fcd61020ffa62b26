"""Models by name. All share one call: images, `train`, `mask` -> logits; variables `{params, batch_stats}`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import flax.linen as nn

from scarlet_jax.errors import UserError
from scarlet_jax.models.conv.api import CONV_NAMES, conv, resolve_conv
from scarlet_jax.models.resnet import cifar_resnet, resnet18
from scarlet_jax.models.small import CNN, MLP

__all__ = [
    "CONV_NAMES",
    "DTYPES",
    "LEAST_SIDE",
    "MODEL_NAMES",
    "build_model",
    "conv",
    "resolve_conv",
    "resolve_conv_for",
]

DTYPES = ("float32", "bfloat16")


class _Model(NamedTuple):
    """A row of the table of models."""

    build: Callable[..., nn.Module]  # classes, how to compute -> model
    least: int  # pixels of the shorter side of the smallest image that it can take


_MODELS: dict[str, _Model] = {
    # Residual networks halve by every second pixel, and keep one of one.
    "resnet20": _Model(functools.partial(cifar_resnet, 20), 1),
    "resnet32": _Model(functools.partial(cifar_resnet, 32), 1),
    "resnet44": _Model(functools.partial(cifar_resnet, 44), 1),
    "resnet56": _Model(functools.partial(cifar_resnet, 56), 1),
    "resnet110": _Model(functools.partial(cifar_resnet, 110), 1),
    "resnet18": _Model(functools.partial(resnet18, imagenet_stem=True), 1),
    "resnet18_64": _Model(functools.partial(resnet18, imagenet_stem=False), 1),
    # Two times the maximum of whole squares of 2x2 pixels: 4x4 become one.
    "cnn": _Model(lambda classes, conv, dtype, remat: CNN(classes, conv, dtype=dtype), 4),
    "mlp": _Model(lambda classes, conv, dtype, remat: MLP(classes, dtype=dtype), 1),
}

MODEL_NAMES: tuple[str, ...] = tuple(_MODELS)
LEAST_SIDE: dict[str, int] = {name: model.least for name, model in _MODELS.items()}
"""Name -> pixels of the shorter side of the smallest image that the model can take."""

_WITHOUT_CONVOLUTION = ("mlp",)


def build_model(
    name: str, num_classes: int, conv: str = "auto", dtype: str = "float32", remat: bool = False
) -> nn.Module:
    """Build a model by its name.

    Its call is `model.apply(variables, x, train, mask)` with x f32[B, H, W, channels], train a Python bool, and mask
    bool[B] or None (rows where it is False are padding: they enter no statistic); the result is f32[B, num_classes].
    Training wants `mutable=["batch_stats"]`; models without BatchNorm (`mlp`) have no such collection.

    Args:
        name: one of `MODEL_NAMES`. resnet20 to resnet110 are for 32x32 images, resnet18 for ImageNet's, resnet18_64 for
            64x64; cnn and mlp for small ones. `LEAST_SIDE` has the smallest image of each.
        num_classes: length of a row of logits.
        conv: one of `CONV_NAMES`; "auto" is resolved here, for the backend in use, and is then the module's `conv`.
        dtype: one of `DTYPES`: bfloat16 rounds images, activations and the weights used on them; the weights that are
            trained, all statistics and logits stay float32. float32 computes in the type of the images.
        remat: while training, keep only what enters a residual block and compute the rest of it again for the gradient:
            on a GPU less than half the memory for a fifth more traffic (benchmarks/gpu_aot.py). cnn and mlp have no
            such block.

    Raises:
        UserError: unknown name or convolution.
    """
    if name not in _MODELS:
        raise UserError(f"there is no model {name!r}; allowed are {', '.join(MODEL_NAMES)}.")
    computed_in = None if dtype == "float32" else dtype
    resolved = conv if name in _WITHOUT_CONVOLUTION else resolve_conv(conv)
    return _MODELS[name].build(num_classes, conv=resolved, dtype=computed_in, remat=remat)


def resolve_conv_for(names: Iterable[str], conv: str, platform: str | None = None) -> str:
    """`resolve_conv` for a run of these models.

    Where none of them has a convolution, "auto" and "timed" are "xla": nothing is built and nothing is timed.
    """
    if conv in ("auto", "timed") and all(name in _WITHOUT_CONVOLUTION for name in names):
        return "xla"
    return resolve_conv(conv, platform)
