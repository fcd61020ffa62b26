"""The protocol of a round without its models: draws, cache decisions, labels, counts. Pure functions over arrays.

The training run and the byte planner both use it, and the tests replay the reference's traces on it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from scarlet_jax.keys import Purpose, derive
from scarlet_jax.protocol import label_cache, ledger
from scarlet_jax.protocol.draws import Draws
from scarlet_jax.protocol.sharpen import masked_mean


class Settings(NamedTuple):
    """The numbers that the protocol depends on, besides its draws."""

    num_classes: int  # C
    duration: int | jax.Array = 0  # D; 0 is no cache; a traced D must be above 0
    on_expiry: str = "drop"
    cache_ratio: float = 1.0
    label_bits: int = 32


class Uploads(NamedTuple):
    """What the participants of a round sent, from which a method aggregates labels."""

    probs: jax.Array  # f32[M, P, C] soft labels as they arrived, one row per participant and drawn sample
    sent: jax.Array  # bool[M, P] which of them were uploaded; the other rows must not be used
    round: jax.Array  # i32[] r
    key: jax.Array  # PRNG key of this round's aggregation
    samples: jax.Array  # i32[P] the drawn public samples
    ids: jax.Array  # i32[M] the participants, ascending

    def mean(self) -> jax.Array:
        """Mean over the clients that sent a label for the sample, f32[P, C]; the uniform row if no client did."""
        return masked_mean(self.probs, self.sent)


class Labels(NamedTuple):
    """What a method aggregates from the uploads of a round."""

    target: jax.Array  # f32[P, C] the teacher that the server distils from
    payload: jax.Array | None = None  # f32[P, ...] what is broadcast; None: the target
    keep: jax.Array | None = None  # bool[P] False drops a sample from the round's list; None drops none


class Broadcast(NamedTuple):
    """What the server sends after a round and participants use in the next one, in the order of the list.

    Samples that are not kept come last. They are not part of the list.
    """

    samples: jax.Array  # i32[P]
    payload: jax.Array  # f32[P, ...] what every participant has after catch-up: for hits, the cached payload
    keep: jax.Array  # bool[P] whether the sample is part of the list
    hit: jax.Array  # bool[P]
    stamp: jax.Array  # i32[P] before the commit


class Served(NamedTuple):
    """The list of a round before its payload is known; samples that are not kept come last."""

    samples: jax.Array  # i32[P]
    target: jax.Array  # f32[P, C] what the server distils from
    keep: jax.Array  # bool[P]
    hit: jax.Array  # bool[P]
    stamp: jax.Array  # i32[P] before the commit
    written: jax.Array  # bool[P] samples whose labels enter the cache
    order: jax.Array  # i32[P] position of each sample in the draw


class Plan(NamedTuple):
    """The decisions of a round, made before any model runs."""

    ids: jax.Array  # i32[M] participants, ascending
    draw: jax.Array  # i32[P] public samples
    lookup: label_cache.Lookup  # of the draw
    order: jax.Array  # i32[P] positions in the draw: requested samples as drawn, then hits as drawn
    place: jax.Array  # i32[P] the inverse permutation: the position of each drawn sample in `order`
    behind: jax.Array  # bool[M, P] the previous broadcast's samples of which a participant's copy is out of date


class Protocol(NamedTuple):
    """Cache and counts of a round, without models."""

    draws: Draws
    settings: Settings
    target_is_payload: bool = True  # whether clients receive exactly what the server distils from

    @property
    def cached(self) -> bool:
        """Whether there is a cache. This is static even if D itself is an argument of the compiled program."""
        return isinstance(self.settings.duration, jax.Array) or self.settings.duration > 0

    @property
    def entries(self) -> int:
        """Number of entries of the cache: N, or 0 without a cache."""
        return self.draws.public_size if self.cached else 0

    def init_held(self) -> jax.Array:
        """The stamps of the clients' copies before round 0, i32[K, entries]: no client has a copy."""
        return jnp.full((self.draws.num_clients, self.entries), label_cache.EMPTY, jnp.int32)

    def empty_broadcast(self, payload: jax.Array) -> Broadcast:
        """The broadcast before round 0, whose list is empty. `payload` [P, ...] gives the shape."""
        none = jnp.zeros(self.draws.public_per_round, bool)
        index = jnp.arange(none.size, dtype=jnp.int32)
        return Broadcast(index, payload, none, none, jnp.full(none.size, label_cache.EMPTY, jnp.int32))

    def plan(self, round_: jax.Array, stamp: jax.Array, held: jax.Array, last: Broadcast) -> tuple[Plan, jax.Array]:
        """Make the decisions of a round, and bring the participants' copies up to date with the previous list.

        Args:
          round_: i32[] r.
          stamp: i32[N] of the server's cache.
          held: i32[K, entries] stamps of the clients' copies.
          last: the broadcast of round r - 1.

        Returns:
          The plan, and the stamps of the copies after the participants have applied the broadcast, i32[K, entries].
        """
        ids, draw = self.draws.participants(round_), self.draws.public(round_)
        return self.plan_for(ids, draw, round_, stamp, held, last)

    def plan_for(
        self, ids: jax.Array, draw: jax.Array, round_: jax.Array, stamp: jax.Array, held: jax.Array, last: Broadcast
    ) -> tuple[Plan, jax.Array]:
        """`plan` for given participants i32[M] and public samples i32[P]."""
        if not self.cached:
            nothing = jnp.zeros(draw.size, bool)
            lookup = label_cache.Lookup(jnp.full(draw.size, label_cache.EMPTY, jnp.int32), nothing, nothing)
            drawn = jnp.arange(draw.size, dtype=jnp.int32)
            return Plan(ids, draw, lookup, drawn, drawn, jnp.zeros((ids.size, draw.size), bool)), held
        own = held[ids[:, None], last.samples[None, :]]
        behind = label_cache.behind(own, last.stamp, last.keep)
        # Selecting among all entries is faster on a CPU than scattering M x P of them.
        takes_part = jnp.zeros(held.shape[0], bool).at[ids].set(True)
        listed = jnp.zeros(stamp.size, bool).at[last.samples].set(last.keep)
        held = jnp.where(takes_part[:, None] & listed, stamp, held)
        lookup = label_cache.look_up(stamp, draw, round_, self.settings.duration)
        order, place = label_cache.requested_first(lookup.hit)
        return Plan(ids, draw, lookup, order, place, behind), held

    def commit(
        self, cache: label_cache.Cache, plan: Plan, keep: jax.Array, round_: jax.Array
    ) -> tuple[label_cache.Cache, jax.Array]:
        """The cache with the stamps after round r, and bool[P]: the drawn samples whose labels are to be written."""
        s, lookup = self.settings, plan.lookup
        if not self.cached:
            return cache, jnp.zeros(plan.draw.shape, bool)
        empty = keep & (lookup.stamp == label_cache.EMPTY)
        chosen = label_cache.choose_new(derive(self.draws.seed, Purpose.CACHE, round_), empty, s.cache_ratio)
        return label_cache.commit(cache, plan.draw, lookup, keep, chosen, round_, s.on_expiry)

    def serve(
        self,
        cache: label_cache.Cache,
        plan: Plan,
        labels: Labels,
        sent: jax.Array,
        round_: jax.Array,
        downlink: ledger.Codec,
    ) -> tuple[label_cache.Cache, Served]:
        """Merge the labels of a round with the cache, update the cache, and form the list that all models distil from.

        Args:
          cache: before the round.
          plan: of the round.
          labels: what the method aggregated, in drawn order.
          sent: bool[M, P] the labels that were uploaded.
          round_: i32[] r.
          downlink: encodes the target if that is what is broadcast, so that server and clients distil from the same
            rows.

        Returns:
          The cache after the commit, and the list. Payloads that are not the target are written later, by `publish`.
        """
        hit, draw = plan.lookup.hit, plan.draw
        answered = jnp.any(sent, 0) if labels.keep is None else jnp.any(sent, 0) & labels.keep
        keep = hit | answered
        cache, written = self.commit(cache, plan, keep, round_)
        target = downlink.encode(labels.target) if self.target_is_payload else labels.target
        if self.cached:
            target = label_cache.restore(cache.target, draw, hit, target)
            cache = cache._replace(target=label_cache.write(cache.target, draw, written, target))
        order = label_cache.dropped_last(plan.order, keep)
        stamp = plan.lookup.stamp[order]
        return cache, Served(draw[order], target[order], keep[order], hit[order], stamp, written[order], order)

    def publish(
        self, cache: label_cache.Cache, served: Served, payload: jax.Array
    ) -> tuple[label_cache.Cache, Broadcast]:
        """Form the broadcast from the payloads [P, ...] of the list, and write those of new entries into the cache."""
        if self.cached and not self.target_is_payload:
            assert cache.payload is not None
            payload = label_cache.restore(cache.payload, served.samples, served.hit, payload)
            column = label_cache.write(cache.payload, served.samples, served.written, payload)
            cache = cache._replace(payload=column)
        return cache, Broadcast(served.samples, payload, served.keep, served.hit, served.stamp)

    def counts(self, plan: Plan, sent: jax.Array, last: Broadcast) -> ledger.Counts:
        """Count what the ledgers bill.

        Args:
          plan: of the round.
          sent: bool[M, P] the labels that were uploaded.
          last: the broadcast of the previous round.
        """

        def total(mask, axis=None):
            return jnp.sum(mask, axis=axis, dtype=jnp.int32)

        catch_up = label_cache.catch_up_counts(plan.behind, last.stamp, last.hit)
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
