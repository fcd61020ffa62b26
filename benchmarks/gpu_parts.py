"""The parts of benchmarks/gpu.py, each a process of its own: python -m benchmarks.gpu_parts PART FOLDER [--tiny].

A part writes FOLDER/PART.json, again after each of its measurements. It measures while it holds the lock
FOLDER/gpu.lock, so that one part at a time uses the GPU.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import gpu_kernels, gpu_rounds
from benchmarks.gpu_common import BATCH, IMAGE, Part, median_seconds

OURS = ("forward", "input_gradient", "weight_gradient")  # names of our kernels begin so


def step(part: Part, conv: str, precision: str, clients: int) -> None:
    """Training samples/s of ResNet-20 through `learner.fit` under `fleet`, all clients in one chunk."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import NamedSharding

    from scarlet_jax.engine import fleet
    from scarlet_jax.engine.layout import CLIENTS, make_layout, make_mesh
    from scarlet_jax.engine.learner import Augmentation, Learner
    from scarlet_jax.engine.optimizers import sgd
    from scarlet_jax.engine.training import Training
    from scarlet_jax.models import build_model

    clients, images, epochs = (2, 8, 1) if part.tiny else (clients, 500, 4 if clients > 1 else 10)
    batch, size = (4, 8) if part.tiny else (BATCH, IMAGE)
    training = Training(epochs, batch, sgd(1e-2, 0.0, 0.0))
    learner = Learner(
        build_model("cnn" if part.tiny else "resnet20", 10, conv, precision),
        training,
        training,
        Augmentation(True, True, True, True),
    )
    mesh = make_mesh(jax.devices()[:1])
    layout = make_layout(mesh, clients, clients, clients)
    one = jax.jit(lambda key: learner.init(key, (size, size, 3)))(jax.random.key(0))
    stacked = NamedSharding(mesh, CLIENTS)
    copies = jax.jit(
        lambda m: jax.tree.map(lambda a: jnp.stack([a] * layout.stored), m),
        out_shardings=stacked,
    )
    state = copies(one)
    ids = fleet.participant_ids(layout, jnp.arange(clients))
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.integers(0, 256, (clients * images, size, size, 3)), jnp.uint8)
    label = jnp.asarray(rng.integers(0, 10, clients * images), jnp.int32)

    def client(model, number, active, image, label):
        rows = number * images + jnp.arange(images)
        key = jax.random.fold_in(jax.random.key(1), number)
        return learner.fit(model, key, image, label, rows, jnp.where(active, images, 0))

    run = fleet.Fleet(client, layout, "train", updates=True)

    def once() -> Any:
        nonlocal state
        state, metrics = run(state, ids, image, label)
        return state, metrics

    begun = time.perf_counter()
    with part.alone() if conv == "grouped" else contextlib.nullcontext():  # XLA times cuDNN's kernels
        jax.block_until_ready(once())
    first = time.perf_counter() - begun
    samples, steps = clients * images * epochs, epochs * -(-images // batch)
    with part.alone():
        seconds = median_seconds(once, 3)
        part.write(samples=samples / seconds, step_ms=round(1e3 * seconds / steps, 2), first=round(first, 1))
        with jax.profiler.trace(part.trace):
            jax.block_until_ready(once())
    part.write(**kinds(part.trace, steps))


def in_graphs() -> None:
    """From here on kernels are called through XLA's typed interface, by which command buffers (CUDA graphs) can hold
    them; jax-triton up to 0.3.1 uses an older one, by which they cannot (docs/speed.md)."""
    import jax

    from scarlet_jax.models.conv.triton import calls

    before = calls.Call.__call__

    def typed(self: Any, *arrays: Any, results: Any) -> list[Any]:
        if self.version >= 4:
            return before(self, *arrays, results=results)
        call = jax.ffi.ffi_call("triton_kernel_call_ffi", results)
        return list(call(*arrays, name="", opaque=self.attributes["backend_config"]))

    calls.Call.__call__ = typed  # type: ignore[method-assign]


def kinds(folder: str, steps: int) -> dict[str, Any]:
    """Milliseconds a step by kind of kernel, the largest kernels, and launches a step."""
    from jax.profiler import ProfileData

    spent: Counter[str] = Counter()
    launches = 0
    for file in Path(folder).glob("**/*.xplane.pb"):
        for plane in ProfileData.from_file(str(file)).planes:
            for line in plane.lines if "GPU" in plane.name and "CUPTI" not in plane.name else ():
                for event in line.events if line.name.startswith("Stream") else ():
                    spent[event.name] += event.duration_ns
                    launches += 1
    by_kind: Counter[str] = Counter()
    for name, nanoseconds in spent.items():
        ours = next((own for own in OURS if name.startswith(own)), None)
        other = "fusion" if "fusion" in name else "copy" if "emcpy" in name or "emset" in name else "library"
        by_kind[ours or other] += nanoseconds
    largest = [[name[:80], round(spent[name] / 1e6 / steps, 3)] for name, _ in spent.most_common(12)]
    milliseconds = {kind: round(value / 1e6 / steps, 2) for kind, value in by_kind.most_common()}
    return {"kinds": milliseconds, "largest": largest, "launches": round(launches / steps)}


def torch(part: Part) -> None:
    """What a user has instead: one model after another, eager and as a CUDA graph; `torch.func.vmap`."""
    from benchmarks import gpu_torch

    gpu_torch.measure(part)


def main() -> None:
    """Run the part that is named."""
    name, folder = sys.argv[1:3]
    part = Part(name, folder, "--tiny" in sys.argv)
    if name.endswith(" graphs"):
        in_graphs()
    name = name.removesuffix(" graphs")
    if name in ("config", "rounds", "torch"):
        {"config": gpu_rounds.config, "rounds": gpu_rounds.rounds, "torch": torch}[name](part)
    elif name.startswith("kernels "):
        gpu_kernels.measure(part, name.split()[1])
    elif name.startswith("server "):
        step(part, name.split()[1], "bfloat16", 1)
    else:
        step(part, *name.split(), 100)  # type: ignore[misc]


if __name__ == "__main__":
    main()
