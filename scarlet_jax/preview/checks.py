"""Refusals of configs that satisfy the rules of `options` and still cannot be trained, before anything is compiled."""

from __future__ import annotations

from collections.abc import Sequence

from ml_collections import config_dict

from scarlet_jax import build, learners, methods
from scarlet_jax.errors import UserError, bad_field
from scarlet_jax.methods.base import Method
from scarlet_jax.models import MODELS
from scarlet_jax.options import fields
from scarlet_jax.options.groups import model_groups


def check(config: config_dict.ConfigDict) -> None:
    """Refuse what a valid config cannot have, before anything is loaded.

    Raises:
      UserError: groups of clients that do not add up, architectures for which the method has no model, what the
        method's own builder refuses, or participants in `sampling.file` that do not fit.
    """
    name, server = config.method.name, config.model.server
    entry = methods.find(name)
    if entry.distils:
        _check_method(config, build.make_method(config))
    build.draws(config)
    names = [group.name for group in model_groups(config)]
    if entry.group_servers:
        if server not in names:
            why = f"but the server's models of {name} have the architectures of config.model.client"
            raise bad_field("model.server", server, " or ".join(names), why)
    elif not entry.own_models and len({*names, server}) > 1:
        why = f"and config.model.server is {server!r}, but {name} has a single model for all"
        raise bad_field("model.client", config.model.client, "one architecture, the same in both", why)


def check_images(config: config_dict.ConfigDict, shape: Sequence[int]) -> None:
    """Refuse models that cannot take images of `shape` (H, W, channels), before anything is compiled.

    Raises:
      UserError: names the field and the least size, or the features that the method cannot exchange.
    """
    clients = [("client", group.name) for group in model_groups(config)]
    for field, name in [*clients, *(("server", name) for name in build.server_models(config))]:
        least = MODELS[name].least
        if min(shape[:2]) < least:
            fit = ", ".join(other for other, entry in MODELS.items() if entry.least <= min(shape[:2]))
            raise UserError(
                f"config.model.{field} is {config.model[field]!r}, but {name} needs images of at least {least}x{least} "
                f"pixels, and those of config.data.private have {shape[0]}x{shape[1]}; allowed is one of {fit}."
            )
    if build.exchanges_features(config):
        learners.feature_size(config, shape)


def _check_method(config: config_dict.ConfigDict, method: Method) -> None:
    """Refuse what a distillation method cannot have, whatever its name."""
    bits = config.comm.label_bits
    if method.logits and bits != 32:
        why = f"but {config.method.name} sends logits, and the quantiser is made for probabilities"
        raise bad_field("comm.label_bits", bits, "32", why)
    duration = fields.durations(config)["duration"]
    if method.teach is not None and duration:
        why = f"but {config.method.name} sends each client labels of its own, which nobody else could use"
        raise bad_field("cache.duration", duration, "open, or 0", why)
