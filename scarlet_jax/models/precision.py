"""What a model stores and what it multiplies: `model.precision`.

| name       | images and activations | products, where both operands are float32                    |
| ---------- | ---------------------- | ------------------------------------------------------------ |
| `float32`  | float32                | exact float32, on every device                               |
| `tf32`     | float32                | NVIDIA GPUs: operands rounded to TF32's 10 bits; else exact  |
| `bfloat16` | bfloat16               | as JAX is configured; those of bfloat16 are summed in float32 |
| open       | float32                | as JAX is configured: TF32 on NVIDIA GPUs, else exact        |

Whatever the name, the weights that are trained, the statistics and the logits are float32. JAX is configured by its
option `jax_default_matmul_precision` (the environment variable JAX_DEFAULT_MATMUL_PRECISION).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax

_PRODUCTS = {"float32": "highest", "tf32": "default"}  # JAX's names: on a GPU "default" is TF32


def stored(precision: str | None) -> str | None:
    """The type of activations; None is that of the images, float32."""
    return "bfloat16" if precision == "bfloat16" else None


def multiplying(precision: str | None) -> contextlib.AbstractContextManager[Any]:
    """What is traced in this context multiplies as `precision` says."""
    asked = _PRODUCTS.get(precision or "")
    return jax.default_matmul_precision(asked) if asked else contextlib.nullcontext()


def products() -> str | None:
    """JAX's option as it is here; None: nobody has set it."""
    return jax.config.jax_default_matmul_precision  # type: ignore[attr-defined,no-any-return]


def within(asked: str | None, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, traced with a result of `products`: for what is traced later, as a gradient is."""
    if asked is None:
        return function

    def traced(*args: Any) -> Any:
        with jax.default_matmul_precision(asked):
            return function(*args)

    return traced


def resolved(precision: str | None) -> str:
    """One of `models.PRECISIONS`: what it means on the devices in use."""
    if precision == "bfloat16":
        return precision
    with multiplying(precision):
        exact = products() in ("highest", "float32", "F32_F32_F32")
    return "float32" if exact or jax.default_backend() != "gpu" else "tf32"


def note(precision: str | None) -> str | None:
    """A sentence where a name means something else on the devices in use than it says."""
    if precision == "tf32" and resolved(precision) != precision:
        return f"config.model.precision is 'tf32', and products are exact float32: {jax.default_backend()} has no TF32."
    return None
