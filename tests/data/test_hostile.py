"""Files made to hurt: each is refused in one sentence, without executing anything and in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from scarlet_jax.data import builders, pickles, prepared
from tests.support import data_fakes as fakes
from tests.support import published_fakes as published
from tests.support.data_fakes import load, refusal

BOUND = 48 << 20  # bytes; far more than any of these files needs, far less than any of them asks for


def refused(name: str, tmp_path: Path, **options) -> str:
    """The sentence of a refusal that took little memory."""
    tracemalloc.start()
    try:
        sentence = refusal(name, tmp_path, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BOUND, f"{peak:,} bytes"
    assert len(sentence.splitlines()) == 1 and sentence.endswith(".") and len(sentence) < 1500, sentence
    assert "trust" not in sentence and "allow_pickle" not in sentence
    return sentence


# --- .npz ---

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
LABEL = np.arange(20) % 4


def npy(array: np.ndarray, **kwargs) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **kwargs)
    return stream.getvalue()


def header(text: str, version: int = 1, length: int | None = None) -> bytes:
    form = "<H" if version == 1 else "<I"
    return (
        b"\x93NUMPY" + bytes([version, 0]) + struct.pack(form, len(text) if length is None else length) + text.encode()
    )


def stating(shape: str, descr: str = "'|u1'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"


def packed(path: Path, compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for key, blob in ({"image": npy(IMAGE), "label": npy(LABEL)} | members).items():
            archive.writestr(f"{key}.npy", blob)


def patched(path: Path, local: tuple[int, bytes], central: tuple[int, bytes]) -> None:
    """Write into the first member's header, and into its entry in the list of members."""
    packed(path)
    blob = bytearray(path.read_bytes())
    for magic, (offset, value) in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = blob.index(magic) + offset
        blob[at : at + len(value)] = value
    path.write_bytes(blob)


def many_members(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(30_000):
            archive.writestr(f"{i}.npy", b"")


def a_long_label(path: Path) -> None:
    """200 MB of labels in 200 kB; they do not fit the images, which the headers say."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", npy(IMAGE))
        with archive.open("label.npy", "w") as file:
            file.write(header(stating("(25000000,)", "'<i8'")))
            for _ in range(200):
                file.write(bytes(1_000_000))


def damaged(path: Path) -> None:
    packed(path, zipfile.ZIP_STORED)
    blob = bytearray(path.read_bytes())
    blob[blob.index(IMAGE.tobytes()[:40])] ^= 1
    path.write_bytes(blob)


NPZ: dict[str, Callable[[Path], object]] = {
    "a header of 40 GB": lambda p: packed(p, image=header(stating("(40000000, 32, 32)")) + bytes(100)),
    "a header of more than any number": lambda p: packed(p, image=header(stating(f"({10**30}, 8, 8)"))),
    "a negative shape": lambda p: packed(p, image=header(stating("(-1, 8, 8)")) + bytes(64)),
    "a header that is 4 GB long": lambda p: packed(p, image=header(stating("(1, 8, 8)"), 2, 2**32 - 1) + bytes(64)),
    "a header nested deeply": lambda p: packed(p, image=header("(" * 9000, 2)),
    "a header that is code": lambda p: packed(p, image=header("__import__('os').system('true')", 2)),
    "an unknown version": lambda p: packed(p, image=b"\x93NUMPY\x09\x00" + bytes(200)),
    "an array type of 2 GB": lambda p: packed(p, label=header(stating("(20,)", "'<U500000000'"))),
    "a pickle": lambda p: packed(p, image=npy(np.array([None, 1]), allow_pickle=True)),
    "no array": lambda p: packed(p, image=b"hello"),
    "no bytes": lambda p: packed(p, image=b""),
    "an array that is cut": lambda p: packed(p, image=npy(IMAGE)[:-10]),
    "an array with more behind it": lambda p: packed(p, image=npy(IMAGE) + b"more"),
    "bzip2": lambda p: packed(p, zipfile.ZIP_BZIP2),
    "lzma": lambda p: packed(p, zipfile.ZIP_LZMA),
    "an unknown compression": lambda p: patched(p, (8, b"\x63\x00"), (10, b"\x63\x00")),
    "an encrypted member": lambda p: patched(p, (6, b"\x01\x00"), (8, b"\x01\x00")),
    "a member that states 4 GB": lambda p: patched(p, (22, b"\xf0\xff\xff\xff"), (24, b"\xf0\xff\xff\xff")),
    "a wrong checksum": damaged,
    "30,000 members": many_members,
    "200 MB of labels for 20 images": a_long_label,
    "names of 5,000 letters": lambda p: np.savez(p, **{"n" * 5000: LABEL}),
    "a text": lambda p: p.write_text("image,label\n1,2\n"),
    "a pickle by itself": lambda p: p.write_bytes(pickle.dumps({"image": 1})),
    "an .npy": lambda p: p.write_bytes(npy(IMAGE)),
    "nothing": lambda p: p.write_bytes(b""),
    "half a zip": lambda p: (packed(p), p.write_bytes(p.read_bytes()[:-30])),
    "a named pipe": lambda p: os.mkfifo(p),
    "a directory": lambda p: p.mkdir(),
    "a device": lambda p: p.symlink_to("/dev/zero"),
    "a link to itself": lambda p: p.symlink_to(p),
}


@pytest.mark.parametrize("kind", NPZ)
@pytest.mark.parametrize("labelled", [True, False])
def test_npz(tmp_path, kind, labelled):
    path = tmp_path / "mine.npz"
    NPZ[kind](path)
    if not labelled and ("label" in kind or "array type" in kind):
        assert len(load(str(path), tmp_path, labelled=False).train_image) == 20, "a pool does not read labels"
    else:
        assert "mine.npz" in refused(str(path), tmp_path, labelled=labelled)


# --- pickles of the published archives ---


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


# --- tar and zip ---


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


# --- prepared by TFDS ---


def a_prepared_set(tmp_path: Path) -> Path:
    records = [(f"{i:03d}", np.full((6, 5, 3), i, np.uint8), i % 3) for i in range(12)]
    fakes.write_prepared("toy", tmp_path / "data", {"train": records, "test": records[:3]})
    return tmp_path / "data" / "toy" / "1.0.0"


def rewrite(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def replace_by(kind: str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.write_text(kind)

    return change


JSONS = [
    "[]", "3", '"text"', "null", '{"a": ', "[" * 100_000, '{"splits": 3, "featuresDict": {"features": []}}',
    '{"featuresDict": {"features": {"image": 3, "label": []}}}', " " * (1 << 25), "\x00\x01", "pipe", "folder",
]  # fmt: skip


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("kind", JSONS, ids=lambda kind: repr(kind[:12]))
@pytest.mark.parametrize("labelled", [True, False])
def test_a_description_that_is_none(tmp_path, file, kind, labelled):
    folder = a_prepared_set(tmp_path)
    replace_by(kind)(folder / file)
    sentence = refused("toy", tmp_path, labelled=labelled, size=None if labelled else (4, 4))
    assert "toy" in sentence


def feature_of(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    rewrite(folder / "features.json", lambda value: change(value["featuresDict"]["features"][name]))


def a_png_of(width: int, height: int) -> Callable[[str, np.ndarray], tuple[bool, np.ndarray]]:
    good = cv2.imencode

    def encode(form: str, image: np.ndarray) -> tuple[bool, np.ndarray]:
        blob = bytearray(good(form, image)[1].tobytes())
        blob[16:24] = struct.pack(">II", width, height)
        return True, np.frombuffer(bytes(blob), np.uint8)

    return encode


DESCRIPTIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "more images than bytes": (
        lambda f: rewrite(f / "dataset_info.json", lambda v: v["splits"][0].update(shardLengths=["40000000000"])),
        "more than its files have bytes",
    ),
    "a hundred billion classes": (
        lambda f: feature_of(f, "label", lambda v: v.update(classLabel={"numClasses": "100000000000"})), "classes",
    ),
    "a label beyond the classes": (
        lambda f: feature_of(f, "label", lambda v: v.update(classLabel={"numClasses": "2"})),
        "a label is 2, and 2 classes are declared",
    ),
    "no classes": (lambda f: feature_of(f, "label", lambda v: v.update(classLabel={})), "classes"),
    "many classes of another feature": (
        lambda f: rewrite(
            f / "features.json",
            lambda v: v["featuresDict"]["features"].update(x={"class_label": {"num_classes": 10**9}}),
        ),
        "classes",
    ),
    "a text of 32 MB": (lambda f: (f / "label.labels.txt").write_text("a\n" * (1 << 24)), "33,554,432 bytes"),
    "a pipe": (lambda f: os.mkfifo(f / "toy-train.array_record-00001-of-00002"), "named pipe"),
    "names of 5,000 letters": (
        lambda f: (f / "label.labels.txt").write_text("\n".join(c * 5000 for c in "abc")), "more than 200 letters",
    ),
    "images of four channels": (
        lambda f: feature_of(
            f, "image", lambda v: v["image"].update(shape={"dimensions": ["-1", "-1", "4"]})
        ),
        "4 channels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_description_that_lies(tmp_path, kind):
    change, words = DESCRIPTIONS[kind]
    load_once = tmp_path / "other"
    a_prepared_set(load_once)
    load("toy", load_once)  # what is imported does not count
    change(a_prepared_set(tmp_path))
    assert words in refused("toy", tmp_path)


def test_an_image_that_states_four_gigapixels(tmp_path, monkeypatch):
    load_once = tmp_path / "other"
    a_prepared_set(load_once)
    load("toy", load_once)
    monkeypatch.setattr(cv2, "imencode", a_png_of(65_000, 65_000))
    a_prepared_set(tmp_path)
    assert "65,000x65,000 pixels" in refused("toy", tmp_path)


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name", "type"])
@pytest.mark.parametrize("name", ["payload.Feature", "tensorflow_datasets.payload.Feature", "os.path.Feature"])
@pytest.mark.parametrize("where", ["image", "extra", "top"])
def test_no_module_that_a_description_names_is_imported(tmp_path, monkeypatch, key, name, where):
    (tmp_path / "payload.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    folder = a_prepared_set(tmp_path)

    def change(value: dict) -> None:
        features = value["featuresDict"]["features"]
        part = value if where == "top" else features.setdefault(where, {"text": {}})
        part.pop("pythonClassName", None)
        part[key] = name

    rewrite(folder / "features.json", change)
    sentence = refused("toy", tmp_path)
    assert name in sentence and "import" in sentence
    assert "payload" not in sys.modules and "tensorflow_datasets.payload" not in sys.modules


@pytest.mark.parametrize(
    "name", ["x" * 5000, "x" * 5000 + ".npz", "a/" * 2000, "two\nlines", "$a$", "..", "a/../b", "=1"]
)
def test_a_name_of_a_data_set(tmp_path, name):
    refused(name, tmp_path)
    assert prepared.locate(name, tmp_path) is None
