"""A .npz of the user that is made to hurt: refused in a sentence, without executing anything, in bounded memory."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.data_fakes import load, refused

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
