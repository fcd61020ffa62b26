"""The parts of benchmarks/gpu.py, each a process of its own: python -m benchmarks.gpu_parts PART FOLDER [--tiny].

A part writes FOLDER/PART.json, again after each of its measurements. It measures while it holds the lock
FOLDER/gpu.lock, so that one part at a time uses the GPU.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH, IMAGE = 50, 32
SHAPES = ((32, 3, 16, 1), (32, 16, 16, 1), (32, 16, 32, 2), (16, 32, 32, 1), (16, 32, 64, 2), (8, 64, 64, 1))
OURS = ("forward", "input_gradient", "weight_gradient")  # names of our kernels begin so


class Part:
    """Where a part writes, what it waits for, how large it is."""

    def __init__(self, name: str, folder: str, tiny: bool):
        self.tiny, self._path, self._lock = tiny, Path(folder, f"{name}.json"), open(Path(folder, "gpu.lock"), "w")  # noqa: SIM115
        self.folder, self._known = folder, {}
        self.trace = str(Path(folder, f"{name} trace"))

    def write(self, **known: Any) -> None:
        """Add to what is known."""
        self._known |= known
        aside = self._path.with_suffix(".part")
        aside.write_text(json.dumps(self._known))
        os.replace(aside, self._path)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock on the GPU."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


def median_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Of `repeats` calls, each waited for, after one that is not counted."""
    import jax

    taken = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        jax.block_until_ready(work())
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])


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


def copy_bandwidth(tiny: bool) -> float:
    """Bytes that a kernel reads and writes in a second, one element after another of an array beyond every cache.

    The passes are steps of one program, so that nothing is launched or allocated between them; how many there are is an
    argument, and a barrier divides them, so that the compiler cannot make one of several.
    """
    import jax
    import jax.numpy as jnp

    n, passes = (2**10, 2) if tiny else (2**28, 100)

    @jax.jit
    def work(a: jax.Array, passes: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, passes, lambda i, a: jax.lax.optimization_barrier(a ^ i), a)

    a = jnp.arange(n, dtype=jnp.int32)
    return 2 * a.nbytes * passes / median_seconds(functools.partial(work, a, jnp.int32(passes)), 10)


def kernels(part: Part, precision: str) -> None:
    """Each kernel: error against the pure form in exact float32, time against the bytes that it must move."""
    import jax

    from scarlet_jax.models.conv.triton import primitive
    from scarlet_jax.models.conv.triton.launches import Problem
    from scarlet_jax.models.precision import stored

    dtype = stored(precision) or "float32"
    with part.alone():
        bandwidth = copy_bandwidth(part.tiny)
    device = jax.devices()[0]
    part.write(card=device.device_kind, copy_tb=round(bandwidth / 1e12, 2), jax=jax.__version__, rows=[])
    rows: list[list[Any]] = []
    for size, inputs, outputs, stride in SHAPES[:1] + SHAPES[2:3] if part.tiny else SHAPES:
        shape = (4, inputs, outputs) if part.tiny else (size, inputs, outputs)
        for kind in ("forward", "input_gradient", "weight_gradient"):
            if kind == "input_gradient" and inputs < 16:
                continue

            def problem(clients: int, batch: int, shape: Any = shape, stride: int = stride) -> Any:
                return Problem(clients, batch, shape[0], shape[0], shape[1], shape[2], 3, stride)

            error = _error(primitive.Operation(kind, problem(3, 7), dtype, "tf32", True, True, False))
            large = primitive.Operation(kind, problem(2, 2) if part.tiny else problem(100, BATCH), dtype, "tf32",
                                        True, True, False)  # fmt: skip
            arrays = _operands(large)
            call = jax.jit(functools.partial(primitive.call, large))
            calls = functools.partial(_calls, call, arrays, 1 if part.tiny else 10)
            jax.block_until_ready(call(*arrays))
            with part.alone():
                each = median_seconds(calls, 3) / len(calls())
            moved = sum(x.nbytes for x in jax.tree.leaves((arrays, call(*arrays))) if x.size > 1)
            name = "x".join(map(str, shape)) + f"-{stride}"
            floor = round(each * bandwidth / moved, 2)
            rows.append([kind, name, precision, round(1e6 * each, 1), floor, f"{error:.0e}"])
            part.write(rows=rows)
            if floor < 1 and not part.tiny:
                part.write(doubt=f"{kind} of {name} moves its bytes faster than the copy: copy_tb is too low")


def _calls(call: Callable[..., Any], arrays: tuple[Any, ...], times: int) -> list[Any]:
    return [call(*arrays) for _ in range(times)]


def _operands(operation: Any) -> tuple[Any, ...]:
    """Random arrays that the operation takes."""
    import jax
    import jax.numpy as jnp

    p = operation.problem
    keys = iter(jax.random.split(jax.random.key(0), 8))

    def draw(shape: tuple[int, ...], dtype: str = operation.dtype) -> Any:
        return jax.random.normal(next(keys), shape, jnp.float32).astype(dtype)

    if operation.kind == "forward":
        return draw(p.image), draw(p.weights, "float32")
    if operation.kind == "weight_gradient":
        return draw(p.image), draw(p.result)
    scales = (draw((p.clients, p.inputs), "float32") for _ in range(2))
    extra = draw((1,))
    return draw(p.result), draw(p.weights, "float32"), draw(p.image), draw(p.image), extra, *scales


def _error(operation: Any) -> float:
    """Largest relative error of a result, in norm."""
    import jax
    import jax.numpy as jnp

    from scarlet_jax.models.conv.triton import primitive

    arrays = _operands(operation)
    got = jax.jit(functools.partial(primitive.call, operation))(*arrays)
    with jax.default_matmul_precision("highest"):
        expected = jax.jit(functools.partial(primitive.pure, operation))(*arrays)
    pairs = [(a.astype(jnp.float32), b.astype(jnp.float32)) for a, b in zip(got, expected, strict=True)]
    return max(float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b)) for a, b in pairs)


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
        {"config": config, "rounds": rounds, "torch": torch}[name](part)
    elif name.startswith("kernels "):
        kernels(part, name.split()[1])
    elif name.startswith("server "):
        step(part, name.split()[1], "bfloat16", 1)
    else:
        step(part, *name.split(), 100)  # type: ignore[misc]


if __name__ == "__main__":
    main()
