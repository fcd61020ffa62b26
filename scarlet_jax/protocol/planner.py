"""The byte planner: computes the protocol of all rounds without models, and what each round requests and sends.

Participants, draws and cache decisions are those of the training run with the same config, because they come from the
same functions (`draws`, `round`). `python -m scarlet_jax.plan` prints what is computed here.

Two things depend on the data and are assumed: the share of the requests that each participant answers, and the share
of the requested samples whose label is kept. Both are 1, except for methods that select.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scarlet_jax.errors import bad_field
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.protocol import label_cache, ledger
from scarlet_jax.protocol.draws import Draws, GroupSize
from scarlet_jax.protocol.round import Labels, Protocol, Settings


class Budget(NamedTuple):
    """What a federation requests and sends in R rounds. Bytes are summed over the participants of a round."""

    duration: int  # D
    on_expiry: str
    participants: int  # M
    public_size: int  # N, without the validation part
    requested: np.ndarray  # i64[R] public samples requested
    hit: np.ndarray  # i64[R] public samples served from the cache
    stale: np.ndarray  # i64[R] samples whose entry had expired; they are among the requested ones
    caught_up: np.ndarray  # i64[R] catch-up entries, sum over the participants
    uplink_bytes: dict[str, np.ndarray]  # ledger -> i64[R]
    downlink_bytes: dict[str, np.ndarray]  # ledger -> i64[R]

    @property
    def requested_share(self) -> float:
        """Share of the drawn samples whose labels clients had to send."""
        return float(np.sum(self.requested) / np.sum(self.requested + self.hit))

    def total(self, name: str) -> ledger.Bytes:
        """Bytes of all rounds in a ledger, in Python integers."""
        return ledger.Bytes(sum(self.uplink_bytes[name].tolist()), sum(self.downlink_bytes[name].tolist()))


class Shares(NamedTuple):
    """What is assumed about the data, for a method that selects."""

    inlier: float = 1.0  # share of a round's requests that each participant answers, rounded
    kept: float = 1.0  # share of the requested samples whose label is kept, chosen at random


class Planner:
    """Computes the bytes of a federation, and of variants of it with the same draws of public samples.

    Args:
      rounds: R.
      draws: of the federation.
      settings: of the protocol.
      uplink, downlink: how the method's labels travel, ledger.Channel -> ledger.Codec.
      selects: whether clients choose which requests they answer.
      cacheable: whether the method's labels can be cached.
      shares: what is assumed of a method that selects; None: everything is answered and kept.
      memory: bytes that may be used; None: any number.
    """

    def __init__(
        self,
        rounds: int,
        draws: Draws,
        settings: Settings,
        uplink: Callable[[ledger.Channel], ledger.Codec] = ledger.soft_label,
        downlink: Callable[[ledger.Channel], ledger.Codec] = ledger.soft_label,
        selects: bool = False,
        cacheable: bool = True,
        shares: Shares | None = None,
        memory: int | None = None,
    ):
        self.rounds, self.draws, self.settings = rounds, draws, settings
        self.selects, self.cacheable = selects, cacheable
        self.shares = shares or Shares()
        self.duration = int(settings.duration)
        self._uplink, self._downlink, self._memory = uplink, downlink, memory
        self._drawn_ids: dict[int, jax.Array] = {}
        self._scans: dict[tuple[Any, ...], Callable[..., list[ledger.Counts]]] = {}

    def run(self) -> Budget:
        """The federation itself."""
        return self.variants(self.duration, self.settings.on_expiry, [self.draws.num_participants])[0]

    def variants(self, duration: int, on_expiry: str, participants: Sequence[int]) -> list[Budget]:
        """The federation with another D and expiry policy, for several M at once, which share the server's cache."""
        # With full participation no client misses a list, and without a cache no client needs an earlier one. In both
        # cases no client catches up and all participants receive the same bytes: one is counted and multiplied.
        alike = [duration == 0 or m == self.draws.num_clients for m in participants]
        self._check_memory([m for m, same in zip(participants, alike, strict=True) if not same])
        ids = [_alone(self.rounds) if same else self._ids(m) for m, same in zip(participants, alike, strict=True)]
        clients = tuple(1 if same else self.draws.num_clients for same in alike)
        scan = self._scan(on_expiry, duration > 0, clients, tuple(own.shape[1] for own in ids))
        counted = jax.device_get(scan(jnp.int32(duration), jnp.arange(self.rounds), self._samples, ids))
        return [
            self._bill(counts, duration, on_expiry, m, m if same else 1)
            for counts, m, same in zip(counted, participants, alike, strict=True)
        ]

    def _check_memory(self, participants: Sequence[int]) -> None:
        """Refuse draws of all rounds, and clients' copies for each M, that do not fit into this machine's memory."""
        clients, public_size = self.draws.num_clients, self.draws.public_size
        drawn = self.rounds * (self.draws.public_per_round + sum(3 * m for m in participants))
        need = 4 * (drawn + len(participants) * clients * public_size)
        if self._memory is not None and need > self._memory:
            raise bad_field(
                "rounds",
                self.rounds,
                "fewer, or fewer clients or public images; --notable plans the config alone",
                f"and the planner takes {need / 1e9:,.3g} GB of memory with config.num_clients = {clients}",
            )

    @functools.cached_property
    def _samples(self) -> jax.Array:
        """i32[R, P] the public samples of every round."""
        batch_size = 16 if self.rounds >= 256 else None  # sorts faster but compiles slower; the bits are the same
        draw = self.draws.public
        return jax.jit(lambda rounds: jax.lax.map(draw, rounds, batch_size=batch_size))(jnp.arange(self.rounds))

    def _ids(self, participants: int) -> jax.Array:
        """i32[R, M] the participants of every round."""
        if participants not in self._drawn_ids:
            draws = self.draws
            if participants != draws.num_participants:  # another number is drawn from all clients, regardless of group
                draws = draws._replace(groups=(GroupSize(draws.num_clients, participants),), given=None)
            ids = jax.jit(lambda rounds: jax.lax.map(draws.participants, rounds))(jnp.arange(self.rounds))
            self._drawn_ids[participants] = ids
        return self._drawn_ids[participants]

    def _scan(self, on_expiry: str, cached: bool, clients: tuple[int, ...], participants: tuple[int, ...]):
        """The compiled loop over rounds. D is an argument, so that one program is enough for every D above 0.

        It maps D i32[], rounds i32[R], draws i32[R, P] and ids i32[R, M] of each variant to their Counts [R, ...].
        """
        key = (on_expiry, cached, clients, participants)
        if key not in self._scans:
            self._scans[key] = jax.jit(functools.partial(self._rounds, on_expiry, cached, clients))
        return self._scans[key]

    def _rounds(self, on_expiry: str, cached: bool, clients: tuple[int, ...], duration, rounds, draws, ids):
        # Labels are rows without columns: only stamps matter here, and nothing is quantised.
        settings = self.settings._replace(duration=duration if cached else 0, on_expiry=on_expiry, label_bits=32)
        nothing = jnp.zeros((self.draws.public_per_round, 0))
        labels = ledger.soft_label(ledger.Channel(0, 32, True))
        protocols = [Protocol(self.draws._replace(groups=(GroupSize(k, k),)), settings) for k in clients]

        def step(carry, xs):
            cache, held, last = carry
            round_, draw, ids = xs
            counts, after = [], []
            for protocol, copies, own in zip(protocols, held, ids, strict=True):
                plan, copies = protocol.plan_for(own, draw, round_, cache.stamp, copies, last)
                requested = ~plan.lookup.hit
                if self.shares.inlier != 1:
                    requested &= jnp.cumsum(requested) <= jnp.round(self.shares.inlier * jnp.sum(requested))
                sent = jnp.broadcast_to(requested, (own.size, draw.size))
                counts.append(protocol.counts(plan, sent, last))
                after.append(copies)
            # The server's cache is the same for every M, because it depends on the draws of public samples alone.
            keep = self._kept(round_, draw.size)
            everything = jnp.ones((1, draw.size), bool)
            cache, served = protocol.serve(cache, plan, Labels(nothing, keep=keep), everything, round_, labels)
            cache, last = protocol.publish(cache, served, served.target)
            return (cache, after, last), counts

        first = protocols[0]
        start = (label_cache.init(first.entries, 0), [p.init_held() for p in protocols], first.empty_broadcast(nothing))
        return jax.lax.scan(step, start, (rounds, draws, ids))[1]

    def label_format(self, result: Budget) -> ledger.Format:
        """What one label costs, for a result of this planner."""
        return self._format(result.participants, result.duration)

    def _format(self, participants: int, duration: int) -> ledger.Format:
        s = self.settings
        channel = ledger.Channel(s.num_classes, s.label_bits, participants == self.draws.num_clients)
        return ledger.make_format(self._uplink(channel), self._downlink(channel), duration > 0, self.selects)

    def _kept(self, round_: jax.Array, size: int) -> jax.Array | None:
        """bool[P] the drawn samples whose label is kept; None: all."""
        if self.shares.kept == 1:
            return None
        return jax.random.uniform(derive(self.draws.seed, Purpose.ASSUMED, round_), (size,)) < self.shares.kept

    def _bill(self, counts: ledger.Counts, duration: int, on_expiry: str, participants: int, copies: int) -> Budget:
        """Bytes in both ledgers. Each participant in `counts` stands for `copies` participants with the same bytes."""
        form = self._format(participants, duration)
        rounds = [ledger.Counts(*row) for row in zip(*counts, strict=True)]
        billed = {
            "reference": [ledger.reference_bytes(row, form, self.settings.num_classes) for row in rounds],
            "wire": [ledger.wire_bytes(row, form) for row in rounds],
        }

        def column(direction: str) -> dict[str, np.ndarray]:
            values = {name: [getattr(b, direction) * copies for b in rows] for name, rows in billed.items()}
            return {name: np.array(column, np.int64) for name, column in values.items()}

        return Budget(
            duration=duration,
            on_expiry=on_expiry,
            participants=participants,
            public_size=self.draws.public_size,
            requested=np.asarray(counts.requested, np.int64),
            hit=np.asarray(counts.hit, np.int64),
            stale=np.asarray(counts.stale, np.int64),
            caught_up=np.asarray(counts.caught_up, np.int64).sum(1) * copies,
            uplink_bytes=column("uplink"),
            downlink_bytes=column("downlink"),
        )


def _alone(rounds: int) -> jax.Array:
    """The participants of a federation of one client, i32[R, 1]."""
    return jnp.zeros((rounds, 1), jnp.int32)
