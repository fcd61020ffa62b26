"""Our ResNet-20 against the reference's: logits in both modes, running statistics and every gradient.

Tolerances. Float32: the golden README measures the reference itself against float64 at about 1e-5 on evaluation logits
(they are of order 10), 2e-6 on training logits and relative 5e-6 on gradients; a different order of summation costs as
much again, hence a few times that. Gradients are compared relative to the largest entry of their array. Float64: logits
and loss were stored in float64 and are compared to 1e-10; gradients and statistics were stored in float32 only, so that
the reference's rounding remains.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.models import build_model
from tests.support.compiling import compiling_quickly
from tests.support.torch_layout import images, resnet_variables

GOLDEN = Path(__file__).parents[1] / "golden" / "resnet20.npz"


class Run(NamedTuple):
    golden: Any
    double: bool
    logits_eval: np.ndarray
    logits_train: np.ndarray
    loss: float
    batch_stats: Any
    grads: Any


@pytest.fixture(scope="module", params=["float32", "float64", "float32 triton"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    dtype, *conv = (
        request.param.split()
    )  # `triton` takes another way through the layers; without a GPU as its pure form
    golden = np.load(GOLDEN)
    # Float64 checks the formulas, and compiles quickly; float32 is compiled as in a run.
    quick = compiling_quickly() if dtype == "float64" else contextlib.nullcontext()
    with jax.enable_x64(dtype == "float64"), quick:
        model = build_model("resnet20", 10, conv=conv[0] if conv else "cpu")
        variables = resnet_variables(golden, "weights/", dtype)
        x, labels = images(golden["input"], dtype), golden["labels"]

        def loss(params: Any) -> tuple[jax.Array, Any]:
            logits, updates = model.apply({**variables, "params": params}, x, True, mutable=["batch_stats"])
            log_probs = jax.nn.log_softmax(logits)
            return -jnp.mean(log_probs[jnp.arange(len(labels)), labels]), (logits, updates["batch_stats"])

        @jax.jit
        def both(params: Any) -> tuple[Any, Any]:
            return model.apply(variables, x, False), jax.value_and_grad(loss, has_aux=True)(params)

        out = jax.device_get(both(variables["params"]))
    logits_eval, ((loss_value, (logits_train, batch_stats)), grads) = out
    assert logits_eval.dtype == dtype
    yield Run(golden, dtype == "float64", logits_eval, logits_train, loss_value, batch_stats, grads)


def test_logits_and_loss(run: Run) -> None:
    suffix = "_f64" if run.double else ""
    for ours, name, atol in (
        (run.logits_eval, "logits_eval", 5e-5),
        (run.logits_train, "logits_train", 1e-5),
        (run.loss, "loss_train", 1e-5),
    ):
        np.testing.assert_allclose(ours, run.golden[name + suffix], rtol=0, atol=1e-10 if run.double else atol)


def test_running_statistics(run: Run) -> None:
    expected = resnet_variables(run.golden, "bn_after/")["batch_stats"]
    assert jax.tree.structure(expected) == jax.tree.structure(run.batch_stats)
    rtol, atol = (1e-5, 1e-6) if run.double else (2e-5, 2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), run.batch_stats, expected)


def test_every_gradient(run: Run) -> None:
    expected = resnet_variables(run.golden, "grad/")["params"]
    assert jax.tree.structure(expected) == jax.tree.structure(run.grads)
    relative = 1e-5 if run.double else 2e-5

    def compare(ours: np.ndarray, theirs: np.ndarray) -> None:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * np.abs(theirs).max())

    jax.tree.map(compare, run.grads, expected)
