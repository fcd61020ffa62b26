"""What a person watching a run sees: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from typing import Any

from scarlet_jax.comm import LEDGERS
from scarlet_jax.streams import say


class Progress:
    """Progress of a run. The round loop calls `dispatched` and `row`; whoever has time calls `poll`, in any thread.

    A terminal that has gone away is no reason to stop training: writing to it may fail, and then nothing is shown.

    Args:
      rounds: of the whole run.
      done: rounds done before this start.
      blocks: dispatches that make a round.
      quiet: show nothing.
    """

    def __init__(self, rounds: int, done: int, blocks: int, quiet: bool = False):
        self._rounds, self._first, self._blocks = rounds, done, max(blocks, 1)
        self._pending: deque[Any] = deque()  # jax.Arrays
        self._finished = 0  # blocks since the start
        self._timed: tuple[int, float] | None = None  # rounds done and the time when the first row arrived
        self._live: Any = None
        self._quiet = quiet
        if not quiet and sys.stdout is not None and sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
            from rich.table import Column

            # One line at any width: the round is never cut, and the numbers are cut at their end.
            whole = Column(no_wrap=True, min_width=len(f"round {rounds}/{rounds}"))
            cut = Column(no_wrap=True, overflow="ellipsis")
            counter = TextColumn("round {task.fields[shown]}/{task.fields[rounds]}", table_column=whole)
            text = TextColumn("{task.fields[text]}", table_column=cut)
            self._live = Progress(counter, BarColumn(bar_width=10), TimeElapsedColumn(), text)
            total, at = rounds * self._blocks, done * self._blocks
            self._task = self._live.add_task("", total=total, completed=at, shown=done, rounds=rounds, text="")
            self._live.start()

    def dispatched(self, done: Any) -> None:
        """A block was sent to the devices; the jax.Array `done` is ready when it has run."""
        self._pending.append(done)

    def poll(self) -> None:
        """Look which blocks have run, without waiting."""
        moved = False
        while self._pending and self._pending[0].is_ready():
            self._pending.popleft()
            self._finished += 1
            moved = True
        if moved and self._live is not None:
            at = self._at()
            with contextlib.suppress(OSError):
                self._live.update(self._task, completed=at, shown=at // self._blocks)

    def row(self, row: dict[str, Any], totals: dict[str, Any]) -> None:
        """A round's metrics have arrived."""
        if self._quiet:
            return
        done = row["round"] + 1
        parts = [f"{name} {row[key]:.3f}" for name, key in _SHOWN if row.get(key) is not None]
        volumes = [(d[:-4], totals[f"{d}_bytes_{LEDGERS[0]}"]) for d in ("uplink", "downlink")]
        parts += [f"{volume / 1e6:.2f} MB {way}" for way, volume in volumes if volume is not None]
        text = "  ".join([f"ETA {_clock(self._seconds_left(done, row['seconds']))}", *parts])
        with contextlib.suppress(OSError):
            if self._live is not None:
                at = max(done * self._blocks, self._at())  # nobody may have polled since the round ended
                self._live.update(self._task, completed=at, shown=at // self._blocks, text=text)
            else:
                say(f"round {done}/{self._rounds}  {text}  ({row['seconds']:.1f} s)")

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()

    def _at(self) -> int:
        """Blocks known to have run, over all starts."""
        return self._first * self._blocks + self._finished

    def _seconds_left(self, done: int, seconds: float) -> float:
        """From the mean over this start's rounds; the first, which compiles, counts only while it is all there is."""
        now = time.monotonic()
        if self._timed is None:
            self._timed = (done, now)
            return seconds * (self._rounds - done)
        first, since = self._timed
        return (now - since) / (done - first) * (self._rounds - done)


_SHOWN = (("server top-1", "server_top1"), ("clients", "client_top1"), ("loss", "fit_loss"), ("kd", "server_kd_loss"))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
