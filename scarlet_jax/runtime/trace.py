"""A trace of some rounds, for TensorBoard and Perfetto."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


class Profile:
    """Traces rounds into a folder. Between them the host waits for the devices, so that a trace holds whole rounds.

    Args:
      rounds: to trace, one after another; empty: nothing is done.
      folder: each trace gets a folder of its own below it.
      say: told where a trace is, when it is written.
    """

    def __init__(self, rounds: range, folder: Path, say: Callable[[str], None]):
        self._rounds, self._folder, self._say, self._tracing = rounds, folder, say, False

    def before(self, round_: int, state: Any) -> None:
        """Ahead of a round's dispatch."""
        if round_ in self._rounds and not self._tracing:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._tracing = True

    def after(self, round_: int, results: Any) -> None:
        """Behind a round's dispatch."""
        if self._tracing and round_ + 1 not in self._rounds:
            jax.block_until_ready(results)
            self.close()

    def close(self) -> None:
        """End a trace that is under way."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
            self._say(f"trace of rounds {self._rounds.start} to {self._rounds[-1]}: {self._folder}")
