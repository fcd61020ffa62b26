"""A user's own data set: one `.npz` file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from scarlet_jax.data.record import Source, stratified_split
from scarlet_jax.errors import UserError


def read(path: Path, labelled: bool = True) -> Source:
    """Read `image` u8[n, H, W, channels] or u8[n, H, W], `label` integer[n], and optionally `test_image`, `test_label`.

    Without test arrays a seeded fifth of every class becomes the test part. With `labelled=False` labels may be
    missing altogether (a public pool): everything is then training images and the number of classes is 0.

    Raises:
        UserError: no such file, not an `.npz`, a missing array, or one of a wrong type, shape or length.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("image", "label", "test_image", "test_label") if key in file}
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError) as error:
        raise UserError(f"{path} is not a readable .npz of plain arrays ({error})") from error
    if "image" not in arrays or (labelled and "label" not in arrays):
        raise UserError(f"{path} needs the arrays image and label; it has {', '.join(arrays) or 'neither'}")
    if ("test_image" in arrays) != ("test_label" in arrays) and labelled:
        raise UserError(f"{path} has only one of test_image and test_label; give both or neither")

    image = _image(path, "image", arrays["image"])
    if "label" not in arrays:
        none = np.zeros(0, np.int32)
        return Source(str(path), "", f"file {path.name}", image, np.zeros(len(image), np.int32), image[:0], none, 0, ())
    label = _label(path, "label", arrays["label"], len(image))
    if "test_image" in arrays and "test_label" in arrays:
        test_image = _image(path, "test_image", arrays["test_image"])
        test_label = _label(path, "test_label", arrays["test_label"], len(test_image))
        if test_image.shape[1:] != image.shape[1:]:
            raise UserError(f"{path}: test_image is {test_image.shape[1:]} but image is {image.shape[1:]}")
    else:
        train, test = stratified_split(label)
        image, label, test_image, test_label = image[train], label[train], image[test], label[test]
    num_classes = int(max(label.max(initial=-1), test_label.max(initial=-1))) + 1
    return Source(str(path), "", f"file {path.name}", image, label, test_image, test_label, num_classes, ())


def _image(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or 0 in array.shape:
        raise UserError(
            f"{path}: {key} is {array.dtype}{list(array.shape)}; it must be uint8[n, H, W, channels] "
            "or uint8[n, H, W], pixels from 0 to 255"
        )
    return array if array.ndim == 4 else array[..., None]


def _label(path: Path, key: str, array: np.ndarray, count: int) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.integer) or array.shape != (count,):
        raise UserError(
            f"{path}: {key} is {array.dtype}{list(array.shape)}; it must be integer[{count}], one per image"
        )
    if array.min() < 0 or array.max() > 65_535:
        raise UserError(
            f"{path}: {key} holds {array.min()}..{array.max()}; classes are numbered from 0, at most 65,535"
        )
    return array.astype(np.int32)
