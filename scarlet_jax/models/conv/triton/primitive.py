"""The kernels as JAX primitives on stacked clients: Triton on NVIDIA GPUs, the pure form everywhere else.

The pure form is also the definition: tests compare the kernels with it.
"""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import mlir, xla

from scarlet_jax.models.conv import forms
from scarlet_jax.models.conv.forms import Geometry
from scarlet_jax.models.conv.triton import calls, launches
from scarlet_jax.models.conv.triton.launches import Launch, Problem
from scarlet_jax.models.precision import products

_described = 90  # compute capability of the card to compile for, where there is none


class Operation(NamedTuple):
    """One call of a kernel; `precision` is that of products of float32: "tf32", "tf32x3" or "ieee"."""

    kind: str  # forward, input_gradient, weight_gradient
    problem: Problem
    dtype: str
    precision: str
    active: bool = False  # of the input gradient, see `kernels.input_gradient`
    kept: bool = False
    extra: bool = False

    def launch(self, capability: int) -> Launch:
        """How the kernel is launched on a card of this compute capability."""
        how = self.problem, self.dtype, self.precision
        if self.kind == "forward":
            return launches.forward(*how, capability=capability)
        if self.kind == "input_gradient":
            return launches.input_gradient(*how, self.active, self.kept, self.extra, capability=capability)
        return launches.weight_gradient(*how, capability=capability)


def problem() -> str | None:
    """Why the kernels cannot be compiled for an NVIDIA GPU here; None if they can."""
    missing = [name for name in ("triton", "jax_triton") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} is not installed (the extra cuda12 brings it)" if missing else None


def describe(capability: int) -> None:
    """Compile for a card that is not here, for instance 90: only where JAX finds no GPU."""
    global _described
    _described = capability


def _capability() -> int:
    """Of the cards that are here, or of the one that was described."""
    if jax.default_backend() != "gpu":
        return _described
    return round(10 * float(jax.devices()[0].compute_capability))


def precision() -> str:
    """Of products of float32, as JAX is configured: TF32 unless more is asked for."""
    asked = (products() or "default").lower()
    if asked in ("highest", "float32", "f32_f32_f32"):
        return "ieee"
    return "tf32x3" if asked in ("high", "bfloat16_3x", "tensorfloat32_3x", "tf32_tf32_f32_x3") else "tf32"


def forward(z: jax.Array, w: jax.Array, problem: Problem) -> tuple[jax.Array, jax.Array]:
    """Convolve: images and weights of stacked clients -> out, f32[K, 2, channels] sums of out and of its square.

    Weights are float32; they are rounded to the images' dtype. The sums are of what is stored.
    """
    out, sums = call(Operation("forward", problem, str(z.dtype), precision()), z, w)
    return out, sums


def input_gradient(
    d: jax.Array,
    w: jax.Array,
    problem: Problem,
    y: jax.Array | None = None,
    z: jax.Array | None = None,
    extra: jax.Array | None = None,
    factor: jax.Array | None = None,
    offset: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Gradient in the convolution's input, and through the ReLU that made it, if there is a `factor`.

    Args:
        d: gradient of the result, zeros in padding rows.
        w: f32 weights.
        problem: of the convolution.
        y: the input was relu(y * factor + offset ...).
        z: the input; without it y alone decides what passes the ReLU.
        extra: another gradient of the input, added.
        factor: f32[K, channels]; with y and offset.
        offset: f32[K, channels].

    Returns:
        Gradient before the ReLU, and f32[K, 2, channels] its sums: times y, and by itself.
    """
    operation = Operation(
        "input_gradient", problem, str(d.dtype), precision(), factor is not None, z is not None, extra is not None
    )
    unused = jnp.zeros((1,), jnp.float32)
    used = [unused.astype(d.dtype) if a is None else a for a in (y, z, extra)]
    scales = [unused if a is None else a for a in (factor, offset)]
    gradient, sums = call(operation, d, w, *used, *scales)
    return gradient, sums


def weight_gradient(z: jax.Array, d: jax.Array, problem: Problem) -> jax.Array:
    """f32 gradient in the weights; d is the gradient of the result, zeros in padding rows."""
    (dw,) = call(Operation("weight_gradient", problem, str(z.dtype), precision()), z, d)
    return dw


# ----------------------------------------------------------------------------------------------------------- pure form


def pure(operation: Operation, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """What the operation means, in float32 products of its rounded operands."""
    p = operation.problem
    geometry = Geometry(p.stride, p.size // 2)

    def convolve(z: jax.Array, w: jax.Array) -> jax.Array:
        return jax.vmap(lambda z, w: forms.plain(z, w, geometry))(z, w)

    def wide(a: jax.Array) -> jax.Array:
        return a.astype(jnp.float32)

    def rounded(w: jax.Array) -> jax.Array:
        return wide(w.astype(operation.dtype))

    images, weights = (jnp.zeros(shape, jnp.float32) for shape in (p.image, p.weights))
    if operation.kind == "forward":
        z, w = arrays
        out = convolve(wide(z), rounded(w)).astype(operation.dtype)
        return out, _sums(wide(out), wide(out))
    if operation.kind == "weight_gradient":
        z, d = arrays
        return jax.vjp(lambda w: convolve(wide(z), w), weights)[1](wide(d))
    d, w, y, z, extra, factor, offset = arrays
    (gradient,) = jax.vjp(lambda z: convolve(z, rounded(w)), images)[1](wide(d))
    gradient = gradient + wide(extra) if operation.extra else gradient
    if not operation.active:
        return gradient.astype(operation.dtype), jnp.zeros((p.clients, 2, p.inputs))
    passes = z > 0 if operation.kept else wide(y) * _channels(factor) + _channels(offset) > 0
    gradient = jnp.where(passes, gradient, 0)
    return gradient.astype(operation.dtype), _sums(gradient, wide(y))[:, ::-1]


def _sums(a: jax.Array, b: jax.Array) -> jax.Array:
    """Sums of a, and of a times b, over images and pixels: [K, 2, channels]."""
    return jnp.stack([jnp.sum(a, (1, 2, 3)), jnp.sum(a * b, (1, 2, 3))], 1)


def _channels(a: jax.Array) -> jax.Array:
    return a[:, None, None, None]


# ----------------------------------------------------------------------------------------------------------- primitive

_kernel = Primitive("stacked_convolution")
_kernel.multiple_results = True


def call(operation: Operation, *arrays: jax.Array) -> list[jax.Array]:
    """The kernel of an operation, on the arrays that `pure` takes."""
    return _kernel.bind(*arrays, operation=operation)


@_kernel.def_abstract_eval
def _shapes(*_: Any, operation: Operation) -> list[jax.core.ShapedArray]:
    p, shaped = operation.problem, jax.core.ShapedArray
    if operation.kind == "forward":
        return [shaped(p.result, jnp.dtype(operation.dtype)), shaped((p.clients, 2, p.outputs), jnp.float32)]
    if operation.kind == "input_gradient":
        return [shaped(p.image, jnp.dtype(operation.dtype)), shaped((p.clients, 2, p.inputs), jnp.float32)]
    return [shaped(p.weights, jnp.dtype("float32"))]


def _launched(*arrays: jax.Array, operation: Operation) -> list[jax.Array]:
    """Launch the kernel, and add its partial sums."""
    capability = _capability()
    results = calls.launched(operation.launch(capability), capability, *arrays)
    return [*results[:-1], jnp.sum(results[-1], 1)]


_kernel.def_impl(lambda *arrays, operation: xla.apply_primitive(_kernel, *arrays, operation=operation))
mlir.register_lowering(_kernel, mlir.lower_fun(lambda *arrays, operation: pure(operation, *arrays), True))
mlir.register_lowering(_kernel, mlir.lower_fun(_launched, True), platform="cuda")
