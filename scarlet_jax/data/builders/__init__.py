"""TFDS dataset builders for data sets that the TFDS catalog lacks; they prepare without TensorFlow.

`prepare` runs a builder: ours, or one of the catalog's. A builder of ours can also be used by TFDS alone: importing its
module registers it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

from scarlet_jax.data import disk_cache, network
from scarlet_jax.errors import UserError, first_line


class Published(NamedTuple):
    """The published form of a data set that has a builder here."""

    builder: str  # class in the module of the data set's name
    base_url: str
    archive: str  # file name of the archive
    folder: str  # the folder inside it
    md5: str  # of the archive
    num_classes: int


PUBLISHED = {
    "tiny_imagenet": Published(
        builder="TinyImagenet",
        base_url="http://cs231n.stanford.edu/",
        archive="tiny-imagenet-200.zip",
        folder="tiny-imagenet-200",
        md5="90528d7ca1a48142e341f4ef8d21d0de",
        num_classes=200,
    ),
    "caltech256": Published(
        builder="Caltech256",
        base_url="https://data.caltech.edu/records/nyy15-4j048/files/",
        archive="256_ObjectCategories.tar",
        folder="256_ObjectCategories",
        md5="67b4f42ca05d46448c6bb8ecd2220f6d",
        num_classes=257,
    ),
}
_SUFFIXES = ("", ".zip", ".tar", ".tar.gz", ".tgz")  # of the folder's name


def locate(name: str, directory: Path) -> Path | None:
    """The extracted folder of data set `name` under `directory`, else an archive of it, else None."""
    folder = PUBLISHED[name].folder
    return next((path for suffix in _SUFFIXES if (path := directory / (folder + suffix)).exists()), None)


def in_catalog(name: str) -> bool:
    """Whether TFDS has a builder for `name` ("set", "set/config" or "set:1.2.3"). Imports TFDS."""
    import tensorflow_datasets as tfds

    return name.partition(":")[0].partition("/")[0] in tfds.list_builders(with_community_datasets=False)


def prepare(name: str, directory: Path) -> None:
    """Let TFDS prepare `name` in `directory`, as array_record; it appears there when it is complete.

    Raises:
        UserError: damaged or missing files, no connection, or a builder that needs TensorFlow; one sentence.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow_datasets as tfds

    disk_cache.sweep(directory / name.partition(":")[0], "incomplete.*")  # TFDS's, which it never looks at again
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    before = _there(directory)
    loggers = [logging.getLogger(talker) for talker in ("absl", "urllib3")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), network.impatient_tfds():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            if name in PUBLISHED:
                module = importlib.import_module(f"{__name__}.{name}")
                builder = getattr(module, PUBLISHED[name].builder)(data_dir=directory, file_format="array_record")
            else:
                builder = tfds.builder(name, data_dir=directory, file_format="array_record")
            config = tfds.download.DownloadConfig(manual_dir=directory)
            builder.download_and_prepare(download_config=config, file_format="array_record")
    except (Exception, SystemExit) as error:  # whatever a builder of the catalog, a network or a disk may raise
        _tidy(directory, before)
        raise _explained(name, directory, error) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _there(directory: Path) -> set[Path]:
    """What TFDS may add to: the data directory's own entries, and everything among its downloads."""
    if not directory.exists():
        return set()
    return {directory, *directory.glob("*"), *(directory / "downloads").rglob("*")}


def _tidy(directory: Path, before: set[Path]) -> None:
    """Remove what a failed preparation left: unfinished downloads and empty folders. Whole downloads serve again."""
    for path in (directory / "downloads").rglob("*.tmp.*"):
        if path not in before:
            shutil.rmtree(path, ignore_errors=True)
    for path in sorted(_there(directory) - before, reverse=True):  # a folder behind what is in it
        with contextlib.suppress(OSError):  # a file, or not empty
            path.rmdir()


def _explained(name: str, directory: Path, error: BaseException) -> UserError:
    """The sentence of a UserError somewhere in the chain; else what TFDS said, and what to do."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        cause = cause.__cause__ or cause.__context__
    needs = "tensorflow" in str(error).lower()
    reason = "TensorFlow is needed to write its images" if needs else first_line(error)
    return UserError(
        f"data set {name!r} could not be prepared in {directory} ({reason}); where TensorFlow is installed, "
        f"`tfds build {name} --file_format=array_record --data_dir={directory}` prepares it, and it is read without."
    )
