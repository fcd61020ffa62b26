"""The parts of benchmarks/gpu.py that train configs/cifar10.py: as a user starts it, and round by round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.gpu_common import IMAGE, Part, median_seconds


def config(part: Part) -> None:
    """Three rounds of configs/cifar10.py at its size, as a user starts it: first with nothing kept, then with what that
    start kept, and another seed."""
    import numpy as np

    rng = np.random.default_rng(0)
    for name, train in (("private", 50_000), ("public", 10_000)):
        train, test, size = (64, 16, 8) if part.tiny else (train, 10_000, IMAGE)
        arrays = {"image": rng.integers(0, 256, (train, size, size, 3), np.uint8), "label": np.arange(train) % 10}
        arrays |= {"test_image": arrays["image"][:test], "test_label": arrays["label"][:test]}
        np.savez(f"{part.folder}/{name}.npz", **arrays)
    for seed, label in enumerate(("nothing kept", "kept, another seed")):
        with part.alone():
            _start(part, label, seed)


def _start(part: Part, label: str, seed: int) -> None:
    """Run `configs/cifar10.py`, and write when each line came, and how long rounds took."""
    small = ["--config.num_clients=2", "--config.public_size=40", "--config.public_per_round=16", "--config.epochs=1",
             "--config.kd_epochs=1", "--config.batch_size=8", "--config.kd_batch_size=8",
             "--config.model.client=cnn", "--config.model.server=cnn"]  # fmt: skip
    workdir = f"{part.folder}/run{seed}"
    command = [
        sys.executable, "launch.py", "--config=configs/cifar10.py", f"--workdir={workdir}", f"--config.seed={seed}",
        f"--config.data.private={part.folder}/private.npz", f"--config.data.public={part.folder}/public.npz",
        "--config.model.precision=bfloat16", "--config.model.conv=triton", "--config.rounds=3",
        "--config.checkpoint.every=3", *(small if part.tiny else ["--config.clients_per_chunk=100"]),
    ]  # fmt: skip
    environment = {**os.environ, "XDG_CACHE_HOME": f"{part.folder}/cache"}
    found: dict[str, Any] = {"lines": []}
    begun = time.perf_counter()
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, **piped) as run:  # type: ignore[call-overload]
        for line in run.stdout:
            at = round(time.perf_counter() - begun, 1)
            found["lines"] = [*found["lines"], [at, line.rstrip()[:160]]][-40:]
            if line.startswith("round 1/"):
                found["command_to_first_round"] = at
            part.write(**{label: found})
            print(at, line, end="", flush=True)
    found["command_to_end"] = round(time.perf_counter() - begun, 1)
    metrics = Path(workdir, "metrics.jsonl")
    if metrics.exists():
        found["seconds"] = [json.loads(line)["seconds"] for line in metrics.read_text().splitlines()]
    part.write(**{label: found})
    if run.returncode:
        raise SystemExit(run.returncode)


def rounds(part: Part) -> None:
    """Rounds of configs/cifar10.py with their evaluation, on the images of `config`; then one, phase by phase."""
    import jax
    from jax.sharding import NamedSharding

    from configs import cifar10
    from scarlet_jax import build
    from scarlet_jax.data import federation as federation_data
    from scarlet_jax.engine import phases
    from scarlet_jax.engine.layout import REPLICATED

    settings = cifar10.get_config()
    settings.data.private, settings.data.public = f"{part.folder}/private.npz", f"{part.folder}/public.npz"
    settings.model.conv, settings.model.precision, settings.clients_per_chunk = "triton", "bfloat16", 100
    if part.tiny:
        settings.num_clients, settings.public_size, settings.public_per_round, settings.clients_per_chunk = 2, 40, 16, 1
        settings.epochs = settings.kd_epochs = 1
        settings.model.client = settings.model.server = "cnn"
    federation = federation_data.load(settings)
    mesh = build.make_mesh(settings)
    algorithm = build.make_algorithm(settings, federation.data, federation.num_classes, mesh)
    data = jax.device_put(federation.data, NamedSharding(mesh, REPLICATED))
    state = algorithm.init(data)

    def once() -> Any:
        nonlocal state
        state, report = algorithm.round(state, data)
        return algorithm.evaluate(state, data, report.participants)

    jax.block_until_ready(once())  # the first has nothing to distil from
    taken: Counter[str] = Counter()

    def clock(name: str, elapsed: float) -> None:
        taken[name] += elapsed

    with part.alone():
        part.write(seconds=round(median_seconds(once, 3), 3))
        with phases.timed(clock):
            jax.block_until_ready(once())
    part.write(phases={name: round(value, 3) for name, value in taken.most_common()})
