"""CIFAR-10 and CIFAR-100 as published: the archive, its extracted folder, or a download of it."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scarlet_jax import names
from scarlet_jax.data import network, packed, pickles
from scarlet_jax.data.record import Source
from scarlet_jax.errors import UserError

BASE_URL = "https://www.cs.toronto.edu/~kriz/"
_MOST_FILE_BYTES = 1 << 28  # of one unpacked file; the published ones have up to 155 MB
_MOST_BYTES = 1 << 30  # of an unpacked archive
_MOST_NAME = 200  # letters of a class name


class Published(NamedTuple):
    """The published form of one data set."""

    base_url: str
    archive: str  # file name of the archive
    folder: str  # the folder inside it
    md5: str  # of the archive
    train: tuple[str, ...]  # files of the training images, in the published order
    test: str  # file of the test images
    meta: str  # file of the class names
    label_key: str
    names_key: str
    num_classes: int


PUBLISHED = {
    "cifar10": Published(
        base_url=BASE_URL,
        archive="cifar-10-python.tar.gz",
        folder="cifar-10-batches-py",
        md5="c58f30108f718f92721af3b95e74349a",
        train=tuple(f"data_batch_{i}" for i in range(1, 6)),
        test="test_batch",
        meta="batches.meta",
        label_key="labels",
        names_key="label_names",
        num_classes=10,
    ),
    "cifar100": Published(
        base_url=BASE_URL,
        archive="cifar-100-python.tar.gz",
        folder="cifar-100-python",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        train=("train",),
        test="test",
        meta="meta",
        label_key="fine_labels",
        names_key="fine_label_names",
        num_classes=100,
    ),
}


def locate(name: str, directory: Path) -> tuple[Path, ...] | None:
    """The files of data set `name` under `directory`: those of the extracted folder, else the archive, else None.

    A folder that lacks a file is passed over, so that a half-extracted one does not hide a good archive.
    """
    form = PUBLISHED[name]
    files = tuple(directory / form.folder / file for file in (*form.train, form.test, form.meta))
    if all(file.is_file() for file in files):
        return files
    archive = directory / form.archive
    return (archive,) if archive.is_file() else None


def read(name: str, files: tuple[Path, ...]) -> Source:
    """Decode what `locate` found.

    Raises:
        UserError: the archive or a file of the folder is damaged, or is not what its name says.
    """
    form = PUBLISHED[name]
    is_archive = len(files) == 1
    try:
        members = (
            _untar(files[0], form)
            if is_archive
            else {file.name: packed.read_file(file, _MOST_FILE_BYTES) for file in files}
        )
        batches = {file: pickles.loads(blob) for file, blob in members.items()}
        parts = [_images(batches[file], form) for file in form.train]
        test_image, test_label = _images(batches[form.test], form)
        class_names = tuple(pickles.text(value) for value in batches[form.meta][form.names_key])
        train_image = np.concatenate([image for image, _ in parts])
        train_label = np.concatenate([label for _, label in parts])
        if len(class_names) != form.num_classes or max(map(len, class_names)) > _MOST_NAME:
            raise ValueError(f"{len(class_names)} class names, or one of more than {_MOST_NAME} letters")
    except (*packed.DAMAGE, pickle.UnpicklingError, LookupError, TypeError, AttributeError) as error:
        where = files[0] if is_archive else files[0].parent
        packed.check_readable(files, error)
        raise UserError(
            f"{where} is damaged or is not the published {name} ({type(error).__name__}: "
            f"{names.in_sentence(error)}); delete it and run again, or fetch it anew."
        ) from error
    origin = f"published {'archive' if is_archive else 'folder'} {form.archive if is_archive else form.folder}"
    return Source(
        name, "published", origin, train_image, train_label, test_image, test_label, form.num_classes, class_names
    )


def download(archive: str, directory: Path, base_url: str, md5: str) -> Path:
    """Fetch the file `archive` below `base_url` into `directory` and return its path.

    The archive appears under its name only when it is complete and its checksum is right.

    Raises:
        UserError: wrong checksum, or `directory` cannot be written.
        ConnectionError: the server cannot be reached, refuses, or the transfer breaks off.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # the caller has said already what is being fetched
    transfer = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=(10, 60), chunk_size=1 << 16)

    def fetch(url: str, file: str, downloader: pooch.Pooch) -> None:
        Path(file).unlink()  # a temporary file that is 0600: made anew, it gets the permissions that the umask leaves
        transfer(url, file, downloader)

    url = base_url.rstrip("/") + "/" + archive
    try:
        network.reach(url)
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError(f"no write permission for {directory}")
        return Path(pooch.retrieve(url, f"md5:{md5}", archive, directory, downloader=fetch))
    except ValueError as error:  # pooch's word for a wrong hash; requests' own ValueErrors concern the URL
        if isinstance(error, requests.RequestException):
            raise ConnectionError(f"{type(error).__name__} for {url}") from error
        raise UserError(
            f"the download of {url} has the wrong checksum and was thrown away; "
            f"try again, or put a good {archive} into {directory} yourself."
        ) from error
    except requests.RequestException as error:
        raise ConnectionError(f"{type(error).__name__} for {url}") from error
    except ConnectionError:
        raise
    except OSError as error:
        raise UserError(
            f"cannot store {archive} in {directory} ({error.strerror or error}); "
            "choose another directory with --config.data.dir."
        ) from error


def _untar(path: Path, form: Published) -> dict[str, bytes]:
    """The wanted members of the archive, read in one pass and never extracted to disk; all of it, for its checksum."""
    wanted = {f"{form.folder}/{file}": file for file in (*form.train, form.test, form.meta)}
    found: dict[str, bytes] = {}
    with packed.tar_stream(path) as stored:
        for name, offset, size in packed.tar_members(stored, _MOST_BYTES):
            if file := wanted.get(name.removeprefix("./")):
                packed.check_size(size, _MOST_FILE_BYTES)
                stored.seek(offset)
                found[file] = packed.read_exactly(stored, size)
        packed.read_to_end(stored, _MOST_BYTES)
    if missing := sorted(set(wanted.values()) - set(found)):
        raise ValueError(f"no {', '.join(missing)}")
    return found


def _images(batch: dict[str, Any], form: Published) -> tuple[np.ndarray, np.ndarray]:
    """(u8[n, 32, 32, 3], i32[n]) of one batch; the file holds a row of 3072 bytes per image, colour planes in turn."""
    rows, values = batch["data"], batch[form.label_key]
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 3072:
        raise ValueError("the images are not rows of 3072 bytes")
    if not isinstance(values, list) or len(values) != len(rows):
        raise ValueError("there is not one label for each image")
    if not all(type(value) is int and 0 <= value < form.num_classes for value in values):
        raise ValueError(f"a label outside 0..{form.num_classes - 1}")
    image = np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return image, np.array(values, np.int32)
