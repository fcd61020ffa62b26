"""From a config to the images of a federation, divided among its clients."""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import numpy as np

from scarlet_jax import types
from scarlet_jax.data import sources
from scarlet_jax.data.partition import PARTITIONERS, Partition, hold_out
from scarlet_jax.data.record import Source
from scarlet_jax.data.resize import convert
from scarlet_jax.errors import UserError
from scarlet_jax.folders import cache_dir

_log = logging.getLogger(__name__)
# Streams beside the one of the partition, which is left exactly as the reference draws it.
_CARVE, _TRAIN_PART, _TEST_PART = 1, 2, 3


class Division(NamedTuple):
    """Who has what, as row numbers: of the private store, the test store and the public data set."""

    train: tuple[np.ndarray, ...]  # K x i64[n_k]
    val: tuple[np.ndarray, ...]  # K x i64[v_k]
    test: tuple[np.ndarray, ...]  # K x i64[t_k]
    public: np.ndarray  # i64[N]
    public_val: np.ndarray  # i64[V]


class Federation(NamedTuple):
    """The images of a run and what is known about them. All arrays are NumPy's; some may be read-only memory maps."""

    data: types.Data
    num_classes: int
    image_shape: tuple[int, int, int]  # H, W, channels
    class_names: tuple[str, ...]  # of length num_classes; "0", "1", ... if the data set has no names
    private_rows: np.ndarray  # i64[n] row of the data set's train split behind each row of private_image
    test_rows: np.ndarray  # i64[t] row of its test split behind each row of test_image
    public_rows: np.ndarray  # i64[N] row of the public train split behind each row of public_image
    public_val_rows: np.ndarray  # i64[V]
    sources: dict[str, dict[str, str]]  # "private" and "public" -> name, version, origin
    seconds: float  # that loading took


def load(config: Any) -> Federation:
    """Find, decode and divide the data of `config` (the ConfigDict of configs/base.py).

    Everything random follows from `config.seed`: one generator serves, in the reference's order, the training
    partition, the test partition, each client's validation part, the public pool and its validation part; separate
    ones choose the random parts of `train_size` and `test_size` and the pool that is carved out of the private data
    set when `data.public` names the same one.

    Raises:
        UserError: unknown or missing data set, or a field that is impossible with it; one sentence.
    """
    start = time.perf_counter()
    _check_fields(config)
    directory, cache = sources.data_dir(config.data.dir), cache_dir(config.data.cache_dir)
    private = sources.load_source(config.data.private, directory, cache, field="data.private")
    if not len(private.train_label):
        raise UserError(f"data.private={config.data.private!r} has no training images")
    shared = sources.same(config.data.private, config.data.public)
    public = private if shared else sources.load_source(
        config.data.public, directory, cache, field="data.public", labelled=False, size=private.train_image.shape[1:3]
    )  # fmt: skip
    if private.train_image.shape[3] == 1 and public.train_image.shape[3] == 3:
        private = _in_colour(private)

    private_rows = np.arange(len(private.train_label))
    pool_rows = np.arange(len(public.train_image))
    _check_public_size(config, len(pool_rows), shared)
    if shared:
        pool_rows = _random_part(config.seed, _CARVE, pool_rows, config.public_size)
        private_rows = np.setdiff1d(private_rows, pool_rows)
    private_rows = _part(config, "train_size", _TRAIN_PART, private_rows)
    test_rows = _part(config, "test_size", _TEST_PART, np.arange(len(private.test_label)))

    private_label, test_label = private.train_label[private_rows], private.test_label[test_rows]
    division = divide(
        config, np.random.default_rng(config.seed), private_label, test_label, private.num_classes, len(pool_rows)
    )
    shape = private.train_image.shape[1:]
    public_rows, public_val_rows = pool_rows[division.public], pool_rows[division.public_val]
    data = types.Data(
        private_image=_take(private.train_image, private_rows),
        private_label=private_label.astype(np.int32),
        test_image=_take(private.test_image, test_rows),
        test_label=test_label.astype(np.int32),
        public_image=convert(public.train_image[public_rows], shape, config.data.public),
        public_val_image=convert(public.train_image[public_val_rows], shape, config.data.public),
        train=_pad(division.train),
        val=_pad(division.val),
        test=_pad(division.test),
    )
    seconds = time.perf_counter() - start
    for role, source in (("private", private), ("public", public)):
        _log.debug("%s data: %s (%s)", role, source.name, source.origin)
    return Federation(
        data=data,
        num_classes=private.num_classes,
        image_shape=(shape[0], shape[1], shape[2]),
        class_names=private.class_names or tuple(map(str, range(private.num_classes))),
        private_rows=private_rows,
        test_rows=test_rows,
        public_rows=public_rows,
        public_val_rows=public_val_rows,
        sources={"private": _describe(private), "public": _describe(public)},
        seconds=seconds,
    )


def divide(
    config: Any,
    rng: np.random.Generator,
    train_label: np.ndarray,
    test_label: np.ndarray,
    num_classes: int,
    pool_size: int,
) -> Division:
    """Everything that is drawn from the run's one generator, in the reference's order.

    Raises:
        UserError: unknown `partition.name`, or a partition that is impossible.
    """
    if config.partition.name not in PARTITIONERS:
        raise UserError(f"partition.name={config.partition.name!r} is not one of {', '.join(PARTITIONERS)}")
    partitioner, fields = PARTITIONERS[config.partition.name]
    own = {field: config.partition[field] for field in fields}
    parts: Partition = partitioner(rng, train_label, test_label, config.num_clients, num_classes, **own)
    held = [hold_out(rng, rows, config.private_val_ratio) for rows in parts.train]
    pool = rng.choice(pool_size, config.public_size, replace=False)
    public, public_val = hold_out(rng, pool, config.public_val_ratio)
    return Division(tuple(kept for kept, _ in held), tuple(val for _, val in held), parts.test, public, public_val)


def _check_fields(config: Any) -> None:
    for field in ("private_val_ratio", "public_val_ratio"):
        if not 0 <= config[field] < 1:
            raise UserError(f"{field}={config[field]} is not allowed: it must be at least 0 and below 1")
    if config.partition.name not in PARTITIONERS:
        raise UserError(f"partition.name={config.partition.name!r} is not one of {', '.join(PARTITIONERS)}")
    if config.seed < 0:
        raise UserError(f"seed={config.seed} is not allowed: it must be 0 or more")


def _check_public_size(config: Any, available: int, shared: bool) -> None:
    # A pool carved out of the private data set must leave at least one image to each client.
    most = available - config.num_clients if shared else available
    if not 1 <= config.public_size <= most:
        why = f", of which each of {config.num_clients} clients needs one" if shared else ""
        raise UserError(
            f"public_size={config.public_size} is not allowed: data.public={config.data.public!r} has {available} "
            f"training images{why}; choose 1 to {most}"
        )


def _part(config: Any, field: str, stream: int, rows: np.ndarray) -> np.ndarray:
    """The random part of `rows` that config.data.<field> asks for; 0 means all of them."""
    size = config.data[field]
    if not 0 <= size <= len(rows):
        raise UserError(f"data.{field}={size} is not allowed: {len(rows)} images are there; 0 means all of them")
    return _random_part(config.seed, stream, rows, size) if size else rows


def _random_part(seed: int, stream: int, rows: np.ndarray, size: int) -> np.ndarray:
    """A random part of `rows` in ascending order, from a generator of its own."""
    return np.sort(np.random.default_rng([seed, stream]).choice(rows, size, replace=False))


def _take(image: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows of an image store; the store itself, uncopied, when that is all of them in order."""
    return image if len(rows) == len(image) else image[rows]


def _pad(parts: tuple[np.ndarray, ...]) -> types.Split:
    """Row numbers of unequal length as one i32[K, n_max], n_max at least 1, padded with 0."""
    size = np.array([len(part) for part in parts], np.int32)
    index = np.zeros((len(parts), max(1, size.max(initial=0))), np.int32)
    for row, part in zip(index, parts, strict=True):
        row[: len(part)] = part
    return types.Split(index, size)


def _in_colour(private: Source) -> Source:
    """The same with its gray images repeated in three channels, as where they meet a colour pool in the reference."""
    return private._replace(
        train_image=np.repeat(private.train_image, 3, axis=3), test_image=np.repeat(private.test_image, 3, axis=3)
    )


def _describe(source: Source) -> dict[str, str]:
    return {"name": source.name, "version": source.version, "origin": source.origin}
