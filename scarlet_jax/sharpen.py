"""From many clients' soft labels to one teacher: masked mean, then ERA or Enhanced ERA. Pure functions over arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def masked_mean(probs: jax.Array, sent: jax.Array) -> jax.Array:
    """Mean over the clients that sent a soft label.

    Args:
      probs: f32[M, P, C] soft labels, in client order.
      sent: bool[M, P] whether the client sent one for that sample.

    Returns:
      f32[P, C]; the uniform row for a sample that nobody sent.
    """
    count = jnp.sum(sent, axis=0, dtype=probs.dtype)[:, None]
    total = jnp.sum(jnp.where(sent[:, :, None], probs, 0), axis=0)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), 1 / probs.shape[-1])


def enhanced_era(probs: jax.Array, beta: float) -> jax.Array:
    """Enhanced ERA, the paper's sharpening: p^beta / sum p^beta over the classes.

    Scaled by the largest entry before the power, so that no row underflows as a whole, exact zeros stay exact, and
    beta = 0 gives the uniform row (0^0 = 1).

    Args:
      probs: f32[..., C] rows that are not all zero.
      beta: exponent >= 0; 1 leaves the row as it is, more sharpens, less flattens.
    """
    scaled = (probs / jnp.max(probs, axis=-1, keepdims=True)) ** beta
    return scaled / jnp.sum(scaled, axis=-1, keepdims=True)


def era(probs: jax.Array, temperature: float) -> jax.Array:
    """Entropy-reduction aggregation: softmax(p / T) of the probabilities (Itahara et al., arXiv 2008.06180).

    Args:
      probs: f32[..., C].
      temperature: T > 0; small sharpens.
    """
    return jax.nn.softmax(probs / temperature, axis=-1)


def entropy(probs: jax.Array) -> jax.Array:
    """Shannon entropy of each row in nats, with 0 log 0 = 0. f32[..., C] -> f32[...]."""
    return -jnp.sum(jax.scipy.special.xlogy(probs, probs), axis=-1)
