"""The part of benchmarks/gpu.py that measures kernels of the Triton convolution one by one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from benchmarks.gpu_common import BATCH, Part, median_seconds

SHAPES = ((32, 3, 16, 1), (32, 16, 16, 1), (32, 16, 32, 2), (16, 32, 32, 1), (16, 32, 64, 2), (8, 64, 64, 1))


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


def measure(part: Part, precision: str) -> None:
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
