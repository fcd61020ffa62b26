"""What must hold of methods whatever they compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.methods import METHODS
from scarlet_jax.tables import load
from tests.support.federations import same_bits
from tests.support.populations import noise
from tests.support.uploads import some_rows, uploads

pytestmark = pytest.mark.usefixtures("quick_compilation")
DISTILLATION = [name for name, entry in METHODS.items() if entry.distils]


def aggregated(name, probs, sent):
    """The labels that a method makes of rows f32[M, P, C], sent bool[M, P], in its first round."""
    method = load(METHODS[name].builder)()
    own = method.init(noise([2] * len(probs), [1] * len(probs)))
    return method.aggregate(own, uploads(probs, sent))[0]


@pytest.mark.parametrize("name", DISTILLATION)
def test_the_order_of_clients_changes_no_aggregate(name):
    rng = np.random.default_rng(1)
    probs, sent = some_rows(rng)
    labels = aggregated(name, probs, sent)
    order = rng.permutation(5)
    shuffled = aggregated(name, probs[order], sent[order])
    answered = np.asarray(sent.any(0))
    np.testing.assert_allclose(shuffled.target[answered], labels.target[answered], rtol=1e-5)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(labels)), "nobody answered for sample 0"
    if labels.payload is not None:  # COMET numbers its clusters by their first client, and KT-pFL has a row of each
        ours, theirs = (np.sort(np.asarray(x.payload), 1)[answered] for x in (labels, shuffled))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    rows = np.asarray(labels.target)
    np.testing.assert_allclose(rows[answered].sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", DISTILLATION)
def test_rows_that_were_not_sent_are_not_seen(name):
    probs, sent = some_rows(np.random.default_rng(2))
    seen = aggregated(name, probs, sent)
    other = aggregated(name, jnp.where(sent[:, :, None], probs, 0.25), sent)
    same_bits(seen, other)
