"""Keeps what takes long to make between processes: compiled kernels, timings of convolutions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scarlet_jax import paths

_log = logging.getLogger(__name__)

_DIGEST = 32  # bytes of the checksum that an entry begins with


class Kept:
    """Entries under keys, in a folder of the user's cache that nobody else can write to.

    An entry is read whole or not at all: it is written beside its place and renamed, and a checksum tells whether it
    was damaged since. Where the folder cannot be used, nothing is found and nothing is kept, and one warning says why.

    Args:
        folder: name in the user's cache.
        most: bytes that all entries may take together; those that were not used for the longest time are removed.
    """

    def __init__(self, folder: str, most: int):
        self._name, self._most, self._warned = folder, most, False

    def read(self, key: dict[str, Any]) -> bytes | None:
        """What was kept under this key, which JSON can hold; None if there is nothing, or nothing whole."""
        with self._warning():
            path = self._path(key)
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
            value = content[_DIGEST:]
            if hashlib.sha256(value).digest() != content[:_DIGEST]:
                _log.info("%s is damaged: it is made again", path)
                path.unlink(missing_ok=True)
                return None
            os.utime(path)  # the time of its last use
            return value
        return None

    def write(self, key: dict[str, Any], value: bytes) -> None:
        """Keep a value, in place of one that was there."""
        with self._warning():
            path = self._path(key)
            with paths.beside(path) as aside:
                aside.write_bytes(hashlib.sha256(value).digest() + value)
                os.replace(aside, path)
            self._bound(path)

    def _path(self, key: dict[str, Any]) -> Path:
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return paths.private_folder(paths.cache_dir() / self._name) / name

    def _bound(self, newest: Path) -> None:
        found = []
        for path in newest.parent.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                status = path.stat()
                found.append((path == newest, status.st_mtime_ns, status.st_size, path))
        left = sum(size for _, _, size, _ in found) - self._most
        for _, _, size, path in sorted(found):
            if left <= 0:
                break
            path.unlink(missing_ok=True)
            left -= size

    @contextlib.contextmanager
    def _warning(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._warned:
                _log.warning("nothing is kept in the cache folder %s: %s", self._name, paths.reason(error))
            self._warned = True
