"""Whether a run fits into the memory of its devices, asked before it starts."""

from __future__ import annotations

import os
from collections.abc import Callable

from jax.sharding import Mesh

from scarlet_jax.errors import bad_field

USABLE = 0.9  # of a memory; the rest is left to what is not in XLA's analysis


def check(most: int, phase: str, limit: int | None, chunk: int, need_with: Callable[[int], int]) -> None:
    """Refuse a run whose state, data and largest phase do not fit together on a device.

    Args:
      most: bytes that the run needs on a device; scratch of GPU libraries is not included.
      phase: which needs them.
      limit: bytes that the device has; None: it does not tell.
      chunk: clients that the run trains together on a device.
      need_with: chunk -> bytes that the run would need with it; a compilation each.

    Raises:
      UserError: names clients_per_chunk, and a value that fits if there is one.
    """
    if limit is None or most <= limit:
        return
    fits = smaller_chunk(need_with, chunk, most, limit)
    raise bad_field(
        "clients_per_chunk",
        chunk,
        f"at most {fits} (--config.clients_per_chunk={fits} fits)"
        if fits
        else "none, even 1 does not fit: use more devices, fewer clients or images, smaller batches, "
        "--config.remat=True, data.device_budget_mb (which leaves images on the host), or a smaller model",
        f"and phase {phase!r} then needs {_gb(most)} on a device that has {_gb(limit)}",
    )


def smaller_chunk(need_with: Callable[[int], int], chunk: int, most: int, limit: int) -> int | None:
    """An equal part of a chunk whose need is within the limit, near the largest one; None where not even 1 is.

    Other sizes leave places without a client in the last chunk, which take memory as well.

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
    parts = sorted({-(-chunk // number) for number in range(2, chunk)} - {1})
    while parts:
        within = 1 + (limit - least) * (chunk - 1) / max(most - least, 1)
        guess = max((size for size in parts if size <= within), default=parts[0])
        needed = need_with(guess)
        if needed <= limit:
            return guess
        chunk, most, parts = guess, needed, [size for size in parts if size < guess]
    return 1


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
