"""Student's t intervals of numbers paired by seed, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

COMPETITIVE = -0.02  # an accuracy is competitive if the interval of its difference lies above this
HALF = 0.5  # of the bytes of the method compared with

SHOWN, NOT_SHOWN, REFUTED, NOT_RUN = "shown", "not shown", "refuted", "not yet run"


class Interval(NamedTuple):
    """The mean of n numbers and its 95 % interval by Student's t; low and high are NaN for fewer than two."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: np.ndarray) -> Interval:
    """The 95 % interval of the mean of independent numbers, f64[n]."""
    values = np.asarray(values, np.float64)
    n = len(values)
    if n < 2:
        return Interval(float(values.mean()) if n else np.nan, np.nan, np.nan, n)
    half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half), n)


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Interval:
    """The interval of `one` - `other` over the seeds that both have."""
    return interval(np.array([one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]))


def ratio(one: Mapping[int, float], other: Mapping[int, float]) -> Interval:
    """The interval of `one` / `other` over the seeds that both have."""
    return interval(np.array([one[seed] / other[seed] for seed in sorted(one.keys() & other.keys())]))


def above(found: Interval, bound: float) -> str:
    """Whether a number is shown to be above a bound: all of its interval is; refuted: none of it is."""
    if found.n < 2:
        return NOT_RUN
    return SHOWN if found.low > bound else REFUTED if found.high <= bound else NOT_SHOWN


def at_most(found: Interval, bound: float) -> str:
    """Whether a number is shown to be at most a bound."""
    return {SHOWN: REFUTED, REFUTED: SHOWN}.get(verdict := above(found, bound), verdict)


def any_of(*verdicts: str) -> str:
    """The verdict on a claim that holds if one of several does: refuted only if all are."""
    for verdict in (SHOWN, NOT_RUN, NOT_SHOWN):
        if verdict in verdicts:
            return verdict
    return REFUTED


def all_of(*verdicts: str) -> str:
    """The verdict on a claim that has several parts: refuted with any of them, shown only with all."""
    for verdict in (REFUTED, NOT_RUN, NOT_SHOWN):
        if verdict in verdicts:
            return verdict
    return SHOWN
