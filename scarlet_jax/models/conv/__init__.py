"""The table of convolutions: one function with several implementations, whose results are equal up to rounding.

Images are [B, H, W, channels] (NHWC), weights [kh, kw, in, out] (HWIO). Padding is with zeros, the same on all four
sides. `api.conv` is what models call.

On CPU plain autodiff is too slow: inside a loop body XLA:CPU computes the weight gradient of autodiff, and the grouped
convolution of `vmap`, by naive loops, which take 20 to 50 times as long. The implementations for CPU therefore have a
backward pass of their own (`custom_vjp`), and inside it a batching rule of their own (`custom_vmap`). The order
matters: a `custom_vmap` by itself cannot be differentiated.
"""

from __future__ import annotations

from typing import NamedTuple


class Implementation(NamedTuple):
    """A row of the table. Functions are named as "module:function", see `tables`."""

    # x [B, H, W, in], w [kh, kw, in, out], forms.Geometry -> y [B, ho, wo, out]; it can be differentiated once, and
    # `vmap` stacks clients.
    compute: str
    about: str  # what it is, and what it makes of stacked clients
    covers: str = ""  # x, w, geometry (arrays or their shapes) -> bool: what it computes; "": everything
    otherwise: str = ""  # the implementation of what it does not cover
    only_on: tuple[str, ...] = ()  # platforms that it can be chosen on; (): all
    # () -> why it cannot be used, or None: what must be installed or built on the platforms `needed_on`.
    needs: str = ""
    needed_on: tuple[str, ...] = ()
    auto: str = ""  # "cpu" or "accelerator": `auto` takes the first of the table that can be used there
    timed: tuple[str, ...] = ()  # "cpu", "accelerator": where it is among those that are timed for each shape
    mixes: bool = True  # whether it can be chosen for single shapes of a model


_HERE = "scarlet_jax.models.conv"
_NVIDIA = ("gpu", "cuda")
CONVS: dict[str, Implementation] = {
    "native": Implementation(
        f"{_HERE}.native.ops:conv",
        "our C++ kernels, direct or Winograd; one call for all clients",
        covers=f"{_HERE}.native.ops:covers",
        otherwise="cpu",
        only_on=("cpu",),
        needs=f"{_HERE}.native.build:problem",
        needed_on=("cpu",),
        auto="cpu",
    ),
    "xla": Implementation(f"{_HERE}.forms:plain", "lax.conv_general_dilated and its own autodiff: the reference"),
    "grouped": Implementation(
        f"{_HERE}.grouped:conv",
        "XLA's; stacked clients are a grouped convolution, forwards and backwards",
        auto="accelerator",
    ),
    "gemm": Implementation(
        f"{_HERE}.forms:slices_forward",
        "a sum of shifted slices times matrices, and its autodiff; batched matrix products",
        timed=("cpu", "accelerator"),
    ),
    "winograd": Implementation(
        f"{_HERE}.cpu:winograd_conv",
        "F(2x2, 3x3), one client after another",
        covers=f"{_HERE}.cpu:winograd_covers",
        otherwise="cpu",
        timed=("cpu", "accelerator"),
    ),
    "cpu": Implementation(
        f"{_HERE}.cpu:conv",
        "for each shape the form that is fastest on CPU, one client after another",
        auto="cpu",
        timed=("cpu",),
    ),
    # Layers call the fused kernels themselves (`layers.Conv`); this is for the shapes that these do not cover.
    "triton": Implementation(
        f"{_HERE}.grouped:conv",
        "Triton kernels for NVIDIA GPUs, fused with BatchNorm; one call for all clients; elsewhere as grouped",
        needs=f"{_HERE}.triton.primitive:problem",
        needed_on=_NVIDIA,
        mixes=False,
    ),
}


def names() -> tuple[str, ...]:
    """What `model.conv` may be."""
    return ("auto", "timed", *CONVS)
