"""The round shared by all distillation methods: makes an Algorithm of a Method.

A round is a sequence of jitted phases, dispatched without waiting for their results: "plan" (participants, draw, cache
lookup); "train" for one block of clients after another (distil from the last broadcast, train, predict); "server"
(aggregate, update the cache, distil, form the broadcast, count); and evaluation, if it is due.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scarlet_jax.engine import fleet, phases
from scarlet_jax.engine.phases import Phase
from scarlet_jax.engine.population import Group, Population
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.methods.base import Algorithm, Method, RoundReport
from scarlet_jax.metric_tables import ROUND
from scarlet_jax.protocol import label_cache, ledger
from scarlet_jax.protocol.draws import Draws
from scarlet_jax.protocol.round import Broadcast, Labels, Plan, Protocol, Served, Settings, Uploads
from scarlet_jax.tables import load
from scarlet_jax.types import Array, Data, ModelState, Numbers, PyTree


class State(NamedTuple):
    """Everything that a run carries from round to round."""

    round: jax.Array  # i32[] the round that comes next
    clients: tuple[ModelState, ...]  # per group, [stored, ...]
    server: ModelState | None  # None where the method has no server model
    cache: label_cache.Cache  # of N entries; of 0 without a cache
    held: jax.Array  # i32[K, N] stamp of each client's copy of an entry; i32[K, 0] without a cache
    choice: jax.Array  # u8[K, entries] each client's choice for its copy (`Method.decode`); u8[K, 0] if there is none
    broadcast: Broadcast
    method: PyTree  # the method's own state
    joined: jax.Array | None  # bool[K] clients that took part in an earlier round; None without `Method.warmup_epochs`


def make(
    make_method: Callable[[Numbers], Method], population: Population, draws: Draws, settings: Settings, data: Data
) -> Algorithm:
    """Make the Algorithm of a distillation method.

    Args:
      make_method: makes the method from the numbers of a run; phases call it with the numbers that they take.
      population: clients and server.
      draws: of the federation.
      settings: of the protocol.
      data: arrays, or their shapes.
    """
    federation = _Federation(make_method, population, draws, settings, data)
    return Algorithm(population, draws, population.init(federation.start), federation.round, federation.bill)


class _Federation:
    """The phases of a run. The only array it holds is `answers`."""

    def __init__(self, make_method, population: Population, draws: Draws, settings: Settings, data: Data):
        self.make_method, self.population, self.draws, self.settings = make_method, population, draws, settings
        self.method = method = make_method(population.host_numbers)  # for what does not depend on its numbers
        channel = ledger.Channel(settings.num_classes, settings.label_bits, draws.full_participation)
        self.uplink, self.downlink = method.uplink(channel), method.downlink(channel)
        self.answers = self._answers(data)  # bool[K, N] public samples that each client answers for; None: all
        sample = jax.eval_shape(self._aggregated, population.host_numbers, data)
        self.protocol = Protocol(draws, settings, sample.payload is None and method.publish is None)
        self.payload_shape = (settings.num_classes,) if sample.payload is None else sample.payload.shape[1:]
        self.format = ledger.make_format(self.uplink, self.downlink, self.protocol.cached, method.answers is not None)
        self._plan = Phase("plan", self._plan_phase, donate_argnums=3, out_shardings=population.replicated)
        self._fleets = [
            fleet.Fleet(self._one_client(group), group.layout, f"train {group.name}") for group in population.groups
        ]
        self._server = Phase(
            "server", self._server_phase, donate_argnums=(0, 1, 2, 3, 4, 5), out_shardings=population.replicated
        )

    def start(self, numbers: Numbers, clients: tuple[ModelState, ...], server: ModelState | None, data: Data) -> State:
        """The state before round 0."""
        s, protocol = self.settings, self.protocol
        separate = None if protocol.target_is_payload else self.payload_shape
        cache = label_cache.init(protocol.entries, s.num_classes, separate)
        choice = jnp.zeros((self.draws.num_clients, protocol.entries if self.method.decode else 0), jnp.uint8)
        last = protocol.empty_broadcast(jnp.zeros((self.draws.public_per_round, *self.payload_shape)))
        own = self.make_method(numbers).init(data)
        joined = jnp.zeros(self.draws.num_clients, bool) if self.method.warmup_epochs else None
        return State(jnp.int32(0), clients, server, cache, protocol.init_held(), choice, last, own, joined)

    def round(self, state: State, data: Data, progress=None) -> tuple[State, RoundReport]:
        """Compute one round. All phases are dispatched without waiting for their results; `state` is donated."""
        numbers = self.population.numbers_at(state.round)
        before = state.cache.stamp, state.held, state.broadcast, state.method
        plan, held, ids, targets = self._plan(numbers, state.round, *before)
        clients, outputs = [], []
        for run, models, own in zip(self._fleets, state.clients, ids, strict=True):
            shared = numbers, state.round, state.broadcast, plan, (targets, state.choice, state.joined), data
            models, output = run(models, own, *shared, progress=progress)
            clients.append(models)
            outputs.append(output)
        carried = state.server, state.cache, state.choice, state.broadcast, state.method, state.joined
        carried, next_round, report = self._server(*carried, numbers, state.round, plan, outputs, self.answers, data)
        server, cache, choice, last, own, joined = carried
        return State(next_round, tuple(clients), server, cache, held, choice, last, own, joined), report

    def bill(self, report: RoundReport) -> dict[str, ledger.Bytes]:
        """Bytes of a round, by ledger."""
        counts = report.counts
        assert counts is not None
        return {
            "reference": ledger.reference_bytes(counts, self.format, self.settings.num_classes),
            "wire": ledger.wire_bytes(counts, self.format),
        }

    def _answers(self, data: Data) -> Array | None:
        if self.method.answers is None:
            return None
        if phases.is_abstract(data):
            found = jax.ShapeDtypeStruct((self.draws.num_clients, self.draws.public_size), bool)
        else:
            found = self.method.answers(self.draws.seed, data)
        return phases.put(found, self.population.replicated)

    def _aggregated(self, numbers: Numbers, data: Data) -> Labels:
        """Labels aggregated from uniform rows: evaluated for their shapes only."""
        draws, classes = self.draws, self.settings.num_classes
        probs = jnp.full((draws.num_participants, draws.public_per_round, classes), 1 / classes)
        sent = jnp.ones(probs.shape[:2], bool)
        own, first = self.make_method(numbers).init(data), jnp.int32(0)
        drawn = draws.public(first), draws.participants(first)
        return self._aggregate(numbers, own, first, probs, sent, *drawn)[0]

    def _aggregate(self, numbers: Numbers, own, round_, probs, sent, samples, ids) -> tuple[Labels, PyTree]:
        key = derive(numbers.seed, Purpose.AGGREGATE, round_)
        return self.make_method(numbers).aggregate(own, Uploads(probs, sent, round_, key, samples, ids))

    def _protocol(self, numbers: Numbers) -> Protocol:
        """The protocol with the seed and the duration that a phase takes as arguments."""
        duration = 0 if numbers.duration is None else numbers.duration
        draws, settings = self.draws._replace(seed=numbers.seed), self.settings._replace(duration=duration)
        return self.protocol._replace(draws=draws, settings=settings)

    def _plan_phase(self, numbers: Numbers, round_, stamp, held, last, own):
        plan, held = self._protocol(numbers).plan(round_, stamp, held, last)
        teach, targets = self.make_method(numbers).teach, None
        if teach is not None:
            targets = self.downlink.encode(teach(own, last.payload, plan.ids))
        return plan, held, self.population.local_ids(plan.ids), targets

    def _one_client(self, group: Group):
        def client(model: ModelState, local_id, active, numbers: Numbers, round_, last, plan: Plan, known, data: Data):
            """Distil, train and predict, for one client. An inactive client trains on no images."""
            targets, choice, joined = known  # of all participants or clients
            learner, method = group.learner(numbers), self.make_method(numbers)
            number = group.layout.client_id(local_id)
            size, rows = jnp.where(active, data.train.size[number], 0), data.train.rows[number]

            def key(purpose):
                return derive(numbers.seed, purpose, round_, number)

            def place():
                """The client's position among the participants; that of another one if it is inactive."""
                return jnp.minimum(jnp.searchsorted(plan.ids, number), plan.ids.size - 1)

            def fit(model, purpose, size, epochs=None):
                own = data.private_image, data.private_label, rows, size
                return learner.fit(model, key(purpose), *own, epochs)

            if method.warmup_epochs:
                model, _ = fit(model, Purpose.WARM_UP, jnp.where(joined[number], 0, size), method.warmup_epochs)
            target, chosen = last.payload if targets is None else targets[place()], None
            if method.decode is not None:
                kept = jnp.sum(last.keep)
                own = learner.predict(model, data.public_image, last.samples, key(Purpose.DECODE), kept)
                before = (
                    choice[number, last.samples] if self.protocol.cached else jnp.zeros(last.samples.shape, jnp.uint8)
                )
                fresh = ~last.hit | plan.behind[place()]
                target, chosen = method.decode(last.payload, own, before, fresh)
            listed = jnp.where(active, jnp.sum(last.keep), 0)
            model, kd = learner.distil(model, key(Purpose.DISTIL), data.public_image, last.samples, target, listed)
            model, fitted = fit(model, Purpose.FIT, size)
            # In this order hits come last. They are not predicted, because the cache has their labels.
            asked, drawn = jnp.sum(~plan.lookup.hit), plan.draw[plan.order]
            probs = learner.predict(model, data.public_image, drawn, key(Purpose.PREDICT), asked, method.logits)
            return model, (probs[plan.place], chosen, kd.loss, fitted.loss, fitted.accuracy)

        return client

    def _server_phase(
        self, server, cache, choice, last, own, joined, numbers, round_, plan, outputs, answers, data: Data
    ):
        method, protocol = self.make_method(numbers), self._protocol(numbers)
        probs, chosen, kd_loss, fit_loss, fit_accuracy = self.population.in_client_order(outputs)
        if method.decode is not None and protocol.cached:
            place = plan.ids[:, None], last.samples[None, :]
            choice = choice.at[place].set(jnp.where(last.keep, chosen, choice[place]))
        probs = self.uplink.encode(probs)
        sent = jnp.broadcast_to(~plan.lookup.hit, probs.shape[:2])
        if answers is not None:
            sent = sent & answers[plan.ids[:, None], plan.draw[None, :]]
        labels, own = self._aggregate(numbers, own, round_, probs, sent, plan.draw, plan.ids)
        cache, served = protocol.serve(cache, plan, labels, sent, round_, self.downlink)
        server, kd = self._distil_server(numbers, server, served, round_, data)
        if protocol.target_is_payload:
            payload = served.target
        else:
            aggregated: Any = labels.payload
            made = aggregated[served.order] if method.publish is None else method.publish(kd.outputs)
            payload = made if method.teach is not None else self.downlink.encode(made)
        counts = protocol.counts(plan, sent, last)
        cache, last = protocol.publish(cache, served, payload)
        if joined is not None:
            joined = joined.at[plan.ids].set(True)
        if method.logits:
            probs, served = jax.nn.softmax(probs), served._replace(target=jax.nn.softmax(served.target))
        report = RoundReport(
            participants=plan.ids,
            counts=counts,
            fit_loss=fit_loss,
            fit_accuracy=fit_accuracy,
            kd_loss=kd_loss,
            server_kd_loss=None if kd is None else kd.loss,
            metrics={name: load(metric.value)(probs, sent, served) for name, metric in ROUND.items()},
        )
        return (server, cache, choice, last, own, joined), round_ + 1, report

    def _distil_server(
        self, numbers: Numbers, server: ModelState | None, served: Served, round_, data: Data
    ) -> tuple[ModelState | None, Any]:
        """The server model after the list of the round, and its FitMetrics; both None without a server model."""
        if server is None:
            return None, None
        make_learner: Any = self.population.server
        key = derive(numbers.seed, Purpose.SERVER_DISTIL, round_)
        listed, record = jnp.sum(served.keep), self.method.publish is not None
        arguments = data.public_image, served.samples, served.target, listed, record
        return make_learner(numbers).distil(server, key, *arguments)
