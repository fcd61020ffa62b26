"""What the parts of benchmarks/gpu.py share: where a part writes, and how it measures."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH, IMAGE = 50, 32


class Part:
    """Where a part writes, what it waits for, how large it is."""

    def __init__(self, name: str, folder: str, tiny: bool):
        self.tiny, self._path, self._lock = tiny, Path(folder, f"{name}.json"), open(Path(folder, "gpu.lock"), "w")  # noqa: SIM115
        self.folder, self._known = folder, {}
        self.trace = str(Path(folder, f"{name} trace"))

    def write(self, **known: Any) -> None:
        """Add to what is known."""
        self._known |= known
        aside = self._path.with_suffix(".part")
        aside.write_text(json.dumps(self._known))
        os.replace(aside, self._path)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock on the GPU."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


def median_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Of `repeats` calls, each waited for, after one that is not counted."""
    import jax

    taken = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        jax.block_until_ready(work())
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])
