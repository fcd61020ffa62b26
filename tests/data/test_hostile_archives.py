"""Published archives, and pickles in them, that are made to hurt: refused in a sentence and in bounded memory."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scarlet_jax.data import builders, pickles
from tests.support import data_fakes as fakes
from tests.support import published_fakes as published
from tests.support.data_fakes import load, refused


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def op(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
NDARRAY = b"cnumpy\nndarray\n"
HUGE = struct.pack("<i", 2**31 - 1)
ROWS = np.zeros((12, 3072), np.uint8)


def batch(**changes) -> bytes:
    return fakes.python2_pickle({b"data": ROWS, b"labels": [0] * 12} | {k.encode(): v for k, v in changes.items()})


PICKLES: dict[str, bytes] = {
    "code": pickle.dumps(Evil()),
    "code of protocol 0": pickle.dumps(Evil(), protocol=0),
    "an old-style instance": b"(S'true'\nios\nsystem\n.",
    "a memory of 32 GB": op(b"Nr", struct.pack("<I", 2**32 - 1)),
    "a byte array of 1 EB": b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b".",
    "bytes of 1 EB": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b".",
    "a text of 2 GB": op(b"T", HUGE),
    "a long of 2 GB": op(b"\x8b", HUGE),
    "an array made by its type": op(NDARRAY, b"J", HUGE, b"\x85R"),
    "an array of 10 TB": op(RECONSTRUCT, NDARRAY, b"(J", HUGE, b"J", HUGE, b"tU\x01b\x87R"),
    "an array of objects": fakes.python2_pickle({b"data": np.array([None] * 12), b"labels": [0] * 12}),
    "an array of texts": fakes.python2_pickle({b"data": np.array([b"x" * 3072] * 12), b"labels": [0] * 12}),
    "a key nested without end": op(b"}", b")" + b"\x85" * 100_000, b"Ns"),
    "a key that is doubled 60 times": op(b"}", b")" + b"q\x00h\x00\x86" * 60, b"Ns"),
    "labels that are doubled 60 times": op(b"}(U\x04data", b"N", b"U\x06labels", b")" + b"q\x00h\x00\x86" * 60, b"u"),
    "a global from the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "an extension": op(b"\x82\x01"),
    "a persistent id": op(b"U\x01xQ"),
    "a million lists": op(b"]" * 1_000_000),
    "an empty stack": op(b"s"),
    "a mark that is not there": op(b"t"),
    "no end": b"\x80\x02N",
    "no dictionary": op(b"N"),
    "images in a list": batch(data=[[0] * 3072] * 12),
    "labels in an array": batch(labels=np.zeros(12, np.uint8)),
    "a label outside the classes": batch(labels=[0] * 11 + [10]),
    "a huge label": batch(labels=[0] * 11 + [10**40]),
    "a label that is no number": batch(labels=[0] * 11 + [b"x" * 5000]),
    "too few labels": batch(labels=[0] * 11),
    "rows of another length": batch(data=ROWS[:, :3071].copy()),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_in_the_published_folder(tmp_path, kind):
    fakes.write_folder("cifar10", tmp_path / "data")
    path = tmp_path / "data" / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(PICKLES[kind])
    assert str(path.parent) in refused("cifar10", tmp_path)


def test_a_published_file_that_is_a_sparse_gigabyte_or_has_long_names(tmp_path):
    fakes.write_folder("cifar10", tmp_path / "data")
    folder = tmp_path / "data" / "cifar-10-batches-py"
    meta = (folder / "batches.meta").read_bytes()
    (folder / "batches.meta").write_bytes(fakes.python2_pickle({b"label_names": [b"n" * 5000] * 10}))
    assert "letters" in refused("cifar10", tmp_path)
    (folder / "batches.meta").write_bytes(meta)
    with (folder / "data_batch_1").open("wb") as file:
        file.truncate(1 << 30)
    assert "1,073,741,824 bytes" in refused("cifar10", tmp_path)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_what_numpy_pickles_is_read_as_numpy_reads_it(order, protocol):
    array = np.asarray(np.random.default_rng(3).integers(0, 256, (7, 5), dtype=np.uint8), order=order)
    value = {"data": array, "labels": [1, 2, 300, 70_000, -5], "names": ["a", "é"], "none": None, "nested": [[1], ()]}
    found = pickles.loads(pickle.dumps(value, protocol=protocol))
    np.testing.assert_array_equal(found.pop("data"), value.pop("data"))
    assert found == value


def tar_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


MEMBER = "cifar-10-batches-py/data_batch_1"
TARS: dict[str, bytes] = {
    "a file of 2 GB": tar_header(MEMBER, 1 << 31) + bytes(1 << 20),
    "a file of 300 MB": tar_header(MEMBER, 300 << 20) + bytes(1 << 20),
    "a file of a negative size": tar_header(MEMBER, -512),
    "a name of 2 GB": tar_header("././@LongLink", 1 << 31, tarfile.GNUTYPE_LONGNAME) + bytes(1 << 20),
    "a name of 200 MB": tar_header("././@LongLink", 200 << 20, tarfile.GNUTYPE_LONGNAME) + bytes(200 << 20),
    "an extended header of 200 MB": tar_header("x", 200 << 20, tarfile.XHDTYPE) + bytes(200 << 20),
    "a sparse file": tar_header(MEMBER, 512, tarfile.GNUTYPE_SPARSE) + bytes(1024),
    "a link to another file": tar_header(MEMBER, 0, tarfile.SYMTYPE) + bytes(1024),
    "a cut header": tar_header(MEMBER, 0)[:300],
    "no tar": b"hello" * 1000,
    "nothing": b"",
}


@pytest.mark.parametrize("kind", TARS)
@pytest.mark.parametrize("compressed", [True, False])
def test_a_published_archive(tmp_path, kind, compressed):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "cifar-10-python.tar.gz"
    path.write_bytes(gzip.compress(TARS[kind], 1) if compressed else TARS[kind])
    assert str(path) in refused("cifar10", tmp_path)


def encrypted(path: Path) -> None:
    blob = bytearray(path.read_bytes())
    at = blob.index(b"PK\x01\x02")
    while at >= 0:
        blob[at + 8] |= 1
        at = blob.find(b"PK\x01\x02", at + 4)
    path.write_bytes(blob)


def with_a_long_list(path: Path) -> None:
    name = "tiny-imagenet-200/wnids.txt"
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as file:
        for _ in range(100):
            file.write(bytes(1 << 20))


ZIPS: dict[str, Callable[[Path], object]] = {
    "encrypted": encrypted,
    "a list of classes of 100 MB": with_a_long_list,
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a text": lambda path: path.write_text("hello"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ZIPS)
def test_an_archive_for_a_builder(tmp_path, kind):
    folder = published.write_tiny_imagenet(tmp_path / builders.PUBLISHED["tiny_imagenet"].folder)
    path = published.pack(folder, "zip", tmp_path / "data")
    ZIPS[kind](path)
    load("digits", tmp_path)
    import tensorflow_datasets  # noqa: F401 - its own memory does not count

    assert "tiny-imagenet-200.zip" in refused("tiny_imagenet", tmp_path)
    assert [child.name for child in (tmp_path / "data").iterdir()] == [path.name], "nothing is left behind"
