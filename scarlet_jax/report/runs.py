"""A run's files as arrays."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from scarlet_jax import row_files
from scarlet_jax.errors import UserError
from scarlet_jax.methods import METHODS
from scarlet_jax.metric_tables import LEDGERS
from scarlet_jax.training_tables import resolved


@dataclass(frozen=True, eq=False)
class Run:
    """What a run left in its directory. R rows of metrics.jsonl, E evaluations in clients.csv, K clients.

    Arrays are float64 with NaN where a round was not evaluated or where the method has no such number, except
    where noted. Accuracies are shares between 0 and 1, byte counts those of one round over all participants.

    Attributes:
      path: the directory, as it was given.
      name: the directory's own name.
      config: config.json, with a value for an open learning rate.
      summary: summary.json; empty where the run has not written one yet.
      complete: all rounds that the config asks for are there, or the run has ended at a bound of the config.
      method: name of the method.
      seed: the config's.
      duration: the cache's D in rounds, 0 without a cache; the method's own where the config leaves it open.
      own_duration: the method's own D.
      round: i64[R], from 0, increasing.
      participants: [R], clients that took part.
      server_top1, server_top5, server_loss: [R], server model on the whole test set.
      client_top1, client_top5, client_loss: [R], mean over the round's participants, each on its own test data. Other
        evaluation metrics are in `metrics` and `per_client`.
      requested, hit, stale, caught_up: [R], public samples drawn that were not, that were in the cache, that had
        expired in it; entries of catch-up packages.
      uplink, downlink: ledger -> [R], bytes of the round.
      total_uplink, total_downlink: ledger -> [R], bytes up to and with the round.
      seconds: [R], wall time.
      metrics: every numeric column of metrics.jsonl by its name there -> [R].
      evaluated: i64[E], the rounds of clients.csv.
      per_client: "top1", "top5", "loss", "samples" and any other column of clients.csv -> [E, K], each client's own;
        NaN where it did not take part.
    """

    path: Path
    name: str
    config: dict[str, Any]
    summary: dict[str, Any]
    complete: bool
    method: str
    seed: int
    duration: int
    own_duration: int
    round: np.ndarray
    participants: np.ndarray
    server_top1: np.ndarray
    server_top5: np.ndarray
    server_loss: np.ndarray
    client_top1: np.ndarray
    client_top5: np.ndarray
    client_loss: np.ndarray
    requested: np.ndarray
    hit: np.ndarray
    stale: np.ndarray
    caught_up: np.ndarray
    uplink: dict[str, np.ndarray]
    downlink: dict[str, np.ndarray]
    total_uplink: dict[str, np.ndarray]
    total_downlink: dict[str, np.ndarray]
    seconds: np.ndarray
    metrics: dict[str, np.ndarray]
    evaluated: np.ndarray
    per_client: dict[str, np.ndarray]

    def total(self, ledger: str) -> np.ndarray:
        """f64[R]: bytes up to and with each round, both directions. NaN for a method that bills none."""
        return self.total_uplink[ledger] + self.total_downlink[ledger]

    def hours(self, ledger: str, uplink_mbps: float, downlink_mbps: float) -> np.ndarray:
        """f64[R]: hours of transmission up to and with each round, computing not counted.

        Every participant has a link of its own, `uplink_mbps` and `downlink_mbps` in 10^6 bits per second; all
        transmit at once, and a round takes as long as its mean message, first up, then down.
        """
        seconds = 8e-6 * (self.uplink[ledger] / uplink_mbps + self.downlink[ledger] / downlink_mbps)
        return np.cumsum(seconds / self.participants) / 3600

    def column(self, name: str) -> np.ndarray:
        """f64[R]: a column of metrics.jsonl; NaN where the run does not have it."""
        return self.metrics.get(name, np.full(len(self.round), np.nan))

    def of_clients(self, name: str) -> np.ndarray:
        """f64[E, K]: a column of clients.csv; NaN where the run does not have it."""
        return self.per_client.get(name, np.full((len(self.evaluated), 1), np.nan))

    def spread(self, name: str = "top1") -> np.ndarray:
        """f64[E]: standard deviation of an evaluation metric over the clients evaluated (all there are: no n - 1)."""
        values = self.of_clients(name)
        seen = np.isfinite(values)
        count = np.maximum(seen.sum(1), 1)
        mean = np.where(seen, values, 0).sum(1) / count
        deviation = np.sqrt((np.where(seen, values - mean[:, None], 0) ** 2).sum(1) / count)
        return np.where(seen.any(1), deviation, np.nan)


def load(run_dir: str | os.PathLike[str]) -> Run:
    """Read a run's directory; the run may still be going on.

    Raises:
      UserError: there is no run, it has no rounds yet, or a file of it is damaged.
    """
    path = Path(run_dir)
    if not path.is_dir():
        raise UserError(f"There is no run {path}: no such directory.")
    config = _read_json(path / "config.json")
    if not config:
        inside = sorted(p.parent.name for p in path.glob("*/config.json"))
        hint = f"; it holds runs, so give {path}/*" if inside else ""
        raise UserError(f"{path} is not a run: it has no config.json{hint}.")
    rows = _read_rows(path)
    if not rows:
        raise UserError(f"The run {path} has no rounds yet: there is nothing to report.")
    metrics: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = _column(rows, name)
        if values is not None:
            metrics[name] = values
    try:
        round_ = metrics["round"].astype(np.int64)
        described, rounds = _described(path, config, _recorded_durations(path)), config["rounds"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a run of this program: {error} is missing from its files.") from error

    nothing = np.full(len(rows), np.nan)

    def column(name: str) -> np.ndarray:
        return metrics.get(name, nothing)

    def volume(name: str) -> dict[str, np.ndarray]:
        return {ledger: column(f"{name}_bytes_{ledger}") for ledger in LEDGERS}

    summary = _read_json(path / "summary.json")
    evaluated, per_client = _read_clients(path, round_, config.get("num_clients", 0))
    return Run(
        **described,
        summary=summary,
        complete=bool(summary.get("complete") and (round_[-1] + 1 >= rounds or summary.get("stopped"))),
        round=round_,
        participants=column("participants"),
        server_top1=column("server_top1"),
        server_top5=column("server_top5"),
        server_loss=column("server_loss"),
        client_top1=column("client_top1"),
        client_top5=column("client_top5"),
        client_loss=column("client_loss"),
        requested=column("requested"),
        hit=column("hit"),
        stale=column("stale"),
        caught_up=column("caught_up"),
        seconds=column("seconds"),
        uplink=volume("uplink"),
        downlink=volume("downlink"),
        total_uplink=volume("total_uplink"),
        total_downlink=volume("total_downlink"),
        metrics=metrics,
        evaluated=evaluated,
        per_client=per_client,
    )


def planned(path: Path, config: dict[str, Any], durations: dict[str, int] | None = None) -> Run:
    """A run that is not begun: what its config (as in config.json) says of it, and no rounds.

    `durations`: "duration" and "own", as its environment.json will have them.
    """
    described = _described(path, config, durations)
    rest = {field.name: np.zeros(0) for field in fields(Run) if field.name not in described}
    return Run(**(rest | described))  # type: ignore[arg-type]


def _described(path: Path, config: dict[str, Any], durations: dict[str, int] | None) -> dict[str, Any]:
    """The attributes of a run that its path, its config and the D recorded with it decide."""
    method, set_ = config["method"]["name"], config.get("cache", {}).get("duration")
    if durations is None:  # a run whose environment.json, written by an older program, does not say them
        own = METHODS[method].duration if method in METHODS else 0
        durations = {"own": own, "duration": own}
    return {
        "path": path,
        "name": path.resolve().name,
        "config": config | resolved(config),
        "method": method,
        "seed": config["seed"],
        "duration": durations["duration"] if set_ is None else set_,
        "own_duration": durations["own"],
    }


def starts(path: Path) -> list[dict[str, Any]]:
    """The starts of a run in environment.json; empty where that is missing or damaged, which is no reason to stop."""
    try:
        return [start for start in _read_json(path / "environment.json")["starts"] if isinstance(start, dict)]
    except (UserError, KeyError, TypeError):
        return []


def _recorded_durations(path: Path) -> dict[str, int] | None:
    """What the latest start in environment.json says of D; None where it says nothing, or the file cannot be read."""
    try:
        found = starts(path)[-1]["choices"]["cache"]
        return {name: int(found[name]) for name in ("duration", "own")}
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty where there is no file."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: it holds no object.")
    return value


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, and of metrics.csv where that is damaged; a line that is not whole yet is left out."""
    try:
        rows, jsonl, _ = row_files.read_metrics(path)
    except OSError as error:
        raise UserError(f"{error.filename or path} cannot be read: {error.strerror}.") from error
    if jsonl.bad and [row["round"] for row in rows] != list(range(len(rows))):  # the damage has cost some
        raise UserError(f"{path / 'metrics.jsonl'} is damaged in line {jsonl.bad[0]}.")
    return rows


def _column(rows: list[dict[str, Any]], name: str) -> np.ndarray | None:
    """One column, f64[R], null as NaN; None where it is not of numbers."""
    try:
        return np.array([np.nan if row.get(name) is None else row[name] for row in rows], np.float64)
    except (TypeError, ValueError):
        return None


def _read_clients(path: Path, round_: np.ndarray, num_clients: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """clients.csv as arrays [E, K]; rows of rounds that metrics.jsonl lacks are left out."""
    found = row_files.read_clients(path)
    if found.bad:
        raise UserError(f"{path / 'clients.csv'} is damaged in line {found.bad[0]}.")
    # An empty field, of a client without test data, is NaN.
    values = np.array(found.values, np.float64).reshape(-1, len(found.columns)).T
    table = dict(zip(found.columns, values, strict=True))
    known = np.isin(table["round"], round_)
    evaluated, row = np.unique(table.pop("round")[known].astype(np.int64), return_inverse=True)
    client = table.pop("client")[known].astype(np.int64)
    per_client = {
        name: np.full((len(evaluated), max(num_clients, int(client.max(initial=-1)) + 1)), np.nan) for name in table
    }
    for name, column in table.items():
        per_client[name][row, client] = column[known]
    return evaluated, per_client
