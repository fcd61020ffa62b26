"""What a person watching a run sees: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any

import jax

from scarlet_jax.comm import LEDGERS


class Progress:
    """Progress of a run. `dispatched` is called by the round loop; `poll` by whoever has time, from any thread.

    Args:
      rounds: of the whole run.
      done: rounds done before this start.
      blocks: dispatches that make a round.
    """

    def __init__(self, rounds: int, done: int, blocks: int):
        self._rounds, self._done, self._first, self._blocks = rounds, done, done, max(blocks, 1)
        self._pending: deque[jax.Array] = deque()
        self._finished = 0  # blocks since the start
        self._begun = time.monotonic()
        self._live: Any = None
        if sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("round {task.fields[shown]}/{task.fields[rounds]}"), BarColumn(bar_width=20))
            self._live = Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[text]}"))
            total, at = rounds * self._blocks, done * self._blocks
            self._task = self._live.add_task("", total=total, completed=at, shown=done, rounds=rounds, text="")
            self._live.start()

    def dispatched(self, done: jax.Array) -> None:
        """A block was sent to the devices; the array is ready when it has run."""
        self._pending.append(done)

    def poll(self) -> None:
        """Look which blocks have run, without waiting."""
        while self._pending and self._pending[0].is_ready():
            self._pending.popleft()
            self._finished += 1
        if self._live is not None:
            at = self._first * self._blocks + self._finished
            self._live.update(self._task, completed=at, shown=at // self._blocks)

    def row(self, row: dict[str, Any], totals: dict[str, int]) -> None:
        """A round's metrics have arrived."""
        self._done = row["round"] + 1
        elapsed = time.monotonic() - self._begun
        left = elapsed / max(self._done - self._first, 1) * (self._rounds - self._done)
        parts = [f"{name} {row[key]:.3f}" for name, key in _SHOWN if row.get(key) is not None]
        parts += [f"{totals[f'{d}_bytes_{LEDGERS[0]}'] / 1e6:.2f} MB {d[:-4]}" for d in ("uplink", "downlink")]
        text = "  ".join([*parts, f"ETA {_clock(left)}"])
        if self._live is not None:
            self._live.update(self._task, text=text)
        else:
            print(f"round {self._done}/{self._rounds}  {text}  ({row['seconds']:.1f} s)", flush=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()


_SHOWN = (("server top-1", "server_top1"), ("clients", "client_top1"), ("loss", "fit_loss"), ("kd", "server_kd_loss"))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
