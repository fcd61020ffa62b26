"""Recognises errors of the operating system, in whatever form a library passes them on, and puts them into words.

Python raises OSError. TensorStore, which writes and reads the arrays of Orbax's checkpoints, raises ValueError with the
errno inside its text; XLA raises JaxRuntimeError for memory; libraries wrap each of them in errors of their own.
Nothing here imports jax.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from scarlet_jax.errors import UserError


class SystemFault(NamedTuple):
    """What the operating system refused."""

    code: int | None  # an errno; None where only the kind is known
    reason: str  # plain words
    path: str | None  # of the file or directory, where it is known


# errno -> plain words, what to do
_WORDS = {
    errno.ENOSPC: ("the disk is full", "make room"),
    errno.EDQUOT: ("the disk quota is used up", "make room"),
    errno.EFBIG: ("the file exceeds the limit for the size of files", "raise that limit (ulimit -f)"),
    errno.EMFILE: ("too many open files", "raise that limit (ulimit -n)"),
    errno.ENFILE: ("too many open files in the whole system", "end other programs"),
    errno.ENOMEM: ("not enough memory", "end other programs, or make the run smaller (clients_per_chunk)"),
    errno.EAGAIN: ("a resource of the system is used up for now", "try again later"),
    errno.EACCES: ("permission denied", "give this user the right to it, or choose another place"),
    errno.EPERM: ("permission denied", "give this user the right to it, or choose another place"),
    errno.EROFS: ("the file system is read-only", "make it writable, or choose another place"),
    errno.EIO: ("an input/output error", "check the disk"),
    errno.ESTALE: ("the network file system has lost the file", "mount it again"),
    errno.ENOENT: ("no such file or directory", "bring it back"),
    errno.EEXIST: ("something of this name exists already", "move it away"),
    errno.ENOTDIR: ("a file is where a directory belongs", "move it away"),
    errno.EISDIR: ("a directory is where a file belongs", "move it away"),
    errno.ENOTEMPTY: ("the directory is not empty", "move its files away"),
    errno.EBUSY: ("it is in use", "end what uses it"),
    errno.ELOOP: ("its symbolic links form a circle", "correct them"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.ETIMEDOUT: ("no answer in time", "try again later"),
}

# These mean that the program is wrong, not the system.
_BUGS = {errno.EBADF, errno.EFAULT, errno.ECHILD, errno.ESRCH, errno.ENOTTY}
# Programs run into these on purpose ("open it, or else make it"). If one of them was being handled when another error
# occurred, it need not be the cause of that error.
_ORDINARY = {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EAGAIN, errno.ENOTEMPTY}
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE}
# The errno of an OSError that has none, by its class. Other OSErrors without a number, such as that of a damaged gzip
# file, do not come from the system.
_CLASSES = {
    PermissionError: errno.EACCES,
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    NotADirectoryError: errno.ENOTDIR,
    IsADirectoryError: errno.EISDIR,
    TimeoutError: errno.ETIMEDOUT,
}
# How TensorStore and XLA begin a message without a number, and the errno or the words that it stands for. Messages that
# damaged files cause (DATA_LOSS, INVALID_ARGUMENT, NOT_FOUND ...) are left out on purpose.
_STATUS: dict[str, int | str] = {
    "RESOURCE_EXHAUSTED": "a resource of the system is used up",
    "PERMISSION_DENIED": errno.EACCES,
    "UNAVAILABLE": "the file system is not available",
    "DEADLINE_EXCEEDED": errno.ETIMEDOUT,
}
_BEGINNING = re.compile(r"\s*(?P<status>[A-Z]+(?:_[A-Z]+)*): ")
_NUMBER = re.compile(r"\[os_error_code='(\d+)'\]")
_PATH = re.compile(r'"(/[^"]*)"')
_XLA_PATH = re.compile(r"^[A-Z_]+: (\S+); ")
_LOCK = ".__lock"  # of TensorStore: beside the file that it locks


def fault_of(error: BaseException) -> SystemFault | None:
    """What the system refused, if this error, a part of its group, or its cause is an error of the system.

    The result may have no path. A missing file is a fault, too (ENOENT): the caller decides what its absence means. The
    result is None for a UserError, which has its sentence already, for errors of the program itself, and for errors
    which only say that the contents of a file are wrong.
    """
    faults = _faults(error, set(), handled=False)
    return next((fault for fault in faults if fault.path), faults[0] if faults else None)


def sentence(fault: SystemFault, doing: str) -> str:
    """One sentence for the user: path, reason, what to do.

    Args:
      fault: of `fault_of`.
      doing: what the program was doing, such as "writing a checkpoint".
    """
    remedy = _WORDS.get(fault.code or 0, ("", "correct that, and try again"))[1]
    reason = (
        fault.reason[:1].upper() + fault.reason[1:] if fault.path is None else f"{_shown(fault.path)}: {fault.reason}"
    )
    return f"{reason}, while {doing}; {remedy}."


@contextmanager
def refusing(doing: str, then: str = "", where: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Turn a fault of the system into its sentence.

    Args:
      doing: as in `sentence`.
      then: a sentence that follows it.
      where: the directory in use; named if an error of a disk names no file.

    Raises:
      UserError: in place of an error of the system; other errors pass.
    """
    try:
        yield
    except Exception as error:
        fault = fault_of(error)
        if fault is None:
            raise
        if fault.path is None and where is not None and fault.code in _OF_DISKS:
            fault = fault._replace(path=os.fspath(where))
        raise UserError(f"{sentence(fault, doing)} {then}".rstrip()) from error


def _faults(error: BaseException, seen: set[int], handled: bool) -> list[SystemFault]:
    """The faults of an error, of its group, and of its cause or of the error that was being handled, in this order."""
    if id(error) in seen or isinstance(error, UserError):
        return []
    seen.add(id(error))
    own = _own(error)
    found = [own] if own and not (handled and own.code in _ORDINARY) else []
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        found += _faults(part, seen, handled)
    if error.__cause__ is not None:
        found += _faults(error.__cause__, seen, handled)
    elif error.__context__ is not None and not error.__suppress_context__:
        found += _faults(error.__context__, seen, handled=True)
    return found


def _own(error: BaseException) -> SystemFault | None:
    """The fault of this error alone."""
    if isinstance(error, OSError):
        code = error.errno or next((code for kind, code in _CLASSES.items() if isinstance(error, kind)), None)
        path = next((os.fsdecode(p) for p in (error.filename, error.filename2) if isinstance(p, str | bytes)), None)
        return None if code is None else _fault(code, path)
    if isinstance(error, MemoryError):
        return _fault(errno.ENOMEM, None)
    if isinstance(error, ValueError) or type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError"):
        return _in_text(str(error))
    return None


def _in_text(text: str) -> SystemFault | None:
    """The fault that a message of TensorStore or XLA describes."""
    told = text.partition(" [tensorstore_spec")[0]
    paths = _PATH.findall(told) or _XLA_PATH.findall(told)
    path = paths[-1].removesuffix(_LOCK) if paths else None
    number = _NUMBER.search(text)
    if number:
        return _fault(int(number[1]), path)
    beginning = _BEGINNING.match(text)
    if beginning is None:
        return None
    if "out of memory" in told.lower():
        return _fault(errno.ENOMEM, None)
    words = re.split("[:;] ", told.strip())[-1]
    named = [code for code in _WORDS if os.strerror(code) == words]
    code_or_words = named[0] if named else _STATUS.get(beginning["status"])
    if isinstance(code_or_words, int):
        return _fault(code_or_words, path)
    return None if code_or_words is None else SystemFault(None, code_or_words, path)


def _fault(code: int, path: str | None) -> SystemFault | None:
    if code in _BUGS:
        return None
    words = os.strerror(code)
    return SystemFault(code, _WORDS[code][0] if code in _WORDS else words[:1].lower() + words[1:], path)


def _shown(path: str) -> str:
    """A path on one line, in characters that any terminal shows."""
    return path if path.isprintable() else ascii(path)
