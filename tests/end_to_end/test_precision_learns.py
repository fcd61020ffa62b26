"""A federation whose models store and multiply in bfloat16 ends where one in float32 does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import scarlet_jax
from configs import digits

SEEDS = range(5)


def accuracies(precision: str, seed: int, folder: Path) -> tuple[float, float]:
    """Of the server, and of the mean client."""
    config = digits.get_config()
    config.seed, config.model.precision = seed, precision
    config.num_clients, config.rounds, config.eval_every, config.checkpoint.every = 4, 6, 6, 6
    summary = scarlet_jax.run(config, folder / f"{precision}{seed}", quiet=True)
    return summary["server_top1"], summary["client_top1"]


def test_bfloat16_learns_as_float32_does(tmp_path: Path, quick_compilation: None) -> None:
    """The means over seeds differ by at most twice their standard error, as that of independent runs: the spread over
    seeds is what a user takes for chance, and pairs of runs with one seed differ by less."""
    exact, rounded = (
        np.array([accuracies(precision, seed, tmp_path) for seed in SEEDS]) for precision in ("float32", "bfloat16")
    )
    error = np.sqrt((exact.var(0, ddof=1) + rounded.var(0, ddof=1)) / len(SEEDS))
    assert np.all(exact.mean(0) > 0.8), "a federation that learns nothing shows nothing"
    assert np.all(np.abs(rounded.mean(0) - exact.mean(0)) <= 2 * error), (exact, rounded)
