"""The synchronized soft-label cache: plan, restore, commit, catch-up. Pure functions over device arrays.

Whether an entry is a hit is decided once, in `look_up`, and passed on as masks; nothing else compares rounds (paper,
section on synchronized caching; README: "The cache").
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

EMPTY = -1  # stamp of an empty entry


class Cache(NamedTuple):
    """The server's cache, one entry per public sample."""

    target: jax.Array  # f32[N, C] what the server distils from
    payload: jax.Array | None  # f32[N, ...] what clients were sent; None: the target itself
    stamp: jax.Array  # i32[N] round in which the entry was written, -1 when empty


class Lookup(NamedTuple):
    """What the cache says about a list of public samples, before this round's commit."""

    stamp: jax.Array  # i32[P]
    hit: jax.Array  # bool[P] served from the cache
    stale: jax.Array  # bool[P] present but too old; requested like an empty one


def init(size: int, num_classes: int, payload_shape: tuple[int, ...] | None = None) -> Cache:
    """An empty cache of `size` entries; `payload_shape` for methods whose broadcast is not the target."""
    payload = None if payload_shape is None else jnp.zeros((size, *payload_shape))
    return Cache(jnp.zeros((size, num_classes)), payload, jnp.full(size, EMPTY, jnp.int32))


def look_up(stamp: jax.Array, index: jax.Array, round_: jax.Array, duration: int | jax.Array) -> Lookup:
    """Look up public samples: hit iff not empty and age <= D, stale iff not empty and age > D.

    Args:
      stamp: i32[N] of the cache.
      index: i32[P] public samples.
      round_: i32[] current round r; an entry's age is r - stamp.
      duration: D >= 0. 0 means no cache: nothing is ever a hit or stale.
    """
    found = stamp[index]
    full = (found != EMPTY) & (duration > 0)
    fresh = round_ - found <= duration
    return Lookup(found, full & fresh, full & ~fresh)


def requested_first(hit: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Order of a draw with its requested samples first, hits after them, each as drawn; and the inverse, i32[P] each.

    Args:
      hit: bool[P] of the drawn samples.
    """
    order = jnp.argsort(hit, stable=True).astype(jnp.int32)
    return order, jnp.zeros_like(order).at[order].set(jnp.arange(order.size, dtype=jnp.int32))


def dropped_last(order: jax.Array, keep: jax.Array) -> jax.Array:
    """Order of a round's list, i32[P]: `order` i32[P] with the samples behind it that `keep` bool[P] drops."""
    return order[jnp.argsort(~keep[order], stable=True)]


def choose_new(key: jax.Array, new: jax.Array, ratio: float) -> jax.Array:
    """The random part of the new labels that is stored: floor(ratio * count) of them, without replacement.

    Args:
      key: PRNG key.
      new: bool[P] candidates.
      ratio: share in (0, 1]; 1 chooses all.

    Returns:
      bool[P], a subset of `new`.
    """
    if ratio == 1:
        return new
    # A table made in float64, as the reference computes it: float32 products would floor differently.
    quotas = np.floor(ratio * np.arange(new.size + 1)).astype(np.int32)
    quota = jnp.asarray(quotas)[jnp.sum(new)]
    rank = jnp.argsort(jnp.argsort(jnp.where(new, jax.random.uniform(key, new.shape), 2.0)))
    return new & (rank < quota)


def commit(
    cache: Cache,
    index: jax.Array,
    lookup: Lookup,
    keep: jax.Array,
    chosen: jax.Array,
    round_: jax.Array,
    on_expiry: str,
) -> tuple[Cache, jax.Array]:
    """Stamps after round r; targets and payloads follow through `store`.

    Empty and chosen: stored with stamp r. Hit: unchanged. Stale: emptied (`"drop"`) or replaced with stamp r
    (`"refresh"`). Not kept: unchanged.

    Args:
      cache: before the round.
      index: i32[P] distinct public samples.
      lookup: of `index`, each field [P].
      keep: bool[P] the round has a label for the sample.
      chosen: bool[P] empty samples that are to be stored (`choose_new`).
      round_: i32[] r.
      on_expiry: `"drop"` or `"refresh"`.

    Returns:
      The cache with new stamps, and bool[P]: the entries to `store`.
    """
    replaced = lookup.stale & keep
    written = chosen & keep
    stamp = lookup.stamp
    if on_expiry == "refresh":
        written = written | replaced
    else:
        stamp = jnp.where(replaced, EMPTY, stamp)
    stamp = jnp.where(written, round_, stamp)
    return cache._replace(stamp=cache.stamp.at[index].set(stamp)), written


def store(column: jax.Array, index: jax.Array, written: jax.Array, rows: jax.Array) -> jax.Array:
    """Write `rows` [P, ...] where `written` bool[P] into a column [N, ...] of the cache at `index` i32[P]."""
    mask = written.reshape(-1, *[1] * (rows.ndim - 1))
    return column.at[index].set(jnp.where(mask, rows, column[index]))


def restore(column: jax.Array, index: jax.Array, hit: jax.Array, fresh: jax.Array) -> jax.Array:
    """Rows of a list: from the cache for hits, `fresh` [P, ...] for all others."""
    mask = hit.reshape(-1, *[1] * (fresh.ndim - 1))
    return jnp.where(mask, column[index], fresh)


def behind(held: jax.Array, stamp: jax.Array, keep: jax.Array) -> jax.Array:
    """Which copies differ from the server's entries as they stood before the list's commit, bool[M, P].

    The catch-up packages that follow: what is sent is the hits among them (`wire` ledger); the reference's package has
    a label where the entry is full, and an emptying mark where it is empty (`catch_up_counts`).

    Args:
      held: i32[M, P] stamp of each participant's copy of the listed samples, -1 when it has none.
      stamp: i32[P] the server's stamps before the commit.
      keep: bool[P] part of the list.
    """
    return (held != stamp) & keep


class CatchUp(NamedTuple):
    """What brings participants up to date for one list, counted."""

    entries: jax.Array  # i32[M] hits whose copy is missing or older: what is sent (`wire` ledger)
    updates: jax.Array  # i32[M] labels in the reference's package (`reference` ledger)
    stale: jax.Array  # i32[M] emptying marks in the reference's package


def catch_up_counts(behind: jax.Array, stamp: jax.Array, hit: jax.Array) -> CatchUp:
    """Count the packages of `behind` bool[M, P], for the list's `stamp` i32[P] and `hit` bool[P]."""
    # One matrix product: a CPU takes several times as long for three sums along rows. Exact, of zeros and ones.
    kinds = jnp.stack([hit, stamp != EMPTY, stamp == EMPTY], 1)
    counts = behind.astype(jnp.float32) @ kinds.astype(jnp.float32)
    return CatchUp(*counts.T.astype(jnp.int32))
