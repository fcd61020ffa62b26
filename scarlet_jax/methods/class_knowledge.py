"""The round shared by methods that exchange knowledge by class: makes an Algorithm of a ClassMethod.

In each round the participants receive a vector for each class that the server knows, train on their own images with a
term that the vectors add to the loss, and send the mean vector of each class of their own. No public images are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from scarlet_jax.engine import fleet
from scarlet_jax.engine.by_class import ByClass, ClassVectors, Outputs
from scarlet_jax.engine.phases import Phase
from scarlet_jax.engine.population import Group, Population
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.methods.base import Algorithm, RoundReport
from scarlet_jax.protocol import ledger
from scarlet_jax.protocol.draws import Draws
from scarlet_jax.protocol.round import Settings
from scarlet_jax.types import Array, Data, ModelState, Numbers, PyTree


class Sent(NamedTuple):
    """What the participants of a round sent."""

    vectors: ClassVectors  # [M, C, d] the mean of each client's own images, and the classes that it holds
    images: jax.Array  # i32[M, C] how many each mean is of
    ids: jax.Array  # i32[M] the participants, ascending


class Sizes(NamedTuple):
    """The shapes of what is sent."""

    participants: int  # M
    num_classes: int  # C
    vector: int  # d


class ClassMethod(NamedTuple):
    """What a method that exchanges knowledge by class changes. The shared round does everything else."""

    vector: Callable[[Outputs], jax.Array]  # -> f32[B, d] of each image; its mean over a class is sent
    loss: Callable[[Outputs, jax.Array], jax.Array]  # Outputs, the vectors f32[B, d] of the labels' classes -> f32[B]
    weight: Array | float  # factor of this loss; images of classes without a vector do not have it
    init: Callable[[Sizes], PyTree]  # the server's state before round 0
    aggregate: Callable[[PyTree, Sent], PyTree]  # state, Sent -> state
    teach: Callable[[PyTree, jax.Array], ClassVectors]  # state, client id i32[] -> the vectors [C, d] that it receives
    last_epoch: bool  # whether the mean is over the last epoch; otherwise over all epochs of the round
    features: bool = False  # whether vectors are of features, so that all models must have as many; else d = C
    prototypes: Callable[[PyTree], ClassVectors] | None = None  # by which clients are evaluated, see `Algorithm`


class State(NamedTuple):
    """Everything that a run carries from round to round."""

    round: jax.Array  # i32[] the round that comes next
    clients: tuple[ModelState, ...]  # per group, [stored, ...]
    method: PyTree  # what the server knows


def make(
    make_method: Callable[[Numbers], ClassMethod], population: Population, draws: Draws, settings: Settings, data: Data
) -> Algorithm:
    """Make the Algorithm of a method that exchanges knowledge by class.

    Args:
      make_method: makes the method from the numbers of a run; phases call it with the numbers that they take.
      population: clients; there is no server model.
      draws: of the federation.
      settings: of the protocol, of which only the number of classes matters.
      data: unused.
    """
    del data
    run = _Exchange(make_method, population, draws, settings.num_classes)
    init = population.init(lambda numbers, clients, server, data: State(jnp.int32(0), clients, run.start(numbers)))
    own = run.method.prototypes
    prototypes = None if own is None else lambda state: own(state.method)
    return Algorithm(population, draws, init, run.round, run.bill, prototypes=prototypes)


class _Exchange:
    """The phases of a run."""

    def __init__(self, make_method, population: Population, draws: Draws, num_classes: int):
        self.make_method, self.population, self.draws = make_method, population, draws
        self.method = make_method(population.host_numbers)  # for what does not depend on its numbers
        size = population.feature_size if self.method.features else num_classes
        self.sizes = Sizes(draws.num_participants, num_classes, size)
        self._plan = Phase("plan", self._plan_phase, out_shardings=population.replicated)
        self._fleets = [
            fleet.Fleet(self._one_client(group), group.layout, f"train {group.name}") for group in population.groups
        ]
        self._server = Phase("server", self._server_phase, donate_argnums=0, out_shardings=population.replicated)

    def start(self, numbers: Numbers) -> PyTree:
        """What the server knows before round 0."""
        return self.make_method(numbers).init(self.sizes)

    def round(self, state: State, data: Data, progress=None) -> tuple[State, RoundReport]:
        """Compute one round. All phases are dispatched without waiting for their results; `state` is donated."""
        numbers = self.population.numbers_at(state.round)
        participants, ids = self._plan(numbers, state.round)
        clients, outputs = [], []
        for run, models, own in zip(self._fleets, state.clients, ids, strict=True):
            models, output = run(models, own, numbers, state.round, state.method, data, progress=progress)
            clients.append(models)
            outputs.append(output)
        known, next_round, report = self._server(state.method, numbers, state.round, participants, outputs)
        return State(next_round, tuple(clients), known), report

    def bill(self, report: RoundReport) -> dict[str, ledger.Bytes]:
        """Bytes of a round, by ledger."""
        assert report.classes is not None
        return ledger.class_bytes(report.classes, self.sizes.num_classes, self.sizes.vector)

    def _plan_phase(self, numbers: Numbers, round_):
        participants = self.draws._replace(seed=numbers.seed).participants(round_)
        return participants, self.population.local_ids(participants)

    def _one_client(self, group: Group):
        def client(model: ModelState, local_id, active, numbers: Numbers, round_, known: PyTree, data: Data):
            """Train, for one client. An inactive client trains on no images."""
            learner, method, number = (
                group.learner(numbers),
                self.make_method(numbers),
                group.layout.client_id(local_id),
            )
            received = method.teach(known, number)

            def term(outputs: Outputs, label: jax.Array) -> jax.Array:
                own = method.weight * method.loss(outputs, received.vector[label])
                return jnp.where(received.known[label], own, 0)

            by_class = ByClass(term, method.vector, self.sizes.vector, method.last_epoch)
            size = jnp.where(active, data.train.size[number], 0)
            own = data.private_image, data.private_label, data.train.rows[number], size
            key = derive(numbers.seed, Purpose.FIT, round_, number)
            model, fitted = learner.fit(model, key, *own, by_class=by_class)
            sums, received = fitted.outputs, jnp.sum(received.known, dtype=jnp.int32)
            return model, (sums.means(), sums.images, received, fitted.loss, fitted.accuracy)

        return client

    def _server_phase(self, known: PyTree, numbers: Numbers, round_, participants, outputs):
        vectors, images, received, fit_loss, fit_accuracy = self.population.in_client_order(outputs)
        known = self.make_method(numbers).aggregate(known, Sent(vectors, images, participants))
        classes = ledger.ClassCounts(jnp.sum(vectors.known, 1, dtype=jnp.int32), received)
        return known, round_ + 1, RoundReport(participants, fit_loss, fit_accuracy, classes=classes)
