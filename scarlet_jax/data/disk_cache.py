"""Decoded images on disk, so that a data set is decoded once and not once per run.

An entry is a folder of .npy files and a marker, `meta.json`, with their shapes and checksums. It is written under
another name and renamed when complete, so a killed or a concurrent preparation leaves nothing that would be trusted.
Images that are decoded only now (`Images`) go to their file block after block: memory holds one block.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scarlet_jax import paths
from scarlet_jax.data.record import Images, Source

_log = logging.getLogger(__name__)
_FORMAT = 1  # of an entry; another number, another entry
_ARRAYS = ("train_image", "train_label", "test_image", "test_label")
_CHUNK = 1 << 24  # bytes read at a time for a checksum
_ABANDONED_S = 24 * 3600.0  # a temporary folder of this age belongs to a preparation that was killed


def cached(cache: Path, name: str, version: str, files: tuple[Path, ...], decode: Callable[[], Source]) -> Source:
    """What `decode()` returns, `Images` decoded; from the cache if an intact entry for exactly these `files` is there.

    Arrays that come from the cache are read-only memory maps. Files are told apart by path, size and time of change.
    A cache that cannot be written costs time in the next run, and memory in this, and is otherwise no error.
    """
    folder = cache / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}-{version}-{identity(files)}"
    source = _load(folder)
    if source is not None:
        return source._replace(name=name)
    _log.info("decoding %s (once; kept in %s)", name, cache)
    source = decode()
    try:
        _save(folder, source)
    except OSError as error:
        _log.warning("decoded images of %s are not kept: cannot write %s (%s)", name, cache, error.strerror or error)
        return _in_memory(source)
    return _load(folder) or _in_memory(source)


def identity(files: tuple[Path, ...]) -> str:
    """A short hash of the files' paths, sizes and times of change, and of the entry format."""
    state = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([_FORMAT, state]).encode()).hexdigest()[:16]


def _load(folder: Path) -> Source | None:
    """The entry in `folder`, or None if it is missing or damaged in any way."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        meta = {}
    try:
        arrays: dict[str, Any] = {}
        for key in _ARRAYS:
            path, stated = folder / f"{key}.npy", meta["arrays"][key]
            if path.stat().st_size != stated["bytes"]:  # before mapping it: a short map is a fatal signal
                raise ValueError(f"{path.name} has the wrong size")
            array = np.lib.format.open_memmap(path, mode="r")
            if [array.dtype.str, list(array.shape)] != [stated["dtype"], stated["shape"]]:
                raise ValueError(f"{path.name} has the wrong shape")
            if _checksum_of_file(path, array.nbytes) != stated["crc32"]:
                raise ValueError(f"{path.name} has the wrong checksum")
            arrays[key] = np.asarray(array)
        return Source(**arrays, **{**meta["source"], "class_names": tuple(meta["source"]["class_names"])})
    except (OSError, ValueError, KeyError, TypeError, EOFError, SyntaxError) as error:
        _log.warning("cached images in %s are damaged (%s); decoding them again", folder, error)
        return None


def _save(folder: Path, source: Source) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent, ".tmp-*")
    with _scratch(folder.parent) as scratch:
        fields = source._asdict()
        stated: dict[str, Any] = {}
        for key in _ARRAYS:
            stated[key] = _write(scratch / f"{key}.npy", fields.pop(key))
        (scratch / "meta.json").write_text(json.dumps({"source": fields, "arrays": stated}, indent=1))
        # Another process may have put its entry there meanwhile: it is kept if it is good. A damaged one is moved
        # aside first, because a folder cannot be renamed onto a folder that has files.
        if folder.exists() and _load(folder) is None:
            with contextlib.suppress(FileNotFoundError), _scratch(folder.parent) as aside:
                os.rename(folder, aside / "damaged")
        try:
            os.rename(scratch, folder)
        except OSError:
            if _load(folder) is None:
                raise


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A temporary folder beside the entries, gone afterwards unless it was renamed."""
    with paths.beside(parent / "tmp") as path:
        path.mkdir()
        yield path


def sweep(parent: Path, pattern: str) -> None:
    """Remove folders that killed preparations have left; a young one may belong to one that is still running."""
    for path in parent.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)


def _write(path: Path, array: np.ndarray | Images) -> dict[str, Any]:
    """Write an .npy file; returns what meta.json states of it."""
    if not isinstance(array, Images):
        array = np.ascontiguousarray(array)
        np.save(path, array)
        crc, dtype = _checksum(array), array.dtype
    else:
        crc, dtype = 0, np.dtype(np.uint8)
        header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(array.shape)}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for block in array.blocks():
                block = np.ascontiguousarray(block)
                file.write(block.data)
                crc = _checksum(block, crc)
    return {"dtype": dtype.str, "shape": list(array.shape), "bytes": path.stat().st_size, "crc32": crc}


def _in_memory(source: Source) -> Source:
    """The same with every image decoded."""

    def whole(array: np.ndarray | Images) -> np.ndarray:
        if not isinstance(array, Images):
            return array
        result, filled = np.empty(array.shape, np.uint8), 0
        for block in array.blocks():
            result[filled : filled + len(block)] = block
            filled += len(block)
        return result

    return source._replace(train_image=whole(source.train_image), test_image=whole(source.test_image))


def _checksum(array: np.ndarray, crc: int = 0) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data.cast("B"), crc) if array.size else crc


def _checksum_of_file(path: Path, nbytes: int) -> int:
    """Of the last `nbytes` of a file, read in pieces: pages of a map would count as this process's memory."""
    crc = 0
    with path.open("rb") as file:
        file.seek(-nbytes, os.SEEK_END)
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc
