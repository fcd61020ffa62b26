"""Models by name. All share one call: images, `train`, `mask` -> logits; variables `{params, batch_stats}`."""

from __future__ import annotations

import flax.linen as nn

from scarlet_jax.errors import UserError
from scarlet_jax.models.conv import CONV_NAMES, conv, resolve_conv
from scarlet_jax.models.resnet import cifar_resnet, resnet18
from scarlet_jax.models.small import CNN, MLP

__all__ = ["CONV_NAMES", "MODEL_NAMES", "build_model", "conv", "resolve_conv"]

_BUILDERS = {
    "resnet20": lambda num_classes, conv: cifar_resnet(20, num_classes, conv),
    "resnet32": lambda num_classes, conv: cifar_resnet(32, num_classes, conv),
    "resnet44": lambda num_classes, conv: cifar_resnet(44, num_classes, conv),
    "resnet56": lambda num_classes, conv: cifar_resnet(56, num_classes, conv),
    "resnet110": lambda num_classes, conv: cifar_resnet(110, num_classes, conv),
    "resnet18": lambda num_classes, conv: resnet18(num_classes, conv, imagenet_stem=True),
    "resnet18_64": lambda num_classes, conv: resnet18(num_classes, conv, imagenet_stem=False),
    "cnn": lambda num_classes, conv: CNN(num_classes, conv),
    "mlp": lambda num_classes, conv: MLP(num_classes),
}

MODEL_NAMES: tuple[str, ...] = tuple(_BUILDERS)


def build_model(name: str, num_classes: int, conv: str = "auto") -> nn.Module:
    """Build a model by its name.

    Its call is `model.apply(variables, x, train, mask)` with x f32[B, H, W, channels], train a Python bool, and mask
    bool[B] or None (rows where it is False are padding: they enter no statistic); the result is f32[B, num_classes].
    Training wants `mutable=["batch_stats"]`; models without BatchNorm (`mlp`) have no such collection.

    Args:
        name: one of `MODEL_NAMES`. resnet20 to resnet110 are for 32x32 images, resnet18 for ImageNet's, resnet18_64 for
            64x64; cnn and mlp take any size from 8x8 on.
        num_classes: length of a row of logits.
        conv: one of `CONV_NAMES`; "auto" is resolved here, for the backend in use, and is then the module's `conv`.

    Raises:
        UserError: unknown name or convolution.
    """
    if name not in _BUILDERS:
        raise UserError(f"there is no model {name!r}; allowed are {', '.join(MODEL_NAMES)}.")
    return _BUILDERS[name](num_classes, resolve_conv(conv))
