"""Standard output and errors that may break: a reader that has gone, a full disk, a terminal that was closed.

Nothing that is shown is worth a run: what cannot be written is dropped, and the work goes on.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any

from scarlet_jax.system_errors import fault_of, sentence

_GONE = {errno.EPIPE, errno.EIO, errno.ECONNRESET, errno.ENXIO}  # nobody is there to read: nothing to tell either


def say(text: str) -> None:
    """Print a line, if that is possible; for code that does not own the process, and so cannot `protect` it."""
    with suppress(OSError, ValueError):  # ValueError: the stream was closed by Python code
        print(text, flush=True)


def protect() -> None:
    """For a command, first of all: from now on no write to `sys.stdout` or `sys.stderr` fails.

    Other failures than a reader that has gone are told once, on standard error. Characters that an encoding lacks are
    escaped.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would get its number, and what is printed
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        present = getattr(sys, name)
        if present is None or present is getattr(sys, f"__{name}__"):  # else somebody has put another one there
            setattr(sys, name, _stream(number, present))


def output_lost() -> bool:
    """Whether some of standard output could not be written though somebody may want to read it."""
    return _Outlet.lost


def _stream(number: int, present: Any) -> io.TextIOWrapper:
    if present is not None:
        with suppress(OSError):
            present.flush()
    outlet = io.BufferedWriter(_Outlet(number, "w", closefd=False))
    encoding = getattr(present, "encoding", None) or "utf-8"
    lines = number == 2 or outlet.isatty() or getattr(present, "write_through", False)
    return io.TextIOWrapper(outlet, encoding, "backslashreplace", line_buffering=lines)


class _Outlet(io.FileIO):
    """A file descriptor that takes everything, and drops what it cannot write."""

    lost = False

    def write(self, data: Any) -> int:
        try:
            written = super().write(data)
            if written is None:  # it does not block, and is not ready
                select.select([], [self], [])
            return written or 0
        except OSError as error:
            fault = fault_of(error)
            if self.fileno() == 1 and fault and fault.code not in _GONE and not _Outlet.lost:
                _Outlet.lost = True
                print(sentence(fault._replace(path="standard output"), "writing to it"), file=sys.stderr, flush=True)
            return memoryview(data).nbytes
