"""The synchronized soft-label cache: look up, restore, commit, catch up. Pure functions over device arrays.

Whether an entry is a hit is decided once, in `look_up`, and passed on as masks; no other code compares rounds (the
paper's section on synchronized caching; docs/cache_and_bytes.md).
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
    payload: jax.Array | None  # f32[N, ...] what was broadcast to clients; None: the target itself
    stamp: jax.Array  # i32[N] round in which the entry was written, -1 if it is empty


class Lookup(NamedTuple):
    """The state of the cache for some public samples, before this round's commit."""

    stamp: jax.Array  # i32[P]
    hit: jax.Array  # bool[P] served from the cache
    stale: jax.Array  # bool[P] not empty but too old; the sample is requested, as for an empty entry


def init(size: int, num_classes: int, payload_shape: tuple[int, ...] | None = None) -> Cache:
    """An empty cache of `size` entries. `payload_shape` is that of one payload, if it is not the target."""
    payload = None if payload_shape is None else jnp.zeros((size, *payload_shape))
    return Cache(jnp.zeros((size, num_classes)), payload, jnp.full(size, EMPTY, jnp.int32))


def look_up(stamp: jax.Array, index: jax.Array, round_: jax.Array, duration: int | jax.Array) -> Lookup:
    """Look up public samples: a hit is not empty and of age <= D, a stale entry is not empty and of age > D.

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
    """The order that puts requested samples before hits, and keeps the drawn order within both.

    Args:
      hit: bool[P] of the drawn samples.

    Returns:
      i32[P], the positions in the draw in this order; and i32[P], the inverse permutation.
    """
    order = jnp.argsort(hit, stable=True).astype(jnp.int32)
    return order, jnp.zeros_like(order).at[order].set(jnp.arange(order.size, dtype=jnp.int32))


def dropped_last(order: jax.Array, keep: jax.Array) -> jax.Array:
    """The order of a round's list, i32[P]: `order` i32[P], but with those samples last that `keep` bool[P] drops."""
    return order[jnp.argsort(~keep[order], stable=True)]


def choose_new(key: jax.Array, new: jax.Array, ratio: float) -> jax.Array:
    """Choose at random which new labels are stored: floor(ratio * count) of them, without replacement.

    Args:
      key: PRNG key.
      new: bool[P] candidates.
      ratio: share in (0, 1]; 1 chooses all.

    Returns:
      bool[P], a subset of `new`.
    """
    if ratio == 1:
        return new
    # The table is computed in float64, as in the reference: float32 products would sometimes floor to another integer.
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
    """Stamps after round r. Targets and payloads are written by `write`.

    An empty entry that was chosen gets stamp r. A hit is unchanged. A stale entry is emptied (`"drop"`) or gets stamp r
    (`"refresh"`). The entry of a sample that is not kept is unchanged.

    Args:
      cache: before the round.
      index: i32[P] distinct public samples.
      lookup: of `index`, each field [P].
      keep: bool[P] whether the round has a label for the sample.
      chosen: bool[P] the samples with an empty entry that are to be stored (`choose_new`).
      round_: i32[] r.
      on_expiry: `"drop"` or `"refresh"`.

    Returns:
      The cache with new stamps, and bool[P]: the samples whose labels are to be written.
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


def write(column: jax.Array, index: jax.Array, written: jax.Array, rows: jax.Array) -> jax.Array:
    """Write `rows` [P, ...] where `written` bool[P] into a column [N, ...] of the cache at `index` i32[P]."""
    mask = written.reshape(-1, *[1] * (rows.ndim - 1))
    return column.at[index].set(jnp.where(mask, rows, column[index]))


def restore(column: jax.Array, index: jax.Array, hit: jax.Array, fresh: jax.Array) -> jax.Array:
    """Rows [P, ...] for the samples `index`: from the cache where they are hits, from `fresh` [P, ...] elsewhere."""
    mask = hit.reshape(-1, *[1] * (fresh.ndim - 1))
    return jnp.where(mask, column[index], fresh)


def behind(held: jax.Array, stamp: jax.Array, keep: jax.Array) -> jax.Array:
    """Which participants' copies differ from the server's entries before the list's commit, bool[M, P].

    Two catch-up packages are made of this. The one that is sent has the labels of the hits (`wire` ledger). The
    reference's has a label for each entry that is not empty, and an emptying mark for each that is (`catch_up_counts`).

    Args:
      held: i32[M, P] stamp of each participant's copy of the listed samples, -1 if it has none.
      stamp: i32[P] the server's stamps before the commit.
      keep: bool[P] whether the sample is part of the list.
    """
    return (held != stamp) & keep


class CatchUp(NamedTuple):
    """Number of catch-up entries for one list, by participant."""

    entries: jax.Array  # i32[M] hits of which the copy is missing or older: these are sent (`wire` ledger)
    updates: jax.Array  # i32[M] labels in the reference's package (`reference` ledger)
    stale: jax.Array  # i32[M] emptying marks in the reference's package


def catch_up_counts(behind: jax.Array, stamp: jax.Array, hit: jax.Array) -> CatchUp:
    """Sizes of the catch-up packages.

    Args:
      behind: bool[M, P] see `behind`.
      stamp: i32[P] the server's stamps before the list's commit.
      hit: bool[P] of the list.
    """
    # One matrix product instead of three sums along rows, for which a CPU takes several times as long. It is exact,
    # because it adds zeros and ones.
    kinds = jnp.stack([hit, stamp != EMPTY, stamp == EMPTY], 1)
    counts = behind.astype(jnp.float32) @ kinds.astype(jnp.float32)
    return CatchUp(*counts.T.astype(jnp.int32))
