"""Models by name. All share one call: images, `train`, `mask` -> logits; variables `{params, batch_stats}`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import flax.linen as nn

from scarlet_jax.errors import UserError
from scarlet_jax.models.conv import CONV_NAMES, conv, resolve_conv
from scarlet_jax.models.resnet import cifar_resnet, resnet18
from scarlet_jax.models.small import CNN, MLP

__all__ = ["CONV_NAMES", "DTYPES", "MODEL_NAMES", "build_model", "conv", "resolve_conv", "resolve_conv_for"]

DTYPES = ("float32", "bfloat16")

_BUILDERS: dict[str, Callable[..., nn.Module]] = {  # classes, how to compute -> model
    "resnet20": functools.partial(cifar_resnet, 20),
    "resnet32": functools.partial(cifar_resnet, 32),
    "resnet44": functools.partial(cifar_resnet, 44),
    "resnet56": functools.partial(cifar_resnet, 56),
    "resnet110": functools.partial(cifar_resnet, 110),
    "resnet18": functools.partial(resnet18, imagenet_stem=True),
    "resnet18_64": functools.partial(resnet18, imagenet_stem=False),
    "cnn": lambda classes, conv, dtype, remat: CNN(classes, conv, dtype=dtype),
    "mlp": lambda classes, conv, dtype, remat: MLP(classes, dtype=dtype),
}

MODEL_NAMES: tuple[str, ...] = tuple(_BUILDERS)

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
            64x64; cnn and mlp take any size from 8x8 on.
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
    if name not in _BUILDERS:
        raise UserError(f"there is no model {name!r}; allowed are {', '.join(MODEL_NAMES)}.")
    computed_in = None if dtype == "float32" else dtype
    resolved = conv if name in _WITHOUT_CONVOLUTION else resolve_conv(conv)
    return _BUILDERS[name](num_classes, conv=resolved, dtype=computed_in, remat=remat)


def resolve_conv_for(names: Iterable[str], conv: str, platform: str | None = None) -> str:
    """`resolve_conv` for a run of these models.

    Where none of them has a convolution, "auto" and "timed" are "xla": nothing is built and nothing is timed.
    """
    if conv in ("auto", "timed") and all(name in _WITHOUT_CONVOLUTION for name in names):
        return "xla"
    return resolve_conv(conv, platform)
