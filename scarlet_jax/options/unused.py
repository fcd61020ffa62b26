"""Options that a config sets and that its method does not use.

These options are reported, not rejected: in a sweep all methods get the same options, and some methods use them.
"""

from __future__ import annotations

from ml_collections import config_dict

from scarlet_jax import methods
from scarlet_jax.options import fields
from scarlet_jax.options.rules import DEFAULT_LABEL_BITS, DEFAULT_ON_EXPIRY, DEFAULT_RATIO


def unused_options(config: config_dict.ConfigDict) -> list[str]:
    """One sentence for each such option of a config that `build.check` accepts.

    Only options that no shipped config sets are reported: if their value is not the default, the user changed it.
    """
    name = config.method.name
    labels = methods.find(name).distils
    cached = labels and fields.durations(config)["duration"] > 0
    why = f"{name} has no cache unless cache.duration is set" if labels else f"{name} sends no soft labels"
    options = (
        ("cache.ratio", config.cache.ratio, DEFAULT_RATIO, cached),
        ("cache.on_expiry", config.cache.on_expiry, DEFAULT_ON_EXPIRY, cached),
        ("comm.label_bits", config.comm.label_bits, DEFAULT_LABEL_BITS, labels),
    )
    sentences = [
        f"config.{field} is {value!r}, which changes nothing: {why}."
        for field, value, default, used in options
        if value != default and not used
    ]
    if config.eval_clients == "all" and not methods.find(name).own_models:
        sentences.append(
            f"config.eval_clients is 'all', and the clients of {name} keep no models: the server's model is evaluated "
            "on the test images of each of them."
        )
    return sentences
