"""From the soft labels of many clients to one teacher: masked mean, then ERA or Enhanced ERA. Pure functions."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

_CLIENTS_AT_ONCE = 8


def sum_over_clients(rows: Callable[..., jax.Array], *stacked: jax.Array) -> jax.Array:
    """Sum of `rows` over the clients, added one after another in client order.

    `jnp.sum` would take a CPU 20 times as long (K = 1,000, C = 100), because XLA's reduction over a leading axis reads
    the values of one sample from distant addresses. This sum also needs no temporary array of the size of all rows.

    Args:
      rows: the summand of one client, from that client's part [...] of each stacked array.
      *stacked: arrays [M, ...].
    """
    count = stacked[0].shape[0]

    def add(client, total):
        return total + rows(*(jax.lax.dynamic_index_in_dim(a, client, keepdims=False) for a in stacked))

    def some(block, total):
        for offset in range(_CLIENTS_AT_ONCE):
            total = add(block * _CLIENTS_AT_ONCE + offset, total)
        return total

    shape = jax.eval_shape(rows, *(jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for a in stacked))
    blocks = count // _CLIENTS_AT_ONCE
    total = jax.lax.fori_loop(0, blocks, some, jnp.zeros(shape.shape, shape.dtype))
    for client in range(blocks * _CLIENTS_AT_ONCE, count):
        total = add(client, total)
    return total


def masked_mean(probs: jax.Array, sent: jax.Array) -> jax.Array:
    """For each sample, the mean over the clients that sent a soft label for it.

    Args:
      probs: f32[M, P, C] soft labels, in client order.
      sent: bool[M, P] whether the client sent one for that sample.

    Returns:
      f32[P, C]; the uniform row for a sample for which no client sent a label.
    """
    count = jnp.sum(sent, axis=0, dtype=probs.dtype)[:, None]
    total = sum_over_clients(lambda p, s: jnp.where(s[:, None], p, 0), probs, sent)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), 1 / probs.shape[-1])


def enhanced_era(probs: jax.Array, beta: jax.Array | float) -> jax.Array:
    """Enhanced ERA, the paper's sharpening: p^beta / sum p^beta over the classes.

    Each row is divided by its largest entry before the power, so that no row underflows to zeros. Exact zeros stay
    exact, and beta = 0 gives the uniform row (0^0 = 1).

    Args:
      probs: f32[..., C] rows that are not all zero.
      beta: exponent >= 0; 1 leaves the row as it is, a larger one sharpens it, a smaller one flattens it.
    """

    def sharpened(power: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
        def rows(probs: jax.Array) -> jax.Array:
            scaled = power(probs / jnp.max(probs, axis=-1, keepdims=True))
            return scaled / jnp.sum(scaled, axis=-1, keepdims=True)

        return rows

    # The published values need no power function. If beta is an argument, the compiler cannot see that by itself.
    powers = [sharpened(power) for power in (lambda p: p, lambda p: p * p, lambda p: p**beta)]
    return jax.lax.switch(jnp.where(beta == 1, 0, jnp.where(beta == 2, 1, 2)), powers, probs)


def era(probs: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """Entropy-reduction aggregation: softmax(p / T) of the probabilities (Itahara et al., arXiv 2008.06180).

    Args:
      probs: f32[..., C].
      temperature: T; a small one sharpens. From 1e-6 on the rounding of p / T moves an exponent by less than a tenth.
        A compiler may leave out that of one of two terms that are subtracted; below 1e-9 the sum could then overflow.
    """
    return jax.nn.softmax(probs / temperature, axis=-1)


def entropy(probs: jax.Array) -> jax.Array:
    """Shannon entropy of each row in nats, with 0 log 0 = 0. f32[..., C] -> f32[...]."""
    return -jnp.sum(jax.scipy.special.xlogy(probs, probs), axis=-1)
