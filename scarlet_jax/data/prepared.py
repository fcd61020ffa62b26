"""Data sets that TFDS has prepared, read without TensorFlow."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from scarlet_jax.data.record import Source, stratified_split
from scarlet_jax.errors import UserError

_NAME = re.compile(r"(?P<path>[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?)(:(?P<version>\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_BLOCK = 2000  # records decoded together: bounds the memory of the encoded images


def locate(name: str, directory: Path) -> Path | None:
    """The folder of the newest prepared version of `name` ("set", "set/config" or "set:1.2.3"), or None."""
    match = _NAME.fullmatch(name)
    if match is None or ".." in match["path"]:
        return None
    root = directory / match["path"]
    versions = [path.parent for path in root.glob("*/dataset_info.json") if _VERSION.fullmatch(path.parent.name)]
    if match["version"]:
        versions = [path for path in versions if path.name == match["version"]]
    return max(versions, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


def names(directory: Path) -> list[str]:
    """Every data set that is prepared under `directory`."""
    return sorted({path.parent.parent.name for path in directory.glob("*/*/dataset_info.json")})


def read(name: str, folder: Path) -> Source:
    """Decode every image of the prepared data set in `folder`; records are in the order of their `id`.

    Splits `train` and `test` are used (`validation` where there is no `test`, else a seeded fifth of `train`).

    Raises:
        UserError: not images of one size with one label each, or stored as TFRecord, or damaged.
    """
    features = _check(name, folder)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet():
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder_from_directory(folder)
            splits = [split for split in ("train", "test", "validation") if split in builder.info.splits][:2]
            if splits[:1] != ["train"]:
                raise UserError("there is no train split")
            image_feature, label_feature = builder.info.features["image"], builder.info.features["label"]
            raw = {"image": tfds.decode.SkipDecoding()}  # decoded here, by several threads
            parts = [
                _decode(builder.as_data_source(split, decoders=raw), features, image_feature.shape) for split in splits
            ]
        except UserError as error:
            raise UserError(f"data set {name!r} in {folder} cannot be used: {error}") from error
        except Exception as error:  # whatever a damaged folder makes TFDS, array_record or OpenCV raise
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise UserError(
                f"data set {name!r} in {folder} cannot be read ({type(error).__name__}: {reason}); prepare it again"
            ) from error
    image, target = parts[0]
    if len(parts) == 2:
        test_image, test_target = parts[1]
    else:
        train, test = stratified_split(target)
        image, target, test_image, test_target = image[train], target[train], image[test], target[test]
    class_names = tuple(label_feature.names or ())
    origin = f"TFDS {folder.parent.name} {folder.name}"
    return Source(
        name, folder.name, origin, image, target, test_image, test_target, label_feature.num_classes, class_names
    )


def _check(name: str, folder: Path) -> tuple[str, ...]:
    """The names of the features; refuses, before the slow import of TFDS, what could not be read afterwards."""
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
        features = json.loads((folder / "features.json").read_text())["featuresDict"]["features"]
        image, label = features.get("image", {}), features.get("label", {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"data set {name!r} in {folder} cannot be read ({error}); prepare it again") from error
    if info.get("fileFormat") != "array_record":
        raise UserError(
            f"data set {name!r} in {folder} is stored as {info.get('fileFormat') or 'tfrecord'}, which needs "
            "TensorFlow to read; prepare it again with file_format='array_record'"
        )
    if "image" not in image or "classLabel" not in label:
        raise UserError(
            f"data set {name!r} in {folder} has features {', '.join(features)}; "
            "an 'image' and a class 'label' are needed"
        )
    return tuple(features)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and progress lines of TFDS, which mean nothing to the user of this program."""
    logger = logging.getLogger("absl")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _decode(
    source: Sequence[Any], features: tuple[str, ...], shape: tuple[int | None, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(u8[n, H, W, channels], i32[n]) of one split, records sorted by `id` where there is one."""
    import cv2

    count = len(source)
    label = np.zeros(count, np.int32)
    channels = shape[2] or 3
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    ids: list[Any] = []

    def pixels(blob: bytes) -> np.ndarray:
        decoded = cv2.imdecode(np.frombuffer(blob, np.uint8), flag)
        if decoded is None:
            raise ValueError("a record holds no readable image")
        return decoded if channels > 1 else decoded[:, :, None]

    image = np.zeros((0, 0, 0, channels), np.uint8)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, count, _BLOCK):
            rows = range(start, min(start + _BLOCK, count))
            records = source.__getitems__(rows) if hasattr(source, "__getitems__") else [source[i] for i in rows]
            decoded = list(pool.map(pixels, [record["image"] for record in records], chunksize=100))
            if start == 0:
                image = np.zeros((count, *decoded[0].shape), np.uint8)
            sizes = {one.shape for one in decoded} | {image.shape[1:]}
            if len(sizes) > 1:
                raise UserError(f"the images have different sizes ({sorted(sizes)[:3]}); all must have one size")
            image[start : start + len(rows)] = decoded
            label[start : start + len(rows)] = [record["label"] for record in records]
            ids += [record["id"] for record in records] if "id" in features else []
    if ids:
        order = np.argsort(np.array(ids), kind="stable")
        image, label = image[order], label[order]
    if count and label.min() < 0:
        raise UserError("some images have no label (-1)")
    return image, label
