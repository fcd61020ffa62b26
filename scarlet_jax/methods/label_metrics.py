"""What the soft labels of a round say: the functions of `metric_tables.ROUND`. They help to choose a sharpening."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from scarlet_jax.protocol.round import Served
from scarlet_jax.protocol.sharpen import entropy, masked_mean, sum_over_clients


def target_entropy(probs: jax.Array, sent: jax.Array, served: Served) -> jax.Array:
    """Entropy of the target in nats, mean over the list."""
    return _mean(entropy(served.target), served.keep)


def disagreement(probs: jax.Array, sent: jax.Array, served: Served) -> jax.Array:
    """Generalised Jensen-Shannon divergence among the soft labels of a sample, in nats; mean over the samples sent."""
    count = jnp.maximum(jnp.sum(sent, 0), 1)
    own = sum_over_clients(lambda p, s: jnp.where(s, entropy(p), 0), probs, sent) / count
    return _mean(entropy(masked_mean(probs, sent)) - own, jnp.any(sent, 0))


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)
