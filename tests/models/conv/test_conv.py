"""Every implementation of the convolution against `lax.conv_general_dilated` and its autodiff.

Shapes are (batch, height, width, in, out, kernel, stride, padding). Tolerances are relative to the largest entry:
float32 5e-6, as PERFORMANCE notes 1.4e-6 for whole layers and Winograd's transforms cost a few bits; float64 1e-13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scarlet_jax.errors import UserError
from scarlet_jax.models.conv.api import CONV_NAMES, conv, cpu_form, resolve_conv
from scarlet_jax.models.conv.forms import POINTWISE, SLICED, WINDOWS, Geometry
from scarlet_jax.models.conv.winograd import FORM as WINOGRAD

OURS = ("cpu", "winograd", "gemm", "grouped")
SHAPES = (
    (2, 8, 8, 1, 4, 3, 1, 1),  # digits
    (2, 8, 6, 3, 5, 3, 1, 1),  # first layer of a CIFAR model
    (20, 6, 6, 8, 8, 3, 1, 1),  # weight gradient in two blocks
    (3, 7, 9, 8, 6, 3, 2, 1),  # odd sizes, stride 2
    (3, 8, 8, 8, 16, 3, 2, 1),  # even sizes, stride 2
    (2, 6, 4, 32, 33, 3, 1, 1),  # Winograd, also by `cpu`
    (2, 5, 5, 32, 32, 3, 1, 1),  # wide, but odd
    (2, 9, 8, 8, 4, 1, 2, 0),  # projection shortcut
    (2, 7, 7, 8, 4, 1, 3, 0),
    (2, 15, 16, 3, 4, 7, 2, 3),  # ImageNet stem
    (2, 9, 9, 8, 4, 5, 1, 2),
    (2, 8, 7, 8, 4, 5, 3, 0),
    (2, 6, 7, 8, 4, 2, 2, 1),  # even kernel
    (2, 4, 4, 8, 4, 4, 1, 0),  # as large as the image
)
TOLERANCE = {"float32": 5e-6, "float64": 1e-13}
Function = Callable[[jax.Array, jax.Array], jax.Array]


def draw(shape: tuple[int, ...], dtype: str, *clients: int) -> tuple[np.ndarray, np.ndarray]:
    batch, height, width, inputs, outputs, kernel, _, _ = shape
    rng = np.random.default_rng(0)
    x = rng.normal(size=(*clients, batch, height, width, inputs)).astype(dtype)
    return x, rng.normal(size=(*clients, kernel, kernel, inputs, outputs)).astype(dtype)


def value_and_gradients(function: Function, x: Any, w: Any) -> Any:
    """y, dx, dw for a fixed, arbitrary cotangent."""

    def evaluate(x: jax.Array, w: jax.Array) -> Any:
        y, pull = jax.vjp(function, x, w)
        return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    return jax.jit(evaluate)(x, w)


def assert_close(ours: Any, reference: Any, tolerance: float) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(reference)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def bound(shape: tuple[int, ...], implementation: str) -> Function:
    return lambda x, w: conv(x, w, shape[6], shape[7], implementation)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cpu_equals_the_reference(shape: tuple[int, ...]) -> None:
    x, w = draw(shape, "float32")
    reference = value_and_gradients(bound(shape, "xla"), x, w)
    assert_close(value_and_gradients(bound(shape, "cpu"), x, w), reference, TOLERANCE["float32"])


# One shape for each form that `cpu` chooses among, and every other implementation once.
@pytest.mark.parametrize(
    ("implementation", "shape"),
    [("cpu", SHAPES[i]) for i in (1, 2, 3, 5, 7)]
    + [("gemm", SHAPES[3]), ("winograd", (2, 4, 6, 2, 3, 3, 1, 1)), ("winograd", SHAPES[3]), ("grouped", SHAPES[3])],
    ids=str,
)
def test_float64(implementation: str, shape: tuple[int, ...]) -> None:
    with jax.enable_x64(True):
        x, w = draw(shape, "float64")
        reference = value_and_gradients(bound(shape, "xla"), x, w)
        assert_close(value_and_gradients(bound(shape, implementation), x, w), reference, TOLERANCE["float64"])


@pytest.mark.parametrize("implementation", OURS)
@pytest.mark.parametrize("stacked", ["both", "images", "weights"])
def test_vmap_over_clients(implementation: str, stacked: str) -> None:
    shape = (2, 6, 6, 8, 4, 3, 2, 1) if implementation != "winograd" else (2, 6, 6, 8, 4, 3, 1, 1)
    x, w = draw(shape, "float32", 3)
    axes = {"both": (0, 0), "images": (0, None), "weights": (None, 0)}[stacked]
    x, w = (a if axis == 0 else a[0] for a, axis in zip((x, w), axes, strict=True))

    def gradients(implementation: str) -> Any:
        function = bound(shape, implementation)
        inside = jax.vmap(lambda x, w: value_and_gradients(function, x, w), axes)(x, w)  # vmap of the gradient
        return inside, value_and_gradients(jax.vmap(function, axes), x, w)  # gradient of the vmap

    assert_close(gradients(implementation), gradients("xla"), TOLERANCE["float32"])


@pytest.mark.parametrize("implementation", ["cpu", "grouped"])
def test_nested_transformations(implementation: str) -> None:
    shape = (2, 4, 4, 8, 4, 3, 1, 1)
    x, w = draw(shape, "float32", 2, 2)

    def gradients(implementation: str) -> Any:
        one = bound(shape, implementation)
        return jax.vmap(jax.vmap(lambda x, w: value_and_gradients(one, x, w)))(x, w)

    reference = gradients("xla")
    assert_close(gradients(implementation), reference, TOLERANCE["float32"])
    one = bound(shape, implementation)
    mapped = jax.lax.map(lambda a: jax.vmap(lambda x, w: value_and_gradients(one, x, w))(*a), (x, w))
    assert_close(mapped, reference, TOLERANCE["float32"])


def test_cpu_maps_clients_one_after_another() -> None:
    """A grouped convolution on CPU would be correct, and twenty times slower."""
    shape = (2, 6, 6, 16, 16, 3, 1, 1)
    x, w = draw(shape, "float32", 4)
    text = str(jax.make_jaxpr(lambda x, w: value_and_gradients(jax.vmap(bound(shape, "cpu")), x, w))(x, w))
    assert "feature_group_count=1" in text and "feature_group_count=4" not in text and "batch_group_count=4" not in text


def test_inside_shard_map() -> None:
    """With its check of what varies over devices on: a loop that starts from a constant would be refused."""
    shape = (20, 4, 4, 8, 4, 3, 1, 1)
    x, w = draw(shape, "float32", 2)
    mesh = jax.make_mesh((1,), ("clients",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("clients")
    run = jax.vmap(jax.grad(lambda x, w: jnp.sum(jnp.sin(bound(shape, "cpu")(x, w))), (0, 1)))
    sharded = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec))(x, w)
    assert_close(sharded, run(x, w), TOLERANCE["float32"])


@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_random_shapes(data: st.DataObject) -> None:
    kernel, stride = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    padding = data.draw(st.integers(0, kernel - 1))
    size = st.integers(kernel, 9)
    shape = (2, data.draw(size), data.draw(size), data.draw(st.sampled_from((1, 3, 8))), 3, kernel, stride, padding)
    x, w = draw(shape, "float32")
    reference = value_and_gradients(bound(shape, "xla"), x, w)
    assert_close(value_and_gradients(bound(shape, "cpu"), x, w), reference, TOLERANCE["float32"])


def test_choice_on_cpu() -> None:
    same, halving, alone = Geometry(1, 1), Geometry(2, 1), Geometry(1, 0)
    assert cpu_form((50, 32, 32, 3), (3, 3, 3, 16), same) is WINDOWS
    assert cpu_form((50, 32, 32, 16), (3, 3, 16, 16), same) is SLICED
    assert cpu_form((50, 32, 32, 16), (3, 3, 16, 32), halving) is SLICED
    assert cpu_form((50, 16, 16, 32), (3, 3, 32, 32), same) is WINOGRAD
    assert cpu_form((50, 7, 7, 512), (3, 3, 512, 512), same) is SLICED
    assert cpu_form((50, 8, 8, 64), (1, 1, 64, 128), alone) is POINTWISE


def test_resolve() -> None:
    assert resolve_conv("auto", "cpu") in ("native", "cpu")
    assert resolve_conv("auto", "gpu") == resolve_conv("auto", "cuda") == "grouped"
    assert [resolve_conv(name) for name in CONV_NAMES[3:]] == list(CONV_NAMES[3:])
    with pytest.raises(UserError, match=r"'fast'.*auto, timed, native, xla, grouped"):
        resolve_conv("fast")


@pytest.mark.parametrize("stride,padding,w_shape", [(0, 1, (3, 3, 2, 4)), (1, 3, (3, 3, 2, 4)), (1, 1, (3, 3, 5, 4))])
def test_refuses(stride: int, padding: int, w_shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="conv"):
        conv(jnp.zeros((1, 4, 4, 2)), jnp.zeros(w_shape), stride, padding, "cpu")
    with pytest.raises(ValueError, match="unknown convolution 'auto'"):
        conv(jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, 4)), 1, 1, "auto")
