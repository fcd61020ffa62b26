"""The convolution used by every model: one function, several named implementations, identical results up to rounding.

Images are [B, H, W, channels] (NHWC), weights [kh, kw, in, out] (HWIO).
Padding is with zeros, the same on all four sides.

| name       | what it is                                                       | under `vmap` over clients      |
| ---------- | ---------------------------------------------------------------- | ------------------------------ |
| `xla`      | `lax.conv_general_dilated` and its own autodiff: the reference   | what XLA makes of it           |
| `grouped`  | the same forward; for GPU                                        | grouped convolution, both ways |
| `gemm`     | a sum of shifted slices times matrices, by autodiff              | batched matrix products        |
| `winograd` | F(2x2, 3x3) wherever it applies, else as `cpu`                   | one client after another       |
| `cpu`      | for each shape the form that is fastest on CPU (`cpu_form`)      | one client after another       |
| `native`   | our C++ kernels (direct or Winograd), for CPU; others as `cpu`   | one call for all clients       |
| `triton`   | Triton kernels for NVIDIA GPUs, fused with BatchNorm (`fused.py`; | one call for all clients       |
|            | by itself, and for shapes they do not cover, as `grouped`)       |                                |

On CPU plain autodiff is too slow: inside a loop body XLA:CPU computes the weight gradient of autodiff, and the grouped
convolution of `vmap`, by naive loops, which take 20 to 50 times as long. The forms for CPU therefore have a backward
pass of their own (`custom_vjp`), and inside it a batching rule of their own (`custom_vmap`). The order matters: a
`custom_vmap` by itself cannot be differentiated.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import jax
from jax import lax
from jax.custom_batching import custom_vmap

from scarlet_jax.errors import bad_field
from scarlet_jax.models.conv import forms, winograd
from scarlet_jax.models.conv.forms import Form, Geometry
from scarlet_jax.models.conv.native import build, ops
from scarlet_jax.models.conv.triton import primitive

_log = logging.getLogger(__name__)

CONV_NAMES = ("auto", "timed", "native", "xla", "grouped", "gemm", "winograd", "cpu", "triton")

# With fewer input channels than this, a vector register is not filled; a row of the window is gathered first.
_FEW_CHANNELS = 8
# From this many channels on, Winograd's 16 products save more time than its transforms take (16 loses, 32 wins).
_WINOGRAD_CHANNELS = 32


def resolve_conv(conv: str, platform: str | None = None) -> str:
    """Turn the user's choice into the name of an implementation, which a run can record.

    Args:
        conv: one of `CONV_NAMES`, or a result of `conv_timing.choose`.
        platform: "cpu", "gpu", "cuda", "rocm" or "tpu"; by default the backend that JAX computes on.

    Returns:
        `conv` itself, except for "auto" and for "timed" without timings. For these: on CPU "native", or "cpu" if that
        cannot be built; on other platforms "grouped".

    Raises:
        UserError: `conv` is not one of `CONV_NAMES`, or is "native", which cannot be used here.
    """
    default, *exceptions = conv.split(" ")
    if exceptions:
        if "triton" in conv:  # it is one form for a whole model
            raise bad_field(
                "model.conv", conv, "triton alone, or a mixture of others", "which mixes triton with others"
            )
        for name in (default, *(exception.rpartition("=")[2] for exception in exceptions)):
            resolve_conv(name, platform)
        return conv
    if conv not in CONV_NAMES:
        raise bad_field("model.conv", conv, f"one of {', '.join(CONV_NAMES)}")
    on_cpu = (platform or jax.default_backend()) == "cpu"
    if conv == "triton" and (platform or jax.default_backend()) in ("gpu", "cuda"):
        why = primitive.problem()
        if why:
            raise bad_field("model.conv", "triton", f"another of {', '.join(CONV_NAMES)}", f"but {why}")
    if conv == "native":
        why = build.problem() if on_cpu else "it runs on CPU only"
        if why:
            raise bad_field("model.conv", conv, f"another of {', '.join(CONV_NAMES)}", f"but {why}")
    if conv not in ("auto", "timed"):
        return conv
    if not on_cpu:
        return "grouped"
    return "native" if native_works() else "cpu"


@functools.cache
def native_works() -> bool:
    """Whether the native convolution can be used; if not, the reason is logged, once per process."""
    why = build.problem()
    if why:
        _log.warning("no native convolution, which would be about twice as fast: %s", why)
    return why is None


def conv(x: jax.Array, w: jax.Array, stride: int, padding: int, implementation: str) -> jax.Array:
    """Convolve images with weights (a cross-correlation, as in all deep-learning libraries; no bias).

    Args:
        x: images [B, H, W, in].
        w: weights [kh, kw, in, out], of x's dtype.
        stride: step between windows, the same in both directions, at least 1.
        padding: rows and columns of zeros on each side, less than the kernel's size.
        implementation: a result of `resolve_conv`: a name other than "auto" and "timed", or such a name followed by
            exceptions for some shapes, `NAME SHAPE=NAME ...`, where SHAPE is a `shape_name`.

    Returns:
        [B, (H + 2 padding - kh) // stride + 1, (W + 2 padding - kw) // stride + 1, out]. It can be differentiated once,
        with respect to x and w.

    Raises:
        ValueError: unknown implementation, or shapes that do not fit together.
    """
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[2]:
        raise ValueError(f"conv wants x [B, H, W, in] and w [kh, kw, in, out], got {x.shape} and {w.shape}.")
    geometry = Geometry(stride, padding)
    if stride < 1 or not 0 <= padding < min(w.shape[:2]) or min(geometry.output_size(x.shape, w.shape)) < 1:
        raise ValueError(f"conv of {x.shape} with {w.shape} is not defined for {geometry}.")
    implementation = _for_shape(implementation, shape_name(x.shape, w.shape, geometry))
    if implementation == "xla":
        return forms.plain(x, w, geometry)
    if implementation == "gemm":
        return forms.slices_forward(x, w, geometry)
    if implementation in ("grouped", "triton"):
        return _grouped(geometry)(x, w)
    if implementation == "winograd":
        form = winograd.FORM if winograd.applies(x.shape, w.shape, geometry) else cpu_form(x.shape, w.shape, geometry)
        return _one_by_one(form, geometry)(x, w)
    if implementation == "native" and ops.covers(w.shape, x.dtype):
        return ops.conv(geometry)(x, w)
    if implementation in ("cpu", "native"):
        return _one_by_one(cpu_form(x.shape, w.shape, geometry), geometry)(x, w)
    raise ValueError(
        f"unknown convolution {implementation!r}; resolve_conv returns one of {', '.join(CONV_NAMES[2:])}."
    )


def shape_name(x_shape: tuple[int, ...], w_shape: tuple[int, ...], geometry: Geometry) -> str:
    """A name for image, weights, stride and padding, such as "32x32x16-3x3x16-1-1"; it leaves out the batch."""
    image, weights = ("x".join(map(str, shape)) for shape in (x_shape[1:], (*w_shape[:2], w_shape[3])))
    return f"{image}-{weights}-{geometry.stride}-{geometry.padding}"


def _for_shape(implementation: str, shape: str) -> str:
    default, *exceptions = implementation.split(" ")
    return dict(exception.split("=") for exception in exceptions).get(shape, default)


def cpu_form(x_shape: tuple[int, ...], w_shape: tuple[int, ...], geometry: Geometry) -> Form:
    """The form for this shape on CPU.

    For the shapes of a CIFAR ResNet-20 it was the fastest when measured (batch 50, float32, clients in `lax.map`). For
    1x1, 5x5, 7x7 and odd sizes it is correct and composed of matrix products, but was not compared with others.
    """
    kernel_height, kernel_width, inputs, outputs = w_shape
    if kernel_height == kernel_width == 1:
        return forms.POINTWISE
    if inputs < _FEW_CHANNELS:
        return forms.WINDOWS
    if min(inputs, outputs) >= _WINOGRAD_CHANNELS and winograd.applies(x_shape, w_shape, geometry):
        return winograd.FORM
    return forms.SLICED


Conv = Callable[[jax.Array, jax.Array], jax.Array]


@functools.cache
def _one_by_one(form: Form, geometry: Geometry) -> Conv:
    """Make a differentiable function of a form, which runs stacked clients one after another."""
    forward = _map_over_clients(lambda x, w: form.forward(x, w, geometry)[0])
    forward_saving = _map_over_clients(lambda x, w: form.forward(x, w, geometry))
    backward = _map_over_clients(lambda saved, dy: form.backward(saved, dy, geometry))
    function = jax.custom_vjp(forward)
    function.defvjp(forward_saving, backward)
    return function


def _map_over_clients(function: Callable) -> Callable:
    """Make `vmap` of `function` a loop over clients, whose working set is that of one client."""
    mapped = custom_vmap(function)

    @mapped.def_vmap
    def rule(size, batched, *args):  # type: ignore[no-untyped-def]
        leaves, structure = jax.tree.flatten(args)
        stacked = jax.tree.leaves(batched)

        def one(moving: list[jax.Array]) -> object:
            moving_leaves = iter(moving)
            one_client = [next(moving_leaves) if b else leaf for leaf, b in zip(leaves, stacked, strict=True)]
            # `mapped`, not `function`, so that an outer vmap finds this rule again.
            return mapped(*jax.tree.unflatten(structure, one_client))

        out = lax.map(one, [leaf for leaf, b in zip(leaves, stacked, strict=True) if b])
        return out, jax.tree.map(lambda _: True, out)

    return mapped


@functools.cache
def _grouped(geometry: Geometry) -> Conv:
    """XLA's convolution, whose gradient under `vmap` is the gradient of the vmapped forward pass.

    The `vmap` of the gradient would turn each weight gradient into a convolution with a window as large as the image.
    """

    def plain(x: jax.Array, w: jax.Array) -> jax.Array:
        return forms.plain(x, w, geometry)

    def backward(x: jax.Array, w: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(plain, x, w)[1](dy)

    backward_rule = custom_vmap(backward)

    @backward_rule.def_vmap
    def rule(size, batched, x, w, dy):  # type: ignore[no-untyped-def]
        x, w, dy = (
            a if b else jax.numpy.broadcast_to(a, (size, *a.shape)) for a, b in zip((x, w, dy), batched, strict=True)
        )
        return jax.vjp(jax.vmap(plain), x, w)[1](dy), (True, True)

    function = jax.custom_vjp(plain)
    function.defvjp(lambda x, w: (plain(x, w), (x, w)), lambda saved, dy: backward_rule(*saved, dy))
    return function
