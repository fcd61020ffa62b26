"""Centralized training: one model on all private data. The upper bound of the comparison; nothing is federated."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scarlet_jax.keys import Purpose, derive
from scarlet_jax.setup import Setup
from scarlet_jax.types import Algorithm, Data, ModelState, RoundReport


class State(NamedTuple):
    """Everything a run carries from round to round."""

    round: jax.Array  # i32[]
    clients: tuple
    server: ModelState


def centralized(setup: Setup) -> Algorithm:
    """The server trains on the images of all clients, `epochs` a round. No bytes are billed."""
    setup = setup.only_server()
    population = setup.population
    learner = population.server
    assert learner is not None
    rows, sizes = np.asarray(setup.data.train.rows), np.asarray(setup.data.train.size)
    everything = jnp.asarray(np.concatenate([own[:size] for own, size in zip(rows, sizes, strict=True)]))

    def step(server, round_, data: Data):
        key = derive(setup.seed, Purpose.FIT, round_, 0)
        server, fit = learner.fit(
            server, key, data.private_image, data.private_label, everything, jnp.int32(everything.size)
        )
        # Everyone's images are used; everyone is evaluated.
        everyone = jnp.arange(setup.num_clients, dtype=jnp.int32)
        loss, accuracy = (jnp.broadcast_to(value, everyone.shape) for value in (fit.loss, fit.accuracy))
        return server, round_ + 1, RoundReport(everyone, loss, accuracy)

    step = jax.jit(step, donate_argnums=0, out_shardings=population.replicated)

    def round_(state: State, data: Data, progress=None):
        server, number, report = step(state.server, state.round, data)
        if progress is not None:
            progress(number)
        return State(number, (), server), report

    return setup.algorithm(
        init=lambda clients, server: State(jnp.int32(0), clients, server), round=round_, bill=lambda report: {}
    )
