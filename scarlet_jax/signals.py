"""Stopping a run from outside: the first SIGINT or SIGTERM asks, the second insists."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stop:
    """Whether a run has been asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.on_second: Callable[[], None] = lambda: None  # leave the terminal as it was

    def __bool__(self) -> bool:
        return self.signum is not None

    def handle(self, signum: int, frame: Any) -> None:
        """The signal handler."""
        if self.signum is None:
            self.signum = signum
            name = signal.Signals(signum).name
            os.write(2, f"\n{name}: finishing this round, then saving; once more stops at once\n".encode())
            return
        self.on_second()
        os._exit(128 + signum)


@contextmanager
def installed(stop: Stop) -> Iterator[None]:
    """Handle SIGINT and SIGTERM; off the main thread Python allows no handler, and none is installed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def run_watched(work: Callable[[], Any], idle: Callable[[], None]) -> Any:
    """Run `work` in a thread while this one stays free for signals and calls `idle` ten times a second.

    A handler cannot fire while its thread is inside one long XLA call.
    """
    result: list[Any] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            result.append(work())
        except BaseException as error:  # handed to the caller's thread below
            failure.append(error)

    thread = threading.Thread(target=body, name="rounds", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        idle()
    if failure:
        raise failure[0]
    return result[0]
