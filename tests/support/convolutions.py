"""What tests of convolutions share, and the laws that every implementation of the table must obey.

Shapes are (batch, height, width, in, out, kernel, stride, padding).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.models.conv.api import conv

Function = Callable[[jax.Array, jax.Array], jax.Array]
Shape = tuple[int, ...]


def draw(shape: Shape, dtype: str, *clients: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and weights, stacked for so many clients."""
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
    """Equal up to a tolerance relative to the largest entry."""
    assert jax.tree.structure(ours) == jax.tree.structure(reference)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def bound(shape: Shape, implementation: str) -> Function:
    """The convolution of a shape as a function of images and weights."""
    return lambda x, w: conv(x, w, shape[6], shape[7], implementation)


def exact(shape: Shape) -> Function:
    """The same by `lax.conv_general_dilated`, in the precision of its arguments."""
    stride, padding = (shape[6],) * 2, [(shape[7],) * 2] * 2
    how = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "precision": "highest"}
    return lambda x, w: jax.lax.conv_general_dilated(x, w, stride, padding, **how)


class ConvLaws:
    """The laws of a convolution. A class that inherits them names the implementation; shapes may be added.

    Tolerances are relative to the largest entry: 1e-5 in float32 (sums of some thousand products in another order, and
    Winograd's transforms cost a few bits), 1e-13 in float64.
    """

    implementation: str
    tolerance = {"float32": 1e-5, "float64": 1e-13}
    checked = True  # whether `shard_map` knows over which axes its results vary; those of a foreign call it does not
    shapes: tuple[Shape, ...] = (
        (2, 8, 6, 3, 16, 3, 1, 1),  # first layer: few input channels
        (20, 6, 6, 16, 16, 3, 1, 1),
        (3, 7, 9, 16, 32, 3, 2, 1),  # odd sizes, stride 2
        (2, 6, 4, 32, 48, 3, 1, 1),  # wide enough for Winograd
        (3, 6, 6, 16, 32, 1, 2, 0),  # projection shortcut
        (2, 7, 8, 5, 9, 2, 2, 1),  # even kernel, channels that fill no register
    )

    def check(self, shape: Shape, dtype: str = "float32") -> None:
        """Value and both gradients against `exact`."""
        x, w = draw(shape, dtype)
        ours = value_and_gradients(bound(shape, self.implementation), x, w)
        assert_close(ours, value_and_gradients(exact(shape), x, w), self.tolerance[dtype])

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Each shape is a case of its own."""
        if "shape" in metafunc.fixturenames:
            metafunc.parametrize("shape", self.shapes, ids=str)

    def test_value_and_gradients(self, shape: Shape) -> None:
        """In float32, for every shape."""
        self.check(shape)

    def test_float64(self) -> None:
        """In float64, where only rounding of the algorithm itself is left."""
        with jax.enable_x64(True):
            self.check((3, 8, 6, 8, 16, 3, 1, 1), "float64")

    @pytest.mark.parametrize("stacked", ["both", "images", "weights"])
    def test_stacked_clients(self, stacked: str) -> None:
        """`vmap` of the gradient, and the gradient of `vmap`, are those of single clients."""
        shape = (2, 7, 6, 16, 16, 3, 2, 1)
        x, w = draw(shape, "float32", 3)
        axes = {"both": (0, 0), "images": (0, None), "weights": (None, 0)}[stacked]
        x, w = (a if axis == 0 else a[0] for a, axis in zip((x, w), axes, strict=True))
        ours, reference = bound(shape, self.implementation), exact(shape)

        def inside(function: Function) -> Any:
            return jax.vmap(lambda x, w: value_and_gradients(function, x, w), axes)(x, w)

        alone = [
            value_and_gradients(reference, x if axes[0] is None else x[k], w if axes[1] is None else w[k])
            for k in range(3)
        ]
        expected = jax.tree.map(lambda *parts: np.stack(parts), *alone)
        assert_close(inside(ours), expected, self.tolerance["float32"])
        around = [value_and_gradients(jax.vmap(function, axes), x, w) for function in (ours, reference)]
        assert_close(*around, self.tolerance["float32"])

    def test_nested_stacks_and_loops(self) -> None:
        """`vmap` in `vmap`, and `vmap` in a loop."""
        shape = (2, 4, 4, 16, 16, 3, 1, 1)
        x, w = draw(shape, "float32", 2, 2)
        one, reference = bound(shape, self.implementation), exact(shape)

        def stacked(function: Function) -> Any:
            return jax.vmap(lambda x, w: value_and_gradients(function, x, w))

        expected = jax.vmap(stacked(reference))(x, w)
        assert_close(jax.vmap(stacked(one))(x, w), expected, self.tolerance["float32"])
        assert_close(jax.lax.map(lambda a: stacked(one)(*a), (x, w)), expected, self.tolerance["float32"])

    def test_inside_shard_map(self) -> None:
        """As the engine calls it; `checked` also looks for a loop that starts from a constant."""
        shape = (20, 4, 4, 16, 16, 3, 1, 1)
        x, w = draw(shape, "float32", 2)
        mesh = jax.make_mesh((1,), ("clients",), axis_types=(jax.sharding.AxisType.Auto,))
        spec = jax.sharding.PartitionSpec("clients")

        def gradient(function: Function) -> Any:
            return jax.vmap(jax.grad(lambda x, w: jnp.sum(jnp.sin(function(x, w))), (0, 1)))

        ours = gradient(bound(shape, self.implementation))
        run = jax.shard_map(ours, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=self.checked)
        assert_close(jax.jit(run)(x, w), gradient(exact(shape))(x, w), self.tolerance["float32"])
