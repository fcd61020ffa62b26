"""Scores against plain loops: ties, more classes than five, padding, logits that are not finite."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scarlet_jax.engine import scores
from scarlet_jax.metric_tables import scored


def rank(row, label):
    """Classes before the label's in a stable sort from the largest logit down: the lower class first on ties."""
    return sorted(range(len(row)), key=lambda c: -row[c]).index(label)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_ranks_and_losses_are_those_of_a_sort(data):
    # Small whole numbers, so that many logits are equal.
    logits = np.array(
        data.draw(st.lists(st.lists(st.integers(-2, 2), min_size=7, max_size=7), min_size=6, max_size=6)), np.float32
    )
    label = np.array(data.draw(st.lists(st.integers(0, 6), min_size=6, max_size=6)))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=6, max_size=6)))
    found = scores.of_batch(jnp.asarray(logits), jnp.asarray(label), jnp.asarray(mask), "server")
    real = [i for i in range(6) if mask[i]]
    assert float(found.samples) == len(real)
    assert float(found.sums["top1"]) == sum(rank(logits[i], label[i]) < 1 for i in real)
    assert float(found.sums["top5"]) == sum(rank(logits[i], label[i]) < 5 for i in real)
    loss = [np.log(np.exp(logits[i].astype(float)).sum()) - logits[i, label[i]] for i in real]
    assert float(found.sums["loss"]) == pytest.approx(sum(loss), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_counts_as_wrong(worst):
    logits = jnp.array([[worst, 0.0, 1.0]])
    found = scores.of_batch(logits, jnp.array([0]), jnp.array([True]), "client")
    assert float(found.sums["top1"]) == float(found.sums["top5"]) == 0 and float(found.samples) == 1


@pytest.mark.parametrize("who", ["server", "client", "private_val"])
def test_no_images_have_the_scores_of_which_sums_begin(who):
    empty = scores.nothing(4, who)
    assert set(empty.sums) == set(scored(who)) and float(empty.samples) == 0
    batch = scores.of_batch(jnp.ones((2, 4)), jnp.array([0, 1]), jnp.array([False, False]), who)
    for name in empty.sums:
        assert empty.sums[name].shape == batch.sums[name].shape and not np.any(batch.sums[name])
