"""KT-pFL (Zhang et al., NeurIPS 2021, arXiv 2111.02862): each client has its own teacher, a mixture of all labels."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from scarlet_jax.methods.base import Method
from scarlet_jax.protocol.round import Labels, Uploads


class State(NamedTuple):
    """What the server keeps of the clients besides their last uploads."""

    coefficients: jax.Array  # f32[K, K] row n mixes the teacher of client n; each row lies on the simplex
    senders: jax.Array  # bool[K] whose uploads the server has


def kt_pfl(coefficient_lr: float = 0.01, rho: float = 0.7) -> Method:
    """The server keeps the last uploads, and learns a matrix of knowledge coefficients on them.

    The step is the paper's: row c_n of a sender follows the gradient of KL(sum_m c_nm p_m || p_n), mean over the
    samples, plus rho |c_n - uniform|^2. The weight of each client's share of images is left out, as in the authors'
    code, where it would only scale the step of a row. That code takes squared errors in the place of KL, searches a
    step size in each round, puts rows through a softmax of temperature 0.2, and softens all labels by a temperature of
    10. Here the step size is fixed, the temperature of labels is 1, and rows are projected onto the simplex, which is
    ours: the paper does not say how they stay there.

    With partial participation, the rows of the senders change at the senders' columns alone, whose sum is kept. Clients
    of the next round are taught by the last senders, with their coefficients renormalised.

    Args:
      coefficient_lr: step size of the coefficients. The authors' code chooses one that moves them by about 0.01.
      rho: factor of the penalty; 0.7 in the authors' code.
    """

    def init(data) -> State:
        clients = data.train.size.shape[0]
        return State(jnp.full((clients, clients), 1 / clients), jnp.zeros(clients, bool))

    def aggregate(state: State, uploads: Uploads) -> tuple[Labels, State]:
        mean = uploads.mean()
        probs = jnp.where(uploads.sent[..., None], uploads.probs, mean)
        place = uploads.ids[:, None], uploads.ids[None, :]
        own = state.coefficients[place]
        stepped = on_simplex(step(renormalised(own), probs, coefficient_lr, rho))
        coefficients = state.coefficients.at[place].set(stepped * jnp.sum(own, 1, keepdims=True))
        senders = jnp.zeros_like(state.senders).at[uploads.ids].set(True)
        return Labels(mean, payload=probs.swapaxes(0, 1)), State(coefficients, senders)

    def teach(state: State, payload: jax.Array, ids: jax.Array) -> jax.Array:
        (senders,) = jnp.nonzero(state.senders, size=payload.shape[1])
        own = renormalised(state.coefficients[ids[:, None], senders[None, :]])
        return jnp.einsum("nm,pmc->npc", own, payload, precision="highest")

    return Method(aggregate, init, teach=teach)


def step(own: jax.Array, probs: jax.Array, lr: float, rho: float) -> jax.Array:
    """Rows f32[M, M] after a step of gradient descent on soft labels f32[M, P, C].

    What is the same for all coefficients of a row is left out of the gradient: the projection undoes it.
    """
    smallest = jnp.finfo(probs.dtype).tiny
    teacher = jnp.einsum("nm,mpc->npc", own, probs, precision="highest")
    ratio = jnp.log(jnp.maximum(teacher, smallest)) - jnp.log(jnp.maximum(probs, smallest))
    gradient = jnp.einsum("npc,mpc->nm", ratio, probs, precision="highest") / probs.shape[1]
    return own - lr * (gradient + 2 * rho * (own - 1 / own.shape[1]))


def renormalised(rows: jax.Array) -> jax.Array:
    """Rows f32[..., M] that are not negative, divided by their sums; uniform where a sum is 0."""
    total = jnp.sum(rows, -1, keepdims=True)
    return jnp.where(total > 0, rows / jnp.where(total > 0, total, 1), 1 / rows.shape[-1])


def on_simplex(rows: jax.Array) -> jax.Array:
    """The nearest point of the simplex for each row f32[..., M]: max(row - t, 0), with the t that makes the sum 1."""
    ordered = -jnp.sort(-rows, -1)
    excess = (jnp.cumsum(ordered, -1) - 1) / jnp.arange(1, rows.shape[-1] + 1)
    last = jnp.sum(ordered > excess, -1, keepdims=True) - 1
    return jnp.maximum(rows - jnp.take_along_axis(excess, last, -1), 0)
