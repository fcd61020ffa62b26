"""(d) Seconds per round and peak memory over the number of clients, at fixed work per client: digits, MLP and CNN.

Each K runs in a process of its own, in turn. The bound is a straight line through K = 10: a
perfect program's exponent is 1.
"""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import sys

import numpy as np

from benchmarks.common import RESULTS, write

CLIENTS = (10, 30, 100, 300, 1000)
ROUNDS, REPEATS = 5, 1  # medians of 5 rounds
IMAGES = 1  # digits has 1,000 private images: what 1,000 clients get each, and every client of the smaller runs


def one(model: str, clients: int) -> dict[str, object]:
    """Rounds of one federation, in this process."""
    import time

    import jax
    from jax.sharding import NamedSharding

    from configs import digits
    from scarlet_jax import build
    from scarlet_jax.data import federation as federation_data
    from scarlet_jax.engine.layout import REPLICATED
    from scarlet_jax.models.conv.api import resolve_conv
    from scarlet_jax.runtime import backend

    backend.prepare(os.environ, False)  # as launch.py does
    config = digits.get_config()
    config.num_clients, config.public_size, config.public_per_round = clients, 400, 100
    config.epochs, config.kd_epochs, config.eval_every = 5, 1, 1_000
    config.data.train_size = clients * IMAGES
    config.partition.name = "iid"
    config.model.client = config.model.server = model
    config.model.conv = resolve_conv("auto")
    federation = federation_data.load(config)
    mesh = build.make_mesh(config)
    algorithm = build.make_algorithm(config, federation.data, federation.num_classes, mesh)
    data = jax.device_put(federation.data, NamedSharding(mesh, REPLICATED))
    state = algorithm.init(data)
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    taken = []
    for _ in range(2 + ROUNDS):  # the first compiles, the second is the first with a list to distil from
        start = time.perf_counter()
        state, _ = algorithm.round(state, data)
        jax.block_until_ready(state)
        taken.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": taken[2:], "peak_rss": peak, "state_bytes": state_bytes}


def main() -> None:
    """Measure every K in turn, fit, draw and write."""
    runs: dict[str, dict[int, list[dict]]] = {model: {k: [] for k in CLIENTS} for model in ("mlp", "cnn")}
    for _ in range(REPEATS):
        for model in runs:
            for clients in CLIENTS:
                command = [sys.executable, "-m", "benchmarks.scaling", model, str(clients)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                runs[model][clients].append(json.loads(done.stdout.splitlines()[-1]))
    result = {}
    for model, found in runs.items():
        rows = {}
        for clients, each in found.items():
            seconds = [s for run in each for s in run["seconds"]]
            rows[clients] = {
                "median": statistics.median(seconds), "min": min(seconds), "max": max(seconds),
                "peak_rss_mb": max(run["peak_rss"] for run in each) / 1e6,
                "state_mb": each[0]["state_bytes"] / 1e6,
            }  # fmt: skip
        exponent = np.polyfit([math.log(k) for k in rows], [math.log(row["median"]) for row in rows.values()], 1)[0]
        result[model] = {"clients": rows, "exponent": float(exponent)}
        print(f"{model}: exponent {exponent:.2f}", {k: round(row["median"], 3) for k, row in rows.items()}, flush=True)
    write("scaling", {"models": result})
    draw(result)


def draw(result: dict) -> None:
    """benchmarks/results/scaling.png: measured points, and a line of exponent 1 through K = 10."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for (model, found), marker, colour in zip(result.items(), "os", ("#0072B2", "#D55E00"), strict=True):
        clients = [int(k) for k in found["clients"]]
        rows = list(found["clients"].values())
        label = f"{model}: exponent {found['exponent']:.2f}"
        axes[0].plot(clients, [row["median"] for row in rows], marker=marker, color=colour, label=label)
        axes[0].plot(clients, [rows[0]["median"] * k / clients[0] for k in clients], ":", color=colour)
        axes[1].plot(clients, [row["peak_rss_mb"] for row in rows], marker=marker, color=colour, label=model)
        axes[1].plot(clients, [row["state_mb"] for row in rows], ":", color=colour, label=f"{model}: state alone")
    axes[0].set(xscale="log", yscale="log", xlabel="clients K", ylabel="seconds per round", title="dotted: exponent 1")
    axes[1].set(xscale="log", yscale="log", xlabel="clients K", ylabel="MB", title="peak memory of the process")
    for axis in axes:
        axis.legend()
        axis.grid(alpha=0.3)
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "scaling.png", dpi=110)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(one(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
