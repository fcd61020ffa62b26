"""How a command shows an error: in one sentence if the user can correct its cause, otherwise with a traceback."""

from __future__ import annotations

import logging
import sys
import sysconfig
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from scarlet_jax.errors import UserError
from scarlet_jax.runtime import streams
from scarlet_jax.system_errors import fault_of, sentence

_log = logging.getLogger(__name__)
_REPORT = "This is a bug of scarlet_jax: please report it, with the lines above and the command."
_LIBRARIES = {str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "purelib", "platlib")}


def guarded(work: Callable[[], Any], prints: bool = True) -> int:
    """Call `work`, show the error that it raises, and return the exit code of the process.

    Args:
      work: may return an exit code or raise SystemExit; any other result counts as 0.
      prints: whether the result of the command is what it prints, so that it fails if its output cannot be written, for
        example to a full disk.
    """
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)  # of libraries, after an error
    sys.excepthook, sys.unraisablehook, threading.excepthook = _excepthook, _unraisablehook, _threading_excepthook
    code = _code(work)
    sys.stdout.flush()
    return code or int(prints and streams.output_lost())


def _code(work: Callable[[], Any]) -> int:
    try:
        code = work()
    except SystemExit as leaving:
        code = leaving.code
    except KeyboardInterrupt:
        code = 130
    except UserError as error:
        print(error, file=sys.stderr)
        code = 1
    except Exception as error:
        fault = fault_of(error)
        print(bug(error) if fault is None else sentence(fault, "running this command"), file=sys.stderr)
        code = 1
    return code if isinstance(code, int) else 0


def bug(error: BaseException) -> str:
    """The traceback without the frames of libraries, and a line that asks for a report."""
    told = traceback.TracebackException.from_exception(error, compact=True)
    _keep_own_frames(told, set())
    return "".join(told.format()) + _REPORT


# Errors that reach no caller, because they come from a thread or a destructor. If none of the frames belongs to this
# program, a library repeats an error that the user has already been told in one sentence: only --verbosity=1 shows it.


def _excepthook(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    _without_caller("", error, frames)


def _unraisablehook(unraisable: Any) -> None:
    if unraisable.exc_value is not None:
        about = f"Exception ignored in {unraisable.object!r}:\n"
        _without_caller(about, unraisable.exc_value, unraisable.exc_traceback)


def _threading_excepthook(args: Any) -> None:
    if args.exc_value is not None:
        name = args.thread.name if args.thread else "?"
        _without_caller(f"Exception in thread {name}:\n", args.exc_value, args.exc_traceback)


def _without_caller(about: str, error: BaseException, frames: TracebackType | None) -> None:
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(frames)]
    if all(map(_of_library, files)):
        _log.debug("%s%s", about, "".join(traceback.format_exception(error)))
    else:
        print(f"{about}{bug(error)}", file=sys.stderr)


def _keep_own_frames(told: traceback.TracebackException | None, seen: set[int]) -> None:
    if told is None or id(told) in seen:
        return
    seen.add(id(told))
    own = [frame for frame in told.stack if not _of_library(frame.filename)]
    told.stack[:] = own or told.stack[-1:]
    for other in (told.__cause__, told.__context__, *(told.exceptions or () if hasattr(told, "exceptions") else ())):
        _keep_own_frames(other, seen)


def _of_library(filename: str) -> bool:
    if filename.startswith("<"):
        return True
    path = Path(filename).resolve()
    return "site-packages" in path.parts or any(path.is_relative_to(folder) for folder in _LIBRARIES)
