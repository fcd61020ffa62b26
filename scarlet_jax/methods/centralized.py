"""Centralized training of one model on all private data: the upper bound of the comparison. Nothing is federated."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scarlet_jax.engine import phases
from scarlet_jax.engine.feed import all_rows
from scarlet_jax.engine.population import Population
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.methods.base import Algorithm, Make, RoundReport
from scarlet_jax.protocol.draws import Draws
from scarlet_jax.types import Data, ModelState, Numbers


class State(NamedTuple):
    """Everything that a run carries from round to round."""

    round: jax.Array  # i32[] the round that comes next
    clients: tuple  # empty
    server: ModelState


def centralized() -> Make:
    """The server trains on the images of all clients, for `epochs` epochs in each round. No bytes are billed."""
    return lambda population, draws, settings, data: make(population, draws, data)


def make(population: Population, draws: Draws, data: Data) -> Algorithm:
    """Make the Algorithm. Clients keep no models, and every round reads all private images."""
    make_learner: Any = population.server
    everything = phases.put(all_rows(data), population.replicated)

    def train(server, numbers: Numbers, round_, everything, data: Data):
        key = derive(numbers.seed, Purpose.FIT, round_, 0)
        server, fit = make_learner(numbers).fit(
            server, key, data.private_image, data.private_label, everything, jnp.int32(everything.size)
        )
        # The images of all clients are used, so the model is evaluated on the test parts of all clients.
        everyone = jnp.arange(draws.num_clients, dtype=jnp.int32)
        loss, accuracy = (jnp.broadcast_to(value, everyone.shape) for value in (fit.loss, fit.accuracy))
        return server, round_ + 1, RoundReport(everyone, loss, accuracy)

    step = phases.Phase("train", train, donate_argnums=0, out_shardings=population.replicated)

    def round_(state: State, data: Data, progress=None):
        numbers = population.numbers_at(state.round)
        server, number, report = step(state.server, numbers, state.round, everything, data)
        if progress is not None:
            progress(number)
        return State(number, (), server), report

    return Algorithm(
        population,
        draws,
        init=population.init(lambda numbers, clients, server, data: State(jnp.int32(0), clients, server)),
        round=round_,
        bill=lambda report: {},
        reads_all=True,
    )
