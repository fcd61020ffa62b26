"""Models by name. All share one call: images, `train`, `mask` -> logits; variables `{params, batch_stats}`."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn

from scarlet_jax.errors import UserError
from scarlet_jax.models.conv import CONV_NAMES, conv, resolve_conv
from scarlet_jax.models.resnet import cifar_resnet, resnet18
from scarlet_jax.models.small import CNN, MLP

__all__ = ["CONV_NAMES", "DTYPES", "MODEL_NAMES", "build_model", "conv", "resolve_conv"]

DTYPES = ("float32", "bfloat16")

_BUILDERS: dict[str, Callable[..., nn.Module]] = {  # classes, convolution, dtype -> model
    "resnet20": lambda c, *how: cifar_resnet(20, c, *how),
    "resnet32": lambda c, *how: cifar_resnet(32, c, *how),
    "resnet44": lambda c, *how: cifar_resnet(44, c, *how),
    "resnet56": lambda c, *how: cifar_resnet(56, c, *how),
    "resnet110": lambda c, *how: cifar_resnet(110, c, *how),
    "resnet18": lambda c, conv, dtype: resnet18(c, conv, True, dtype),
    "resnet18_64": lambda c, conv, dtype: resnet18(c, conv, False, dtype),
    "cnn": lambda c, conv, dtype: CNN(c, conv, dtype=dtype),
    "mlp": lambda c, conv, dtype: MLP(c, dtype=dtype),
}

MODEL_NAMES: tuple[str, ...] = tuple(_BUILDERS)


def build_model(name: str, num_classes: int, conv: str = "auto", dtype: str = "float32") -> nn.Module:
    """Build a model by its name.

    Its call is `model.apply(variables, x, train, mask)` with x f32[B, H, W, channels], train a Python bool, and mask
    bool[B] or None (rows where it is False are padding: they enter no statistic); the result is f32[B, num_classes].
    Training wants `mutable=["batch_stats"]`; models without BatchNorm (`mlp`) have no such collection.

    Args:
        name: one of `MODEL_NAMES`. resnet20 to resnet110 are for 32x32 images, resnet18 for ImageNet's, resnet18_64 for
            64x64; cnn and mlp take any size from 8x8 on.
        num_classes: length of a row of logits.
        conv: one of `CONV_NAMES`; "auto" is resolved here, for the backend in use, and is then the module's `conv`.
        dtype: one of `DTYPES`: bfloat16 rounds images, activations and the weights used on them; the weights that are
            trained, all statistics and logits stay float32. float32 computes in the type of the images.

    Raises:
        UserError: unknown name or convolution.
    """
    if name not in _BUILDERS:
        raise UserError(f"there is no model {name!r}; allowed are {', '.join(MODEL_NAMES)}.")
    return _BUILDERS[name](num_classes, resolve_conv(conv), None if dtype == "float32" else dtype)
