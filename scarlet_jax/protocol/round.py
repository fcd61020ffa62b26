"""The protocol of a round without its models: draws, cache decisions, labels, counts. Pure functions over arrays.

The training run and `scarlet_jax.plan` share it, and the reference's traces are replayed on it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from scarlet_jax.keys import Purpose, derive
from scarlet_jax.protocol import cache as caching
from scarlet_jax.protocol import ledger
from scarlet_jax.protocol.draws import Draws
from scarlet_jax.protocol.sharpen import masked_mean


class Settings(NamedTuple):
    """The numbers of the protocol beside its draws."""

    num_classes: int  # C
    duration: int | jax.Array = 0  # D; 0 is no cache; a traced D is taken to be above 0
    on_expiry: str = "drop"
    cache_ratio: float = 1.0
    label_bits: int = 32


class Uploads(NamedTuple):
    """What a round's participants sent: all that a method aggregates."""

    probs: jax.Array  # f32[M, P, C] soft labels as they arrived, one row per participant and drawn sample
    sent: jax.Array  # bool[M, P] which of them were uploaded; the other rows do not count
    round: jax.Array  # i32[] r
    key: jax.Array  # PRNG key of this round's aggregation
    samples: jax.Array  # i32[P] the drawn public samples

    def mean(self) -> jax.Array:
        """Mean over the clients that sent a label for the sample, f32[P, C]; uniform where nobody did."""
        return masked_mean(self.probs, self.sent)


class Labels(NamedTuple):
    """What a method makes of a round's uploads."""

    target: jax.Array  # f32[P, C] the teacher the server distils from
    payload: jax.Array | None = None  # f32[P, ...] what is broadcast; None: the target
    keep: jax.Array | None = None  # bool[P] samples the round goes on with; None: all that anyone sent


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
    order: jax.Array  # i32[P] positions in the draw: requested samples as drawn, then hits as drawn
    place: jax.Array  # i32[P] the inverse: where each drawn sample stands in `order`
    behind: jax.Array  # bool[M, P] copies of the previous broadcast's samples that need catching up


class Protocol(NamedTuple):
    """Cache and counts of a round, without models: shared by the training run and the byte planner."""

    draws: Draws
    settings: Settings
    target_is_payload: bool = True  # whether clients are sent what the server distils from

    @property
    def cached(self) -> bool:
        """Whether there is a cache: known when a program is built, even where D itself is an argument of it."""
        return isinstance(self.settings.duration, jax.Array) or self.settings.duration > 0

    @property
    def entries(self) -> int:
        """Entries of the cache: N, or none without a cache."""
        return self.draws.public_size if self.cached else 0

    def init_held(self) -> jax.Array:
        """i32[K, entries]: nobody holds a copy."""
        return jnp.full((self.draws.num_clients, self.entries), caching.EMPTY, jnp.int32)

    def empty_broadcast(self, payload: jax.Array) -> Broadcast:
        """The broadcast before round 0: a list of no samples. `payload` [P, ...] gives the shape."""
        none = jnp.zeros(self.draws.public_per_round, bool)
        index = jnp.arange(none.size, dtype=jnp.int32)
        return Broadcast(index, payload, none, none, jnp.full(none.size, caching.EMPTY, jnp.int32))

    def plan(self, round_: jax.Array, stamp: jax.Array, held: jax.Array, last: Broadcast) -> tuple[Plan, jax.Array]:
        """Decide round r; bring the participants' copies up to date with the list they are about to use.

        Returns:
          The plan, and i32[K, entries] the stamps held once the participants have applied the last broadcast.
        """
        ids, draw = self.draws.participants(round_), self.draws.public(round_)
        return self.plan_for(ids, draw, round_, stamp, held, last)

    def plan_for(
        self, ids: jax.Array, draw: jax.Array, round_: jax.Array, stamp: jax.Array, held: jax.Array, last: Broadcast
    ) -> tuple[Plan, jax.Array]:
        """`plan`, for given participants and samples."""
        if not self.cached:
            nothing = jnp.zeros(draw.size, bool)
            lookup = caching.Lookup(jnp.full(draw.size, caching.EMPTY, jnp.int32), nothing, nothing)
            drawn = jnp.arange(draw.size, dtype=jnp.int32)
            return Plan(ids, draw, lookup, drawn, drawn, jnp.zeros((ids.size, draw.size), bool)), held
        own = held[ids[:, None], last.samples[None, :]]
        behind = caching.behind(own, last.stamp, last.keep)
        # Everything compared instead of M x P entries scattered, which takes a CPU longer.
        takes_part = jnp.zeros(held.shape[0], bool).at[ids].set(True)
        listed = jnp.zeros(stamp.size, bool).at[last.samples].set(last.keep)
        held = jnp.where(takes_part[:, None] & listed, stamp, held)
        lookup = caching.look_up(stamp, draw, round_, self.settings.duration)
        order, place = caching.requested_first(lookup.hit)
        return Plan(ids, draw, lookup, order, place, behind), held

    def commit(
        self, cache: caching.Cache, plan: Plan, keep: jax.Array, round_: jax.Array
    ) -> tuple[caching.Cache, jax.Array]:
        """New stamps after round r, and bool[P] the drawn samples whose labels are to be stored."""
        s, lookup = self.settings, plan.lookup
        if not self.cached:
            return cache, jnp.zeros(plan.draw.shape, bool)
        empty = keep & (lookup.stamp == caching.EMPTY)
        chosen = caching.choose_new(derive(self.draws.seed, Purpose.CACHE, round_), empty, s.cache_ratio)
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
        order = caching.dropped_last(plan.order, keep)
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
