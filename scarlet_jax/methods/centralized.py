"""Centralized training: one model on all private data. The upper bound of the comparison; nothing is federated."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scarlet_jax.engine import phases
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.methods.setup import Setup
from scarlet_jax.types import Algorithm, Array, Data, ModelState, RoundReport


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
    everything = phases.put(all_rows(setup.data), population.replicated)

    def train(server, round_, everything, data: Data):
        key = derive(setup.seed, Purpose.FIT, round_, 0)
        server, fit = learner.fit(
            server, key, data.private_image, data.private_label, everything, jnp.int32(everything.size)
        )
        # Everyone's images are used; everyone is evaluated.
        everyone = jnp.arange(setup.num_clients, dtype=jnp.int32)
        loss, accuracy = (jnp.broadcast_to(value, everyone.shape) for value in (fit.loss, fit.accuracy))
        return server, round_ + 1, RoundReport(everyone, loss, accuracy)

    step = phases.Phase("train", train, donate_argnums=0, out_shardings=population.replicated)

    def round_(state: State, data: Data, progress=None):
        server, number, report = step(state.server, state.round, everything, data)
        if progress is not None:
            progress(number)
        return State(number, (), server), report

    return setup.algorithm(
        init=lambda clients, server: State(jnp.int32(0), clients, server),
        round=round_,
        bill=lambda report: {},
        whole=True,
    )


def all_rows(data: Data) -> Array:
    """Rows of the private store that clients train on, i32[n], client by client; of abstract data, of all images."""
    if phases.is_abstract(data):
        return jax.ShapeDtypeStruct(data.private_label.shape, jnp.int32)
    rows, sizes = np.asarray(data.train.rows), np.asarray(data.train.size)
    return np.concatenate([own[:size] for own, size in zip(rows, sizes, strict=True)])
