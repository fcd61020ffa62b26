"""What XLA makes of `configs/cifar10.py` for GPUs that are not here: counts and estimates, no times.

    python -m benchmarks.gpu_aot [--quick | --phases]   (extra gpu-aot; a quarter of an hour on 2 cores)

`--quick` compiles a few steps and writes nothing; `--phases` makes the second table alone, and leaves the first as the
file has it.

Two tables, printed at the end; written to benchmarks/results/gpu_aot.json as they grow:
- one training step of a chunk of clients (ResNet-20, batch 50), for each convolution and two chunk sizes, in float32,
  and with the best convolution in bfloat16 and with rematerialised blocks;
- every phase with the default convolution: seconds that it compiles here, memory, collectives, calls of cuDNN's
  convolutions, and how many distinct ones there are in it and, with those of the phases above it, in all. cuDNN chooses
  an algorithm, and XLA times it, once for each distinct one.

ResNet-20 is bound by memory on these cards, so bytes accessed per training sample is the figure to drive down. They are
counted in the optimized HLO: what every kernel and library call reads and writes, whatever a cache keeps. So are the
kernels of a step: fusions, calls and copies in the body of its loop.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from benchmarks.hlo_bytes import accessed, convolutions, kernels
from scarlet_jax.configs import cifar10
from scarlet_jax.engine import fleet, phases
from scarlet_jax.engine.layout import CLIENTS, REPLICATED, make_layout
from scarlet_jax.engine.learner import Augmentation, Learner
from scarlet_jax.engine.optimizers import sgd
from scarlet_jax.engine.training import Training
from scarlet_jax.models import build_model
from scarlet_jax.models.conv.triton import primitive
from scarlet_jax.preview import cards, compiled, dry_run

TARGETS = ("H100", "A100", "H100x8")
FORMS = (  # convolution, precision, blocks computed again for the gradient
    ("grouped", "tf32", False), ("grouped", "tf32", True),
    ("grouped", "bfloat16", False), ("grouped", "bfloat16", True),
    ("triton", "tf32", False), ("triton", "bfloat16", False),
    ("xla", "tf32", False), ("gemm", "tf32", False), ("winograd", "tf32", False),
)  # fmt: skip
CHUNKS = {"H100": (8, 32), "H100x8": (5, 13), "A100": (8, 32)}  # clients of a device; 13 are all it has of 100 on 8
ALL_CLIENTS = 100  # together on one H100, as benchmarks/gpu.py measures them
BATCH, CLASSES = 50, 10
RESULT = Path(__file__).parent / "results" / "gpu_aot.json"


def training_step(target: str, conv: str, dtype: str, remat: bool, chunk: int) -> compiled.Program:
    """One step of all clients of a chunk, on every device of the target, through the fleet that runs in training."""
    mesh = cards.described_mesh(target)  # first: before JAX looks for devices
    training = Training(1, BATCH, sgd(0.1, 0.0, 0.0))
    model = build_model("resnet20", CLASSES, conv, dtype, remat)
    learner = Learner(model, training, training, Augmentation(True, True, True, True))
    layout = make_layout(mesh, chunk * mesh.size, chunk * mesh.size, chunk)
    stacked, replicated = (NamedSharding(mesh, spec) for spec in (CLIENTS, REPLICATED))

    def client(model, number, active, image, label):
        rows = number * BATCH + jnp.arange(BATCH)
        return learner.fit(model, jax.random.fold_in(jax.random.key(0), number), image, label, rows, BATCH)

    shape = jax.ShapeDtypeStruct
    one = jax.eval_shape(lambda: learner.init(jax.random.key(0), (32, 32, 3)))
    models = jax.tree.map(lambda a: shape((layout.stored, *a.shape), a.dtype, sharding=stacked), one)
    images = shape((50_000, 32, 32, 3), "uint8", sharding=replicated), shape((50_000,), "int32", sharding=replicated)
    with phases.recording() as calls:
        fleet.Fleet(client, layout, "step")(models, shape((layout.capacity,), "int32", sharding=stacked), *images)
    (call,) = [call for call in calls if call.name == "step"]
    return compiled.compile_phase(call)


def step_row(target: str, conv: str, dtype: str, remat: bool, chunk: int) -> dict[str, Any]:
    """A line of the first table."""
    program = training_step(target, conv, dtype, remat, chunk)
    samples = chunk * BATCH
    return {
        "target": target,
        "conv": conv,
        "dtype": dtype,
        "remat": remat,
        "chunk": chunk,
        "calls": {name.removeprefix("__"): count for name, count in program.calls.items()},
        "kernels": kernels(program.text),
        "windows": program.windows,
        "collectives": program.collectives,
        "temporary_mb": round(program.temporary / 1e6, 1),
        "arguments_mb": round(program.arguments / 1e6, 1),
        "accessed_mb_per_sample": round(accessed(program.text) / samples / 1e6, 3),
    }


def phase_rows(target: str) -> list[dict[str, Any]]:
    """Lines of the second table."""
    plan = dry_run.prepare(cifar10.get_config(), target)
    rows: list[dict[str, Any]] = []
    distinct: set[tuple[str, ...]] = set()
    for call in plan.shapes.calls:
        start = time.perf_counter()
        program = compiled.compile_phase(call)
        seconds = time.perf_counter() - start
        own = convolutions(program.text)
        distinct |= set(own)
        rows.append(
            {
                "target": target,
                "phase": call.name,
                "seconds": round(seconds, 1),
                "convolutions": own.total(),
                "distinct": len(own),
                "distinct_so_far": len(distinct),
                "collectives": program.collectives,
                "largest_window": max(program.windows, default="-"),
                "arguments_mb": round(program.arguments / 1e6, 1),
                "temporary_mb": round(program.temporary / 1e6, 1),
                "peak_mb": round(compiled.peak(plan.shapes.resident, [program])[0] / 1e6, 1),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""

    def cell(value: Any) -> str:
        return (", ".join(f"{n} x {k}" for k, n in value.items()) or "none") if isinstance(value, dict) else str(value)

    head = "| " + " | ".join(name.replace("_", " ") for name in rows[0]) + " |\n|" + " --- |" * len(rows[0])
    return "\n".join([head, *("| " + " | ".join(map(cell, row.values())) + " |" for row in rows)])


def main(quick: bool, phases_alone: bool) -> None:
    """Compile, write after every program, print."""
    result: dict[str, Any] = {"jax": jax.__version__, "batch": BATCH, "phases": [], "steps": []}
    if phases_alone:
        result["steps"] = json.loads(RESULT.read_text())["steps"]

    def keep(table_name: str, row: dict[str, Any]) -> None:
        result[table_name].append(row)
        if not quick:
            RESULT.parent.mkdir(exist_ok=True)
            RESULT.write_text(json.dumps(result, indent=2) + "\n")

    for target in TARGETS[:1] if quick else TARGETS:
        for form in () if phases_alone else FORMS:
            if form[0] == "triton" and primitive.problem():
                print(f"no rows of triton: {primitive.problem()}")
                continue
            for chunk in CHUNKS[target][:1] if quick else CHUNKS[target]:
                keep("steps", step_row(target, *form, chunk))
            if target == "H100" and form[0] in ("triton", "grouped") and not form[2]:
                keep("steps", step_row(target, *form, ALL_CLIENTS))
        for row in () if quick else phase_rows(target):
            keep("phases", row)
    print("\n\n".join(table(result[name]) for name in ("steps", "phases") if result[name]))


if __name__ == "__main__":
    main("--quick" in sys.argv[1:], "--phases" in sys.argv[1:])
