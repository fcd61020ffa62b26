"""The one place that knows the forms in which an error of the operating system arrives, and the words for it.

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
    errno.ELOOP: ("its symbolic links form a circle", "mend them"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.ETIMEDOUT: ("no answer in time", "try again later"),
}

# These say that the program is wrong, not the system.
_BUGS = {errno.EBADF, errno.EFAULT, errno.ECHILD, errno.ESRCH, errno.ENOTTY}
# These are asked for in the normal course ("open it, or else make it"): one that was being handled when another error
# came up need not be the reason for that.
_ORDINARY = {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EAGAIN, errno.ENOTEMPTY}
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE}
# OSErrors without a number whose class says which it would be. Others, as of a damaged gzip file, are not the system's.
_CLASSES = {
    PermissionError: errno.EACCES,
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    NotADirectoryError: errno.ENOTDIR,
    IsADirectoryError: errno.EISDIR,
    TimeoutError: errno.ETIMEDOUT,
}
# How TensorStore and XLA begin a text without a number, and the errno, or the words, that it stands for. What damage
# makes them say (DATA_LOSS, INVALID_ARGUMENT, NOT_FOUND ...) is missing on purpose.
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
    """What the system refused, if that is what this error, a part of its group, or its cause says.

    The result may have no path, and a missing file is a fault, too (ENOENT): whoever reads a file that others wrote
    decides what its absence means. A UserError has its sentence already and gives None, as do errors of the program's
    own and those that only say that the contents of a file are wrong.
    """
    faults = _faults(error, set(), handled=False)
    return next((fault for fault in faults if fault.path), faults[0] if faults else None)


def sentence(fault: SystemFault, doing: str) -> str:
    """One sentence for the user: path, reason, what to do.

    Args:
      fault: of `fault_of`.
      doing: what the program was at, as in "writing a checkpoint".
    """
    remedy = _WORDS.get(fault.code or 0, ("", "mend that, and try again"))[1]
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
      where: what is written and read; named where the error of a disk names no file.

    Raises:
      UserError: instead of whatever says that the system refused something; other errors pass.
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
    """Of the error, its group, its cause or what was being handled when it came up, in this order."""
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
    """Of this error alone."""
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
    """Of a text by TensorStore or XLA."""
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
    """A path as one line of characters that any terminal shows."""
    return path if path.isprintable() else ascii(path)
