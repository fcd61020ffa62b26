"""The table of models. All are called with images, `train` and `mask`, return logits, and have the variables
`{params, batch_stats}`. They sow their features, the input of the last linear layer, as "features" into the collection
"intermediates", which costs nothing unless that is mutable. Importing the table imports no jax."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from scarlet_jax.errors import UserError
from scarlet_jax.tables import load

if TYPE_CHECKING:
    import flax.linen as nn

PRECISIONS = ("float32", "tf32", "bfloat16")  # what `model.precision` may be, see precision.py


class Entry(NamedTuple):
    """A row of the table of models."""

    # "module:function" or "module:class": makes the module, which has the attribute `num_classes`. It takes
    # `num_classes`, the arguments below and, as far as it has parameters of these names, `conv`, `precision` and
    # `remat` of `build_model`. A model without `conv` has no convolution.
    build: str
    least: int  # pixels of the shorter side of the smallest image that it can take
    arguments: Mapping[str, Any] = {}


_RESNET = "scarlet_jax.models.resnet"
_SMALL = "scarlet_jax.models.small"
MODELS: dict[str, Entry] = {
    # Residual networks halve by every second pixel, and keep one of one.
    "resnet20": Entry(f"{_RESNET}:cifar_resnet", least=1, arguments={"depth": 20}),
    "resnet32": Entry(f"{_RESNET}:cifar_resnet", least=1, arguments={"depth": 32}),
    "resnet44": Entry(f"{_RESNET}:cifar_resnet", least=1, arguments={"depth": 44}),
    "resnet56": Entry(f"{_RESNET}:cifar_resnet", least=1, arguments={"depth": 56}),
    "resnet110": Entry(f"{_RESNET}:cifar_resnet", least=1, arguments={"depth": 110}),
    "resnet18": Entry(f"{_RESNET}:resnet18", least=1, arguments={"imagenet_stem": True}),
    "resnet18_64": Entry(f"{_RESNET}:resnet18", least=1, arguments={"imagenet_stem": False}),
    "resnet18_torchvision": Entry(
        f"{_RESNET}:resnet18", least=1, arguments={"imagenet_stem": True, "torchvision": True}
    ),
    # Two times the maximum of whole squares of 2x2 pixels: 4x4 become one.
    "cnn": Entry(f"{_SMALL}:CNN", least=4),
    "mlp": Entry(f"{_SMALL}:MLP", least=1),
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
            64x64; resnet18_torchvision is resnet18 with the starting weights of torchvision's; cnn and mlp are for
            small images. The table has the smallest image of each.
        num_classes: length of a row of logits.
        conv: one of `conv.names()`; "auto" is replaced by the implementation for the backend in use.
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
    from scarlet_jax.models.conv.api import resolve_conv

    options = _options(name)
    how = {"conv": conv, "precision": precision, "remat": remat}
    if "conv" in options:
        how["conv"] = resolve_conv(conv)
    given = {key: value for key, value in how.items() if key in options}
    return load(MODELS[name].build)(num_classes=num_classes, **MODELS[name].arguments, **given)


def resolve_conv_for(names: Iterable[str], conv: str, platform: str | None = None) -> str:
    """`conv.api.resolve_conv` for a run of these models.

    If none of them has a convolution, "auto" and "timed" are "xla": nothing is built and nothing is timed.
    """
    from scarlet_jax.models.conv.api import resolve_conv

    if conv in ("auto", "timed") and not any("conv" in _options(name) for name in names):
        return "xla"
    return resolve_conv(conv, platform)


def _options(name: str) -> frozenset[str]:
    """What a model's builder takes of `conv`, `precision` and `remat`."""
    parameters = inspect.signature(load(MODELS[name].build)).parameters
    everything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return frozenset(key for key in ("conv", "precision", "remat") if everything or key in parameters)
