"""What is measured of a round's soft labels, written out sample by sample."""

import jax.numpy as jnp
import numpy as np

from scarlet_jax.methods.label_metrics import disagreement, target_entropy
from scarlet_jax.protocol.round import Served
from tests.support.uploads import some_rows


def nats(row):
    return -sum(p * np.log(p) for p in row if p > 0)


def served(target, keep):
    """A list of which only the target and what is kept matter."""
    order = jnp.arange(len(keep))
    none = jnp.zeros(len(keep), bool)
    return Served(order, jnp.asarray(target), jnp.asarray(keep), none, order, none, order)


def test_entropy_of_the_teacher_is_a_mean_over_the_list():
    target = np.random.default_rng(0).dirichlet(np.ones(4), 6).astype(np.float32)
    target[0] = [1, 0, 0, 0]
    keep = np.array([True, True, False, True, False, True])
    expected = np.mean([nats(row) for row in target[keep]])
    probs, sent = some_rows(np.random.default_rng(1), samples=6)
    np.testing.assert_allclose(target_entropy(probs, sent, served(target, keep)), expected, rtol=1e-5)
    assert float(target_entropy(probs, sent, served(target, keep & False))) == 0


def test_disagreement_is_the_entropy_of_the_mean_less_the_mean_entropy():
    probs, sent = some_rows(np.random.default_rng(1), samples=6)
    rows, own = np.asarray(probs, np.float64), np.asarray(sent)
    each = []
    for p in range(6):
        labels = [rows[k, p] for k in range(len(rows)) if own[k, p]]
        if labels:
            each.append(nats(np.mean(labels, 0)) - np.mean([nats(label) for label in labels]))
    target = served(np.full((6, 4), 0.25), np.ones(6, bool))
    assert len(each) == 5, "nobody sent a label for sample 0"
    np.testing.assert_allclose(disagreement(probs, sent, target), np.mean(each), rtol=1e-4)


def test_clients_that_agree_do_not_disagree():
    probs, sent = some_rows(np.random.default_rng(2))
    same = jnp.broadcast_to(probs[:1], probs.shape)
    target = served(np.full((7, 4), 0.25), np.ones(7, bool))
    np.testing.assert_allclose(disagreement(same, sent, target), 0, atol=1e-6)
