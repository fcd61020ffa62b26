"""What a round's participants might have sent."""

import jax
import jax.numpy as jnp
import numpy as np

from scarlet_jax.protocol.round import Uploads


def uploads(probs, sent):
    """Of rows f32[M, P, C], sent bool[M, P], in round 3."""
    return Uploads(probs, sent, jnp.int32(3), jax.random.key(0), jnp.arange(probs.shape[1]), jnp.arange(len(probs)))


def some_rows(rng, clients=5, samples=7, classes=4):
    """Rows f32[M, P, C], sent bool[M, P]; no client answered for sample 0."""
    probs = jnp.asarray(rng.dirichlet(np.ones(classes), (clients, samples)), jnp.float32)
    sent = rng.random((clients, samples)) < 0.7
    sent[:, 0] = False
    return probs, jnp.asarray(sent)
