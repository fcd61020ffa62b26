"""SCARLET's aggregation, in NumPy."""

import numpy as np
import pytest

from scarlet_jax.methods.scarlet import scarlet
from tests.support.uploads import some_rows, uploads


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
def test_the_mean_of_what_was_sent_is_sharpened(beta):
    probs, sent = some_rows(np.random.default_rng(0))
    labels, state = scarlet(beta).aggregate((), uploads(probs, sent))
    for p, row in enumerate(np.asarray(labels.target)):
        own = np.asarray(probs, np.float64)[np.asarray(sent)[:, p], p]
        mean = own.mean(0) if len(own) else np.full(row.size, 1 / row.size)
        np.testing.assert_allclose(row, mean**beta / (mean**beta).sum(), rtol=1e-5)
    assert state == () and labels.payload is None and labels.keep is None
