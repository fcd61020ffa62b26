"""Measures which convolution is fastest for each shape of a model: what `model.conv = timed` means.

This depends on the device, the libraries and the number of clients. `conv_choice` keeps what was measured.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from scarlet_jax.models import build_model
from scarlet_jax.models.conv.api import conv, resolve_conv, shape_name, timed
from scarlet_jax.models.conv.forms import Geometry, Shape
from scarlet_jax.models.form_timing import Setting, Work
from scarlet_jax.models.layers import Conv
from scarlet_jax.models.precision import multiplying, stored

_log = logging.getLogger(__name__)

_CALLS = 5  # calls in a row, which hide the cost of dispatching a single one
_REPEATS = 5  # rows of calls, of which the median counts
_GAIN = 0.95  # a candidate replaces the default if it takes less than this share of the default's time


class ConvShape(NamedTuple):
    """The shapes of one convolution of a model, for a batch of one client."""

    x: Shape  # [B, H, W, in]
    w: Shape  # [kh, kw, in, out]
    geometry: Geometry


def shapes(model: nn.Module, image_shape: tuple[int, ...], batch_size: int) -> list[ConvShape]:
    """The different convolutions of a model on images [H, W, channels], in the order of their first use."""
    found: dict[str, ConvShape] = {}

    def listen(call: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if isinstance(layer, Conv) and context.method_name == "__call__":
            x = (batch_size, *args[0].shape[1:])
            shape = ConvShape(
                x, (layer.size, layer.size, x[3], layer.features), Geometry(layer.stride, layer.size // 2)
            )
            found.setdefault(shape_name(*shape), shape)
        return call(*args, **kwargs)

    with nn.intercept_methods(listen):
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), jnp.zeros((1, *image_shape)))
    return list(found.values())


def seconds(name: str, shape: ConvShape, clients: int, precision: str | None) -> float:
    """Seconds of one forward pass with both gradients, for stacked clients; infinite if memory does not suffice."""

    def forward_and_gradients(x: jax.Array, w: jax.Array) -> Any:
        y, gradients = jax.vjp(lambda x, w: conv(x, w, *shape.geometry, name), x, w)
        return y, gradients(y)

    step = jax.jit(jax.vmap(forward_and_gradients))
    try:
        x, w = (jnp.ones((clients, *size), stored(precision) or "float32") for size in (shape.x, shape.w))
        with multiplying(precision):
            jax.block_until_ready(step(x, w))  # compiles
        rows = []
        for _ in range(_REPEATS):
            begun = time.perf_counter()
            jax.block_until_ready([step(x, w) for _ in range(_CALLS)])
            rows.append((time.perf_counter() - begun) / _CALLS)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return float("inf")
    return statistics.median(rows)


def choose(works: Iterable[Work], setting: Setting, measure: Callable[[str, ConvShape, int, str | None], float]) -> str:
    """The convolution of a run: the default, followed by the shapes for which another one was clearly faster.

    Args:
        works: clients of a model that are trained together; if two models have a convolution of one shape, it is timed
            for the first.
        setting: what their training steps depend on.
        measure: seconds of a candidate, for a shape, number of clients and precision; `seconds` outside of tests.

    Returns:
        An `implementation` for `scarlet_jax.models.conv.api.conv`, such as "grouped" or
        "grouped 32x32x3-3x3x16-1-1=gemm".
    """
    default = resolve_conv("auto")
    chosen: dict[str, str] = {}
    for work in works:
        for shape in shapes(build_model(work.model, setting.num_classes), setting.image_shape, setting.batch_size):
            key = shape_name(*shape)
            if key in chosen:
                continue
            taken = {name: measure(name, shape, work.clients, setting.precision) for name in timed(*shape)}
            best = min(taken, key=taken.__getitem__)
            chosen[key] = best if taken[best] < _GAIN * taken[default] else default
            times = ", ".join(f"{name} {1e3 * value:.2f} ms" for name, value in taken.items())
            _log.debug("convolution %s, %d clients: %s: %s", key, work.clients, times, chosen[key])
    return " ".join([default, *(f"{key}={name}" for key, name in chosen.items() if name != default)])
