"""What a round's participants might have sent."""

import jax
import jax.numpy as jnp

from scarlet_jax.protocol.round import Uploads


def uploads(probs, sent):
    """Of rows f32[M, P, C], sent bool[M, P], in round 3."""
    return Uploads(probs, sent, jnp.int32(3), jax.random.key(0), jnp.arange(probs.shape[1]))
