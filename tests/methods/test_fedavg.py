"""FedProx's term, by hand and on a federation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scarlet_jax.methods.fedavg import proximal
from tests.support.federations import federation

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_fedprox_adds_its_gradient_and_holds_clients_back():
    anchor, w, g = jnp.array([1.0, -2.0]), jnp.array([3.0, 0.5]), jnp.array([0.1, 0.2])
    chain = optax.chain(proximal(0.5), optax.sgd(1.0))
    update, _ = chain.update(g, chain.init(anchor), w)
    np.testing.assert_allclose(update, -(np.array([0.1, 0.2]) + 0.5 * np.array([2.0, 2.5])), rtol=1e-6)
    moved = {}
    for mu in (0.0, 5.0):
        algorithm, data, state = federation("fedavg", method__prox_mu=mu, epochs=5, batch_size=10)
        start = jax.device_get(state.server.params)
        end, _ = algorithm.round(state, data)
        difference = jax.tree.map(lambda a, b: float(jnp.sum((a - b) ** 2)), end.server.params, start)
        moved[mu] = sum(jax.tree.leaves(difference))
    assert moved[5.0] < 0.5 * moved[0.0]


def test_without_its_term_it_is_fedavg():
    """No transformation, not one that adds 0: the optimizer is that of a method that knows no such term."""

    def optimizer(method, **fields):
        return jax.tree.structure(federation(method, **fields)[2].server.fit_optimizer)

    assert optimizer("fedavg", method__prox_mu=0.0) == optimizer("feddf") != optimizer("fedavg", method__prox_mu=5.0)
