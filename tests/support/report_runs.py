"""Small run directories, written without the program, and what a report makes of them."""

import json

import numpy as np

from configs import base
from scarlet_jax import report
from scarlet_jax.metric_tables import client_columns
from scarlet_jax.report import figures, style

FIGURES = ("overview", "accuracy_rounds", "accuracy_bytes", "bytes_rounds", "cache_hits", "client_spread")


def write_run(path, method="scarlet", *, seed=0, server=(0.2, 0.3, 0.4), up=100, down=300, clients=(0.4, 0.6),
              rounds=None, **fields):  # fmt: skip
    """A run of len(server) rounds that sends `up` and `down` bytes in each; its clients are 0.1 k better in round k.

    None in `server` is a round without evaluation of the server; `up` = None bills nothing. The wire ledger has half.
    """
    path.mkdir(parents=True)
    config = json.loads(base.get_config().to_json())
    config |= {"seed": seed, "rounds": rounds or len(server), "num_clients": len(clients) or 2}
    config["method"] = {"name": method}
    for name, value in fields.items():
        group, _, field = name.rpartition("__")
        (config[group] if group else config)[field] = value
    (path / "config.json").write_text(json.dumps(config))
    (path / "summary.json").write_text(json.dumps({"complete": rounds is None, "rounds": len(server)}))
    cached = (config["cache"]["duration"] or 0) > 0 or method == "scarlet"
    lines, rows = [], [",".join(client_columns())]
    for r, top1 in enumerate(server):
        own = [c + 0.1 * r for c in clients]
        row = {"round": r, "participants": 2, "server_top1": top1, "client_top1": float(np.mean(own)) if own else None}
        row |= {"requested": 10 - 5 * cached * (r > 0), "hit": 5 * cached * (r > 0), "seconds": 1.0}
        for ledger, share in (("reference", 1), ("wire", 2)):
            for direction, value in (("uplink", up), ("downlink", down)):
                one = None if value is None else value // share
                row[f"{direction}_bytes_{ledger}"] = one
                row[f"total_{direction}_bytes_{ledger}"] = None if one is None else one * (r + 1)
        lines.append(json.dumps(row))
        rows += [f"{r},{k},{v},,0.5,{30 + k}" for k, v in enumerate(own)]
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    if clients:
        (path / "clients.csv").write_text("\n".join(rows) + "\n")
    return path


def tabulated(paths, **options):
    made = report.group_runs([report.load(path) for path in paths])
    return {entry.label: entry for entry in report.tabulate(made, report.Options(**options))}


def drawn(paths, **options):
    """Name -> figure."""
    groups = report.group_runs([report.load(path) for path in paths])
    with style.applied():
        return {found.name: found.figure for found in figures.draw(groups, report.Options(**options))}


def add_columns(path, **columns):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    rows = [row | {name: values[i] for name, values in columns.items()} for i, row in enumerate(rows)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def environment(path, *commits, **start):
    versions = {"jax": "0.10.2", "flax": "0.12.1"}
    starts = [{"python": "3.11.7", "versions": versions, "devices": ["cpu:cpu"] * 2, "commit": c} | start
              for c in commits]  # fmt: skip
    (path / "environment.json").write_text(json.dumps({"run": "x", "starts": starts}))
