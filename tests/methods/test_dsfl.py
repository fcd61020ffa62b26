"""DS-FL's aggregation, in NumPy."""

import numpy as np
import pytest

from scarlet_jax.methods.dsfl import dsfl
from tests.support.uploads import some_rows, uploads


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_the_mean_of_what_was_sent_is_sharpened(temperature):
    probs, sent = some_rows(np.random.default_rng(0))
    labels, state = dsfl(temperature).aggregate((), uploads(probs, sent))
    for p, row in enumerate(np.asarray(labels.target)):
        own = np.asarray(probs, np.float64)[np.asarray(sent)[:, p], p]
        mean = own.mean(0) if len(own) else np.full(row.size, 1 / row.size)
        z = np.exp((mean - mean.max()) / temperature)
        np.testing.assert_allclose(row, z / z.sum(), rtol=1e-4)
    assert state == () and labels.payload is None and labels.keep is None
