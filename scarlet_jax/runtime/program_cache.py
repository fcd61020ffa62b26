"""What was compiled, kept for later starts: on accelerators, where compiling takes most of a start.

The folder holds JAX's compiled programs, XLA's measurements of how to compute a fusion ("autotuning"), and what memory
each program takes. Its entries are code that this process executes: it is for this user alone. It is not used on a CPU,
where JAX rejects its own entries (jax issue 38445). Of several processes the first one alone writes: JAX, XLA and
`preview.compiled` each see to that.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jaxlib.version
from jax.experimental.compilation_cache import compilation_cache

from scarlet_jax import paths
from scarlet_jax.runtime import hosts

_log = logging.getLogger(__name__)

MOST_BYTES = 4 * 10**9  # of all files together
AUTOTUNING = "xla_gpu_per_fusion_autotune_cache_dir"  # JAX's name for it, and that of its folder inside JAX's


@contextlib.contextmanager
def kept(wanted: bool) -> Iterator[Path | None]:
    """Inside, what is compiled for an accelerator is kept, and what was kept is used. JAX's settings are put back.

    Args:
      wanted: whether the user wants that.

    Yields:
      The folder; None where nothing is kept: on a CPU, where the user has named another folder to JAX, where others
      could have written into the folder, or where several processes do not see the same folder.
    """
    named = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    without = not wanted or bool(named) or jax.default_backend() == "cpu"
    top = paths.cache_dir() / "programs"
    folder = None if hosts.largest(int(without)) else _shared(_prepare(top))
    if folder is None:
        yield None
        return
    new = settings(folder)
    before = {name: getattr(jax.config, name) for name in new}
    _apply(new)
    try:
        yield folder
    finally:
        _apply(before)
        _bound(top)


def settings(folder: Path) -> dict[str, Any]:
    """JAX's options: every program is kept, however small and quickly compiled, and so are XLA's measurements."""
    return {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_persistent_cache_enable_xla_caches": AUTOTUNING,
    }


def _apply(options: dict[str, Any]) -> None:
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # JAX opens a folder once, and holds it


def _prepare(top: Path) -> Path | None:
    """The folder for this version of everything that compiles, made if it is missing; None where it is not safe."""
    try:
        folder = paths.private_folder(paths.private_folder(top) / _version())
        paths.private_folder(folder / AUTOTUNING)
    except OSError as error:
        _log.warning("compiled programs are not kept for later starts: %s", paths.reason(error))
        return None
    _bound(top)
    return folder


def _version() -> str:
    """XLA's measurements hold for one version of XLA and of the driver's libraries, and one kind of device."""
    device = jax.devices()[0]
    parts = jax.__version__, jaxlib.version.__version__, device.client.platform_version, device.device_kind
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _shared(folder: Path | None) -> Path | None:
    """The folder, if there is one and all processes have the same; else None.

    If some processes found a program and others compiled it, these would wait for the measurements of those.
    """
    if not hosts.several():
        return folder
    mark = hosts.from_first(lambda: None if folder is None else _mark(folder))
    if mark is None:
        return None
    missing = hosts.largest(int(folder is None or not (folder / mark).exists()))
    if hosts.is_first() and folder is not None:
        (folder / mark).unlink(missing_ok=True)
        if missing:
            _log.warning("compiled programs are not kept for later starts: the processes do not share %s", folder)
    return None if missing else folder


def _mark(folder: Path) -> str:
    """Make an empty file for other processes to find; returns its name."""
    name = f"mark-{uuid.uuid4().hex}"
    (folder / name).touch()
    return name


def _bound(top: Path) -> None:
    """Remove the files that were not used for the longest time, until the others have `MOST_BYTES` at most."""
    if not hosts.is_first():
        return
    found: list[tuple[float, int, str]] = []
    for place, _, names in os.walk(top):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(os.path.join(place, name))
                found.append((max(status.st_atime, status.st_mtime), status.st_size, os.path.join(place, name)))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MOST_BYTES:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size
