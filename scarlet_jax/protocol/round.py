"""The protocol of a round without its models: draws, cache decisions, labels, counts. Pure functions over arrays.

The training run and `scarlet_jax.plan` share it, and the reference's traces are replayed on it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from scarlet_jax.engine import fleet
from scarlet_jax.engine.population import draw_participants
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.protocol import cache as caching
from scarlet_jax.protocol import ledger
from scarlet_jax.types import Labels


class Settings(NamedTuple):
    """What a federation needs to know beside its method and models."""

    seed: int
    num_clients: int  # K
    public_per_round: int  # P
    num_classes: int  # C
    duration: int | jax.Array  # D; a traced one is taken to be above 0
    on_expiry: str
    cache_ratio: float
    label_bits: int


class Broadcast(NamedTuple):
    """What the server sent after a round; participants apply it in the next one. List order, kept samples first."""

    samples: jax.Array  # i32[P]
    payload: jax.Array  # f32[P, ...] restored for hits, so every participant's after catch-up
    keep: jax.Array  # bool[P] True for the first `size` entries
    hit: jax.Array  # bool[P]
    stamp: jax.Array  # i32[P] before the commit


class Served(NamedTuple):
    """A round's list, before its payload is known. List order, kept samples first."""

    samples: jax.Array  # i32[P]
    target: jax.Array  # f32[P, C] what the server distils from
    keep: jax.Array  # bool[P]
    hit: jax.Array  # bool[P]
    stamp: jax.Array  # i32[P] before the commit
    written: jax.Array  # bool[P] new entries of the cache
    order: jax.Array  # i32[P] position of each in the draw


class Plan(NamedTuple):
    """What a round is going to do, decided before anything runs."""

    ids: jax.Array  # i32[M] participants, ascending
    draw: jax.Array  # i32[P] public samples
    lookup: caching.Lookup  # of the draw
    behind: jax.Array  # bool[M, P] copies of the previous broadcast's samples that need catching up


def draw_public(seed: int, round_: jax.Array, size: int, per_round: int) -> jax.Array:
    """The public samples of a round, i32[P] of N without replacement."""
    # One sort of random words; should two of 2^32 be equal, the lower sample comes first.
    order = jnp.argsort(jax.random.bits(derive(seed, Purpose.DRAW, round_), (size,), jnp.uint32), stable=True)
    return order[:per_round].astype(jnp.int32)


class Protocol(NamedTuple):
    """Draws, cache and counts of a round, without models: shared by the training run and `scarlet_jax.plan`."""

    settings: Settings
    layouts: tuple[fleet.Layout, ...]
    public_size: int
    target_is_payload: bool = True  # whether clients are sent what the server distils from

    @property
    def cached(self) -> bool:
        """Whether there is a cache: known when a program is built, even where D itself is an argument of it."""
        return isinstance(self.settings.duration, jax.Array) or self.settings.duration > 0

    @property
    def entries(self) -> int:
        """Entries of the cache: N, or none without a cache."""
        return self.public_size if self.cached else 0

    def init_held(self) -> jax.Array:
        """i32[K, entries]: nobody holds a copy."""
        return jnp.full((self.settings.num_clients, self.entries), caching.EMPTY, jnp.int32)

    def empty_broadcast(self, payload: jax.Array) -> Broadcast:
        """The broadcast before round 0: a list of no samples. `payload` [P, ...] gives the shape."""
        none = jnp.zeros(self.settings.public_per_round, bool)
        index = jnp.arange(none.size, dtype=jnp.int32)
        return Broadcast(index, payload, none, none, jnp.full(none.size, caching.EMPTY, jnp.int32))

    def plan(self, round_: jax.Array, stamp: jax.Array, held: jax.Array, last: Broadcast) -> tuple[Plan, jax.Array]:
        """Decide round r; bring the participants' copies up to date with the list they are about to use.

        Returns:
          The plan, and i32[K, entries] the stamps held once the participants have applied the last broadcast.
        """
        s = self.settings
        ids = draw_participants(s.seed, round_, self.layouts)
        draw = draw_public(s.seed, round_, self.public_size, s.public_per_round)
        return self.plan_for(ids, draw, round_, stamp, held, last)

    def plan_for(
        self, ids: jax.Array, draw: jax.Array, round_: jax.Array, stamp: jax.Array, held: jax.Array, last: Broadcast
    ) -> tuple[Plan, jax.Array]:
        """`plan`, for given participants and samples."""
        s = self.settings
        if not self.cached:
            nothing = jnp.zeros(draw.size, bool)
            lookup = caching.Lookup(jnp.full(draw.size, caching.EMPTY, jnp.int32), nothing, nothing)
            return Plan(ids, draw, lookup, jnp.zeros((ids.size, draw.size), bool)), held
        own = held[ids[:, None], last.samples[None, :]]
        behind = caching.behind(own, last.stamp, last.keep)
        # Everything compared instead of M x P entries scattered, which takes a CPU longer.
        takes_part = jnp.zeros(held.shape[0], bool).at[ids].set(True)
        listed = jnp.zeros(stamp.size, bool).at[last.samples].set(last.keep)
        held = jnp.where(takes_part[:, None] & listed, stamp, held)
        return Plan(ids, draw, caching.plan(stamp, draw, round_, s.duration), behind), held

    def commit(
        self, cache: caching.Cache, plan: Plan, keep: jax.Array, round_: jax.Array
    ) -> tuple[caching.Cache, jax.Array]:
        """New stamps after round r, and bool[P] the drawn samples whose labels are to be stored."""
        s, lookup = self.settings, plan.lookup
        if not self.cached:
            return cache, jnp.zeros(plan.draw.shape, bool)
        empty = keep & (lookup.stamp == caching.EMPTY)
        chosen = caching.choose_new(derive(s.seed, Purpose.CACHE, round_), empty, s.cache_ratio)
        return caching.commit(cache, plan.draw, lookup, keep, chosen, round_, s.on_expiry)

    def serve(
        self,
        cache: caching.Cache,
        plan: Plan,
        labels: Labels,
        sent: jax.Array,
        round_: jax.Array,
        downlink: ledger.Codec,
    ) -> tuple[caching.Cache, Served]:
        """Merge a round's labels with the cache, commit them, and lay out the list that everyone distils from.

        Args:
          cache: before the round.
          plan: of the round.
          labels: what the method made of the uploads, in drawn order.
          sent: bool[M, P] the labels that were uploaded.
          round_: i32[] r.
          downlink: encodes a target that is itself what is broadcast, so that both sides distil from the same rows.

        Returns:
          The cache after the commit (payloads that are not the target follow in `publish`), and the list.
        """
        hit, draw = plan.lookup.hit, plan.draw
        answered = jnp.any(sent, 0) if labels.keep is None else jnp.any(sent, 0) & labels.keep
        keep = hit | answered
        cache, written = self.commit(cache, plan, keep, round_)
        target = downlink.encode(labels.target) if self.target_is_payload else labels.target
        if self.cached:
            target = caching.restore(cache.target, draw, hit, target)
            cache = cache._replace(target=caching.store(cache.target, draw, written, target))
        order = caching.list_order(hit, keep)
        stamp = plan.lookup.stamp[order]
        return cache, Served(draw[order], target[order], keep[order], hit[order], stamp, written[order], order)

    def publish(self, cache: caching.Cache, served: Served, payload: jax.Array) -> tuple[caching.Cache, Broadcast]:
        """Form the broadcast from the payloads [P, ...] of the list, and store those of new entries."""
        if self.cached and not self.target_is_payload:
            assert cache.payload is not None
            payload = caching.restore(cache.payload, served.samples, served.hit, payload)
            column = caching.store(cache.payload, served.samples, served.written, payload)
            cache = cache._replace(payload=column)
        return cache, Broadcast(served.samples, payload, served.keep, served.hit, served.stamp)

    def counts(self, plan: Plan, sent: jax.Array, last: Broadcast) -> ledger.Counts:
        """Integers of round r for the ledgers. `sent` bool[M, P]: the labels that were uploaded."""

        def total(mask, axis=None):
            return jnp.sum(mask, axis=axis, dtype=jnp.int32)

        catch_up = caching.catch_up_counts(plan.behind, last.stamp, last.hit)
        return ledger.Counts(
            requested=total(~plan.lookup.hit),
            hit=total(plan.lookup.hit),
            stale=total(plan.lookup.stale),
            sent=total(sent, 1),
            listed=total(last.keep),
            fresh=total(last.keep & ~last.hit),
            caught_up=catch_up.entries,
            updates=catch_up.updates,
            stale_marks=catch_up.stale,
        )
