"""Sharpening against the reference's numbers and against what must hold for any rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scarlet_jax.methods import METHODS
from scarlet_jax.protocol.sharpen import enhanced_era, entropy, era, masked_mean
from tests.support.golden_files import golden

# Means of a few float32 rows, raised to a power and renormalised; entries near 1e-38 are subnormal in the reference.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-30}


@pytest.mark.parametrize("classes", ["c10", "c100"])
def test_golden_enhanced_era(classes):
    g = golden("sharpen")
    for beta, rows, of_mean in zip(
        g["betas"], g[f"{classes}_enhanced_era"], g[f"{classes}_client_enhanced_era"], strict=True
    ):
        np.testing.assert_allclose(enhanced_era(g[f"{classes}_rows"], float(beta)), rows, **TOLERANCE)
        clients = g[f"{classes}_client_rows"]
        mean = masked_mean(clients, jnp.ones(clients.shape[:2], bool))
        np.testing.assert_allclose(mean, g[f"{classes}_client_mean"], **TOLERANCE)
        np.testing.assert_allclose(enhanced_era(mean, float(beta)), of_mean, **TOLERANCE)


@pytest.mark.parametrize("classes", ["c10", "c100"])
def test_golden_era(classes):
    g = golden("sharpen")
    for temperature, rows, of_mean in zip(g["temps"], g[f"{classes}_era"], g[f"{classes}_client_era"], strict=True):
        np.testing.assert_allclose(era(g[f"{classes}_rows"], float(temperature)), rows, **TOLERANCE)
        np.testing.assert_allclose(era(g[f"{classes}_client_mean"], float(temperature)), of_mean, **TOLERANCE)


def test_the_least_temperature_of_the_table_gives_distributions():
    """Compiled, a product may be subtracted unrounded from a rounded one: T bounds what that moves an exponent by."""
    least = METHODS["dsfl"].parameters["temperature"].least
    assert np.finfo(np.float32).epsneg / least < 0.1
    rows = np.random.default_rng(0).dirichlet(np.full(10, 0.3), 100).astype(np.float32)
    rows[0], rows[1], rows[2] = 0.1, 0, np.eye(10)[3]
    for temperature in (least, 3 * least, 1e-3):
        exact = (rows.astype(float) - rows.max(-1, keepdims=True)) / float(np.float32(temperature))
        expected = np.exp(exact) / np.exp(exact).sum(-1, keepdims=True)
        for sharpen in (era, jax.jit(era)):
            sharp = np.asarray(sharpen(rows, np.float32(temperature)))
            np.testing.assert_allclose(sharp.sum(-1), 1, rtol=1e-5)
            np.testing.assert_allclose(sharp, expected, atol=0.1)


def test_uniform_row_does_not_underflow_where_the_references_does():
    g = golden("sharpen")
    assert np.isnan(g["extreme_enhanced_era"]).any()
    for beta, reference in zip(g["extreme_betas"], g["extreme_enhanced_era"], strict=True):
        ours = np.asarray(enhanced_era(g["extreme_rows"], float(beta)))
        np.testing.assert_allclose(ours[0], np.full(100, 0.01), rtol=1e-6)
        np.testing.assert_allclose(ours[1], reference[1], **TOLERANCE)


rows = hnp.arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32)).filter(lambda a: (a.sum(1) > 1e-3).all())


@given(rows)
def test_beta_one_is_the_identity_and_beta_zero_is_uniform(raw):
    probs = raw / raw.sum(1, keepdims=True)
    np.testing.assert_allclose(enhanced_era(probs, 1.0), probs, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(enhanced_era(probs, 0.0), np.full_like(probs, 0.2), rtol=1e-6)


@given(rows, st.floats(0, 60), st.permutations(range(5)))
def test_rows_stay_distributions_and_classes_may_be_renamed(raw, beta, order):
    probs = raw / raw.sum(1, keepdims=True)
    sharp = np.asarray(enhanced_era(probs, beta))
    assert np.isfinite(sharp).all()
    np.testing.assert_allclose(sharp.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(enhanced_era(probs[:, order], beta), sharp[:, order], rtol=1e-5, atol=1e-30)


@given(st.permutations(range(4)), hnp.arrays(bool, (4, 3)))
def test_masked_mean_is_a_plain_loop_in_any_order_of_clients(order, sent):
    probs = np.random.default_rng(0).dirichlet(np.ones(6), (4, 3)).astype(np.float32)
    mean = np.asarray(masked_mean(probs, sent))
    for p in range(3):
        given_rows = [probs[k, p] for k in range(4) if sent[k, p]]
        expected = np.mean(given_rows, 0) if given_rows else np.full(6, 1 / 6)
        np.testing.assert_allclose(mean[p], expected, rtol=1e-5)
    np.testing.assert_allclose(masked_mean(probs[list(order)], sent[list(order)]), mean, rtol=1e-5)


def test_entropy_in_nats():
    np.testing.assert_allclose(entropy(jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])), [np.log(2), 0], atol=1e-7)
