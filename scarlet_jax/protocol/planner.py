"""The protocol of a federation without its models: what every round requests, serves, repairs and sends.

Participants, draws and cache decisions are those of the training run with the same config, because they come from the
same functions (`scarlet_jax.protocol.round`). `python -m scarlet_jax.plan` prints what is computed here.

What data would decide is assumed: which share of the requests each participant answers, and which share of the
requested samples gets a label that is kept. Both are 1 but for methods that select.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from scarlet_jax import build
from scarlet_jax.engine import fleet
from scarlet_jax.engine.population import draw_participants
from scarlet_jax.errors import UserError, bad_field
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.options import fields
from scarlet_jax.options.rules import validate
from scarlet_jax.preview import memory
from scarlet_jax.protocol import cache as caching
from scarlet_jax.protocol import ledger as comm
from scarlet_jax.protocol.round import Protocol, draw_public
from scarlet_jax.types import Labels


class PlanResult(NamedTuple):
    """What a federation sends in R rounds. Bytes are summed over the participants of a round."""

    duration: int  # D
    on_expiry: str
    participants: int  # M
    public_size: int  # N, validation part removed
    requested: np.ndarray  # i64[R] public samples requested
    hit: np.ndarray  # i64[R] public samples served from the cache
    stale: np.ndarray  # i64[R] those that had expired; part of requested
    caught_up: np.ndarray  # i64[R] catch-up entries, sum over the participants
    uplink_bytes: dict[str, np.ndarray]  # ledger -> i64[R]
    downlink_bytes: dict[str, np.ndarray]  # ledger -> i64[R]

    @property
    def requested_share(self) -> float:
        """Share of the drawn labels that clients had to send."""
        return float(np.sum(self.requested) / np.sum(self.requested + self.hit))

    def total(self, ledger: str) -> comm.Bytes:
        """Bytes of all rounds, in Python integers."""
        return comm.Bytes(sum(self.uplink_bytes[ledger].tolist()), sum(self.downlink_bytes[ledger].tolist()))


class Shares(NamedTuple):
    """What stands in for the data of a method that selects."""

    inlier: float = 1.0  # of a round's requests that each participant answers, rounded
    kept: float = 1.0  # of the requested samples whose label goes on, at random


def simulate(config: config_dict.ConfigDict, num_classes: int, shares: Shares | None = None) -> PlanResult:
    """Run the protocol of a config, without data and training.

    Args:
      config: of configs/base.py's fields.
      num_classes: C of the private data.
      shares: for methods that select, see `Planner`.

    Raises:
      UserError: the config cannot be run; one sentence.
    """
    return Planner(config, num_classes, shares).run()


class Planner:
    """The protocol of a config and of its variants, which share the draws of the public samples.

    Args:
      config: of configs/base.py's fields; it is validated.
      num_classes: C of the private data.
      shares: of what a selecting method sends and keeps; None: all.

    Raises:
      UserError: the config cannot be run, or shares are given for a method that does not select; one sentence.
    """

    def __init__(self, config: config_dict.ConfigDict, num_classes: int, shares: Shares | None = None):
        config = fields.plain(config)
        validate(config)
        build.check(config)
        self._method = build.make_method(config)
        self.selects = self._method.answers
        self.shares = _checked(shares, self.selects, config.method.name)
        self._settings = build.settings(config, self._method, num_classes)
        self.rounds: int = config.rounds
        self.public_size = fields.kept(config.public_size, config.public_val_ratio)
        self.duration = int(self._settings.duration)
        self.on_expiry: str = config.cache.on_expiry
        self.num_clients: int = config.num_clients
        self.participants = build.num_participants(config)
        self._drawn_ids: dict[int, jax.Array] = {}
        self._scans: dict[tuple[Any, ...], Callable[..., list[comm.Counts]]] = {}

    def run(self) -> PlanResult:
        """Simulate the config itself."""
        return self.variants(self.duration, self.on_expiry, [self.participants])[0]

    def variants(self, duration: int, on_expiry: str, participants: Sequence[int]) -> list[PlanResult]:
        """Simulate other values of D and of the expiry policy, for several M at once: they share the server's cache."""
        # Where all take part nobody ever misses a list, and without a cache there is nothing to miss: then no
        # participant needs catching up, all receive the same, and one stands for all.
        alike = [duration == 0 or m == self._settings.num_clients for m in participants]
        self._check_memory([m for m, same in zip(participants, alike, strict=True) if not same], memory.host_limit())
        ids = [_alone(self.rounds) if same else self._ids(m) for m, same in zip(participants, alike, strict=True)]
        clients = tuple(1 if same else self._settings.num_clients for same in alike)
        scan = self._scan(on_expiry, duration > 0, clients, tuple(own.shape[1] for own in ids))
        counted = jax.device_get(scan(jnp.int32(duration), jnp.arange(self.rounds), self._draws, ids))
        return [
            self._bill(counts, duration, on_expiry, m, m if same else 1)
            for counts, m, same in zip(counted, participants, alike, strict=True)
        ]

    def _check_memory(self, participants: Sequence[int], limit: int | None) -> None:
        """Refuse draws of all rounds, and clients' copies for each M, that do not fit into this machine's memory."""
        draws = self.rounds * (self._settings.public_per_round + sum(3 * m for m in participants))
        need = 4 * (draws + len(participants) * self.num_clients * self.public_size)
        if limit is not None and need > limit:
            raise bad_field(
                "rounds",
                self.rounds,
                "fewer, or fewer clients or public images; --notable plans the config alone",
                f"and the plan takes {need / 1e9:,.3g} GB of memory with config.num_clients = {self.num_clients}",
            )

    @functools.cached_property
    def _draws(self) -> jax.Array:
        """i32[R, P] the public samples of every round."""
        s = self._settings
        draw = functools.partial(draw_public, s.seed, size=self.public_size, per_round=s.public_per_round)
        batch_size = 16 if self.rounds >= 256 else None  # sorts faster, compiles slower; the same bits
        return jax.jit(lambda rounds: jax.lax.map(draw, rounds, batch_size=batch_size))(jnp.arange(self.rounds))

    def _ids(self, participants: int) -> jax.Array:
        """i32[R, M] the participants of every round."""
        if participants in self._drawn_ids:
            return self._drawn_ids[participants]
        # Of a layout the draw reads K and M; how clients lie on devices changes nothing.
        layout = fleet.make_layout(fleet.make_mesh(jax.devices()[:1]), self._settings.num_clients, participants, 1)
        draw = functools.partial(draw_participants, self._settings.seed, layouts=[layout])
        ids = jax.jit(lambda rounds: jax.lax.map(draw, rounds))(jnp.arange(self.rounds))
        return self._drawn_ids.setdefault(participants, ids)

    def _scan(self, on_expiry: str, cached: bool, clients: tuple[int, ...], participants: tuple[int, ...]):
        """The compiled loop over rounds; D is an argument, so that one program serves every D above 0.

        It maps D i32[], rounds i32[R], draws i32[R, P] and ids i32[R, M] of each variant to their Counts [R, ...].
        """
        key = (on_expiry, cached, clients, participants)
        if key not in self._scans:
            self._scans[key] = jax.jit(functools.partial(self._rounds, on_expiry, cached, clients))
        return self._scans[key]

    def _rounds(self, on_expiry: str, cached: bool, clients: tuple[int, ...], duration, rounds, draws, ids):
        # Rows without columns stand for the labels: only their stamps matter, and there is nothing to quantise.
        settings = self._settings._replace(duration=duration if cached else 0, on_expiry=on_expiry, label_bits=32)
        nothing = jnp.zeros((settings.public_per_round, 0))
        labels = comm.soft_label(comm.Channel(0, 32, True))
        protocols = [Protocol(settings._replace(num_clients=k), (), self.public_size) for k in clients]

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
            # What the server does is the same for every M: it depends on the draws alone.
            keep = self._kept(round_, draw.size)
            everything = jnp.ones((1, draw.size), bool)
            cache, served = protocol.serve(cache, plan, Labels(nothing, keep=keep), everything, round_, labels)
            cache, last = protocol.publish(cache, served, served.target)
            return (cache, after, last), counts

        first = protocols[0]
        start = (caching.init(first.entries, 0), [p.init_held() for p in protocols], first.empty_broadcast(nothing))
        return jax.lax.scan(step, start, (rounds, draws, ids))[1]

    def label_format(self, result: PlanResult) -> comm.Format:
        """What one label costs in a result of this planner."""
        return self._format(result.participants, result.duration)

    def _format(self, participants: int, duration: int) -> comm.Format:
        s, method = self._settings, self._method
        channel = comm.Channel(s.num_classes, s.label_bits, participants == s.num_clients)
        return comm.make_format(method.uplink(channel), method.downlink(channel), duration > 0, method.answers)

    def _kept(self, round_: jax.Array, size: int) -> jax.Array | None:
        """bool[P] the drawn samples whose label is kept; None: all."""
        if self.shares.kept == 1:
            return None
        return jax.random.uniform(derive(self._settings.seed, Purpose.ASSUMED, round_), (size,)) < self.shares.kept

    def _bill(self, counts: comm.Counts, duration: int, on_expiry: str, participants: int, copies: int) -> PlanResult:
        """Bytes in both ledgers; each counted participant stands for `copies`."""
        s, form = self._settings, self._format(participants, duration)
        rounds = [comm.Counts(*row) for row in zip(*counts, strict=True)]
        billed = {
            "reference": [comm.reference_bytes(row, form, s.num_classes) for row in rounds],
            "wire": [comm.wire_bytes(row, form) for row in rounds],
        }

        def column(direction: str) -> dict[str, np.ndarray]:
            values = {name: [getattr(b, direction) * copies for b in rows] for name, rows in billed.items()}
            return {name: np.array(column, np.int64) for name, column in values.items()}

        return PlanResult(
            duration=duration,
            on_expiry=on_expiry,
            participants=participants,
            public_size=self.public_size,
            requested=np.asarray(counts.requested, np.int64),
            hit=np.asarray(counts.hit, np.int64),
            stale=np.asarray(counts.stale, np.int64),
            caught_up=np.asarray(counts.caught_up, np.int64).sum(1) * copies,
            uplink_bytes=column("uplink"),
            downlink_bytes=column("downlink"),
        )


def _checked(shares: Shares | None, selects: bool, method: str) -> Shares:
    for name, value in (shares or Shares())._asdict().items():
        if not 0 <= value <= 1:
            raise UserError(f"--{name}_share is {value}; allowed is 0 to 1.")
        if shares is not None and value != 1 and not selects:
            raise UserError(f"--{name}_share is {value}, but method {method} does not select samples; leave it out.")
    return shares or Shares()


def _alone(rounds: int) -> jax.Array:
    """i32[R, 1] ids of the only client of a federation."""
    return jnp.zeros((rounds, 1), jnp.int32)
