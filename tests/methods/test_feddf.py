"""FedDF against FedAvg and against its distillation written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.keys import Purpose, derive
from tests.support.federations import HALF, close, federation, server_learner

pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.xdist_group("federations")]


def test_feddf_without_distillation_is_fedavg():
    average, data, state = federation("fedavg", **HALF)
    ensemble, _, other = federation("feddf", **HALF, kd_epochs=0)
    for _ in range(2):
        state, _ = average.round(state, data)
        other, _ = ensemble.round(other, data)
    close(state.server.params, other.server.params)


def test_the_average_distils_from_the_softmax_of_the_mean_logits():
    """The clients are those of individual training from the same start, the average is FedAvg's."""
    ensemble, data, state = federation("feddf", **HALF)
    average, _, plain = federation("fedavg", **HALF)
    alone, _, own = federation("individual", **HALF)
    state, report = ensemble.round(state, data)
    plain, _ = average.round(plain, data)
    own, _ = alone.round(own, data)
    learner, draw = server_learner(ensemble), ensemble.draws.public(jnp.int32(0))
    models = [jax.tree.map(lambda a, k=k: a[k], own.clients[0]) for k in np.asarray(report.participants)]
    logs = [np.log(np.asarray(learner.predict(model, data.public_image, draw), np.float64)) for model in models]
    z = np.exp(np.mean(logs, 0))
    target = jnp.asarray(z / z.sum(1, keepdims=True), jnp.float32)
    key = derive(0, Purpose.SERVER_DISTIL, jnp.int32(0))
    start = learner.restart(plain.server)
    expected, metrics = jax.jit(learner.distil)(start, key, data.public_image, draw, target, jnp.int32(draw.size))
    close(state.server.params, expected.params)
    np.testing.assert_allclose(report.server_kd_loss, metrics.loss, rtol=1e-3)
    assert ensemble.bill(report) == average.bill(report)
