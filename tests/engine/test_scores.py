"""Scores of single images against sorting, and of batches against sums without the padding."""

import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.engine import scores

LOGITS = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)
LABEL = np.random.default_rng(1).integers(0, 10, 40).astype(np.int32)


def sorted_classes(logits):
    """The classes of each row, from the largest logit down; of equal ones, the lower class first."""
    return np.argsort(-logits, axis=1, kind="stable")


@pytest.mark.parametrize("logits", [LOGITS, np.round(LOGITS), np.zeros_like(LOGITS)], ids=["distinct", "ties", "equal"])
def test_a_label_is_among_the_first_classes(logits):
    order = sorted_classes(logits)
    for function, count in ((scores.top1, 1), (scores.top5, 5)):
        expected = [label in row[:count] for label, row in zip(LABEL, order, strict=True)]
        assert np.asarray(function(jnp.asarray(logits), jnp.asarray(LABEL))).tolist() == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_never_right(value):
    logits = jnp.asarray(LOGITS).at[jnp.arange(40), LABEL].set(value)
    assert not scores.top1(logits, LABEL).any() and not scores.top5(logits, LABEL).any()


def test_cross_entropy_is_that_of_the_softmax():
    probs = np.exp(LOGITS.astype(np.float64))
    probs /= probs.sum(1, keepdims=True)
    found = scores.cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABEL))
    np.testing.assert_allclose(found, -np.log(probs[np.arange(40), LABEL]), rtol=1e-5)


@pytest.mark.parametrize(("who", "names"), [("server", ["top1", "top5", "loss"]), ("private_val", ["top1", "loss"])])
def test_padding_is_in_no_sum(who, names):
    mask = np.arange(40) < 23
    spoilt = np.where(mask[:, None], LOGITS, np.nan)
    found, whole = (
        scores.of_batch(jnp.asarray(logits), jnp.asarray(LABEL[rows]), jnp.asarray(mask[rows]), who)
        for logits, rows in ((spoilt, slice(None)), (LOGITS[:23], slice(23)))
    )
    assert list(found.sums) == names and float(found.samples) == 23
    for name in names:
        np.testing.assert_allclose(found.sums[name], whole.sums[name], rtol=1e-6)


def test_nothing_has_the_shapes_of_a_batch():
    empty = scores.nothing(10, "client")
    batch = scores.of_batch(jnp.asarray(LOGITS), jnp.asarray(LABEL), jnp.ones(40, bool), "client")
    assert {name: value.shape for name, value in empty.sums.items()} == {n: v.shape for n, v in batch.sums.items()}
    assert not any(np.any(value) for value in (*empty.sums.values(), empty.samples))
