"""What a model's logits are worth on labelled images: the functions of `metric_tables.SCORES`, and their sums."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from scarlet_jax.metric_tables import SCORES, scored
from scarlet_jax.tables import load


class Scores(NamedTuple):
    """Sums over images. `SCORES` says how each becomes a number."""

    sums: dict[str, jax.Array]  # name -> f32[...]
    samples: jax.Array  # f32[]


def of_batch(
    logits: jax.Array, label: jax.Array, mask: jax.Array, who: str, nearness: jax.Array | None = None
) -> Scores:
    """Scores of one batch: logits f32[B, C] and labels i32[B], padding if not `mask`; `who` as in `Score.of`.

    With `nearness` f32[B, C] to the prototype of each class, the scores of it are among them.
    """

    def total(name: str) -> jax.Array:
        value = load(SCORES[name].value)(nearness if SCORES[name].prototypes else logits, label)
        real = mask.reshape(-1, *[1] * (value.ndim - 1))
        return jnp.sum(jnp.where(real, value, 0), 0, dtype=jnp.float32)

    return Scores({name: total(name) for name in scored(who, nearness is not None)}, jnp.sum(mask, dtype=jnp.float32))


def nothing(num_classes: int, who: str, prototypes: bool = False) -> Scores:
    """Scores of no images; with `prototypes`, also those by the nearest prototype."""
    row = jax.ShapeDtypeStruct((1, num_classes), jnp.float32)
    batch = row, jax.ShapeDtypeStruct((1,), jnp.int32), jax.ShapeDtypeStruct((1,), bool)
    how = {"nearness": row} if prototypes else {}
    shapes = jax.eval_shape(functools.partial(of_batch, who=who), *batch, **how)
    return jax.tree.map(lambda shape: jnp.zeros(shape.shape), shapes)


def top1(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Whether the label has the largest logit. [B, C], [B] -> bool[B]."""
    return _rank(logits, label) < 1


def top5(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Whether the label is among the five classes with the largest logits. [B, C], [B] -> bool[B]."""
    return _rank(logits, label) < 5


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Cross-entropy of each image in nats. [B, C], [B] -> f32[B]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def _rank(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Classes before the label's: i32[B]. Of equal logits the lower class is first, as in arg-max; NaN comes last."""
    own = jnp.take_along_axis(logits, label[:, None], 1)
    lower = jnp.arange(logits.shape[-1]) < label[:, None]
    rank = jnp.sum((logits > own) | ((logits == own) & lower), -1)
    return jnp.where(jnp.isfinite(own[:, 0]), rank, jnp.iinfo(jnp.int32).max)
