"""The numbers of a report: accuracies, bytes, bytes until a target accuracy, ratios to a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from scarlet_jax.errors import UserError
from scarlet_jax.metric_tables import LEDGERS, SCORES
from scarlet_jax.report import facts
from scarlet_jax.report.groups import Group, find_baseline
from scarlet_jax.report.runs import Run


@dataclass(frozen=True)
class Options:
    """What a report is to show.

    Attributes:
      targets: top-1 accuracies to reach, shares in (0, 1].
      baseline: what bytes are divided by: a method, a run's name or a label; empty for none.
      ledger: "reference" (as the paper bills) or "wire" (what a careful implementation sends).
      uplink_mbps, downlink_mbps: speed of a participant's own link, 10^6 bits per second; both or neither.

    Raises:
      UserError: a value that is not one of these.
    """

    targets: tuple[float, ...] = ()
    baseline: str = ""
    ledger: str = "reference"
    uplink_mbps: float | None = None
    downlink_mbps: float | None = None

    def __post_init__(self):
        for target in self.targets:
            if not 0 < target <= 1:
                raise UserError(f"The target {target:g} is not an accuracy: it must be above 0 and at most 1.")
        if self.ledger not in LEDGERS:
            raise UserError(f"The ledger is {self.ledger!r}; it must be one of {', '.join(LEDGERS)}.")
        if (self.uplink_mbps is None) != (self.downlink_mbps is None):
            raise UserError("Hours of transmission need both --uplink-mbps and --downlink-mbps.")
        for name, speed in (("uplink", self.uplink_mbps), ("downlink", self.downlink_mbps)):
            if speed is not None and not (speed > 0 and math.isfinite(speed)):
                raise UserError(f"--{name}-mbps is {speed:g}; a speed must be above 0.")

    @property
    def speeds(self) -> tuple[float, float] | None:
        """Uplink and downlink in 10^6 bits per second; None when not given."""
        if self.uplink_mbps is None or self.downlink_mbps is None:
            return None
        return self.uplink_mbps, self.downlink_mbps


class Stat(NamedTuple):
    """Mean and standard deviation (of a sample, n - 1) over the runs of a group; std is None for one run."""

    mean: float
    std: float | None


class Reached(NamedTuple):
    """Bytes until a target accuracy.

    Attributes:
      bytes: cumulative, both directions, with the first evaluated round at or above the target; None unless all runs
        of the group reached it (a mean over the lucky ones would flatter) and bill bytes.
      runs: how many reached it; `of`: runs that have such an accuracy at all.
      ratio: mean bytes / the baseline's mean bytes; None without a baseline, or where either has no bytes.
    """

    bytes: Stat | None
    runs: int
    of: int
    ratio: float | None = None


class Measured(NamedTuple):
    """An evaluation metric of a group.

    Attributes:
      scores: (who, what) -> Stat, who "server" or "client" (the mean client), what "final", "last5" (mean of the last
        five evaluations, or of all where there are fewer) or "best".
      client_std: standard deviation over the clients of the last evaluation.
      client_worst: the worst of them.
    """

    scores: dict[tuple[str, str], Stat | None]
    client_std: Stat | None
    client_worst: Stat | None


@dataclass(frozen=True)
class Entry:
    """A row of the table: one group. None where the group has no such number.

    Attributes:
      label, complete: the group's.
      rounds: rounds done, of each run; planned: rounds its config asks for; seeds: of each run.
      measured: evaluation metric -> what the runs reached.
      uplink, downlink, total: bytes over all rounds done.
      ratio: mean total / the baseline's, where both did the same number of rounds.
      reached: (who, target) -> Reached.
      facts: what was run, for people; columns: the same for table.csv.
    """

    label: str
    method: str
    names: tuple[str, ...]
    seeds: tuple[int, ...]
    rounds: tuple[int, ...]
    planned: int
    complete: bool
    measured: dict[str, Measured]
    uplink: Stat | None
    downlink: Stat | None
    total: Stat | None
    ratio: float | None = None
    reached: dict[tuple[str, float], Reached] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)


WHO = ("server", "client")


def reported() -> list[str]:
    """The evaluation metrics that reports show."""
    return [name for name, score in SCORES.items() if score.reported]


def tabulate(groups: Sequence[Group], options: Options) -> list[Entry]:
    """One entry per group, in their order.

    Raises:
      UserError: the baseline is not among the groups.
    """
    base = groups.index(find_baseline(groups, options.baseline)) if options.baseline else None
    entries = [_entry(group, options) for group in groups]
    return entries if base is None else [_compared(entry, entries[base]) for entry in entries]


def _entry(group: Group, options: Options) -> Entry:
    ledger, runs = options.ledger, group.runs
    return Entry(
        label=group.label,
        method=group.method,
        names=tuple(run.name for run in runs),
        seeds=tuple(run.seed for run in runs),
        rounds=group.rounds,
        planned=runs[0].config["rounds"],
        complete=group.complete,
        measured={name: _measured(runs, name) for name in reported()},
        uplink=_stat(_last(run.total_uplink[ledger]) for run in runs),
        downlink=_stat(_last(run.total_downlink[ledger]) for run in runs),
        total=_stat(_last(run.total(ledger)) for run in runs),
        reached={(who, t): _reached(runs, who, t, ledger) for who in WHO for t in options.targets},
        facts=facts.described(group),
        columns=facts.columns(group),
    )


def _measured(runs: Sequence[Run], name: str) -> Measured:
    sign = 1 if SCORES[name].higher else -1
    scores = {
        (who, what): _stat(sign * choose(sign * run.column(f"{who}_{name}")) for run in runs)
        for who in WHO
        for what, choose in CHOICES.items()
    }
    spread = _stat(_last(run.spread(name)) for run in runs)
    return Measured(scores, spread, _stat(sign * _worst(sign * run.of_clients(name)) for run in runs))


def _reached(runs: Sequence[Run], who: str, target: float, ledger: str) -> Reached:
    values = [run.column(f"{who}_top1") for run in runs]
    of = sum(bool(np.isfinite(v).any()) for v in values)
    # Accuracies are quotients of counts: 0.3 is reached by 3 of 10 whichever way that was rounded.
    first = [np.flatnonzero(v >= target - 1e-7) for v in values]  # NaN compares false
    bytes_ = [float(run.total(ledger)[at[0]]) for run, at in zip(runs, first, strict=True) if len(at)]
    return Reached(_stat(bytes_) if len(bytes_) == len(runs) else None, len(bytes_), of)


def _compared(entry: Entry, base: Entry) -> Entry:
    same = set(entry.rounds) == set(base.rounds) and len(set(entry.rounds)) == 1
    reached = {
        key: mine._replace(ratio=_ratio(mine.bytes, base.reached[key].bytes)) for key, mine in entry.reached.items()
    }
    return Entry(
        **{**vars(entry), "ratio": _ratio(entry.total, base.total) if same else None, "reached": reached},
    )


def _ratio(one: Stat | None, other: Stat | None) -> float | None:
    return one.mean / other.mean if one is not None and other is not None and other.mean > 0 else None


def _stat(values: Iterable[float]) -> Stat | None:
    array = np.array([*values], np.float64)
    if not np.isfinite(array).all() or not len(array):
        return None
    return Stat(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None)


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _last(values: np.ndarray) -> float:
    kept = _finite(values)
    return float(kept[-1]) if len(kept) else math.nan


def _last_five(values: np.ndarray) -> float:
    kept = _finite(values)[-5:]
    return float(kept.mean()) if len(kept) else math.nan


def _best(values: np.ndarray) -> float:
    return float(_finite(values).max(initial=-np.inf)) if np.isfinite(values).any() else math.nan


def _worst(per_client: np.ndarray) -> float:
    """The lowest of the last evaluation; [E, K] -> a number."""
    kept = _finite(per_client[-1]) if len(per_client) else per_client
    return float(kept.min()) if kept.size else math.nan


CHOICES: dict[str, Callable[[np.ndarray], float]] = {"final": _last, "last5": _last_five, "best": _best}
