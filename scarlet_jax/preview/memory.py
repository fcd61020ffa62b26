"""Whether a run fits into the memory of its devices, asked before it starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from jax.sharding import Mesh
from ml_collections import config_dict

from scarlet_jax import build
from scarlet_jax.engine import phases
from scarlet_jax.engine.feed import Feed, outline
from scarlet_jax.engine.layout import device_bytes
from scarlet_jax.errors import bad_field
from scarlet_jax.methods.base import Algorithm
from scarlet_jax.preview import compiled as programs
from scarlet_jax.types import Data

USABLE = 0.9  # of a machine's physical memory, for all its devices together


def check(config: config_dict.ConfigDict, algorithm: Algorithm, data: Data, num_classes: int, mesh: Mesh) -> None:
    """Refuse a run whose state, data and largest phase do not fit together on a device.

    The run reuses the phases that are compiled here.

    Args:
      config: with every choice made.
      algorithm: of the config.
      data: arrays, or their shapes.
      num_classes: C.
      mesh: of the run.

    Raises:
      UserError: names clients_per_chunk, and a value that fits if there is one.
    """
    limit = device_limit(mesh)
    if limit is None:
        return
    shapes = outline(data)

    def needed(algorithm: Algorithm) -> tuple[int, str]:
        return need(algorithm, Feed(shapes, algorithm.schedule, config.data.device_budget_mb, mesh), mesh)

    most, phase = needed(algorithm)
    if most <= limit:
        return

    def need_with(chunk: int) -> int:
        other = config_dict.ConfigDict(config.copy_and_resolve_references())
        other.clients_per_chunk = chunk
        return needed(build.make_algorithm(other, shapes, num_classes, mesh))[0]

    fits = smaller_chunk(need_with, config.clients_per_chunk, most, limit)
    raise bad_field(
        "clients_per_chunk",
        config.clients_per_chunk,
        f"at most {fits} (--config.clients_per_chunk={fits} fits)"
        if fits
        else "none, even 1 does not fit: use more devices, fewer clients or images, smaller batches, "
        "--config.remat=True, data.device_budget_mb (which leaves images on the host), or a smaller model",
        f"and phase {phase!r} then needs {_gb(most)} on a device that has {_gb(limit)}",
    )


def need(algorithm: Algorithm, feed: Feed, mesh: Mesh) -> tuple[int, str]:
    """Most bytes of one device during a round, and the phase that needs them; scratch of GPU libraries not included.

    `feed` is of shapes instead of images.
    """
    data = feed.training(0)
    state = phases.shapes(algorithm.init, data)
    # Side by side: much of a compilation is one thread's work.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = list(pool.map(programs.compile_phase, algorithm.calls(state, data)))
    return programs.peak(device_bytes(state) + feed.device_bytes, compiled)


def smaller_chunk(need_with: Callable[[int], int], chunk: int, most: int, limit: int) -> int | None:
    """A chunk size whose need is within the limit, near the largest one; None where not even 1 is.

    Args:
      need_with: chunk size -> bytes; a compilation each, so it is asked seldom.
      chunk: one that is too large.
      most: its need.
      limit: bytes.
    """
    least = need_with(1) if chunk > 1 else most
    if least > limit:
        return None
    # Memory is nearly a straight line in the chunk size, and lies on or below the chord between two known ones.
    fits, over = (1, least), (chunk, most)
    while over[0] - fits[0] > 1:
        slope = (over[1] - fits[1]) / (over[0] - fits[0])
        guess = min(max(fits[0] + int((limit - fits[1]) / slope), fits[0] + 1), over[0] - 1)
        size = need_with(guess)
        if size <= limit:
            return guess
        over = guess, size
    return fits[0]


def device_limit(mesh: Mesh) -> int | None:
    """Bytes of this process's smallest device: what its allocator may use; of a CPU, its share of physical memory."""
    local = mesh.local_devices
    stats = [device.memory_stats() or {} for device in local]
    if all("bytes_limit" in own for own in stats):
        return min(own["bytes_limit"] for own in stats)
    whole = host_limit() if local[0].platform == "cpu" else None
    return None if whole is None else whole // len(local)


def host_limit() -> int | None:
    """Bytes of this machine's memory that may be used; None where it cannot be asked for."""
    if not hasattr(os, "sysconf"):
        return None
    return int(USABLE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _gb(size: int) -> str:
    return f"{size / 1e9:,.3g} GB"
