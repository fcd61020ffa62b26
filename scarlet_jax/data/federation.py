"""From a config to the images of a federation, divided among its clients."""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import numpy as np

from scarlet_jax import names, types
from scarlet_jax.data import PARTITIONERS, clients, sources
from scarlet_jax.data.partition import Partition, hold_out
from scarlet_jax.data.record import Source
from scarlet_jax.data.remarks import remarks
from scarlet_jax.data.resize import convert
from scarlet_jax.errors import UserError
from scarlet_jax.paths import cache_dir
from scarlet_jax.tables import load as load_function

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
    sources: dict[str, dict[str, str]]  # "private", and "public" where it is used -> name, version, origin
    seconds: float  # that loading took


def load(config: Any, public: bool = True) -> Federation:
    """Find, decode and divide the data of `config` (the ConfigDict of configs/base.py).

    Everything random follows from `config.partition.seed`, or from `config.seed` where that is open: one generator
    serves, in the reference's order, the training partition, the test partition, each client's validation part, the
    public pool and its validation part; separate ones choose the random parts of `train_size` and `test_size` and the
    pool that is carved out of the private data set when `data.public` names the same one.

    Args:
        config: of configs/base.py's fields.
        public: whether the public pool is used; otherwise there are no public images. A pool inside the private data
            set is set aside all the same, so that clients have the same images whatever the method.

    Raises:
        UserError: unknown or missing data set, or a field that is impossible with it; one sentence.
    """
    start = time.perf_counter()
    _check_fields(config)
    directory, cache = sources.data_dir(config.data.dir), cache_dir(config.data.cache_dir)
    seed = config.seed if config.partition.seed is None else config.partition.seed
    by_user = config.partition.name == "given" and not config.partition.file
    private = sources.load_source(config.data.private, directory, cache, field="config.data.private", clients=by_user)
    _check_parts(config.data.private, private)
    for remark in remarks(private):
        _log.warning(remark)
    owners = clients.given(config, private)
    shared = sources.same(config.data.private, config.data.public)
    source = private
    if not shared and public:
        size = private.train_image.shape[1:3]
        pool = config.data.public
        source = sources.load_source(pool, directory, cache, field="config.data.public", labelled=False, size=size)
    if private.train_image.shape[3] == 1 and source.train_image.shape[3] == 3:
        private = _in_colour(private)

    private_rows = np.arange(len(private.train_label))
    pool_rows = np.arange(len(source.train_image))
    if shared or public:
        _check_public_size(config, len(pool_rows), shared)
    if shared:
        pool_rows = _random_part(seed, _CARVE, pool_rows, config.public_size)
        private_rows = np.setdiff1d(private_rows, pool_rows)
    private_rows = _part(config, "train_size", seed, _TRAIN_PART, private_rows)
    test_rows = _part(config, "test_size", seed, _TEST_PART, np.arange(len(private.test_label)))

    private_label, test_label = private.train_label[private_rows], private.test_label[test_rows]
    if owners is not None:
        owners = clients.Clients(owners.train[private_rows], None if owners.test is None else owners.test[test_rows])
    rng = np.random.default_rng(seed)
    pool_size = len(pool_rows) if public else 0
    division = divide(config, rng, private_label, test_label, private.num_classes, pool_size, owners)
    shape = private.train_image.shape[1:]
    public_rows, public_val_rows = pool_rows[division.public], pool_rows[division.public_val]
    data = types.Data(
        private_image=_take(private.train_image, private_rows),
        private_label=private_label.astype(np.int32),
        test_image=_take(private.test_image, test_rows),
        test_label=test_label.astype(np.int32),
        public_image=convert(source.train_image[public_rows], shape, config.data.public),
        public_val_image=convert(source.train_image[public_val_rows], shape, config.data.public),
        train=_pad(division.train),
        val=_pad(division.val),
        test=_pad(division.test),
    )
    if not any(len(rows) for rows in division.test):
        _log.warning("The test images are too few to give each client one: clients are not evaluated.")
    seconds = time.perf_counter() - start
    return Federation(
        data=data,
        num_classes=private.num_classes,
        image_shape=(shape[0], shape[1], shape[2]),
        class_names=private.class_names or tuple(map(str, range(private.num_classes))),
        private_rows=private_rows,
        test_rows=test_rows,
        public_rows=public_rows,
        public_val_rows=public_val_rows,
        sources={"private": _describe(private)} | ({"public": _describe(source)} if public else {}),
        seconds=seconds,
    )


def divide(
    config: Any,
    rng: np.random.Generator,
    train_label: np.ndarray,
    test_label: np.ndarray,
    num_classes: int,
    pool_size: int,
    owners: clients.Clients | None = None,
) -> Division:
    """Everything that is drawn from the run's one generator, in the reference's order. `pool_size` 0: no public pool.

    Raises:
        UserError: a partition that is impossible.
    """
    partitioner = PARTITIONERS[config.partition.name]
    if owners is None:
        own = {field: config.partition[field] for field in partitioner.parameters}
    else:
        own = {"train_client": owners.train, "test_client": owners.test}
    divide = load_function(partitioner.divide)
    parts: Partition = divide(rng, train_label, test_label, config.num_clients, num_classes, **own)
    held = [hold_out(rng, rows, config.private_val_ratio) for rows in parts.train]
    pool = rng.choice(pool_size, config.public_size, replace=False) if pool_size else np.zeros(0, np.int64)
    public, public_val = hold_out(rng, pool, config.public_val_ratio)
    return Division(tuple(kept for kept, _ in held), tuple(val for _, val in held), parts.test, public, public_val)


def _check_fields(config: Any) -> None:
    for field in ("private_val_ratio", "public_val_ratio"):
        if not 0 <= config[field] < 1:
            raise UserError(f"config.{field} is {config[field]!r}; allowed is a number of at least 0 and below 1.")
    if config.partition.name not in PARTITIONERS:
        raise UserError(
            f"config.partition.name is {names.in_sentence(config.partition.name)}; allowed is one of "
            f"{', '.join(PARTITIONERS)}."
        )
    if config.seed < 0:
        raise UserError(f"config.seed is {config.seed}; allowed is a whole number of at least 0.")


def _check_parts(name: str, private: Source) -> None:
    """A private data set has images to train on and images to test with."""
    if not len(private.train_label):
        raise UserError(f"config.data.private is {names.in_sentence(name)}, which has no training images.")
    if not len(private.test_label):
        raise UserError(
            f"config.data.private is {names.in_sentence(name)}, which has no test images; allowed is a data set with a "
            "test part, or with two images of some class, so that one can be held out."
        )


def _check_public_size(config: Any, available: int, shared: bool) -> None:
    name = names.in_sentence(config.data.public)
    if not available:
        raise UserError(f"config.data.public is {name}, which has no training images.")
    # A pool carved out of the private data set must leave at least one image to each client.
    most = available - config.num_clients if shared else available
    if most < 1 and available == 1:
        raise UserError(f"config.data.public is {name}, of whose one training image no pool and clients can be made.")
    if most < 1:
        raise UserError(
            f"config.num_clients is {config.num_clients}; allowed is 1 to {available - 1}, since the {available} "
            f"training images of {name} make the public pool, too, and each client needs one."
        )
    if not 1 <= config.public_size <= most:
        why = f", of which each of {config.num_clients} clients needs one" if shared else ""
        raise UserError(
            f"config.public_size is {config.public_size}; allowed is 1 to {most}: config.data.public is {name} with "
            f"{available} training images{why}."
        )


def _part(config: Any, field: str, seed: int, stream: int, rows: np.ndarray) -> np.ndarray:
    """The random part of `rows` that config.data.<field> asks for; 0 means all of them."""
    size = config.data[field]
    if not 0 <= size <= len(rows):
        raise UserError(f"config.data.{field} is {size}; allowed is 1 to {len(rows)}, or 0 for all that are there.")
    return _random_part(seed, stream, rows, size) if size else rows


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
