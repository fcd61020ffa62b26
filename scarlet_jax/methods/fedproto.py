"""FedProto (Tan et al., AAAI 2022, arXiv 2105.00243): clients exchange prototypes, the mean features of each class."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from scarlet_jax.engine.by_class import ClassVectors, Outputs
from scarlet_jax.methods.class_knowledge import ClassMethod, Sent, Sizes
from scarlet_jax.protocol.sharpen import masked_mean, sum_over_clients


def fedproto(weight: float = 1.0, average: str = "clients") -> ClassMethod:
    """Training minimises cross-entropy plus `weight` times the distance of an image's features to its prototype.

    Features are the input of the last linear layer. The distance is the mean squared error over the batch and the
    features, as in the authors' code; it is 0 for classes that the server has no prototype of. A client's prototypes
    are the mean features of the last epoch, in training mode, each batch before its update, as in that code. The server
    averages the clients that hold a class plainly, as in that code; the paper weighs them by their numbers of images.

    The paper and the code have all clients take part. Here a class that no participant holds keeps its prototype.

    Args:
      weight: lambda, factor of the distance; 1 in the authors' code.
      average: what counts alike in the server's mean, "clients" or "images".
    """

    def init(sizes: Sizes) -> ClassVectors:
        return ClassVectors(jnp.zeros((sizes.num_classes, sizes.vector)), jnp.zeros(sizes.num_classes, bool))

    def aggregate(state: ClassVectors, sent: Sent) -> ClassVectors:
        if average == "images":
            total = sum_over_clients(lambda v, n: v * n[:, None], sent.vectors.vector, sent.images)
            mean = total / jnp.maximum(jnp.sum(sent.images, 0), 1)[:, None]
        else:
            mean = masked_mean(sent.vectors.vector, sent.vectors.known)
        now = jnp.any(sent.vectors.known, 0)
        return ClassVectors(jnp.where(now[:, None], mean, state.vector), state.known | now)

    def teach(state: ClassVectors, client: jax.Array) -> ClassVectors:
        del client  # all clients receive the same
        return state

    return ClassMethod(
        lambda outputs: outputs.features, squared_error, weight, init, aggregate, teach,
        last_epoch=True, features=True, prototypes=lambda state: state,
    )  # fmt: skip


def squared_error(outputs: Outputs, prototype: jax.Array) -> jax.Array:
    """Mean squared difference between features and prototypes. [B, d], [B, d] -> [B]."""
    return jnp.mean((outputs.features - prototype) ** 2, -1)
