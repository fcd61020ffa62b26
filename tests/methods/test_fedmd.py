"""FedMD against a federation of linear models in NumPy, and what logits and the missing server change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.errors import UserError
from scarlet_jax.methods import distillation
from scarlet_jax.methods.fedmd import fedmd, mean_absolute_error
from tests.support import plain_linear as plain
from tests.support.federations import federation
from tests.support.harness import tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")
WARM = 4


def entropy(p):
    return -(p * np.log(p)).sum(-1)


def test_a_federation_is_a_plain_loop():
    parts = plain.parts(plain.learner(mean_absolute_error), server=False)
    data = parts[-1]
    algorithm = distillation.make(lambda numbers: fedmd(warmup_epochs=WARM), *parts)
    state, device_data = algorithm.init(data), jax.device_put(data)
    assert state.server is None
    models, joined, last = plain.models(state), set(), None
    late = 0
    for r in range(4):
        state, report = algorithm.round(state, device_data)
        draw = np.asarray(algorithm.draws.public(jnp.int32(r)))
        sent, ids = [], np.asarray(report.participants).tolist()
        for k in ids:
            if k not in joined:
                models[k] = plain.fitted(models[k], data, k, WARM)
                late += r > 0
            if last is not None:
                x, target = last
                models[k] = plain.trained(
                    models[k], x, lambda z, t=target: np.sign(z - t) / z.shape[1], plain.KD_LR, plain.KD_EPOCHS
                )
            models[k] = plain.fitted(models[k], data, k)
            sent.append(plain.logits(models[k], plain.pixels(data.public_image[draw])))
        joined |= set(ids)
        last = plain.pixels(data.public_image[draw]), np.mean(sent, 0)
        plain.assert_models(state, models)
        np.testing.assert_allclose(state.broadcast.payload, last[1], rtol=1e-4, atol=1e-5)
        # What is measured is of probabilities.
        probs = plain.softmax(np.array(sent))
        np.testing.assert_allclose(report.metrics["target_entropy"], entropy(plain.softmax(last[1])).mean(), rtol=1e-4)
        among = (entropy(probs.mean(0)) - entropy(probs).mean(0)).mean()
        np.testing.assert_allclose(report.metrics["disagreement"], among, rtol=1e-3)
        assert report.server_kd_loss is None
    assert late, "a client joins after the first round, and distils in that round"
    assert np.asarray(state.joined).nonzero()[0].tolist() == sorted(joined)


def test_without_a_warm_up_nothing_is_carried_for_it():
    parts = plain.parts(plain.learner(mean_absolute_error), server=False)
    algorithm = distillation.make(lambda numbers: fedmd(warmup_epochs=0), *parts)
    assert algorithm.init(parts[-1]).joined is None


def test_a_cached_row_is_the_mean_of_logits():
    algorithm, data, state = federation("fedmd+cache", **{"cache__duration": 2})
    state, _ = algorithm.round(state, data)
    rows = np.asarray(state.cache.target)[np.asarray(state.broadcast.samples)]
    np.testing.assert_array_equal(rows, state.broadcast.payload)
    assert (rows < 0).any() and (np.abs(rows.sum(1) - 1) > 0.1).any(), "these are no probabilities"


def test_the_loss_is_the_mean_absolute_error_of_a_row():
    loss = mean_absolute_error(jnp.array([[1.0, -2.0, 4.0]]), jnp.array([[0.0, 0.0, 1.0]]))
    assert loss.tolist() == [2.0]


@pytest.mark.parametrize("bits", [8, 16])
def test_logits_are_not_quantised(bits):
    from scarlet_jax.preview import checks

    config = tiny(method__name="fedmd", comm__label_bits=bits)
    with pytest.raises(UserError, match=rf"comm\.label_bits is {bits}, but fedmd sends logits.*; allowed is 32\."):
        checks.check(config)
