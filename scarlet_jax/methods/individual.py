"""Individual training: each client trains alone, without communication. The lower bound of the comparison."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from scarlet_jax.engine import fleet
from scarlet_jax.engine.phases import Phase
from scarlet_jax.engine.population import Group, Population
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.methods.base import Algorithm, Make, RoundReport
from scarlet_jax.protocol import ledger
from scarlet_jax.protocol.draws import Draws
from scarlet_jax.types import Data, ModelState, Numbers


class State(NamedTuple):
    """Everything that a run carries from round to round."""

    round: jax.Array  # i32[] the round that comes next
    clients: tuple[ModelState, ...]


def individual() -> Make:
    """In each round the participants train on their own images."""
    return lambda population, draws, settings, data: make(population, draws)


def make(population: Population, draws: Draws) -> Algorithm:
    """Make the Algorithm, which has no server model and sends no bytes."""

    def one_client(group: Group):
        def client(model, local_id, active, numbers: Numbers, round_, data: Data):
            learner, number = group.learner(numbers), group.layout.client_id(local_id)
            size = jnp.where(active, data.train.size[number], 0)
            key = derive(numbers.seed, Purpose.FIT, round_, number)
            return learner.fit(model, key, data.private_image, data.private_label, data.train.rows[number], size)

        return client

    def plan(numbers: Numbers, round_):
        participants = draws._replace(seed=numbers.seed).participants(round_)
        return participants, population.local_ids(participants)

    plan_phase = Phase("plan", plan, out_shardings=population.replicated)
    fleets = [fleet.Fleet(one_client(group), group.layout, f"train {group.name}") for group in population.groups]

    def finish(round_, participants, outputs):
        fit = population.in_client_order(outputs)
        return round_ + 1, RoundReport(participants, fit.loss, fit.accuracy)

    finish = Phase("report", finish, out_shardings=population.replicated)

    def round_(state: State, data: Data, progress=None):
        numbers = population.numbers_at(state.round)
        participants, ids = plan_phase(numbers, state.round)
        runs = zip(fleets, state.clients, ids, strict=True)
        done = [run(models, own, numbers, state.round, data, progress=progress) for run, models, own in runs]
        number, report = finish(state.round, participants, [output for _, output in done])
        return State(number, tuple(models for models, _ in done)), report

    return Algorithm(
        population,
        draws,
        init=population.init(lambda numbers, clients, server, data: State(jnp.int32(0), clients)),
        round=round_,
        bill=lambda report: dict.fromkeys(ledger.LEDGERS, ledger.Bytes(0, 0)),
    )
