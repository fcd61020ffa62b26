"""The round shared by methods that exchange weights.

Participants train the server's model for their architecture. For each architecture the server averages the results, and
optionally distils afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scarlet_jax.engine import fleet
from scarlet_jax.engine.evaluation import server_for
from scarlet_jax.engine.learner import Learner
from scarlet_jax.engine.phases import Phase
from scarlet_jax.engine.population import Group, Population
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.methods.base import Algorithm, RoundReport
from scarlet_jax.protocol import ledger
from scarlet_jax.protocol.draws import Draws
from scarlet_jax.protocol.round import Settings
from scarlet_jax.types import Data, ModelState, Numbers, PyTree

# f(learner, model after averaging, key, probs f32[M, P, C], draw i32[P], data) -> model, distillation loss f32[]
Refine = Callable[[Learner, ModelState, jax.Array, jax.Array, jax.Array, Data], tuple[ModelState, jax.Array]]


class State(NamedTuple):
    """Everything that a run carries from round to round. Clients keep no models."""

    round: jax.Array  # i32[] the round that comes next
    clients: tuple  # empty
    server: PyTree  # ModelState, or a dictionary of them by architecture


def make(
    population: Population, draws: Draws, settings: Settings, data: Data, refine: Refine | None = None
) -> Algorithm:
    """Make the Algorithm of a method that exchanges weights.

    Args:
      population: its server has a model of each group's architecture; clients keep no models of their own.
      draws: of the federation.
      settings: unused; these methods exchange no labels.
      data: unused.
      refine: changes an averaged model, given all participants' predictions on the round's public samples; None: no
        change.
    """
    del settings, data
    run = _Averaging(population, draws, refine)
    init = population.init(lambda numbers, clients, server, data: State(jnp.int32(0), clients, server))
    return Algorithm(population, draws, init, run.round, run.bill)


class _Averaging:
    def __init__(self, population: Population, draws: Draws, refine: Refine | None):
        self.population, self.draws, self.refine = population, draws, refine
        replicated = self.population.replicated
        self._plan = Phase("plan", self._plan_phase, out_shardings=replicated)
        self._fleets = [
            fleet.Fleet(self._one_client(group), group.layout, f"train {group.name}", updates=False)
            for group in self.population.groups
        ]
        self._server = Phase("server", self._server_phase, donate_argnums=0, out_shardings=replicated)
        self._model_bytes = {group.name: self._bytes_of(group) for group in self.population.groups}

    def round(self, state: State, data: Data, progress=None) -> tuple[State, RoundReport]:
        """Compute one round. All phases are dispatched without waiting for their results."""
        numbers = self.population.numbers_at(state.round)
        participants, draw, ids = self._plan(numbers, state.round)
        outputs = []
        for run, group, own in zip(self._fleets, self.population.groups, ids, strict=True):
            shared = numbers, server_for(state.server, group.name), state.round, draw, data
            outputs.append(run((), own, *shared, progress=progress)[1])
        server, round_, report = self._server(state.server, numbers, state.round, participants, draw, outputs, data)
        return State(round_, (), server), report

    def bill(self, report: RoundReport) -> dict[str, ledger.Bytes]:
        """Weights and BatchNorm statistics of each participant's model, both ways, float32; equal in both ledgers."""
        ids, of_groups = np.asarray(report.participants), self.population.client_ids
        volume = sum(int(np.isin(ids, own).sum()) * self._model_bytes[name] for name, own in of_groups.items())
        return dict.fromkeys(ledger.LEDGERS, ledger.Bytes(volume, volume))

    def _bytes_of(self, group: Group) -> int:
        """Of the weights and BatchNorm statistics of a group's architecture."""
        model = jax.eval_shape(lambda n: self.population.start(n, group.learner, 0), self.population.host_numbers)
        return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves((model.params, model.batch_stats)))

    def _plan_phase(self, numbers: Numbers, round_):
        draws = self.draws._replace(seed=numbers.seed)
        participants = draws.participants(round_)
        return participants, draws.public(round_), self.population.local_ids(participants)

    def _one_client(self, group: Group):
        def client(own, local_id, active, numbers: Numbers, server: ModelState, round_, draw, data: Data):
            learner, number = group.learner(numbers), group.layout.client_id(local_id)
            size = jnp.where(active, data.train.size[number], 0)
            key = derive(numbers.seed, Purpose.FIT, round_, number)
            model = learner.restart(server)
            model, fit = learner.fit(model, key, data.private_image, data.private_label, data.train.rows[number], size)
            probs = None
            if self.refine is not None:
                key = derive(numbers.seed, Purpose.PREDICT, round_, number)
                probs = learner.predict(model, data.public_image, draw, key)
            return own, ((model.params, model.batch_stats), size, fit.loss, fit.accuracy, probs)

        return client

    def _server_phase(self, server, numbers: Numbers, round_, participants, draw, outputs, data: Data):
        trained = self.population.by_group([(model, size) for model, size, *_ in outputs])
        fit_loss, fit_accuracy, probs = self.population.in_client_order([rest for _, _, *rest in outputs])
        key = derive(numbers.seed, Purpose.SERVER_DISTIL, round_)

        def of_group(group: Group, models, size):
            model = server_for(server, group.name)
            params, batch_stats = weighted_mean(models, size, (model.params, model.batch_stats))
            model = model._replace(params=params, batch_stats=batch_stats)
            if self.refine is None:
                return model, None
            learner = server_for(self.population.server, group.name)(numbers)
            return self.refine(learner, model, key, probs, draw, data)

        pairs = zip(self.population.groups, trained, strict=True)
        made = {group.name: of_group(group, *own) for group, own in pairs}
        losses = [loss for _, loss in made.values()]
        kd_loss = None if self.refine is None else losses[0] if len(losses) == 1 else jnp.stack(losses)
        report = RoundReport(participants, fit_loss, fit_accuracy, server_kd_loss=kd_loss)
        models = {name: model for name, (model, _) in made.items()}
        return models if isinstance(server, dict) else next(iter(models.values())), round_ + 1, report


def weighted_mean(stacked: PyTree, weight: jax.Array, otherwise: PyTree) -> PyTree:
    """Mean over the leading axis of every leaf [M, ...] with integer weights [M]; `otherwise` if all weights are 0."""
    share = weight / jnp.maximum(jnp.sum(weight), 1)

    def mean(leaf, old):
        new = jnp.tensordot(share.astype(leaf.dtype), leaf, 1, precision="highest")
        return jnp.where(jnp.sum(weight) > 0, new, old)

    return jax.tree.map(mean, stacked, otherwise)
