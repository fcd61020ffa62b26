"""A small record of each run, which is committed: where it comes from, accuracies, and bytes of both ledgers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scarlet_jax.report.groups import EXECUTION_FIELDS
from tools.evidence import runs
from tools.evidence.train import finished

LEDGERS = ("reference", "wire")
WHO = ("server", "client")
COLUMNS = ("server_top1", "client_top1", "reference", "wire")
PROTOTYPE = "client_prototype_top1"  # one more, of a method with prototypes
NEAREST = "-prototype"  # ends the name of a variant whose clients are judged by the nearest prototype


@dataclass(frozen=True, eq=False)
class Record:
    """A finished run.

    Attributes:
      setting, variant, seed: which run it is.
      config: hash of its config, without the seed and fields that say only where and how it was executed.
      commit: of the program.
      conv: the convolution that was computed.
      columns: name -> f64[R]; top-1 of server and mean client, and bytes up and down together up to and with a
        round in each ledger, NaN where the method has no such number; with prototypes, top-1 by the nearest one.
    """

    setting: str
    variant: str
    seed: int
    config: str
    commit: str
    conv: str
    columns: dict[str, np.ndarray]

    def accuracy(self, who: str) -> np.ndarray:
        """f64[R]: top-1 of "server" or "client"."""
        return self.columns[f"{who}_top1"]

    def final(self, who: str) -> float:
        """Mean top-1 over the last tenth of the rounds: what all comparisons use."""
        return float(self.accuracy(who)[-last(len(self.accuracy(who))) :].mean())


def last(rounds: int) -> int:
    """Rounds over which an accuracy is averaged: a tenth of all."""
    return max(1, rounds // 10)


def config_hash(config: dict[str, Any]) -> str:
    """The same for two runs if and only if they compute the same with the same seed."""
    flat: dict[str, Any] = {}

    def walk(tree: dict[str, Any], prefix: str) -> None:
        for key, value in tree.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            elif prefix + key != "seed" and prefix + key not in EXECUTION_FIELDS:
                flat[prefix + key] = value

    walk(config, "")
    return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()[:12]


def read_run(workdir: Path, run: runs.Planned) -> Record:
    """The record of a finished run, from its files."""
    config = json.loads((workdir / "config.json").read_text())
    starts = json.loads((workdir / "environment.json").read_text())["starts"]
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((workdir / "summary.json").read_text())
    rounds = summary["rounds"] if summary.get("stopped") else config["rounds"]  # it may have ended at a bound
    if [row["round"] for row in rows] != list(range(rounds)) or config["seed"] != run.seed:
        raise ValueError(f"{workdir} is not the finished run {run.name}.")

    def column(*names: str) -> np.ndarray:
        return np.array([np.nan if row.get(names[0]) is None else sum(row[name] for name in names) for row in rows])

    columns = {f"{who}_top1": column(f"{who}_top1") for who in WHO}
    columns |= {PROTOTYPE: column(PROTOTYPE)} if PROTOTYPE in rows[0] else {}
    columns |= {name: column(f"total_uplink_bytes_{name}", f"total_downlink_bytes_{name}") for name in LEDGERS}
    commits = " ".join(dict.fromkeys(str(start["commit"]) for start in starts))
    return Record(*run, config_hash(config), commits, starts[-1]["choices"]["conv"], columns)


def collect(out: Path, folder: Path) -> int:
    """Write the records of the runs in `out` that have finished; how many there are."""
    done = [run for run in runs.planned() if finished(out / run.name)]
    for run in done:
        write(read_run(out / run.name, run), folder)
    return len(done)


def write(record: Record, folder: Path) -> None:
    """Write a record as JSON, a column a line."""
    fields = asdict(record) | {"rounds": len(record.columns["wire"])}
    columns = fields.pop("columns")
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items()]
    for name, values in columns.items():
        digits = 4 if name.endswith("top1") else 0
        text = ",".join("null" if np.isnan(value) else f"{value:.{digits}f}" for value in values)
        lines.append(f"{json.dumps(name)}: [{text}]" if np.isfinite(values).any() else f"{json.dumps(name)}: null")
    place = folder / f"{record.setting}/{record.variant}-s{record.seed}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def read(folder: Path) -> list[Record]:
    """The committed records of planned runs, in the order in which these are planned."""
    found = []
    for run in runs.planned():
        path = folder / f"{run.name}.json"
        if not path.exists():
            continue
        fields = json.loads(path.read_text())
        rounds = fields.pop("rounds")
        columns = {name: fields.pop(name) for name in (*COLUMNS, PROTOTYPE) if name in COLUMNS or name in fields}
        arrays = {name: np.array([None] * rounds if v is None else v, np.float64) for name, v in columns.items()}
        record = Record(**fields, columns=arrays)
        if (record.setting, record.variant, record.seed) != tuple(run):
            raise ValueError(f"{path} is the record of another run.")
        found.append(record)
    _check(found)
    return found


def _check(found: list[Record]) -> None:
    """Refuse seeds of one variant that were trained with different configs."""
    configs: dict[tuple[str, str], str] = {}
    for record in found:
        if configs.setdefault((record.setting, record.variant), record.config) != record.config:
            raise ValueError(f"The records of {record.setting}/{record.variant} have different configs.")


Results = dict[str, dict[int, Record]]


def by_variant(found: list[Record], setting: str) -> Results:
    """Variant -> seed -> record, of one setting.

    The clients of a method with prototypes are judged twice: by their heads, and by the nearest prototype (`NEAREST`).
    """
    results: Results = {}
    for record in found:
        if record.setting != setting:
            continue
        results.setdefault(record.variant, {})[record.seed] = record
        if PROTOTYPE in record.columns:
            other = replace(record, columns=record.columns | {"client_top1": record.columns[PROTOTYPE]})
            results.setdefault(record.variant + NEAREST, {})[record.seed] = other
    return results


def finals(results: Results, variant: str, who: str) -> dict[int, float]:
    """Seed -> accuracy of a variant; empty where nothing is recorded, or the method has no such model."""
    values = {seed: record.final(who) for seed, record in results.get(variant, {}).items()}
    return {seed: value for seed, value in values.items() if np.isfinite(value)}


def totals(results: Results, variant: str, ledger: str) -> dict[int, float]:
    """Seed -> bytes of a whole run."""
    values = {seed: float(record.columns[ledger][-1]) for seed, record in results.get(variant, {}).items()}
    return {seed: value for seed, value in values.items() if np.isfinite(value)}
