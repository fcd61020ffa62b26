"""Options that a config sets although they have no effect on its method.

These options are reported, not rejected: in a sweep all methods get the same options, and some methods use them.
"""

from __future__ import annotations

from ml_collections import config_dict

from scarlet_jax import methods
from scarlet_jax.options import fields
from scarlet_jax.options.relations import DEFAULTS


def without_effect(config: config_dict.ConfigDict) -> list[str]:
    """One sentence for each such option of a config that `checks.check` accepts.

    If the value of such an option is not the default, the user changed it, because no shipped config sets it.
    """
    name, entry = config.method.name, methods.find(config.method.name)
    idle: dict[str, str] = {}
    if not entry.distils:
        sends = "sends vectors of classes in float32" if entry.by_class else "sends no soft labels"
        idle = dict.fromkeys(("cache.ratio", "cache.on_expiry", "comm.label_bits"), f"{name} {sends}")
    elif not fields.durations(config)["duration"]:
        why = f"{name} has no cache unless cache.duration is set"
        idle = dict.fromkeys(("cache.ratio", "cache.on_expiry"), why)
    if not entry.server_distils:
        idle |= dict.fromkeys(("kd_optimizer", "kd_lr", "kd_momentum", "kd_weight_decay"), f"{name} does not distil")
    for schedule, own in {"cosine": ("lr_horizon",), "step": ("lr_milestones", "lr_gamma")}.items():
        if config.lr_schedule != schedule:
            idle |= dict.fromkeys(own, f"config.lr_schedule is {config.lr_schedule}")
    if not entry.public:
        idle["public_val_ratio"] = f"{name} uses no public images"
    values = fields.leaves(config)
    sentences = [
        f"config.{field} is {values[field]!r}, which changes nothing: {why}."
        for field, why in idle.items()
        if values[field] != DEFAULTS[field]
    ]
    if config.eval_clients == "all" and not entry.own_models:
        sentences.append(
            f"config.eval_clients is 'all', and the clients of {name} keep no models: the server's model of their "
            "architecture is evaluated on the test images of each of them."
        )
    return sentences
