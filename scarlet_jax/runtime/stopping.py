"""Bounds that end a run before its last round: `config.stop`. They are compared with a summary, and change no bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from scarlet_jax.metric_tables import LEDGERS
from scarlet_jax.runtime.metrics import Row

_SCORES = {"server_top1": "server top-1", "client_top1": "mean client top-1"}


def bounded(stop: Any) -> bool:
    """Whether `config.stop` sets a bound."""
    return any(bound is not None for bound in stop.values())


def reached(stop: Any, summary: Row) -> str | None:
    """Which bounds the summary after a round has reached, in words; None if there are none.

    The scores of a summary are those of the latest evaluation. A round without evaluation thus changes only the bytes.

    Args:
      stop: `config.stop`.
      summary: as of `metrics.summarise`.
    """
    found = []
    for name, title in _SCORES.items():
        score, bound = summary.get(name), stop[name]
        # In float32, the precision of scores: 0.9 there is a little less than the bound 0.9.
        if bound is not None and score is not None and np.float32(score) >= np.float32(bound):
            found.append(f"{title} {score:.4f} has reached config.stop.{name} = {bound:g}")
    if stop.megabytes is not None:
        volumes = [summary[f"{direction}_bytes"][LEDGERS[0]] for direction in ("uplink", "downlink")]
        if spent(stop, volumes):
            total = sum(volumes) / 1e6
            found.append(
                f"{total:.6g} MB ({LEDGERS[0]} ledger) have reached config.stop.megabytes = {stop.megabytes:g}"
            )
    return " and ".join(found) or None


def spent(stop: Any, volumes: list[int | None]) -> bool:
    """Whether these bytes, all together, reach `config.stop.megabytes`; those that a method does not bill are None."""
    known = [volume for volume in volumes if volume is not None]
    return stop.megabytes is not None and bool(known) and sum(known) >= stop.megabytes * 1e6
