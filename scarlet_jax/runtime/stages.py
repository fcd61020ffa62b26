"""What a start is doing before its first round: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from scarlet_jax.runtime.streams import say


class Stages:
    """Stages of a start, which may overlap in several threads: `with stages("loading the data"): ...`.

    A terminal shows the stages that are under way, and the seconds since the first of them began. Any other output gets
    a line at the start of a stage and one, with its seconds, at its end; a stage that fails has no such end.

    Args:
      quiet: show nothing.
      now: seconds.
    """

    def __init__(self, quiet: bool = False, now: Callable[[], float] = time.monotonic):
        self.quiet, self._now = quiet, now
        self._lock = threading.Lock()
        self._active: list[str] = []  # in the order of their beginnings
        self._live: Any = None  # rich's display, while a stage is under way on a terminal

    @contextlib.contextmanager
    def __call__(self, text: str) -> Iterator[None]:
        """Show that a stage is under way."""
        if self.quiet:
            yield
            return
        began = self._now()
        terminal = sys.stdout is not None and sys.stdout.isatty()
        if not terminal:
            say(f"{text} ...")
            yield
            say(f"{text} ({self._now() - began:.1f} s)")
            return
        self._change(lambda: self._active.append(text))
        try:
            yield
        finally:
            self._change(lambda: self._active.remove(text))

    def _change(self, change: Callable[[], Any]) -> None:
        with self._lock, contextlib.suppress(OSError):  # the terminal may have gone away
            change()
            if not self._active:
                self._live.stop()
                self._live = None
            elif self._live is None:
                self._live = _display(self._shown())
                self._live.start()
            else:
                self._live.update(self._live.task_ids[0], description=self._shown())

    def _shown(self) -> str:
        return ", ".join(self._active)


def _display(text: str) -> Any:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    # One line at any width: the text is cut at its end, and the time is not.
    cut = Column(no_wrap=True, overflow="ellipsis")
    time_column = TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=len("0:00:00")))
    live = Progress(
        SpinnerColumn(), time_column, TextColumn("{task.description}", markup=False, table_column=cut), transient=True
    )
    live.add_task(text, total=None)
    return live
