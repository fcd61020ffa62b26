"""Stopping a run from outside: the first signal asks, the second insists.

No handler here raises: an exception that a handler raises inside a callback of XLA is lost (jax issue 18246).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from scarlet_jax.runtime import hosts, interrupts


def _tell(stream: int, text: str) -> None:
    """Write without a lock and a buffer; the terminal may have gone away."""
    with suppress(OSError):
        os.write(stream, text.encode())


class Stopped(Exception):
    """The run was asked to stop before its first round: there is nothing to save."""


class Stop:
    """Whether a run has been asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signum: int | None = None  # received by this process
        self.agreed: int | None = None  # received by any of the processes, as of the last `ask`
        self.training = False  # set by the round loop: from then on a stop waits for a round's end

    def __bool__(self) -> bool:
        return self.signum is not None

    def handle(self, signum: int, frame: Any) -> None:
        """The signal handler. It takes no lock and uses no buffered stream: it may interrupt code that holds them."""
        if self.signum is None:
            self.signum = signum
            doing = "finishing this round, then saving" if self.training else "stopping, nothing was trained yet"
            _tell(2, f"\n{signal.Signals(signum).name}: {doing}; once more stops at once\n")
        elif signal.Signals(signum).name != "SIGHUP":  # the shell and the terminal may each send that one
            interrupts.leave(signum)

    def ask(self) -> bool:
        """Whether any process was asked to stop. All processes must ask at the same places."""
        self.agreed = hosts.largest(self.signum or 0) or None
        return self.agreed is not None

    def check(self) -> None:
        """For set-up code, between its steps.

        Raises:
          Stopped: a signal came.
        """
        if self.ask():
            raise Stopped


@contextmanager
def installed(stop: Stop) -> Iterator[None]:
    """Handle signals with `stop`; off the main thread Python allows no handler, and none is installed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, stop.handle) for number in interrupts.handled()}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not set from Python


def run_watched(work: Callable[[], Any], idle: Callable[[], None], stop: Stop) -> Any:
    """Run `work` in a thread while this one stays free for signals and calls `idle` ten times a second.

    A handler cannot fire while its thread is inside one long XLA call. Whatever `work` raises is raised here; it has
    always ended when this function returns or raises.
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
    try:
        while thread.is_alive():
            thread.join(0.1)
            idle()
    except BaseException:  # a timeout of the caller's, or a terminal that went away
        stop.signum = stop.signum or signal.SIGINT
        thread.join()
        raise
    if failure:
        raise failure[0]
    return result[0]
