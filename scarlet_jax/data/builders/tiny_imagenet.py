"""Tiny ImageNet: 200 classes of ImageNet, 64x64 pixels; 500 training and 50 validation images of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from scarlet_jax.data.builders import PUBLISHED
from scarlet_jax.data.builders.layout import Files, find, opened
from scarlet_jax.errors import UserError

_FORM = PUBLISHED["tiny_imagenet"]


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """Splits train and validation; the published test images have no labels and are left out.

    Classes are numbered by ascending WordNet id, as folders are by torchvision; some images are grayscale JPEGs.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "tiny-imagenet-200.zip, or the folder tiny-imagenet-200 extracted from it."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            homepage="http://cs231n.stanford.edu/",
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),  # path of the file
                    "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(num_classes=_FORM.num_classes),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        path = find(dl_manager, "tiny_imagenet")
        with opened(path, _FORM.folder) as files:
            classes = sorted(files.read("wnids.txt").decode().split())
            if len(set(classes)) != _FORM.num_classes:
                raise UserError(
                    f"wnids.txt in {path} lists {len(set(classes))} classes; published are {_FORM.num_classes}"
                )
            train, validation = _train(files, classes), _validation(files, classes)
        self.info.features["label"].names = classes
        return {"train": _examples(path, train), "validation": _examples(path, validation)}

    def _generate_examples(self) -> Iterator[Any]:
        raise NotImplementedError("_split_generators returns the examples")


def _train(files: Files, classes: list[str]) -> dict[str, str]:
    """Class of each training image, by its path."""
    found = {name: name.split("/")[1] for name in files.names if name.startswith("train/") and name.endswith(".JPEG")}
    if missing := sorted(set(classes) - set(found.values())):
        raise UserError(f"{files.where} has no training images of class {missing[0]}, which its wnids.txt lists.")
    if unknown := next((name for name, label in found.items() if label not in set(classes)), None):
        raise UserError(f"{files.where} has {unknown}, whose class wnids.txt does not list.")
    return found


def _validation(files: Files, classes: list[str]) -> dict[str, str]:
    """Class of each validation image, by its path."""
    labels: dict[str, str] = {}
    for number, line in enumerate(files.read("val/val_annotations.txt").decode().splitlines(), 1):
        image, _, rest = line.partition("\t")  # then the class and the four sides of a box
        label = rest.partition("\t")[0]
        if label not in classes:
            raise UserError(f"val/val_annotations.txt in {files.where}: line {number} names class {label!r}, unknown.")
        labels[f"val/images/{image}"] = label
    found = {name for name in files.names if name.startswith("val/images/")}
    if unknown := sorted(found - labels.keys()):
        raise UserError(f"{files.where}: val/val_annotations.txt does not say the class of {unknown[0]}")
    if missing := sorted(labels.keys() - found):
        raise UserError(f"{files.where} has no file {missing[0]}, which its val/val_annotations.txt lists.")
    return labels


def _examples(path: Path, labels: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    with opened(path, _FORM.folder) as files:
        for name in files.names:
            if name in labels:
                yield name, {"id": name, "image": files.image(name), "label": labels[name]}
