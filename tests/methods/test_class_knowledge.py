"""The round of knowledge by class, whatever the method: what it shares with others, and its laws."""

import jax
import numpy as np
import pytest

from scarlet_jax.engine.by_class import ClassVectors
from scarlet_jax.methods import METHODS
from scarlet_jax.methods.class_knowledge import Sent, Sizes
from scarlet_jax.tables import load
from tests.support.federations import HALF, close, federation, same_bits

pytestmark = pytest.mark.usefixtures("quick_compilation")
NAMES = [name for name, entry in METHODS.items() if entry.by_class]
FACTOR = {"fd": "gamma", "fedproto": "weight"}


@pytest.mark.parametrize("name", NAMES)
def test_without_its_term_it_is_individual_training(name):
    alone, data, state = federation("individual", **HALF)
    algorithm, _, other = federation(name, **HALF, **{f"method__{FACTOR[name]}": 0.0})
    nothing = data._replace(public_image=np.zeros((0, 8, 8, 1), np.uint8))  # no public image is read
    for _ in range(2):
        state, report = alone.round(state, data)
        other, ours = algorithm.round(other, nothing)
        same_bits(ours.participants, report.participants)
        close(ours.fit_loss, report.fit_loss)
    close(state.clients[0].params, other.clients[0].params)
    evaluation = algorithm.evaluate(other, nothing, ours.participants)
    assert evaluation.server is None
    close(evaluation.clients.sums["top1"], alone.evaluate(state, data, report.participants).clients.sums["top1"])


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_clients_changes_no_aggregate(name):
    rng = np.random.default_rng(0)
    clients, classes, size = 6, 4, 4
    images = rng.integers(0, 3, (clients, classes)) * np.array([1, 1, 1, 0])  # nobody holds the last class
    images[:, 2] = [5, 0, 0, 0, 0, 0]
    vectors = rng.dirichlet(np.ones(size), (clients, classes)).astype(np.float32)
    method = load(METHODS[name].builder)()

    def taught(order, ids):
        sent = Sent(ClassVectors(vectors[order], images[order] > 0), images[order], np.arange(clients))
        state = method.aggregate(method.init(Sizes(clients, classes, size)), sent)
        return [method.teach(state, client) for client in ids]

    order = rng.permutation(clients)
    ours, theirs = taught(np.arange(clients), [*order, 99]), taught(order, [*range(clients), 99])
    for a, b in zip(ours, theirs, strict=True):
        assert a.known.tolist() == b.known.tolist() and not a.known[3]
        np.testing.assert_allclose(a.vector[a.known], b.vector[b.known], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_without_an_epoch_nothing_is_sent_and_nothing_changes(name):
    algorithm, data, state = federation(name, epochs=0)
    before = jax.device_get((state.clients, state.method))
    for _ in range(2):
        state, report = algorithm.round(state, data)
        assert set(algorithm.bill(report).values()) == {(0, 0)}
        assert not np.any(report.fit_loss)
    clients, known = jax.device_get((state.clients, state.method))
    same_bits(clients, before[0])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(known))
