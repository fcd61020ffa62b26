"""Stopping a command from outside before it has opened a run: a signal ends the process at once.

The commands call this before their other imports, so this module imports next to nothing. Its handler does not raise:
an exception that a handler raises inside a callback of XLA is lost (jax issue 18246).
"""

import contextlib
import os
import signal


def exit_at_once() -> None:
    """For a command that trains, before its slow imports: until it opens a run, the first signal ends the process.

    The exit code is 128 + signal number. Python calls handlers only between two steps of its main thread, which may be
    inside one long call, such as XLA's compiler: so a thread waits for signals, too. While a run is open, the handlers
    are those of `signals.Stop`, and the thread leaves signals to them.
    """
    for number in handled():
        signal.signal(number, leave)
    import threading

    told, telling = os.pipe()
    os.set_blocking(telling, False)
    signal.set_wakeup_fd(telling, warn_on_full_buffer=False)  # gets each signal's number as a byte

    def wait() -> None:
        while byte := os.read(told, 1):
            if signal.getsignal(byte[0]) == leave:
                leave(byte[0], None)

    threading.Thread(target=wait, name="signals", daemon=True).start()


def handled() -> list[int]:
    """SIGINT, SIGTERM, and SIGHUP unless it was ignored when the process began (nohup)."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


def leave(signum: int, frame: object = None) -> None:
    """The signal handler: end the process, whatever it is doing."""
    if os.isatty(1):
        with contextlib.suppress(OSError):  # the terminal may have gone away
            os.write(1, b"\x1b[?25h\n")  # a live line hides the cursor
    os._exit(128 + signum)
