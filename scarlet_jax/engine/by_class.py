"""Knowledge by class: one vector for each class, made of a model's outputs while it trains on labelled images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scarlet_jax.types import Split


class Outputs(NamedTuple):
    """What a model computes for a batch."""

    logits: jax.Array  # f32[B, C]
    features: Any = None  # f32[B, d] the input of the last linear layer; None unless they are asked for


class ClassVectors(NamedTuple):
    """A vector for each class that is known. The vectors of other classes have no meaning."""

    vector: jax.Array  # f32[..., C, d]
    known: jax.Array  # bool[..., C]


class ClassSums(NamedTuple):
    """Sums over the images of each class."""

    total: jax.Array  # f32[C, d]
    images: jax.Array  # i32[C] how many there were

    def add(self, values: jax.Array, label: jax.Array, mask: jax.Array) -> ClassSums:
        """The sums with a batch: values f32[B, d] and labels i32[B], padding if not `mask` bool[B]."""
        of_class = (label[:, None] == jnp.arange(self.images.size)) & mask[:, None]
        more = jnp.einsum("bc,bd->cd", of_class.astype(values.dtype), values, precision="highest")
        return ClassSums(self.total + more, self.images + jnp.sum(of_class, 0, dtype=jnp.int32))

    def means(self) -> ClassVectors:
        """The mean of each class of which there was an image."""
        return ClassVectors(self.total / jnp.maximum(self.images, 1)[:, None], self.images > 0)


def no_sums(num_classes: int, size: int) -> ClassSums:
    """Sums of vectors f32[size] over no images."""
    return ClassSums(jnp.zeros((num_classes, size)), jnp.zeros(num_classes, jnp.int32))


class ByClass(NamedTuple):
    """What private training does for the knowledge by class: it adds a term to the loss, and sums a vector."""

    term: Callable[[Outputs, jax.Array], jax.Array]  # Outputs, labels i32[B] -> f32[B], added to the cross-entropy
    vector: Callable[[Outputs], jax.Array]  # Outputs -> f32[B, d], from the predictions before each update
    size: int  # d
    last_epoch: bool  # whether only the vectors of the last epoch are summed


def held(labels: jax.Array, split: Split, client: jax.Array, num_classes: int) -> jax.Array:
    """bool[C]: the classes of which a client has an image. Labels i32[n] are those of the split's store."""
    rows, size = split.rows[client], split.size[client]
    own = jnp.where(jnp.arange(rows.size) < size, labels[rows], num_classes)  # beyond the end: no class
    return jnp.zeros(num_classes, bool).at[own].set(True, mode="drop")


def nearness(features: jax.Array, vectors: ClassVectors) -> jax.Array:
    """How near features f32[B, d] are to the vector of each class, f32[B, C]; minus infinity for an unknown class.

    It is minus the squared distance, but for a constant of each row.
    """
    inner = jnp.einsum("bd,cd->bc", features, vectors.vector, precision="highest")
    return jnp.where(vectors.known, 2 * inner - jnp.sum(vectors.vector**2, -1), -jnp.inf)
