"""CFD against numbers of the reference implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.engine import learner as learner_module
from scarlet_jax.engine.learner import Augmentation, Learner
from scarlet_jax.engine.optimizers import sgd
from scarlet_jax.engine.training import Training
from scarlet_jax.methods.cfd import cfd
from scarlet_jax.protocol import ledger
from scarlet_jax.types import ModelState
from tests.support.golden_files import golden
from tests.support.populations import Linear
from tests.support.uploads import uploads

CHANNEL = ledger.Channel(10, 32, full_participation=True)
MEAN = {"rtol": 1e-6, "atol": 1e-7}  # a mean of at most 8 float32 rows


def everyone(probs):
    return jnp.ones(probs.shape[:2], bool)


def test_clients_upload_the_arg_max_and_averages_it():
    g, method = golden("cfd"), cfd()
    sent = method.uplink(CHANNEL).encode(jnp.asarray(g["client_probs"]))
    np.testing.assert_array_equal(jnp.argmax(sent, -1), g["client_labels"])
    np.testing.assert_array_equal(jnp.sum(sent, -1), 1)
    np.testing.assert_array_equal(g["server_indices"], g["drawn"])
    target = method.aggregate((), uploads(sent, everyone(sent)))[0].target
    np.testing.assert_allclose(target, g["server_target"], **MEAN)


def test_the_server_broadcasts_what_its_model_says_while_distilling(monkeypatch):
    g, method = golden("cfd"), cfd()
    monkeypatch.setattr(learner_module, "normalize", lambda x: x)  # the trace's inputs are no pixels
    kd = Training(int(g["down_kd_epochs"]), int(g["down_kd_batch"]), sgd(float(g["down_kd_lr"]), 0.0, 0.0))
    learner = Learner(Linear(10), kd, kd, Augmentation(False, False, False, False))
    params = {"linear": {"kernel": g["down_model_weight"].T, "bias": g["down_model_bias"]}}
    state = ModelState(params, {}, kd.optimizer.init(params), kd.optimizer.init(params))
    assert sorted(g["server_indices"]) == list(range(12))
    samples = jnp.asarray(g["server_indices"])
    x = jnp.asarray(g["down_public_x"][:, None, :, None])
    state, metrics = learner.distil(
        state, jax.random.key(0), x, samples, jnp.asarray(g["server_target"]), jnp.int32(12), record=True
    )
    tolerance = {"rtol": 1e-5, "atol": 1e-6}  # a few steps of a linear model in float32
    np.testing.assert_allclose(method.publish(metrics.outputs), g["downlink_labels"], **tolerance)
    np.testing.assert_allclose(state.params["linear"]["kernel"].T, g["down_model_weight_after"], **tolerance)
    np.testing.assert_allclose(state.params["linear"]["bias"], g["down_model_bias_after"], **tolerance)


@pytest.mark.parametrize(
    ("options", "label_bits", "up", "down"),
    [
        ({}, 32, (4, 8), (320, 40)),  # 4 bits name one of 10 classes; an int64 in the reference
        ({"uplink_bits": 2}, 32, (20, 40), (320, 40)),
        ({"uplink_bits": 32, "downlink_bits": 8}, 32, (320, 40), (80, 40)),
        ({}, 16, (4, 8), (160, 40)),  # comm.label_bits, where the method's own field is open
    ],
)
def test_each_direction_has_bits_of_its_own(options, label_bits, up, down):
    method = cfd(**options)
    for codec, (bits, size) in ((method.uplink, up), (method.downlink, down)):
        made = codec(CHANNEL._replace(label_bits=label_bits))
        assert (made.bits, made.bytes) == (bits, size)
