"""The round of the methods that exchange weights, against averages of models that were trained alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.engine import phases
from scarlet_jax.methods import averaging
from scarlet_jax.methods.base import RoundReport
from tests.support.federations import HALF, close, federation, made, same_bits, server_learner

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_weighted_mean_by_hand():
    rng = np.random.default_rng(3)
    stacked = {"a": rng.normal(size=(3, 2, 4)).astype(np.float32), "b": rng.normal(size=(3,)).astype(np.float32)}
    old = {"a": np.ones((2, 4), np.float32), "b": np.float32(1)}
    weight = np.array([1, 0, 3])
    mean = averaging.weighted_mean(stacked, jnp.asarray(weight), old)
    for name in stacked:
        by_hand = (stacked[name][0] + 3 * stacked[name][2]) / 4
        np.testing.assert_allclose(mean[name], by_hand, rtol=1e-6)
    same_bits(averaging.weighted_mean(stacked, jnp.zeros(3, int), old), old)


def test_the_mean_is_of_the_participants_models_by_their_numbers_of_images():
    """Against individual training from the same start, half of the clients in a round."""
    average, data, state = federation("fedavg", **HALF)
    alone, _, own = federation("individual", **HALF)
    state, report = average.round(state, data)
    own, other = alone.round(own, data)
    ids = np.asarray(report.participants)
    assert state.clients == () and ids.tolist() == np.asarray(other.participants).tolist() and len(ids) == 2
    size = np.asarray(data.train.size, np.float64)[ids]
    assert len(set(size)) > 1

    def by_hand(stacked):
        return np.tensordot(size / size.sum(), np.asarray(stacked, np.float64)[ids], 1)

    close(state.server.params, jax.tree.map(by_hand, own.clients[0].params))
    np.testing.assert_allclose(report.fit_loss, other.fit_loss, rtol=1e-4)


def test_every_round_starts_from_the_servers_model_and_new_optimizers():
    """Momentum of one round is gone in the next: two rounds are two first rounds, one from the other's model."""
    fields = {"momentum": 0.9, "private_augment": False, "epochs": 2}
    algorithm, data, state = federation("fedavg", **fields)
    state, _ = algorithm.round(state, data)
    assert int(state.round) == 1
    fresh = server_learner(algorithm).restart(state.server)
    again, _ = algorithm.round(jax.tree.map(jnp.copy, state._replace(server=fresh)), data)
    state, _ = algorithm.round(state, data)
    same_bits(state.server.params, again.server.params)


def test_weights_and_statistics_are_billed_both_ways():
    algorithm, data = made("fedavg", model__client="cnn", model__server="cnn")
    state = phases.shapes(algorithm.init, phases.abstract(data, algorithm.population.replicated))
    assert state.server.batch_stats
    size = 4 * sum(leaf.size for leaf in jax.tree.leaves((state.server.params, state.server.batch_stats)))
    report = RoundReport(np.array([0, 3]), None, None)
    assert algorithm.bill(report) == {"reference": (2 * size, 2 * size), "wire": (2 * size, 2 * size)}
