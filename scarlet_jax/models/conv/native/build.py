"""Builds the native convolution with the system's C++ compiler, once per machine, and registers it with JAX.

The library lies in the user's cache under a key of everything that it depends on: sources, jaxlib, compiler, processor.
It is written aside and renamed, so that processes that build at once cannot see half a file. A library is code that
this process executes: it is only loaded from where nobody but this user and root can have put it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax
import jaxlib.version

from scarlet_jax import paths
from scarlet_jax.paths import cache_dir

_log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
SOURCES = ("shape.h", "products.h", "direct.h", "winograd.h", "kernels.h", "ffi.cc")
HANDLERS = ("scarlet_conv_forward", "scarlet_conv_input_gradient", "scarlet_conv_weight_gradient")
# Never -ffast-math: linking it in sets flush-to-zero for the whole process.
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wno-ignored-attributes")


@functools.cache
def problem() -> str | None:
    """Build, load and register the handlers, once per process.

    Returns:
      None, or in a few words why the native convolution cannot be used here.
    """
    compiler = find_compiler()
    if compiler is None:
        return "there is no C++ compiler (c++, g++ or clang++; $CXX names another)"
    try:
        library = load(compiler, cache_dir() / "native")
        for name in HANDLERS:
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    except subprocess.CalledProcessError as error:
        first = next((line for line in error.stderr.splitlines() if "error" in line), "no message")
        return f"{compiler} failed: {first.strip()[:200]}"
    except (OSError, AttributeError) as error:
        return f"it cannot be built or loaded: {error}"
    return None


def find_compiler() -> str | None:
    """The C++ compiler: $CXX, else the first that is installed."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return next((path for name in names if (path := shutil.which(name))), None)


def load(compiler: str, folder: Path) -> ctypes.CDLL:
    """Load the library from `folder`, where it is built if this machine has not built it before.

    Where `folder` cannot be used, or others than this user and root may have put a library there, the library is built
    in a private temporary folder, which is gone when this returns.

    Args:
      compiler: path of the C++ compiler.
      folder: where libraries are kept; made with permissions for this user alone.

    Raises:
      subprocess.CalledProcessError: the compiler failed; its `stderr` says why.
      OSError: there is no safe temporary folder, or the library cannot be loaded.
    """
    command = [compiler, *FLAGS, *_processor_flags(), "-isystem", jax.ffi.include_dir(), str(FOLDER / "ffi.cc")]
    name = f"conv-{_key(command)}.so"
    try:
        path = paths.private_folder(folder) / name
        if not path.exists():
            _log.info("building the native convolution with %s: once, some seconds", compiler)
            _build(command, path)
        if why := paths.not_private(path):
            raise PermissionError(why)
        return ctypes.CDLL(str(path))
    except OSError as error:
        _log.warning("the native convolution is built for this process alone: %s", paths.reason(error))
    with tempfile.TemporaryDirectory(prefix="scarlet_jax_") as temporary:
        path = paths.private_folder(Path(temporary)) / name
        _build(command, path)
        return ctypes.CDLL(str(path))  # what is loaded may be deleted


def _build(command: list[str], path: Path) -> None:
    with paths.beside(path) as aside:
        subprocess.run([*command, "-o", str(aside)], check=True, capture_output=True, text=True)
        os.replace(aside, path)


def _processor_flags() -> tuple[str, ...]:
    """Compile for this processor; `_key` prevents the library from being loaded on another kind of processor."""
    if platform.machine() in ("arm64", "aarch64"):
        return ("-mcpu=native",)
    return ("-march=native",)


def _key(command: list[str]) -> str:
    version = subprocess.run([command[0], "--version"], check=True, capture_output=True, text=True).stdout
    parts = [*command, version, jaxlib.version.__version__, platform.system(), platform.machine(), processor()]
    parts += [(FOLDER / name).read_text() for name in SOURCES]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def processor() -> str:
    """A text that differs between kinds of processors."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(errors="replace").splitlines()
        kept = ("model name", "flags", "Features", "CPU part", "CPU implementer")
        return "\n".join(dict.fromkeys(line for line in lines if line.startswith(kept)))
    return platform.processor()
