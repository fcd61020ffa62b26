"""The convolution used by every model, and the choice of its implementation from the table `CONVS`."""

from __future__ import annotations

import functools
import logging

import jax

from scarlet_jax.errors import bad_field
from scarlet_jax.models.conv import CONVS, names
from scarlet_jax.models.conv.forms import Geometry, Shape
from scarlet_jax.tables import load

_log = logging.getLogger(__name__)


def resolve_conv(conv: str, platform: str | None = None) -> str:
    """Turn the user's choice into the name of an implementation, which a run can record.

    Args:
        conv: one of `names()`, or a result of `conv_timing.choose`.
        platform: "cpu", "gpu", "cuda", "rocm" or "tpu"; by default the backend that JAX computes on.

    Returns:
        `conv` itself, except for "auto" and for "timed" without timings. For these: the first of the table that is
        chosen automatically on this kind of platform and can be used; on CPU "native", or "cpu" if that cannot be
        built, on accelerators "grouped".

    Raises:
        UserError: `conv` is not one of `names()`, or cannot be used here.
    """
    platform = platform or jax.default_backend()
    default, *exceptions = conv.split(" ")
    if exceptions:
        chosen = [default, *(exception.rpartition("=")[2] for exception in exceptions)]
        for name in chosen:
            if name in CONVS and not CONVS[name].mixes:
                allowed, why = f"{name} alone, or a mixture of others", f"which mixes {name} with others"
                raise bad_field("model.conv", conv, allowed, why)
        for name in chosen:
            resolve_conv(name, platform)
        return conv
    if conv not in names():
        raise bad_field("model.conv", conv, f"one of {', '.join(names())}")
    if conv in CONVS:
        obstacle = _obstacle(conv, platform)
        if obstacle:
            raise bad_field("model.conv", conv, f"another of {', '.join(names())}", f"but {obstacle}")
        return conv
    automatic = [name for name, own in CONVS.items() if own.auto == _kind(platform)]
    return next(name for name in automatic if name == automatic[-1] or works(name, platform))


def _kind(platform: str) -> str:
    return "cpu" if platform == "cpu" else "accelerator"


def _obstacle(name: str, platform: str) -> str | None:
    """Why an implementation cannot be used on a platform; None if it can."""
    own = CONVS[name]
    if own.only_on and platform not in own.only_on:
        return f"it runs on {' and '.join(name.upper() for name in own.only_on)} only"
    return load(own.needs)() if platform in own.needed_on else None


@functools.cache
def works(name: str, platform: str) -> bool:
    """Whether an implementation can be used; if not, the reason is logged, once per process."""
    why = _obstacle(name, platform)
    if why:
        _log.warning("no %s convolution, which would be faster: %s", name, why)
    return why is None


def conv(x: jax.Array, w: jax.Array, stride: int, padding: int, implementation: str) -> jax.Array:
    """Convolve images with weights (a cross-correlation, as in all deep-learning libraries; no bias).

    Args:
        x: images [B, H, W, in].
        w: weights [kh, kw, in, out], of x's dtype.
        stride: step between windows, the same in both directions, at least 1.
        padding: rows and columns of zeros on each side, less than the kernel's size.
        implementation: a result of `resolve_conv`: a name of the table, or such a name followed by exceptions for some
            shapes, `NAME SHAPE=NAME ...`, where SHAPE is a `shape_name`.

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
    name = _for_shape(implementation, shape_name(x.shape, w.shape, geometry))
    if name not in CONVS:
        raise ValueError(f"unknown convolution {name!r}; resolve_conv returns one of {', '.join(CONVS)}.")
    while CONVS[name].covers and not load(CONVS[name].covers)(x, w, geometry):
        name = CONVS[name].otherwise
    return load(CONVS[name].compute)(x, w, geometry)


def timed(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> list[str]:
    """The implementations that are timed for this shape on the backend in use, the default first."""
    default, kind = resolve_conv("auto"), _kind(jax.default_backend())
    x, w = (jax.ShapeDtypeStruct(shape, "float32") for shape in (x_shape, w_shape))
    others = [name for name, own in CONVS.items() if kind in own.timed and name != default]
    return [default, *(n for n in others if not CONVS[n].covers or load(CONVS[n].covers)(x, w, geometry))]


def shape_name(x_shape: Shape, w_shape: Shape, geometry: Geometry) -> str:
    """A name for image, weights, stride and padding, such as "32x32x16-3x3x16-1-1"; it leaves out the batch."""
    image, weights = ("x".join(map(str, shape)) for shape in (x_shape[1:], (*w_shape[:2], w_shape[3])))
    return f"{image}-{weights}-{geometry.stride}-{geometry.padding}"


def _for_shape(implementation: str, shape: str) -> str:
    default, *exceptions = implementation.split(" ")
    return dict(exception.split("=") for exception in exceptions).get(shape, default)
