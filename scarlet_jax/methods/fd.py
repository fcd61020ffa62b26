"""FD (Jeong et al., 2018, arXiv 1811.11479): clients exchange the mean soft label of each class."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from scarlet_jax.engine.by_class import ClassVectors, Outputs
from scarlet_jax.methods.class_knowledge import ClassMethod, Sent, Sizes
from scarlet_jax.protocol.sharpen import sum_over_clients


class State(NamedTuple):
    """What the last senders sent, and its sum."""

    sent: ClassVectors  # [M, C, C]
    ids: jax.Array  # i32[M] ascending
    total: jax.Array  # f32[C, C] sum of the soft labels of each class over the clients that hold it
    holders: jax.Array  # i32[C] how many these are


def fd(gamma: float = 0.1) -> ClassMethod:
    """A client's teacher for an image is the mean soft label of the image's class, over the other senders.

    As published: soft labels are the model's softmax while it trains, averaged over all steps of a round; the teacher
    is the sum over the clients without the client's own part, divided by their number; training minimises
    cross-entropy to the label plus gamma times cross-entropy to the teacher. The paper takes the softmax after the step
    that uses an image, here it is from before that step, which needs no second pass. The paper does not give gamma.

    The paper has all clients take part, and each hold all classes. Here the teacher is the mean over those of the last
    round's senders that hold the class. If no other client of them does, the image has no teacher, and the loss is
    cross-entropy alone.

    Args:
      gamma: factor of the distillation term; the default is ours.
    """

    def init(sizes: Sizes) -> State:
        clients, classes, size = sizes
        sent = ClassVectors(jnp.zeros((clients, classes, size)), jnp.zeros((clients, classes), bool))
        return State(
            sent, jnp.arange(clients, dtype=jnp.int32), jnp.zeros((classes, size)), jnp.zeros(classes, jnp.int32)
        )

    def aggregate(state: State, sent: Sent) -> State:
        del state  # only the last senders teach
        total = sum_over_clients(lambda vector, known: jnp.where(known[:, None], vector, 0), *sent.vectors)
        return State(sent.vectors, sent.ids, total, jnp.sum(sent.vectors.known, 0, dtype=jnp.int32))

    def teach(state: State, client: jax.Array) -> ClassVectors:
        place = jnp.minimum(jnp.searchsorted(state.ids, client), state.ids.size - 1)
        own = state.sent.known[place] & (state.ids[place] == client)
        others = state.holders - own
        total = state.total - jnp.where(own[:, None], state.sent.vector[place], 0)
        # Rounding may leave a difference of equal numbers a little below 0.
        return ClassVectors(jnp.maximum(total, 0) / jnp.maximum(others, 1)[:, None], others > 0)

    return ClassMethod(soft_label, cross_entropy, gamma, init, aggregate, teach, last_epoch=False)


def soft_label(outputs: Outputs) -> jax.Array:
    """The softmax of the logits. [B, C] -> [B, C]."""
    return jax.nn.softmax(outputs.logits)


def cross_entropy(outputs: Outputs, target: jax.Array) -> jax.Array:
    """Cross-entropy of the model's soft labels to the teacher's. [B, C], [B, C] -> [B]."""
    return -jnp.sum(target * jax.nn.log_softmax(outputs.logits), -1)
