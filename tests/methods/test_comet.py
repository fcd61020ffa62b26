"""COMET against numbers of the reference implementation, and its clusters against all there are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.engine.learner import kl_divergence
from scarlet_jax.methods.comet import comet, kmeans, nearest
from scarlet_jax.protocol import ledger
from tests.support.golden_files import golden
from tests.support.uploads import uploads

MEAN = {"rtol": 1e-6, "atol": 1e-7}  # a mean of at most 8 float32 rows


def everyone(probs):
    return jnp.ones(probs.shape[:2], bool)


def test_the_server_clusters_and_every_client_chooses():
    g, method = golden("comet"), comet()
    probs = jnp.asarray(g["client_probs"])
    labels = method.aggregate((), uploads(probs, everyone(probs)))[0]
    np.testing.assert_allclose(labels.target, g["server_target"], **MEAN)
    np.testing.assert_allclose(labels.payload, g["centroids"], **MEAN)
    for k in range(8):
        np.testing.assert_array_equal(nearest(labels.payload, probs[k]), g["assignment"][k])
        for fresh in (True, False):
            before = g["query_choice"][k].astype(np.uint8)  # kept where the copy is not fresh
            start = jnp.zeros(12, jnp.uint8) if fresh else before
            own = jnp.asarray(g["query_probs"][k] if fresh else g["query_probs"][k][::-1])
            target, choice = method.decode(labels.payload, own, start, jnp.full(12, fresh))
            np.testing.assert_array_equal(choice, g["query_choice"][k])
            np.testing.assert_allclose(target, g["query_best_centroid"][k], **MEAN)


def test_without_two_different_rows_or_without_any():
    same = jnp.broadcast_to(jnp.array([0.7, 0.2, 0.1]), (4, 2, 3))
    sent = jnp.array([[True, False]] * 4)
    centroids = kmeans(same, sent, 2)
    np.testing.assert_allclose(centroids[0], np.broadcast_to(same[0, 0], (2, 3)), rtol=1e-6)
    np.testing.assert_allclose(centroids[1], 1 / 3, rtol=1e-6)


def test_clusters_that_are_apart_are_found():
    """Six clients whose rows lie near two corners of the simplex: the split is the best of all, sample by sample."""
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 2, (6, 5))
    corner[0], corner[1] = 0, 1  # so that both are there
    rows = np.eye(3)[corner] * 0.9 + rng.dirichlet(np.ones(3), (6, 5)) * 0.1
    sent = np.ones((6, 5), bool)
    sent[2:, 4] = rng.random(4) < 0.5
    centroids = np.asarray(kmeans(jnp.asarray(rows, jnp.float32), jnp.asarray(sent), 2))
    for p in range(5):
        own = [k for k in range(6) if sent[k, p]]
        splits = [split for split in itertools.product((0, 1), repeat=len(own)) if len(set(split)) == 2]
        means = [[rows[[k for k, s in zip(own, split, strict=True) if s == c], p].mean(0) for c in (0, 1)]
                 for split in splits]  # fmt: skip
        costs = [sum(((rows[k, p] - m[s]) ** 2).sum() for k, s in zip(own, split, strict=True))
                 for split, m in zip(splits, means, strict=True)]  # fmt: skip
        best = means[int(np.argmin(costs))]
        ordered = best if splits[int(np.argmin(costs))][0] == 0 else best[::-1]  # by the first client
        np.testing.assert_allclose(centroids[p], ordered, rtol=1e-5)


@pytest.mark.parametrize(("full", "size"), [(True, 40), (False, 80)])
def test_centroids_are_billed_on_the_way_down(full, size):
    """Two rows of float32; in the reference one, where all clients take part."""
    method, channel = comet(num_clusters=2), ledger.Channel(10, 16, full_participation=full)
    down, up = method.downlink(channel), method.uplink(channel)
    assert (down.bits, down.bytes, up.bits, up.bytes) == (2 * 160, size, 160, 40)


def test_the_distillation_loss_is_weighed():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    target = jax.nn.softmax(jnp.asarray(rng.normal(size=(4, 3)), jnp.float32))
    np.testing.assert_allclose(comet(weight=0.25).kd_loss(logits, target), 0.25 * kl_divergence(logits, target))
