"""Accuracy at byte budgets, and which method is best at each."""

from __future__ import annotations

import numpy as np

from tools.evidence.intervals import paired
from tools.evidence.records import Record, Results

TITLES = {
    "scarlet": "SCARLET",
    "scarlet-D0": "SCARLET without cache",
    "dsfl": "DS-FL",
    "dsfl+cache": "DS-FL + cache",
    "cfd": "CFD",
    "comet": "COMET",
    "selective_fd": "Selective-FD",
    "fedavg": "FedAvg",
    "feddf": "FedDF",
    "fedmd": "FedMD",
    "kt_pfl": "KT-pFL",
    "fd": "FD",
    "fedproto": "FedProto",
    "fedproto-prototype": "FedProto, nearest prototype",
    "individual": "individual",
    "centralized": "centralized",
}
BOUNDS = ("individual", "centralized")  # no federation: rows of the table, never the best
BUDGETS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)  # of the digits, MB, 10^6 bytes, up and down, all participants
SMOOTHED = 5  # rounds, at most


def smooth(values: np.ndarray) -> np.ndarray:
    """The mean of each round and the four before it, f64[R]; before round 25, of the last fifth of the rounds.

    A window of five from the start would count the first rounds of a method that a small budget buys few rounds of.
    """
    done = np.arange(1, len(values) + 1)
    window = np.clip(done // 5, 1, SMOOTHED)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[done] - sums[done - window]) / window


def at_budget(record: Record, who: str, ledger: str, megabytes: float) -> float:
    """Smoothed accuracy in the last round that ends within a budget; NaN if the first round already costs more."""
    within = np.flatnonzero(record.columns[ledger] <= megabytes * 1e6)
    return float(smooth(record.accuracy(who))[within[-1]]) if len(within) else np.nan


def balanced(results: Results) -> Results:
    """The methods that have runs, with only those seeds that all of them have: none is judged by easier partitions."""
    found = {variant: results[variant] for variant in TITLES if variant in results}
    shared = set.intersection(*(set(seeds) for seeds in found.values())) if found else set()
    return {variant: {seed: seeds[seed] for seed in sorted(shared)} for variant, seeds in found.items() if shared}


def column(results: Results, who: str, ledger: str, megabytes: float | None) -> dict[str, dict[int, float]]:
    """Variant -> seed -> accuracy at a budget, or at the end (None); a variant that lacks one is left out."""
    found: dict[str, dict[int, float]] = {}
    for variant, records in results.items():
        values = {
            seed: record.final(who) if megabytes is None else at_budget(record, who, ledger, megabytes)
            for seed, record in records.items()
        }
        if np.isfinite(list(values.values())).all() and (megabytes is None or variant not in BOUNDS):
            found[variant] = values
    return found


def best(values: dict[str, dict[int, float]]) -> tuple[str, list[str]] | None:
    """The variant with the highest mean, and those that the seeds do not tell apart from it; None without any."""
    contest = {variant: seeds for variant, seeds in values.items() if variant not in BOUNDS}
    if not contest:
        return None
    winner = max(contest, key=lambda variant: np.mean(list(contest[variant].values())))
    near = [other for other in contest if other != winner and not paired(contest[winner], contest[other]).low > 0]
    return winner, near
