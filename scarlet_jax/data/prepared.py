"""Data sets that TFDS has prepared, read without TensorFlow."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scarlet_jax.data import description, packed
from scarlet_jax.data.record import Images, Source, stratified_split
from scarlet_jax.data.resize import in_size
from scarlet_jax.errors import UserError, first_line

_NAME = re.compile(r"(?P<path>[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?)(:(?P<version>\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_MOST_PIXELS = 1 << 26  # of an image that is decoded
_BLOCK = 2000  # records decoded together, at most: bounds the memory of the encoded images
_SHARE = 50  # of them that a thread is given at once
_BLOCK_BYTES = 1 << 25  # of decoded images, about


def locate(name: str, directory: Path) -> Path | None:
    """The folder of the newest prepared version of `name` ("set", "set/config" or "set:1.2.3"), or None."""
    match = _NAME.fullmatch(name)
    if match is None or not is_name(name):
        return None
    root = directory / match["path"]
    versions = [path.parent for path in root.glob("*/dataset_info.json") if _VERSION.fullmatch(path.parent.name)]
    if match["version"]:
        versions = [path for path in versions if path.name == match["version"]]
    return max(versions, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


def is_name(name: str) -> bool:
    """Whether `name` has the form of a TFDS name."""
    return len(name) <= description.MOST_LETTERS and ".." not in name and _NAME.fullmatch(name) is not None


def names(directory: Path) -> list[str]:
    """Every data set that is prepared under `directory`."""
    return sorted({path.parent.parent.name for path in directory.glob("*/*/dataset_info.json")})


class Form(NamedTuple):
    """Which splits are read, and in which size."""

    size: tuple[int, int] | None = None  # H, W that every image is brought to; None keeps the one size that they have
    pool: bool = False  # all of train and nothing else, for a public pool

    def __str__(self) -> str:
        """For the name of a cache entry; empty for the common form."""
        return "".join(["-{}x{}".format(*self.size) if self.size else "", "-pool" if self.pool else ""])


def form(folder: Path, size: tuple[int, int] | None, labelled: bool) -> Form:
    """The form in which the data set in `folder` serves: the common one wherever that is the same.

    Args:
        folder: of the prepared data set.
        size: (H, W) of the private images if this is the public data set, else None.
        labelled: False for a public pool, which needs no test images.
    """
    # `read` says what is wrong.
    with contextlib.suppress(UserError, OSError, ValueError, LookupError, TypeError, AttributeError):
        features = packed.read_json(folder / "features.json")["featuresDict"]["features"]
        splits = [split["name"] for split in packed.read_json(folder / "dataset_info.json")["splits"]]
        dimensions = tuple(features["image"]["image"]["shape"]["dimensions"][:2])
        size = None if size and dimensions == tuple(map(str, size)) else size
        pool = not labelled and (size is not None or not {"test", "validation"} & set(splits))
        return Form(size, pool)
    return Form(size, not labelled)


def read(name: str, folder: Path, form: Form = Form()) -> Source:  # noqa: B008 - immutable
    """The prepared data set in `folder`, its images yet to be decoded; records are in the order of their `id`.

    Splits `train` and `test` are used (`validation` where there is no `test`, else a seeded fifth of `train`).

    Raises:
        UserError: not images of one size (unless `form` gives one) with one label each, or stored as TFRecord, or
            damaged. Decoding the images raises it, too.
    """
    has_id = "id" in description.check(name, folder)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet(), _explained(name, folder):
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(folder)
        splits = [split for split in ("train", "test", "validation") if split in builder.info.splits][:2]
        if splits[:1] != ["train"]:
            raise UserError("there is no train split.")
        features, num_classes = builder.info.features, builder.info.features["label"].num_classes
        description.check_classes(num_classes, features["label"].names)
        channels = features["image"].shape[2] or 3
        if channels not in (1, 3):
            raise UserError(f"its images have {channels} channels; images with 1 or 3 can be read.")
        raw = tfds.decode.DeserializeMethod.RAW_BYTES  # parsed here: TFDS's own parser took most of the time
        records = [builder.as_data_source(s, deserialize_method=raw) for s in splits[: 1 if form.pool else 2]]
        stored = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        index = [_index(part, has_id, num_classes, stored) for part in records]
        shape = (*form.size, channels) if form.size else _pixels(_field(records[0][0], "image"), channels).shape

    def images(part: int, rows: np.ndarray) -> Images:
        def blocks() -> Iterator[np.ndarray]:
            with _quiet(), _explained(name, folder):
                yield from _decode(records[part], rows, shape, form.size is not None, has_id, name)

        return Images((len(rows), *shape), blocks)

    order, label = index[0]
    test_part, (test_order, test_label) = (1, index[1]) if len(index) == 2 else (0, (order[:0], label[:0]))
    if len(index) == 1 and not form.pool:
        train, test = stratified_split(label)
        order, label, test_order, test_label = order[train], label[train], order[test], label[test]
    return Source(
        name=name,
        version=folder.name,
        origin=f"TFDS {folder.parent.name} {folder.name}",
        train_image=images(0, order),  # type: ignore[arg-type] # the cache decodes them
        train_label=label,
        test_image=images(test_part, test_order),  # type: ignore[arg-type]
        test_label=test_label,
        num_classes=num_classes,
        class_names=tuple(features["label"].names or ()),
    )


@contextlib.contextmanager
def _explained(name: str, folder: Path) -> Iterator[None]:
    """Whatever a damaged folder makes TFDS, array_record or OpenCV raise, as a sentence."""
    try:
        yield
    except UserError as error:
        raise UserError(f"data set {name!r} in {folder} cannot be used: {str(error).rstrip('.')}.") from error
    except Exception as error:
        packed.check_readable(sorted(folder.iterdir()) if folder.is_dir() else [folder], error)
        raise UserError(
            f"data set {name!r} in {folder} cannot be read ({type(error).__name__}: {first_line(error)}); prepare it "
            "again."
        ) from error


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


def _index(source: Sequence[bytes], has_id: bool, num_classes: int, stored: int) -> tuple[np.ndarray, np.ndarray]:
    """(row on disk i64[n], label i32[n]) of one split, in the order of `id` where there is one.

    `stored` bytes are on disk, which bounds the number of records that there can be.
    """
    if len(source) > stored:
        raise UserError(f"dataset_info.json counts {len(source):,} images, more than its files have bytes.")
    ids: list[Any] = []
    label = np.zeros(len(source), np.int32)
    for rows in _blocks(np.arange(len(source)), _BLOCK):
        records = _records(source, rows)
        some = [_field(record, "label") for record in records]
        if -1 in some:
            raise UserError("some images have no label (-1).")
        if some and not 0 <= min(some) <= max(some) < num_classes:
            raise UserError(f"a label is {max(some)}, and {num_classes} classes are declared.")
        label[rows] = some
        ids += [_field(record, "id") for record in records] if has_id else []
    order = np.argsort(np.array(ids), kind="stable") if has_id else np.arange(len(source))
    return order, label[order]


def _blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _records(source: Sequence[bytes], rows: np.ndarray) -> list[bytes]:
    numbers = rows.tolist()
    return list(source.__getitems__(numbers)) if hasattr(source, "__getitems__") else [source[i] for i in numbers]


def _field(record: bytes, name: str) -> Any:
    """The one value of a feature in a serialised `tf.train.Example`."""
    from tensorflow_datasets.proto import tf_example_pb2

    feature = tf_example_pb2.Example.FromString(record).features.feature[name]
    return getattr(feature, feature.WhichOneof("kind")).value[0]


def _pixels(blob: bytes, channels: int) -> np.ndarray:
    """u8[H, W, channels] of an encoded image; a grayscale one is repeated if channels is 3."""
    import cv2

    width, height = _stated_size(blob)
    if width * height > _MOST_PIXELS:
        raise ValueError(f"an image states {width:,}x{height:,} pixels, more than {_MOST_PIXELS:,}")
    decoded = cv2.imdecode(
        np.frombuffer(blob, np.uint8), cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    )
    if decoded is None:
        raise ValueError("a record holds no readable image")
    return decoded if channels > 1 else decoded[:, :, None]


def _stated_size(blob: bytes) -> tuple[int, int]:
    """Width and height as the header of an encoded image states them."""
    if blob.startswith(b"\x89PNG") and len(blob) >= 24:
        return int.from_bytes(blob[16:20]), int.from_bytes(blob[20:24])
    from PIL import Image

    try:
        with Image.open(io.BytesIO(blob)) as picture:
            return picture.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError("a record holds no readable image") from error


def _decode(
    source: Sequence[bytes], rows: np.ndarray, shape: tuple[int, ...], resize: bool, has_id: bool, title: str
) -> Iterator[np.ndarray]:
    """u8[b, H, W, channels] of the records `rows`, decoded by several threads (OpenCV releases Python's lock)."""
    from tqdm import tqdm

    def one(record: bytes) -> np.ndarray:
        try:
            decoded = _pixels(_field(record, "image"), shape[2])
        except ValueError as error:
            raise ValueError(f"{error}: {_field(record, 'id').decode()}" if has_id else str(error)) from error
        return in_size(decoded, shape[0], shape[1]) if resize else decoded

    block = max(1, min(_BLOCK, _BLOCK_BYTES // int(np.prod(shape))))
    bar = tqdm(total=len(rows), desc=f"decoding {title}", unit=" images", disable=not sys.stderr.isatty(), leave=False)
    with bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for some in _blocks(rows, block):
            records = _records(source, some)
            shares = (records[start : start + _SHARE] for start in range(0, len(records), _SHARE))
            decoded = [image for share in pool.map(lambda share: list(map(one, share)), shares) for image in share]
            sizes = {image.shape for image in decoded} | {shape}
            if len(sizes) > 1:
                raise UserError(
                    f"the images have different sizes ({sorted(sizes)[:3]}); private images must have one size, "
                    "public ones are brought to it."
                )
            bar.update(len(some))
            yield np.stack(decoded)
