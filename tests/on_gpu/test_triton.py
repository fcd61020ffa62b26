"""The Triton kernels where they run: against their pure form, in a model, and twice. `make test-gpu`.

Exact float32 is asked for here whatever the environment says: the pure form's products would be TF32's otherwise.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.models import build_model
from scarlet_jax.models.conv.triton import primitive
from scarlet_jax.models.conv.triton.launches import Problem

pytestmark = pytest.mark.skipif(jax.default_backend() != "gpu", reason="there is no GPU")

# clients, batch, height, width, in, out, size, stride: those of ResNet-20, and odd ones.
PROBLEMS = (
    Problem(3, 7, 32, 32, 3, 16, 3, 1),
    Problem(3, 7, 32, 32, 16, 16, 3, 1),
    Problem(3, 7, 32, 32, 16, 32, 3, 2),
    Problem(3, 7, 16, 16, 32, 32, 3, 1),
    Problem(3, 7, 16, 16, 32, 64, 3, 2),
    Problem(3, 7, 8, 8, 64, 64, 3, 1),
    Problem(2, 3, 9, 5, 16, 32, 3, 1),
    Problem(2, 3, 9, 7, 32, 16, 3, 2),
    Problem(2, 2, 7, 5, 64, 128, 1, 2),
    Problem(2, 2, 5, 5, 128, 256, 3, 1),
    Problem(1, 1, 1, 1, 16, 16, 3, 1),
)
# Relative error in norm: rounding of bfloat16's results; ten bits of TF32; the order of summation.
TOLERANCE = {("bfloat16", "tf32"): 1e-3, ("float32", "tf32"): 3e-3, ("float32", "ieee"): 1e-5}


def operands(operation: primitive.Operation) -> tuple[jax.Array, ...]:
    p, dtype = operation.problem, operation.dtype
    keys = iter(jax.random.split(jax.random.key(0), 8))

    def draw(shape: tuple[int, ...], dtype: str = dtype) -> jax.Array:
        return jax.random.normal(next(keys), shape, jnp.float32).astype(dtype)

    if operation.kind == "forward":
        return draw(p.image), draw(p.weights, "float32")
    if operation.kind == "weight_gradient":
        return draw(p.image), draw(p.result)
    scales = [draw((p.clients, p.inputs), "float32") for _ in range(2)]
    return draw(p.result), draw(p.weights, "float32"), *(draw(p.image) for _ in range(3)), *scales


@pytest.mark.parametrize(("dtype", "precision"), TOLERANCE, ids="-".join)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: "x".join(map(str, p)))
def test_a_kernel_computes_its_pure_form(problem: Problem, dtype: str, precision: str) -> None:
    for kind, *flags in (
        ("forward",),
        ("weight_gradient",),
        ("input_gradient", True, True, True),
        ("input_gradient", True, False, False),
        ("input_gradient", False, False, False),
    ):
        if kind == "input_gradient" and problem.few:
            continue
        operation = primitive.Operation(kind, problem, dtype, precision, *flags)
        arrays = operands(operation)
        got = jax.jit(functools.partial(primitive.call, operation))(*arrays)
        again = jax.jit(functools.partial(primitive.call, operation))(*arrays)
        with jax.default_matmul_precision("highest"):
            expected = jax.jit(functools.partial(primitive.pure, operation))(*arrays)
        sums_mean_something = kind != "input_gradient" or flags[0]
        for a, b, twice in list(zip(got, expected, again, strict=True))[: 2 if sums_mean_something else 1]:
            a, b, twice = (np.asarray(v, np.float32) for v in (a, b, twice))
            np.testing.assert_array_equal(a, twice)
            assert np.linalg.norm(a - b) <= TOLERANCE[dtype, precision] * np.linalg.norm(b), (kind, flags)


def step(conv: str, name: str, size: int, dtype: str = "float32") -> Any:
    """Gradients and statistics of two clients, the second with padding rows: a function of nothing, compiled once."""
    model = build_model(name, 10, conv, dtype)
    variables = model.init(jax.random.key(0), jnp.zeros((1, size, size, 3)), train=False)
    x = jax.random.normal(jax.random.key(1), (2, 24, size, size, 3))
    mask = jnp.arange(24) < jnp.array([[24], [17]])

    def one(x: jax.Array, mask: jax.Array) -> Any:
        def loss(params: Any) -> Any:
            logits, updates = model.apply({**variables, "params": params}, x, True, mask, mutable=["batch_stats"])
            return jnp.sum(jnp.where(mask[:, None], jnp.sin(logits), 0)), updates

        return jax.grad(loss, has_aux=True)(variables["params"])

    return functools.partial(jax.jit(jax.vmap(one)), x, mask)


@pytest.mark.parametrize(("name", "size"), [("resnet20", 32), ("cnn", 12), ("resnet18_64", 64)])
def test_a_step_is_that_of_xla(name: str, size: int) -> None:
    with jax.default_matmul_precision("highest"):
        ours, reference = step("triton", name, size)(), step("grouped", name, size)()
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * max(1e-3, np.linalg.norm(b))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_step_twice_gives_the_same_bits(dtype: str) -> None:
    """Of one compiled program: XLA chooses its own kernels by timing them, anew for each."""
    run = step("triton", "resnet20", 32, dtype)
    jax.tree.map(np.testing.assert_array_equal, run(), run())
