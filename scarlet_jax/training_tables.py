"""The table of optimizers, and what a config means that leaves a learning rate open. It is data: it imports no jax."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Optimizer(NamedTuple):
    """What the program knows of an optimizer by its name."""

    builder: str  # "module:function" of the numbers of `types.Rates` that are not None
    lr: float  # the learning rate that an open `lr` or `kd_lr` takes
    momentum: bool = True  # whether it has `momentum`
    largest: float = math.inf  # a learning rate above it is pointed out before a run starts


_HERE = "scarlet_jax.engine.optimizers"

OPTIMIZERS = {
    "sgd": Optimizer(f"{_HERE}:sgd", 0.1),
    "adam": Optimizer(f"{_HERE}:adam", 0.001, momentum=False, largest=0.01),
}
SCHEDULES = ("constant", "cosine", "step")  # of the learning rates over the rounds; the classes are in `_HERE`

# The value of each field in a config that an earlier program wrote, which did not have it.
_BEFORE = {"optimizer": "sgd", "lr_schedule": "constant", "lr_gamma": 0.1}


def resolved(values: Mapping[str, Any]) -> dict[str, Any]:
    """Optimizers, learning rates and schedule of a config, with a value for each field that is open or missing.

    Args:
      values: the config, or its fields by name.
    """
    found = {field: values.get(field, before) for field, before in _BEFORE.items()}
    found["kd_optimizer"] = values.get("kd_optimizer") or found["optimizer"]
    for rate, field in (("lr", "optimizer"), ("kd_lr", "kd_optimizer")):
        if rate in values:
            own = OPTIMIZERS.get(found[field])  # a run's files may name an optimizer of a later program
            found[rate] = own.lr if values[rate] is None and own is not None else values[rate]
    return found


def remarks(values: Mapping[str, Any], distils: bool = True) -> list[str]:
    """One sentence for each learning rate of a config that is large for its optimizer, and so may be of another one.

    Args:
      values: the config, or its fields by name.
      distils: whether its method distils; otherwise nothing is said of `kd_lr`.
    """
    found, sentences = resolved(values), []
    for rate, field in (("lr", "optimizer"), ("kd_lr", "kd_optimizer"))[: 1 + distils]:
        name = found[field]
        if found[rate] > OPTIMIZERS[name].largest:
            sentences.append(
                f"config.{rate} is {found[rate]!r}, which is large for {name}: --config.{rate}=open takes its default, "
                f"{OPTIMIZERS[name].lr:g}."
            )
    return sentences
