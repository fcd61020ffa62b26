"""What a person watching a run sees: one live line on a terminal, plain lines elsewhere; and how long rounds take."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax

from scarlet_jax.protocol.ledger import LEDGERS
from scarlet_jax.runtime.streams import say


class RoundClock:
    """When rounds begin and end, measured while the loop goes on dispatching.

    A round ends when its results are ready, and begins when it is dispatched or when the round before ends, the later.

    Args:
      now: seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self.now = now
        self._last: Future[float] | None = None  # when the round watched last ended

    def watch(self, dispatched: float, results: Any) -> Callable[[], tuple[float, float]]:
        """Have a thread wait for the results of a round, which is the next one after that watched before.

        Returns:
          A function that waits for the round's end, and returns how many seconds it took and when it ended.
        """
        before, ended = self._last, Future[float]()
        self._last = ended

        def wait() -> None:
            with contextlib.suppress(Exception):  # what failed raises where its results are read
                jax.block_until_ready(results)
            if before is not None:  # threads may wake in any order, rounds end one after the other
                before.result()
            ended.set_result(self.now())

        def times() -> tuple[float, float]:
            began = dispatched if before is None else max(dispatched, before.result())
            return max(ended.result() - began, 0.0), ended.result()

        threading.Thread(target=wait, name="round clock", daemon=True).start()
        return times


class Progress:
    """Progress of a run. The round loop calls `dispatched` and `row`; whoever has time calls `poll`, in any thread.

    A terminal that has gone away is no reason to stop training: writing to it may fail, and then nothing is shown.

    Args:
      rounds: of the whole run.
      done: rounds done before this start.
      blocks: dispatches that make a round.
      quiet: show nothing.
      now: seconds, on the clock that `row` is given times of.
    """

    def __init__(
        self, rounds: int, done: int, blocks: int, quiet: bool = False, now: Callable[[], float] = time.monotonic
    ):
        self._now = now
        self._rounds, self._first, self._blocks = rounds, done, max(blocks, 1)
        self._pending: deque[Any] = deque()  # jax.Arrays
        self._finished = 0  # blocks since the start
        self._timed: tuple[int, float] | None = None  # rounds done, and when the first of this start ended
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
            self._task = self._live.add_task(
                "", total=total, completed=at, shown=done, rounds=rounds, text=f"training round {done + 1}"
            )
            self._live.start()
        elif not quiet and done < rounds:
            say(f"training round {done + 1} ...")  # as `stages` shows it; rows show the others

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

    def row(self, row: dict[str, Any], totals: dict[str, Any], ended: float) -> None:
        """The metrics of a round, which ended at the time `ended`, have arrived."""
        if self._quiet:
            return
        done = row["round"] + 1
        parts = [f"{name} {row[key]:.3f}" for name, key in _SHOWN if row.get(key) is not None]
        volumes = [(d[:-4], totals[f"{d}_bytes_{LEDGERS[0]}"]) for d in ("uplink", "downlink")]
        parts += [f"{volume / 1e6:.2f} MB {way}" for way, volume in volumes if volume is not None]
        first = self._timed is None
        text = "  ".join([f"ETA {_clock(self._seconds_left(done, row['seconds'], ended))}", *parts])
        with contextlib.suppress(OSError):
            if self._live is not None:
                at = max(done * self._blocks, self._at())  # nobody may have polled since the round ended
                self._live.update(self._task, completed=at, shown=at // self._blocks, text=text)
            else:
                if first:
                    say(f"training round {done} ({row['seconds']:.1f} s)")
                say(f"round {done}/{self._rounds}  {text}  ({row['seconds']:.1f} s)")

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()

    def _at(self) -> int:
        """Blocks known to have run, over all starts."""
        return self._first * self._blocks + self._finished

    def _seconds_left(self, done: int, seconds: float, ended: float) -> float:
        """From the mean over this start's rounds; the first, which compiles, counts only while there is no other.

        What has passed since the round's end is no longer left: rows arrive while the next round is computed.
        """
        if self._timed is None:
            self._timed = (done, ended)
        else:
            first, since = self._timed
            seconds = (ended - since) / (done - first)
        return max(seconds * (self._rounds - done) - (self._now() - ended), 0.0)


_SHOWN = (("server top-1", "server_top1"), ("clients", "client_top1"), ("loss", "fit_loss"), ("kd", "server_kd_loss"))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
