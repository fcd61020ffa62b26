"""FedDF against FedAvg and against its distillation written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.keys import Purpose, derive
from scarlet_jax.methods.feddf import feddf
from tests.support import plain_linear as plain
from tests.support.federations import HALF, close, federation, server_learner

pytestmark = pytest.mark.usefixtures("quick_compilation")


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


def of(model):
    """W and b of one linear model."""
    own = jax.device_get(model.params["linear"])
    return own["kernel"].astype(float), own["bias"].astype(float)


def test_a_federation_of_two_groups_is_a_plain_loop():
    """Each group's average starts from its own participants, and all averages distil from the logits of everybody."""
    parts = plain.parts(plain.learner(), server="each", own_models=False)
    data = parts[-1]
    algorithm, device_data = feddf()(*parts), jax.device_put(data)
    state = algorithm.init(device_data)
    servers = {name: of(model) for name, model in state.server.items()}
    names = [f"kind{number}" for number, (clients, _) in enumerate(plain.GROUPS) for _ in range(clients)]
    for r in range(3):
        state, report = algorithm.round(state, device_data)
        draw, ids = np.asarray(algorithm.draws.public(jnp.int32(r))), np.asarray(report.participants)
        own = {k: plain.fitted(servers[names[k]], data, k) for k in ids}
        x = plain.pixels(data.public_image[draw])
        teacher = plain.softmax(np.mean([plain.logits(model, x) for model in own.values()], 0))
        for name in servers:
            weight = {k: plain.SIZES[k] for k in ids if names[k] == name}
            average = [sum(weight[k] * own[k][i] for k in weight) / sum(weight.values()) for i in range(2)]
            servers[name] = plain.trained(
                tuple(average), x, lambda z, t=teacher: plain.softmax(z) - t, plain.KD_LR, plain.KD_EPOCHS
            )
            for ours, expected in zip(of(state.server[name]), servers[name], strict=True):
                np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(servers["kind0"][0] - servers["kind1"][0]).max() > 0.01, "the groups have other models"
    assert report.server_kd_loss.shape == (2,)
    volume = sum(participants for _, participants in plain.GROUPS) * 4 * (9 * 4 + 4)  # 9 pixels, 4 classes
    assert algorithm.bill(report) == {"reference": (volume, volume), "wire": (volume, volume)}

    found = algorithm.evaluate(state, device_data, report.participants)
    for name, model in servers.items():
        right = plain.logits(model, plain.pixels(data.test_image)).argmax(1) == data.test_label
        assert float(found.server[name].sums["top1"]) == right.sum()
    for place, k in enumerate(ids):
        rows = data.test.rows[k]
        probs = plain.softmax(plain.logits(servers[names[k]], plain.pixels(data.test_image[rows])))
        loss = -np.log(probs[np.arange(len(rows)), data.test_label[rows]]).sum()
        np.testing.assert_allclose(found.clients.sums["loss"][place], loss, rtol=1e-3)
