"""A federation whose models store and multiply in bfloat16 ends where one in float32 does."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from configs import digits
from scarlet_jax import build, learners
from scarlet_jax.data import federation
from scarlet_jax.engine.layout import make_mesh

SEEDS, ROUNDS = range(5), 6


def accuracies(precision: str) -> np.ndarray:
    """Of the server, and of the mean client, f64[seeds, 2]. The seed is an argument of the programs, so that all seeds
    share those of the first."""
    config, found, algorithm = digits.get_config(), [], None
    config.model.precision, config.num_clients = precision, 4
    for config.seed in SEEDS:
        loaded = federation.load(config)
        if algorithm is None:
            algorithm = build.make_algorithm(config, loaded.data, loaded.num_classes, make_mesh())
        algorithm.population.start_numbers = jax.device_put(learners.numbers(config, config.cache.duration))
        data = jax.device_put(loaded.data)
        state = algorithm.init(data)
        for _ in range(ROUNDS):
            state, report = algorithm.round(state, data)
        scores = algorithm.evaluate(state, data, report.participants)
        own = np.asarray(scores.clients.sums["top1"]) / np.asarray(scores.clients.samples)
        found.append([float(scores.server.sums["top1"] / scores.server.samples), own.mean()])
    return np.array(found)


@pytest.fixture(autouse=True)
def _quick() -> None:
    """The programs are those of a run: they take longer to compile than in other tests, and half as long in all."""


def test_bfloat16_learns_as_float32_does() -> None:
    """The means over seeds differ by at most twice their standard error, as that of independent runs: the spread over
    seeds is what a user takes for chance, and pairs of runs with one seed differ by less."""
    exact, rounded = accuracies("float32"), accuracies("bfloat16")
    error = np.sqrt((exact.var(0, ddof=1) + rounded.var(0, ddof=1)) / len(SEEDS))
    assert len({tuple(row) for row in exact}) == len(SEEDS), "each seed is a federation of its own"
    assert np.all(exact.mean(0) > 0.8), "a federation that learns nothing shows nothing"
    assert np.all(np.abs(rounded.mean(0) - exact.mean(0)) <= 2 * error), (exact, rounded)
