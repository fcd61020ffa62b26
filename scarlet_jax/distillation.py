"""Method -> Algorithm: the one round shared by all distillation methods.

A round is four jitted phases, dispatched without host synchronisation: plan (participants, draw, cache lookup),
clients (block by block: distil from the last broadcast, train, predict), server (aggregate, commit, distil, publish,
count) and, when due, evaluation.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from scarlet_jax import cache as caching
from scarlet_jax import comm, fleet
from scarlet_jax.evaluation import Evaluator
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.learner import Learner
from scarlet_jax.protocol import Broadcast, Protocol, Settings
from scarlet_jax.sharpen import entropy
from scarlet_jax.types import Algorithm, Data, Method, ModelState, PyTree


class Group(NamedTuple):
    """Clients of one architecture, with consecutive ids."""

    learner: Learner
    layout: fleet.Layout
    first: int  # id of the first


class State(NamedTuple):
    """Everything a run carries from round to round."""

    round: jax.Array  # i32[] the round that comes next
    clients: tuple[ModelState, ...]  # per group, [stored, ...]
    server: ModelState
    cache: caching.Cache  # of N entries; of none without a cache
    held: jax.Array  # i32[K, N] stamp of the copy each client holds; i32[K, 0] without a cache
    broadcast: Broadcast


class RoundReport(NamedTuple):
    """What a round tells the host; read when it is convenient."""

    participants: jax.Array  # i32[M]
    counts: comm.Counts
    fit_loss: jax.Array  # f32[M]
    fit_accuracy: jax.Array  # f32[M]
    kd_loss: jax.Array  # f32[M] of the clients, 0 where the broadcast was empty
    server_kd_loss: jax.Array  # f32[]
    target_entropy: jax.Array  # f32[] mean over the list, nats
    disagreement: jax.Array  # f32[] Jensen-Shannon divergence of the clients' rows, mean over requested samples, nats


def make(
    method: Method,
    groups: list[Group],
    server: Learner,
    settings: Settings,
    public_size: int,
    image_shape: tuple[int, ...],
    mesh: Mesh,
) -> Algorithm:
    """The Algorithm of a distillation method."""
    federation = _Federation(method, groups, server, settings, public_size, image_shape, mesh)
    return Algorithm(
        init=federation.init,
        round=federation.round,
        evaluate=federation.evaluate,
        bill=federation.bill,
        shardings=federation.shardings,
        blocks=sum(group.layout.blocks for group in groups),
        strip=federation.strip,
        pad=federation.pad,
    )


class _Federation:
    """The compiled phases of a run. Holds no arrays."""

    def __init__(self, method, groups, server, settings, public_size, image_shape, mesh):
        self.method, self.groups, self.server, self.settings = method, groups, server, settings
        self.protocol = Protocol(settings, tuple(group.layout for group in groups), public_size)
        self.image_shape, self.mesh = image_shape, mesh
        self.format = comm.soft_label_format(settings.num_classes, settings.label_bits, settings.duration > 0)
        replicated = NamedSharding(mesh, fleet.REPLICATED)
        self._plan = jax.jit(self._plan_phase, out_shardings=replicated)
        self._fleets = [fleet.Fleet(self._one_client(group), group.layout) for group in groups]
        self._server = jax.jit(self._server_phase, donate_argnums=(0, 1, 2), out_shardings=replicated)
        self._evaluator = Evaluator(groups, server, mesh)

    def init(self, data: Data) -> State:
        """The state before round 0. All clients and the server start alike, unless `same_init` is off."""
        del data
        s, protocol = self.settings, self.protocol

        def client(learner: Learner, client_id) -> ModelState:
            number = jnp.where(s.same_init, 0, client_id + 1)
            return learner.init(derive(s.seed, Purpose.INIT, number), self.image_shape)

        def build() -> State:
            clients = tuple(
                jax.lax.map(lambda i, g=g: client(g.learner, i), g.first + jnp.arange(g.layout.num_clients))
                for g in self.groups
            )
            cache = caching.init(protocol.entries, s.num_classes)
            last = protocol.empty_broadcast(jnp.zeros((s.public_per_round, s.num_classes)))
            # The server's number is 0 in both cases: the clients' common start, or one of its own.
            server = self.server.init(derive(s.seed, Purpose.INIT, 0), self.image_shape)
            return self.pad(State(jnp.int32(0), clients, server, cache, protocol.init_held(), last))

        return jax.jit(build, out_shardings=self.shardings(jax.eval_shape(build)))()

    def round(self, state: State, data: Data, progress=None) -> tuple[State, RoundReport]:
        """One round. Dispatches everything and returns at once; the arguments' buffers are reused."""
        plan, held, ids = self._plan(state.round, state.cache.stamp, state.held, state.broadcast)
        clients, outputs = [], []
        for run, models, own in zip(self._fleets, state.clients, ids, strict=True):
            models, output = run(models, own, state.round, state.broadcast, plan.draw, data, progress=progress)
            clients.append(models)
            outputs.append(output)
        server, cache, last, next_round, report = self._server(
            state.server, state.cache, state.broadcast, state.round, plan, outputs, data
        )
        return State(next_round, tuple(clients), server, cache, held, last), report

    def evaluate(self, state: State, data: Data, participants: jax.Array):
        """Server on the whole test set, participants i32[M] on their own parts."""
        return self._evaluator(state.clients, state.server, self._padded_ids(participants), data)

    def bill(self, counts: comm.Counts) -> dict[str, comm.Bytes]:
        """Bytes of a round in every ledger."""
        return {
            "reference": comm.reference_bytes(counts, self.format, self.settings.num_classes),
            "wire": comm.wire_bytes(counts, self.format),
        }

    def shardings(self, state: State) -> PyTree:
        """Clients over the devices, everything else on all of them."""
        stacked, replicated = (NamedSharding(self.mesh, spec) for spec in (fleet.CLIENTS, fleet.REPLICATED))
        return jax.tree.map(lambda _: replicated, state)._replace(
            clients=jax.tree.map(lambda _: stacked, state.clients)
        )

    def pad(self, state: State) -> State:
        """Lengthen every group from K to the clients stored on this number of devices."""
        clients = (fleet.pad_clients(c, g.layout.stored) for c, g in zip(state.clients, self.groups, strict=True))
        return state._replace(clients=tuple(clients))

    def strip(self, state: State) -> State:
        """Undo `pad`: exactly K clients."""
        clients = (
            jax.tree.map(lambda a, k=g.layout.num_clients: a[:k], c)
            for c, g in zip(state.clients, self.groups, strict=True)
        )
        return state._replace(clients=tuple(clients))

    def _padded_ids(self, participants: jax.Array) -> list[jax.Array]:
        ids, start = [], 0
        for group in self.groups:
            own = participants[start : start + group.layout.participants] - group.first
            ids.append(fleet.participant_ids(group.layout, own))
            start += group.layout.participants
        return ids

    def _plan_phase(self, round_, stamp, held, last):
        plan, held = self.protocol.plan(round_, stamp, held, last)
        return plan, held, self._padded_ids(plan.ids)

    def _one_client(self, group: Group):
        learner, seed = group.learner, self.settings.seed

        def client(model: ModelState, local_id, active, round_, last: Broadcast, draw, data: Data):
            """Steps 2 to 4 of a round for one client; an inactive one trains on nothing."""
            client_id = jnp.minimum(local_id, group.layout.num_clients - 1) + group.first

            def key(purpose):
                return derive(seed, purpose, round_, client_id)

            listed = jnp.where(active, jnp.sum(last.keep), 0)
            model, kd = learner.distil(
                model, key(Purpose.DISTIL), data.public_image, last.samples, last.payload, listed
            )
            size = jnp.where(active, data.train.size[client_id], 0)
            index = data.train.rows[client_id]
            model, fit = learner.fit(model, key(Purpose.FIT), data.private_image, data.private_label, index, size)
            probs = learner.predict(model, data.public_image, draw, key(Purpose.PREDICT))
            return model, (probs, kd.loss, fit.loss, fit.accuracy)

        return client

    def _server_phase(self, server, cache, last, round_, plan, outputs, data: Data):
        s, method = self.settings, self.method
        probs, kd_loss, fit_loss, fit_accuracy = self._in_client_order(outputs)
        probs = comm.quantise(probs, s.label_bits)
        sent = jnp.broadcast_to(~plan.lookup.hit, probs.shape[:2])
        labels = method.aggregate(derive(s.seed, Purpose.AGGREGATE, round_), round_, probs, sent)
        cache, list_ = self.protocol.serve(cache, plan, labels, sent, round_)
        listed = jnp.sum(list_.keep)
        server, kd = self.server.distil(
            server,
            derive(s.seed, Purpose.SERVER_DISTIL, round_),
            data.public_image,
            list_.samples,
            list_.payload,
            listed,
        )
        report = RoundReport(
            participants=plan.ids,
            counts=self.protocol.counts(plan, sent, last),
            fit_loss=fit_loss,
            fit_accuracy=fit_accuracy,
            kd_loss=kd_loss,
            server_kd_loss=kd.loss,
            target_entropy=_mean(entropy(list_.payload), list_.keep),
            disagreement=disagreement(probs, sent),
        )
        return server, cache, list_, round_ + 1, report

    def _in_client_order(self, outputs):
        """Outputs [capacity, ...] of the groups -> [M, ...] on every device: reductions have one fixed order."""
        real = [
            jax.tree.map(lambda a, m=g.layout.participants: a[:m], output)
            for g, output in zip(self.groups, outputs, strict=True)
        ]
        joined = jax.tree.map(lambda *parts: jnp.concatenate(parts), *real)
        return jax.lax.with_sharding_constraint(joined, NamedSharding(self.mesh, fleet.REPLICATED))


def disagreement(probs: jax.Array, sent: jax.Array) -> jax.Array:
    """Generalised Jensen-Shannon divergence among the senders, mean over answered samples, in nats.

    Args:
      probs: f32[M, P, C].
      sent: bool[M, P].
    """
    count = jnp.maximum(jnp.sum(sent, 0), 1)
    mean = jnp.sum(jnp.where(sent[:, :, None], probs, 0), 0) / count[:, None]
    own = jnp.sum(jnp.where(sent, entropy(probs), 0), 0) / count
    return _mean(entropy(mean) - own, jnp.any(sent, 0))


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)
