"""BatchNorm: against a NumPy loop, against autodiff, and padding rows that must not be seen."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.models.norm import EPSILON, BatchNorm, zero_padding

MASK = np.array([True, False, True, True, False])
SHAPE = (5, 3, 2, 4)


def variables(rng: np.random.Generator, channels: int = 4) -> Any:
    def draw() -> np.ndarray:
        return rng.uniform(0.5, 2, channels)

    return {"params": {"scale": draw(), "bias": draw()}, "batch_stats": {"mean": draw(), "var": draw()}}


def slow_reference(v: Any, y: np.ndarray, mask: np.ndarray, shortcut: np.ndarray, relu: bool) -> Any:
    """Channel by channel, over the real rows only, in the words of PyTorch's documentation."""
    out, mean, var = np.zeros_like(y), np.zeros(y.shape[-1]), np.zeros(y.shape[-1])
    for c in range(y.shape[-1]):
        values = np.array([value for row in np.flatnonzero(mask) for value in y[row, ..., c].ravel()])
        mean[c] = 0.9 * v["batch_stats"]["mean"][c] + 0.1 * values.mean()
        var[c] = 0.9 * v["batch_stats"]["var"][c] + 0.1 * values.var(ddof=1)
        for row in np.flatnonzero(mask):
            normal = (y[row, ..., c] - values.mean()) / np.sqrt(values.var() + EPSILON)
            z = normal * v["params"]["scale"][c] + v["params"]["bias"][c] + shortcut[row, ..., c]
            out[row, ..., c] = np.maximum(z, 0) if relu else z
    return out, {"mean": mean, "var": var}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_equals_a_loop(masked: bool, relu: bool) -> None:
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        v = variables(rng)
        mask = MASK if masked else None
        y, shortcut = (np.asarray(zero_padding(rng.normal(1, 2, SHAPE), mask)) for _ in range(2))
        out, updates = BatchNorm(relu).apply(v, y, True, mask, shortcut, mutable=["batch_stats"])
        expected, stats = slow_reference(v, y, MASK if masked else np.ones(5, bool), shortcut, relu)
        np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), updates["batch_stats"], stats)


@pytest.mark.parametrize("with_shortcut", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_own_backward_is_the_derivative(relu: bool, with_shortcut: bool) -> None:
    """Against autodiff of the definition on the real rows. In padding rows y's has no meaning."""
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        v = variables(rng)
        y, shortcut = (np.asarray(zero_padding(rng.normal(1, 2, SHAPE), MASK)) for _ in range(2))
        shortcut = shortcut if with_shortcut else None
        weight = rng.normal(size=SHAPE)

        def ours(params: Any, y: Any, shortcut: Any) -> jax.Array:
            out, _ = BatchNorm(relu).apply({**v, "params": params}, y, True, MASK, shortcut, mutable=["batch_stats"])
            return jnp.sum(out * weight)

        def definition(params: Any, y: Any, shortcut: Any) -> jax.Array:
            y = y[MASK]
            z = (y - y.mean((0, 1, 2))) / jnp.sqrt(y.var((0, 1, 2)) + EPSILON) * params["scale"] + params["bias"]
            z = z if shortcut is None else z + shortcut[MASK]
            return jnp.sum((jax.nn.relu(z) if relu else z) * weight[MASK])

        wanted = (0, 1, 2) if with_shortcut else (0, 1)
        grads = list(jax.grad(ours, wanted)(v["params"], y, shortcut))
        expected = list(jax.grad(definition, wanted)(v["params"], y, shortcut))
        grads[1], expected[1] = grads[1][MASK], expected[1][MASK]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), grads, expected)


def test_vmap_equals_a_loop_over_clients() -> None:
    rng = np.random.default_rng(3)
    v = jax.tree.map(lambda a: np.stack([a, 2 * a]).astype(np.float32), variables(rng))
    y = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    masks = np.stack([MASK, ~MASK])
    y = np.stack([zero_padding(a, m) for a, m in zip(y, masks, strict=True)])

    def one(v: Any, y: Any, mask: Any) -> Any:
        def loss(params: Any, y: Any) -> Any:
            out, updates = BatchNorm().apply({**v, "params": params}, y, True, mask, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(out)), updates

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(v["params"], y)

    together = jax.vmap(one)(v, y, masks)
    alone = [one(jax.tree.map(lambda a, k=k: a[k], v), y[k], masks[k]) for k in range(2)]
    stacked = jax.tree.map(lambda *a: np.stack(a), *alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), together, stacked)


def test_only_padding_changes_nothing() -> None:
    v = variables(np.random.default_rng(4))
    out, updates = BatchNorm().apply(v, jnp.zeros(SHAPE), True, jnp.zeros(5, bool), mutable=["batch_stats"])
    assert not np.any(out)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, np.float32(b)), updates["batch_stats"], v["batch_stats"])


def test_one_value_per_channel() -> None:
    """n = 1: the unbiased factor n / (n - 1) is taken as 1, not as infinity."""
    v = variables(np.random.default_rng(5))
    out, updates = BatchNorm(relu=False).apply(v, jnp.ones((1, 1, 1, 4)), True, mutable=["batch_stats"])
    np.testing.assert_allclose(
        out[0, 0, 0], v["params"]["bias"], rtol=1e-3
    )  # variance 0 divides rounding by sqrt(1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 * v["batch_stats"]["var"], rtol=1e-6)


def test_evaluation_uses_running_statistics_and_ignores_the_mask() -> None:
    rng = np.random.default_rng(6)
    v, y = variables(rng), rng.normal(size=SHAPE)
    p, s = v["params"], v["batch_stats"]
    expected = (y - s["mean"]) / np.sqrt(s["var"] + EPSILON) * p["scale"] + p["bias"]
    for mask in (None, MASK):
        np.testing.assert_allclose(BatchNorm(relu=False).apply(v, y, False, mask), expected, rtol=2e-5, atol=1e-5)


def test_bfloat16_rows_have_float32_statistics() -> None:
    """4,096 values of about 1 a channel: a sum in bfloat16 would stop at 256."""
    rng = np.random.default_rng(3)
    y = jnp.asarray(rng.normal(1, 0.1, (64, 8, 8, 4)), jnp.bfloat16)
    v = variables(rng)
    out, updates = BatchNorm().apply(v, y, True, mutable=["batch_stats"])
    exact, expected = BatchNorm().apply(v, y.astype(jnp.float32), True, mutable=["batch_stats"])
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), exact, rtol=2**-8)  # one rounding
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updates, expected)
