"""What `model.conv = auto` and `timed` mean on this machine: measured once, and kept for later runs.

A choice is kept under everything that it depends on: the device, the versions of what computes, the models, shapes,
batch, clients of a chunk, precision, determinism, and the source of this package's models and kernels.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from scarlet_jax.models import conv_timing, form_timing
from scarlet_jax.models.conv.native import build
from scarlet_jax.models.form_timing import Setting, Work
from scarlet_jax.models.kept import Kept
from scarlet_jax.models.precision import resolved

_LIBRARIES = re.compile(r"(jax|jaxlib|jax-cuda.*|jax-triton|triton|nvidia-(cudnn|cublas|cuda-runtime|cuda-nvcc).*)$")
_SOURCES = ("*.py", "*.h", "*.cc")
_kept = Kept("convolutions", most=2**20)


class Choice(NamedTuple):
    """A convolution for all models of a run."""

    conv: str  # an `implementation` of `conv.api.conv`
    why: str  # follows the name where it is shown


def wanted(choice: str) -> bool:
    """Whether a run with this `model.conv` measures: if it is "timed", or "auto" on an accelerator."""
    return choice == "timed" or (choice == "auto" and jax.default_backend() != "cpu")


def choose(
    how: str,
    works: list[Work],
    setting: Setting,
    deterministic: bool,
    stage: Callable[[str], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Choice:
    """Look up a choice, or measure it.

    Args:
        how: "auto" chooses between whole forms, "timed" for each shape among all convolutions.
        works: clients that are trained together on a device.
        setting: what their training steps depend on.
        deterministic: whether XLA may use kernels that do not repeat their bits.
        stage: `stage(what)` is a context that shows what is measured, while it is.
    """
    key = {"how": how, "works": works, "setting": setting, "deterministic": deterministic, "machine": machine()}
    key |= {"precision": resolved(setting.precision), "sources": sources()}
    found = _kept.read(key)
    if found is not None:
        return Choice(json.loads(found)["conv"], " (kept from an earlier run)")
    if how == "auto":
        with stage("timing training steps with grouped and triton"):
            form, why, measured = form_timing.choose(works, setting, form_timing.trial)
        choice = Choice(form, why)
    else:
        with stage("timing the convolutions"):
            choice, measured = Choice(conv_timing.choose(works, setting, conv_timing.seconds), ""), True
    if measured:
        _kept.write(key, json.dumps({"conv": choice.conv}).encode())
    return choice


def machine() -> dict[str, Any]:
    """What a choice depends on here, besides this package."""
    device = jax.devices()[0]
    found: dict[str, Any] = {
        "device": [device.platform, device.device_kind, getattr(device.client, "platform_version", "")],
        "libraries": _libraries(),
        "flags": os.environ.get("XLA_FLAGS", ""),
        "driver": _driver(),
    }
    if device.platform == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        threads = [cores, os.environ.get("NPROC"), jax.local_device_count()]
        found |= {"processor": build.processor(), "threads": threads, "native": build.problem()}
    return found


@functools.cache
def sources() -> str:
    """A hash of this package's models, convolutions and kernels."""
    folder = Path(__file__).parent
    files = sorted(path for pattern in _SOURCES for path in folder.rglob(pattern))
    parts = [part for path in files for part in (str(path.relative_to(folder)).encode(), path.read_bytes())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


@functools.cache
def _libraries() -> list[str]:
    """Versions of JAX, of Triton and of NVIDIA's libraries, cuDNN among them, as far as they are Python packages."""
    installed = {(found.metadata["Name"] or "").lower(): found.version for found in importlib.metadata.distributions()}
    return sorted(f"{name} {version}" for name, version in installed.items() if _LIBRARIES.match(name))


def _driver() -> str:
    """The first line of what NVIDIA's driver says of itself; empty where there is none."""
    try:
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError):
        return ""
