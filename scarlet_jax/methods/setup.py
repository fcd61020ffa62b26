"""What a method that is an Algorithm of its own is built from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from scarlet_jax.engine import phases
from scarlet_jax.engine.feed import Schedule
from scarlet_jax.engine.population import Population
from scarlet_jax.types import Algorithm, Data


class Setup(NamedTuple):
    """A run, before its method is known."""

    seed: int
    num_clients: int  # K
    num_classes: int  # C
    public_per_round: int  # P
    population: Population
    data: Data  # NumPy arrays, or their shapes

    def only_clients(self) -> Setup:
        """The same without a server model."""
        return self._replace(population=self.population.copy(server=None))

    def only_server(self) -> Setup:
        """The same with clients that keep no models of their own: they are evaluated with the server's."""
        return self._replace(population=self.population.copy(own_models=False))

    def with_gradient(self, transformation: optax.GradientTransformation) -> Setup:
        """The same with a gradient transformation ahead of the optimizer of private training."""
        old = self.population
        groups = [group._replace(learner=group.learner.with_gradient(transformation)) for group in old.groups]
        server = None if old.server is None else old.server.with_gradient(transformation)
        return self._replace(population=old.copy(groups=groups, server=server))

    def algorithm(
        self, init: Callable[..., Any], round: Callable[..., Any], bill: Callable[..., Any], whole: bool = False
    ) -> Algorithm:
        """The Algorithm of `init(clients, server) -> State`, whose fields include `clients` and perhaps `server`.

        `whole`: whether every round reads all private images at once.
        """
        population = self.population
        public_size = self.data.public_image.shape[0]

        begin = functools.cache(lambda: population.init(init))  # traced and compiled once, when it is asked for

        def evaluate(state, data, participants):
            return population.evaluate(state.clients, getattr(state, "server", None), data, participants)

        def calls(state, data):
            with phases.recording() as found:
                round(state, data)
            return list(found)

        return Algorithm(
            init=lambda data: begin()(),
            round=round,
            calls=calls,
            evaluate=evaluate,
            bill=bill,
            shardings=population.shardings,
            blocks=population.blocks,
            groups={g.name: range(g.first, g.first + g.layout.num_clients) for g in population.groups},
            strip=population.strip,
            pad=population.pad,
            schedule=Schedule(self.seed, population.layouts, public_size, self.public_per_round, whole),
        )
