"""Files and archives from anywhere: every size is checked before anything of that size is allocated."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import json
import os
import re
import resource
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from scarlet_jax import names
from scarlet_jax.errors import UserError
from scarlet_jax.system_errors import fault_of, sentence

CHUNK = 1 << 20  # bytes read at a time
# What damaged or hostile archives make the readers raise.
DAMAGE = (
    OSError, EOFError, MemoryError, NotImplementedError, RuntimeError, ValueError, zlib.error, tarfile.TarError,
    zipfile.BadZipFile,
)  # fmt: skip
DESCRIPTION = 1 << 24  # bytes of a file that describes a data set, at most
_NAME_BYTES = 1 << 16  # of a long name, or of the extended header, of a tar member
_DEFLATE = 1032  # bytes that one compressed byte can become, at most
_PAX_RECORD = re.compile(rb"(\d{1,6}) ([^=]{1,100})=")
_WITHOUT_DATA = (
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
)  # fmt: skip


class Stream(Protocol):
    """A file, or what unpacks one."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes."""

    def seek(self, position: int, /) -> int:
        """Go to that byte."""


class Member(NamedTuple):
    """A file in a zip archive."""

    size: int  # bytes when unpacked, as the archive states
    open: Callable[[], BinaryIO]

    def read(self, most: int) -> bytes:
        """All of it; ValueError if that is more than `most` bytes."""
        check_size(self.size, most)
        with self.open() as stream:
            return read_exactly(stream, self.size)


def check_regular(path: Path) -> None:
    """Refuse what is no regular file: opening a named pipe waits for ever."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "directory" if stat.S_ISDIR(mode) else "named pipe" if stat.S_ISFIFO(mode) else "device or socket"
        raise UserError(f"{names.of_file(path)} is a {kind}, not a file.")


def check_readable(paths: Iterable[Path], error: Exception) -> None:
    """Refuse files that the system does not let be read: they are not damaged, whatever a library makes of that.

    Args:
      paths: what was read when `error` came up. One that is missing is no fault here.
      error: as a library raised it.

    Raises:
      UserError: the system's reason, and the file.
    """
    fault = fault_of(error)
    for path in paths:  # a library may have hidden the reason in words of its own
        try:
            with contextlib.nullcontext() if path.is_dir() else open(path, "rb") as file:
                if file is not None:
                    file.read(1)
        except OSError as refused:
            fault = fault_of(refused)
            break
    if fault is not None and fault.code not in (None, errno.ENOENT, errno.EISDIR, errno.ENOMEM, errno.EINVAL):
        raise UserError(sentence(fault, "reading a data set")) from error


def check_size(size: int, most: int) -> None:
    """ValueError if a part of a file is larger than it can rightly be."""
    if not 0 <= size <= most:
        raise ValueError(f"{size:,} bytes where at most {most:,} belong")


def read_exactly(stream: Stream, size: int) -> bytes:
    """`size` bytes, however many pieces the stream delivers them in; EOFError if it has fewer."""
    blob = bytearray(size)
    read_into(stream, memoryview(blob))
    return bytes(blob)


def read_into(stream: Stream, view: memoryview) -> None:
    """Fill `view` (of bytes) in small pieces, then read to the end of the stream's last piece, where a checksum is."""
    filled = 0
    while filled < len(view):
        piece = stream.read(min(CHUNK, len(view) - filled))
        if not piece:
            raise EOFError(f"{filled:,} of {len(view):,} bytes are there")
        view[filled : filled + len(piece)] = piece
        filled += len(piece)


def read_file(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes."""
    check_regular(path)
    check_size(path.stat().st_size, most)
    return path.read_bytes()


def read_json(path: Path) -> Any:
    """What a JSON file says; ValueError if it is no JSON, or larger than any description of a data set."""
    try:
        return json.loads(read_file(path, DESCRIPTION))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def memory_limit() -> int:
    """Bytes that this process may use: the machine's, its container's or its own limit, whichever is least."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError):  # no control groups, or "max"
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    own = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min(limits) if own == resource.RLIM_INFINITY else min(*limits, own)


class _Piecewise(io.BufferedReader):
    """A file whose reader gets at most `most` bytes at once: `zipfile` reads the list of members in one piece."""

    def __init__(self, path: Path, most: int):
        super().__init__(io.FileIO(path))
        self._most = most

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        check_size(size, self._most)
        return super().read(size)


@contextlib.contextmanager
def zip_members(path: Path, listing: int = CHUNK) -> Iterator[dict[str, Member]]:
    """The files in a zip archive by name, in the archive's order; the list of them has at most `listing` bytes.

    Raises:
        UserError: not a regular file. One of `DAMAGE`, here or when a member is opened or read, if anything is wrong.
    """
    check_regular(path)
    with _Piecewise(path, listing) as file, zipfile.ZipFile(file) as archive:

        def opener(entry: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
            def opened() -> BinaryIO:
                if entry.flag_bits & 0x41:
                    raise zipfile.BadZipFile("it is encrypted")
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise zipfile.BadZipFile(
                        f"its compression is number {entry.compress_type}; 0 (none) and 8 (deflate) can be read"
                    )
                if entry.file_size > _DEFLATE * entry.compress_size + CHUNK:
                    raise zipfile.BadZipFile(
                        f"it states {entry.file_size:,} bytes, which {entry.compress_size:,} compressed ones cannot be"
                    )
                return archive.open(entry)  # type: ignore[return-value]

            return opened

        yield {e.filename: Member(e.file_size, opener(e)) for e in archive.infolist() if not e.is_dir()}


def tar_members(stream: Stream, most: int) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of every regular file in a tar archive, in its order; the caller may read between two.

    Reads headers alone, and never goes back. `most` bounds the whole archive's bytes.

    Raises:
        tarfile.ReadError: the archive is cut, has a damaged header or a sparse file, or more than `most` bytes.
    """
    position, name = 0, None
    while True:
        header = _at(stream, position)
        if not header.strip(b"\0"):
            return
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        data = position + tarfile.BLOCKSIZE
        position = data + (0 if info.type in _WITHOUT_DATA else -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        if info.size < 0 or position > most:
            raise tarfile.ReadError(f"{info.size:,} bytes in one file, or more than {most:,} in all")
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
            if info.size > _NAME_BYTES:
                raise tarfile.ReadError(f"a name of {info.size:,} bytes")
            blob = read_exactly(stream, info.size)
            name = _pax_path(blob) if info.type == tarfile.XHDTYPE else blob.rstrip(b"\0")
            continue
        if info.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a sparse file")
        if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
            yield name.decode("utf-8", "surrogateescape") if name else info.name, data, info.size
        if info.type != tarfile.XGLTYPE:
            name = None


@contextlib.contextmanager
def tar_stream(path: Path) -> Iterator[Stream]:
    """The bytes of a tar archive, unpacked if it is compressed by gzip.

    Raises:
        UserError: not a regular file.
    """
    check_regular(path)
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not compressed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked


def read_to_end(stream: Stream, most: int) -> None:
    """Go to the end of an archive, where gzip has its checksum; ValueError after more than `most` bytes."""
    while piece := stream.read(CHUNK):
        most -= len(piece)
        check_size(0, most)


def _at(stream: Stream, position: int) -> bytes:
    """The header at `position`; empty at the end of an archive that lacks its last, empty blocks."""
    if position:
        stream.seek(position - 1)
        if not stream.read(1):
            raise tarfile.ReadError("unexpected end of data")
    return stream.read(tarfile.BLOCKSIZE)


def _pax_path(blob: bytes) -> bytes | None:
    """The name in an extended header, if it has one."""
    start, found = 0, None
    while match := _PAX_RECORD.match(blob, start):
        end = start + int(match[1])
        if match[2].startswith(b"GNU.sparse") or match[2] == b"size":
            raise tarfile.ReadError("a sparse or very large file")
        if match[2] == b"path":
            found = blob[match.end() : end - 1]
        if end <= match.start():
            break
        start = end
    return found
