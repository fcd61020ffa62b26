"""Method -> Algorithm: the one round shared by all distillation methods.

A round is four jitted phases, dispatched without host synchronisation: plan (participants, draw, cache lookup),
clients (block by block: distil from the last broadcast, train, predict), server (aggregate, commit, distil, publish,
count) and, when due, evaluation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scarlet_jax.engine import fleet, phases
from scarlet_jax.engine.phases import Phase
from scarlet_jax.engine.population import Group, client_id
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.methods.setup import Setup
from scarlet_jax.protocol import cache as caching
from scarlet_jax.protocol import ledger
from scarlet_jax.protocol.round import Broadcast, Plan, Protocol, Settings
from scarlet_jax.protocol.sharpen import entropy, masked_mean, sum_over_clients
from scarlet_jax.types import Algorithm, Data, Labels, Method, ModelState, RoundReport


class State(NamedTuple):
    """Everything a run carries from round to round."""

    round: jax.Array  # i32[] the round that comes next
    clients: tuple[ModelState, ...]  # per group, [stored, ...]
    server: ModelState
    cache: caching.Cache  # of N entries; of none without a cache
    held: jax.Array  # i32[K, N] stamp of the copy each client holds; i32[K, 0] without a cache
    choice: jax.Array  # u8[K, entries] what each client made of its copy (`Method.decode`); u8[K, 0] otherwise
    broadcast: Broadcast


def make(method: Method, setup: Setup, settings: Settings) -> Algorithm:
    """The Algorithm of a distillation method."""
    federation = _Federation(method, setup, settings)
    return setup.algorithm(federation.start, federation.round, federation.bill)


class _Federation:
    """The compiled phases of a run. Holds no arrays but the method's constants."""

    def __init__(self, method: Method, setup: Setup, settings: Settings):
        self.method, self.population, self.settings = method, setup.population, settings
        population, data = setup.population, setup.data
        channel = ledger.Channel(settings.num_classes, settings.label_bits, all(x.full for x in population.layouts))
        self.uplink, self.downlink = method.uplink(channel), method.downlink(channel)
        self.constants = phases.put(method.setup(settings.seed, data), population.replicated)
        sample = jax.eval_shape(self._aggregated)
        self.protocol = Protocol(
            settings, population.layouts, data.public_image.shape[0], sample.payload is None and method.publish is None
        )
        self.payload_shape = (settings.num_classes,) if sample.payload is None else sample.payload.shape[1:]
        self.format = ledger.make_format(self.uplink, self.downlink, self.protocol.cached, method.answers)
        self._plan = Phase("plan", self._plan_phase, donate_argnums=2, out_shardings=population.replicated)
        self._fleets = [
            fleet.Fleet(self._one_client(group), group.layout, f"train {group.name}") for group in population.groups
        ]
        self._server = Phase(
            "server", self._server_phase, donate_argnums=(0, 1, 2, 3), out_shardings=population.replicated
        )

    def start(self, clients: tuple[ModelState, ...], server: ModelState) -> State:
        """The state before round 0."""
        s, protocol = self.settings, self.protocol
        separate = None if protocol.target_is_payload else self.payload_shape
        cache = caching.init(protocol.entries, s.num_classes, separate)
        choice = jnp.zeros((s.num_clients, protocol.entries if self.method.decode else 0), jnp.uint8)
        last = protocol.empty_broadcast(jnp.zeros((s.public_per_round, *self.payload_shape)))
        return State(jnp.int32(0), clients, server, cache, protocol.init_held(), choice, last)

    def round(self, state: State, data: Data, progress=None) -> tuple[State, RoundReport]:
        """One round. Dispatches everything and returns at once; the arguments' buffers are reused."""
        plan, held, ids = self._plan(state.round, state.cache.stamp, state.held, state.broadcast)
        clients, outputs = [], []
        for run, models, own in zip(self._fleets, state.clients, ids, strict=True):
            models, output = run(models, own, state.round, state.broadcast, plan, state.choice, data, progress=progress)
            clients.append(models)
            outputs.append(output)
        server, cache, choice, last, next_round, report = self._server(
            state.server, state.cache, state.choice, state.broadcast, state.round, plan, outputs, self.constants, data
        )
        return State(next_round, tuple(clients), server, cache, held, choice, last), report

    def bill(self, report: RoundReport) -> dict[str, ledger.Bytes]:
        """Bytes of a round in every ledger."""
        counts = report.counts
        assert counts is not None
        return {
            "reference": ledger.reference_bytes(counts, self.format, self.settings.num_classes),
            "wire": ledger.wire_bytes(counts, self.format),
        }

    def _aggregated(self) -> Labels:
        """For its shapes only."""
        s = self.settings
        participants = sum(layout.participants for layout in self.population.layouts)
        probs = jnp.full((participants, s.public_per_round, s.num_classes), 1 / s.num_classes)
        return self._aggregate(self.constants, jnp.int32(0), probs, jnp.ones(probs.shape[:2], bool))

    def _aggregate(self, constants, round_, probs, sent) -> Labels:
        key = derive(self.settings.seed, Purpose.AGGREGATE, round_)
        return self.method.aggregate(constants, key, round_, probs, sent)

    def _plan_phase(self, round_, stamp, held, last):
        plan, held = self.protocol.plan(round_, stamp, held, last)
        return plan, held, self.population.local_ids(plan.ids)

    def _one_client(self, group: Group):
        learner, seed, method = group.learner, self.settings.seed, self.method

        def client(model: ModelState, local_id, active, round_, last: Broadcast, plan: Plan, choice, data: Data):
            """Steps 2 to 4 of a round for one client; an inactive one trains on nothing."""
            number = client_id(group, local_id)

            def key(purpose):
                return derive(seed, purpose, round_, number)

            target, chosen = last.payload, None
            if method.decode is not None:
                kept = jnp.sum(last.keep)
                own = learner.predict(model, data.public_image, last.samples, key(Purpose.DECODE), kept)
                before = (
                    choice[number, last.samples] if self.protocol.cached else jnp.zeros(last.samples.shape, jnp.uint8)
                )
                position = jnp.searchsorted(plan.ids, number)
                fresh = ~last.hit | plan.behind[jnp.minimum(position, plan.ids.size - 1)]
                target, chosen = method.decode(last.payload, own, before, fresh)
            listed = jnp.where(active, jnp.sum(last.keep), 0)
            model, kd = learner.distil(model, key(Purpose.DISTIL), data.public_image, last.samples, target, listed)
            size = jnp.where(active, data.train.size[number], 0)
            rows = data.train.rows[number]
            model, fit = learner.fit(model, key(Purpose.FIT), data.private_image, data.private_label, rows, size)
            # What the cache serves comes last, where it is not computed.
            order, asked = jnp.argsort(plan.lookup.hit, stable=True), jnp.sum(~plan.lookup.hit)
            probs = learner.predict(model, data.public_image, plan.draw[order], key(Purpose.PREDICT), asked)
            probs = probs[jnp.argsort(order)]
            return model, (probs, chosen, kd.loss, fit.loss, fit.accuracy)

        return client

    def _server_phase(self, server, cache, choice, last, round_, plan, outputs, constants, data: Data):
        s, method, protocol = self.settings, self.method, self.protocol
        probs, chosen, kd_loss, fit_loss, fit_accuracy = self.population.in_client_order(outputs)
        if method.decode is not None and protocol.cached:
            place = plan.ids[:, None], last.samples[None, :]
            choice = choice.at[place].set(jnp.where(last.keep, chosen, choice[place]))
        probs = self.uplink.encode(probs)
        sent = jnp.broadcast_to(~plan.lookup.hit, probs.shape[:2])
        if method.sends is not None:
            sent = sent & method.sends(constants)[plan.ids[:, None], plan.draw[None, :]]
        labels = self._aggregate(constants, round_, probs, sent)
        cache, served = protocol.serve(cache, plan, labels, sent, round_, self.downlink)
        learner: Any = self.population.server
        key = derive(s.seed, Purpose.SERVER_DISTIL, round_)
        record = method.publish is not None
        server, kd = learner.distil(
            server, key, data.public_image, served.samples, served.target, jnp.sum(served.keep), record
        )
        if protocol.target_is_payload:
            payload = served.target
        else:
            own: Any = labels.payload
            made = own[served.order] if method.publish is None else method.publish(kd.outputs)
            payload = self.downlink.encode(made)
        counts = protocol.counts(plan, sent, last)
        cache, last = protocol.publish(cache, served, payload)
        report = RoundReport(
            participants=plan.ids,
            counts=counts,
            fit_loss=fit_loss,
            fit_accuracy=fit_accuracy,
            kd_loss=kd_loss,
            server_kd_loss=kd.loss,
            target_entropy=_mean(entropy(served.target), served.keep),
            disagreement=disagreement(probs, sent),
        )
        return server, cache, choice, last, round_ + 1, report


def disagreement(probs: jax.Array, sent: jax.Array) -> jax.Array:
    """Generalised Jensen-Shannon divergence among the senders, mean over answered samples, in nats.

    Args:
      probs: f32[M, P, C].
      sent: bool[M, P].
    """
    count = jnp.maximum(jnp.sum(sent, 0), 1)
    own = sum_over_clients(lambda p, s: jnp.where(s, entropy(p), 0), probs, sent) / count
    return _mean(entropy(masked_mean(probs, sent)) - own, jnp.any(sent, 0))


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)
