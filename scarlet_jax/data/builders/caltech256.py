"""Caltech-256: 30,607 images of 256 categories and of clutter, of many sizes, some of them grayscale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from scarlet_jax.data.builders import PUBLISHED
from scarlet_jax.data.builders.layout import Files, find, opened
from scarlet_jax.errors import UserError

_FORM = PUBLISHED["caltech256"]


class Caltech256(tfds.core.GeneratorBasedBuilder):
    """One split, train, because none is published; clutter is kept as class 257 (label 256)."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "256_ObjectCategories.tar, or the folder 256_ObjectCategories extracted from it."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            homepage="https://data.caltech.edu/records/nyy15-4j048",
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),  # path of the file
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(num_classes=_FORM.num_classes),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        path = find(dl_manager, "caltech256")
        with opened(path, _FORM.folder) as files:
            classes = _classes(files)
        self.info.features["label"].names = classes
        return {"train": _examples(path)}

    def _generate_examples(self) -> Iterator[Any]:
        raise NotImplementedError("_split_generators returns the examples")


def _images(files: Files) -> list[str]:
    return [name for name in files.names if name.count("/") == 1 and name.lower().endswith(".jpg")]


def _classes(files: Files) -> list[str]:
    """Folder names such as 001.ak47, one for each number."""
    found = sorted({name.split("/")[0] for name in _images(files)})
    numbers = [folder.partition(".")[0] for folder in found]
    for number in range(1, _FORM.num_classes + 1):
        if numbers.count(f"{number:03}") != 1:
            raise UserError(f"{files.where} needs one folder {number:03}.<name> of .jpg images for class {number}")
    if len(found) != _FORM.num_classes:
        raise UserError(f"{files.where} has {len(found)} folders of images; published are {_FORM.num_classes}")
    return found


def _examples(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with opened(path, _FORM.folder) as files:
        for name in _images(files):
            yield name, {"id": name, "image": files.image(name), "label": name.split("/")[0]}
