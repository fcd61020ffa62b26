"""What soft labels say, against loops over samples and clients."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from scarlet_jax.methods import label_metrics
from tests.support.uploads import some_rows


def nats(p):
    """Entropy of one distribution."""
    return -sum(x * np.log(x) for x in np.asarray(p, np.float64) if x > 0)


def test_entropy_is_the_mean_over_what_is_kept():
    target = np.array([[0.5, 0.5, 0], [1, 0, 0], [0.2, 0.3, 0.5]], np.float32)
    for keep in ([True, True, True], [True, False, True], [False] * 3):
        served = SimpleNamespace(target=jnp.asarray(target), keep=jnp.array(keep))
        expected = [nats(p) for p, kept in zip(target, keep, strict=True) if kept]
        found = label_metrics.target_entropy(None, None, served)
        np.testing.assert_allclose(found, np.mean(expected) if expected else 0, rtol=1e-5)


def test_disagreement_is_the_divergence_from_the_mean():
    """Jensen-Shannon: the entropy of the mean of what was sent, less the mean of their entropies."""
    probs, sent = (np.asarray(a) for a in some_rows(np.random.default_rng(0)))
    expected = []
    for i in range(probs.shape[1]):
        rows = probs[sent[:, i], i].astype(np.float64)
        if len(rows):
            expected.append(nats(rows.mean(0)) - np.mean([nats(p) for p in rows]))
    assert 0 < len(expected) < probs.shape[1]
    found = label_metrics.disagreement(jnp.asarray(probs), jnp.asarray(sent), None)
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-4)


def test_those_who_agree_do_not_disagree():
    probs = jnp.tile(jnp.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]), (4, 1, 1))
    assert abs(float(label_metrics.disagreement(probs, jnp.ones((4, 2), bool), None))) < 1e-6
    assert float(label_metrics.disagreement(probs, jnp.zeros((4, 2), bool), None)) == 0
