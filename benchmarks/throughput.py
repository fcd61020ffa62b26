"""(a) Training and inference samples/s of stacked clients, against PyTorch eager and an arithmetic bound.

Both sides: batches of 50 32x32x3 images, float32, SGD. Ours is what a run does (`learner.fit` and `predict` under
`fleet`: shuffling, decoding of uint8 and masks included, augmentation off); the peer is a bare loop over one tensor.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from benchmarks import sides
from benchmarks.common import alternate, seconds, write
from scarlet_jax.models.conv.api import resolve_conv

BATCH = 50
STEPS = {"resnet20_train": 20, "resnet20_infer": 80, "cnn_train": 400, "cnn_infer": 800}  # about 2 s each
# A multiply-add is 2; a training step is three forward passes (forward, both gradients). As the definition of the
# convolution counts them: Winograd's form needs fewer, so the bound is one of direct convolution.
FORWARD_MFLOP = {"resnet20": 81.6, "cnn": 3.28}


def matmul_gflops() -> float:
    """GFLOP/s of a large float32 matrix product on all cores: what the bound divides by."""
    a = jnp.ones((2048, 2048))
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(a))
    return 2 * 2048**3 / min(seconds(lambda: jax.block_until_ready(product(a))) for _ in range(7)) / 1e9


def main() -> None:
    """Measure and write."""
    peak = matmul_gflops()
    native = ["native"] if resolve_conv("auto") == "native" else []
    programs = {f"{conv}_{n}": sides.ours(conv, n, BATCH) for conv in [*native, "cpu"] for n in (1, 2)}
    programs |= {"torch_2_threads": sides.torch(1, 2, BATCH), "torch_2_processes": sides.torch(2, 1, BATCH)}
    result: dict = {"batch": BATCH, "matmul_gflops": round(peak, 1), "torch": programs["torch_2_threads"].greeting}
    result["samples_per_second"] = {}
    for case, steps in STEPS.items():
        model, mode = case.split("_")
        # Where two processes share the work each does half of it.
        lines = {name: f"{model} {mode} {steps // side.processes}" for name, side in programs.items()}
        measured = {name: functools.partial(side, lines[name]) for name, side in programs.items()}
        for measure in measured.values():
            measure()  # compiles
        rates = {
            name: {
                "median": BATCH * steps / t["median"],
                "min": BATCH * steps / t["max"],
                "max": BATCH * steps / t["min"],
            }
            for name, t in alternate(measured).items()
        }
        flop = FORWARD_MFLOP[model] * 1e6 * (3 if mode == "train" else 1)
        rates["bound"] = {"median": peak * 1e9 / flop}
        result["samples_per_second"][case] = rates
        print(case, {name: round(rate["median"]) for name, rate in rates.items()}, flush=True)
    for program in programs.values():
        program.close()
    write("throughput", result)


if __name__ == "__main__":
    main()
