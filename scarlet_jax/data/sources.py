"""From the name of a data set to its decoded images."""

from __future__ import annotations

import difflib
import functools
import logging
import os
from pathlib import Path

import numpy as np

from scarlet_jax import names
from scarlet_jax.data import archives, builders, disk_cache, npz, prepared
from scarlet_jax.data.record import Source, stratified_split
from scarlet_jax.errors import UserError
from scarlet_jax.paths import expand

_log = logging.getLogger(__name__)


def published() -> dict[str, archives.Published | builders.Published]:
    """The data sets that are read from their published archives."""
    return {**archives.PUBLISHED, **builders.PUBLISHED}


def class_counts() -> dict[str, int]:
    """C of the data sets of which it is known without reading them."""
    return {"digits": 10} | {name: form.num_classes for name, form in published().items()}


def image_shape(name: str) -> tuple[int, int, int] | None:
    """H, W and channels of the images of a data set; None where they are not known without reading it."""
    known = {"digits": (8, 8, 1)} | dict.fromkeys(archives.PUBLISHED, (32, 32, 3))
    return known.get(name.partition(":")[0])


def data_dir(configured: str = "") -> Path:
    """Where data sets are looked for: `configured`, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return expand(configured or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def same(one: str, other: str) -> bool:
    """Whether two names mean the same data set."""
    if one.endswith(".npz") and other.endswith(".npz"):
        return expand(one).resolve() == expand(other).resolve()
    return one == other


def load_source(
    name: str,
    directory: Path,
    cache: Path,
    *,
    field: str = "config.data.private",
    labelled: bool = True,
    clients: bool = False,
    size: tuple[int, int] | None = None,
    base_url: str = "",
    md5: str | None = None,
) -> Source:
    """The data set `name`: decoded, uint8, in a fixed order.

    Tried in this order: "digits" or a path that ends in .npz; what TFDS has prepared in `directory`; the published
    archive or its extracted folder there; a download of the archive into it; a builder of TFDS's catalog. `field` is
    the config field that holds the name, for messages. `labelled=False`, for a public pool, allows an .npz without
    labels, and makes all images training images unless the data set is published with test images. `clients` also
    reads the client of every image where an .npz has it. `size` (H, W) is the size the images will be brought to: where
    TFDS has prepared them they are, while they are decoded, and need not have one size before. `base_url` and `md5`
    choose another place and checksum for the download.

    Raises:
        UserError: unknown name, nothing found, or what was found is damaged; one sentence.
    """
    if name == "digits":
        return _digits(labelled)
    if name.endswith(".npz"):
        try:
            return npz.read(expand(name), labelled, clients)
        except UserError as error:
            raise UserError(f"{field}: {error}") from error
    folder = prepared.locate(name, directory)
    if folder is None and name in archives.PUBLISHED:
        found = archives.locate(name, directory) or (_fetch(name, directory, base_url, md5, field),)
        return disk_cache.cached(cache, name, "published", found, functools.partial(archives.read, name, found))
    folder = folder or _prepare(name, directory, base_url, md5, field)
    files = tuple(sorted(path for path in folder.iterdir() if path.is_file()))
    form = prepared.form(folder, size, labelled)
    decode = functools.partial(prepared.read, name, folder, form)
    return disk_cache.cached(cache, name, f"{folder.name}{form}", files, decode)


def _prepare(name: str, directory: Path, base_url: str, md5: str | None, field: str) -> Path:
    """The folder of a data set that TFDS prepares now."""
    if name in builders.PUBLISHED:
        if builders.locate(name, directory) is None:
            _fetch(name, directory, base_url, md5, field)
    elif not prepared.is_name(name) or not builders.in_catalog(name):
        raise UserError(_unknown(name, directory, field))
    _log.info("TFDS prepares %s in %s (once)", name, directory)
    try:
        builders.prepare(name, directory)
    except UserError as error:
        if prepared.locate(name, directory) is None:  # another process may have been faster
            raise UserError(f"{field}: {error}") from error
    folder = prepared.locate(name, directory)
    if folder is None:
        raise UserError(
            f"{field} is {name!r}, which is not in {directory} though TFDS has prepared it; give its full name."
        )
    return folder


def _fetch(name: str, directory: Path, base_url: str, md5: str | None, field: str) -> Path:
    form = published()[name]
    _log.info("downloading %s into %s", form.archive, directory)
    try:
        return archives.download(form.archive, directory, base_url or form.base_url, md5 or form.md5)
    except ConnectionError as error:
        raise UserError(
            f"{field} is {name!r}, which is not in {directory}: neither {name}/<version>/ as TFDS prepares it, nor the "
            f"published {form.archive} or its folder {form.folder}, and downloading the archive failed ({error}); put "
            "one of them there, or name the directory that has one with --config.data.dir or TFDS_DATA_DIR."
        ) from error


def _unknown(name: str, directory: Path, field: str) -> str:
    known = {"digits", *published(), *prepared.names(directory)}
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}" if close else f"known here: {', '.join(sorted(known))}"
    shown = names.in_sentence(name)
    return (
        f"{field} is {shown}, which is not a data set that can be found: looked in {directory} for "
        f"{shown[1:-1]}/<version>/ as TFDS prepares it, and in TFDS's catalog (only {', '.join(published())} are also "
        f"read from published archives); {hint}, or give the path of an .npz file."
    )


def _digits(labelled: bool) -> Source:
    """scikit-learn's 1,797 digits, 8x8 pixels in 17 shades, with a fixed split; a pool has no use for a test part."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    image = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    label = bunch.target.astype(np.int32)
    everything = np.arange(len(label))
    train, test = stratified_split(label) if labelled else (everything, everything[:0])
    return Source(
        name="digits",
        version="1",
        origin="scikit-learn's digits",
        train_image=image[train],
        train_label=label[train],
        test_image=image[test],
        test_label=label[test],
        num_classes=10,
        class_names=tuple(str(digit) for digit in range(10)),
        held_out=(train, test),
    )
