"""`model.precision` reaches every product of a training step: convolutions, their gradients, dense layers, kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from scarlet_jax.models import MODELS, PRECISIONS, build_model
from scarlet_jax.models.precision import note, resolved
from scarlet_jax.options.rules import RULES

pytestmark = pytest.mark.usefixtures("quick_compilation")

EXACT, TF32 = (lax.Precision.HIGHEST,) * 2, (lax.Precision.DEFAULT,) * 2
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 8, 8, 1)), jnp.float32)
DEEP = ("resnet32", "resnet44", "resnet56", "resnet110")  # resnet20 with more of the same blocks


def step(name: str, conv: str, precision: str | None) -> tuple[Any, Any]:
    """Gradients of two clients as a function, and its argument."""
    model = build_model(name, 10, conv, precision)
    variables = model.init(jax.random.key(0), X[0], train=False)

    def loss(params: Any, x: Any) -> Any:
        logits, _ = model.apply({**variables, "params": params}, x, True, jnp.ones(3, bool), mutable=["batch_stats"])
        return jnp.sum(jnp.sin(logits))

    return jax.vmap(jax.grad(loss), (None, 0)), variables["params"]


def equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            if hasattr(inner, "eqns"):
                yield from equations(inner)
            elif hasattr(inner, "jaxpr"):
                yield from equations(inner.jaxpr)


def products(name: str, conv: str, precision: str | None) -> tuple[set[Any], set[str], int]:
    """Precisions of XLA's products, those of kernels, and how many there are."""
    function, params = step(name, conv, precision)
    found = list(equations(jax.make_jaxpr(function)(params, X).jaxpr))
    own = [e.params["precision"] for e in found if e.primitive.name in ("conv_general_dilated", "dot_general")]
    kernels = [e.params["operation"].precision for e in found if e.primitive.name == "stacked_convolution"]
    return set(own), set(kernels), len(own) + len(kernels)


@pytest.mark.parametrize("conv", ["xla", "grouped", "gemm", "winograd", "cpu", "triton"])
@pytest.mark.parametrize("configured", [None, "highest", "default"])
def test_every_product_has_the_precision_that_was_asked_for(conv: str, configured: str | None) -> None:
    with jax.default_matmul_precision(configured):
        for precision, xla, kernel in (("float32", EXACT, "ieee"), ("tf32", TF32, "tf32")):
            own, kernels, count = products("cnn", conv, precision)
            assert own == {xla} and kernels == ({kernel} if conv == "triton" else set())
            assert count >= 8  # forward and weight gradient of three layers, two input gradients
        own, kernels, _ = products("cnn", conv, None)
        assert own == {{None: None, "highest": EXACT, "default": TF32}[configured]}, "open is as JAX is configured"
        assert kernels <= {"ieee" if configured == "highest" else "tf32"}


@pytest.mark.parametrize("name", [name for name in MODELS if name not in DEEP])
def test_every_model_multiplies_as_it_is_told(name: str) -> None:
    own, kernels, count = products(name, "triton", "float32")
    assert own == {EXACT} and kernels <= {"ieee"} and count >= 5


def test_on_a_cpu_the_names_of_float32_are_the_same_bits() -> None:
    made = []
    for precision in (None, "tf32", "float32"):
        function, params = step("cnn", "cpu", precision)
        made.append(jax.jit(function)(params, X))
    for other in made[1:]:
        jax.tree.map(np.testing.assert_array_equal, made[0], other)


def test_what_a_name_means_here_and_where_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [resolved(p) for p in (None, *PRECISIONS)] == ["float32", "float32", "float32", "bfloat16"]
    assert note(None) is note("float32") is note("bfloat16") is None
    assert note("tf32") == "config.model.precision is 'tf32', and products are exact float32: cpu has no TF32."
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [resolved(p) for p in (None, *PRECISIONS)] == ["tf32", "float32", "tf32", "bfloat16"]
    with jax.default_matmul_precision("highest"):
        assert [resolved(p) for p in (None, *PRECISIONS)] == ["float32", "float32", "tf32", "bfloat16"]
    assert note("tf32") is None


def test_the_config_allows_these_names_and_no_others() -> None:
    accepts = RULES["model.precision"].accepts
    assert all(accepts(name) for name in (None, *PRECISIONS))
    assert not any(accepts(name) for name in ("", "float16", "bf16", "highest", 32))
    assert all(name in RULES["model.precision"].words() for name in PRECISIONS)
