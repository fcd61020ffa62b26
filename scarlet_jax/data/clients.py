"""The user's own partition: the client of every image, from the data set or from a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scarlet_jax import names
from scarlet_jax.data import npz, packed
from scarlet_jax.data.record import Source
from scarlet_jax.errors import UserError

_MOST_TEXT = 1 << 26  # bytes of a file of numbers


class Clients(NamedTuple):
    """The client of each image of a data set, 0 .. K - 1."""

    train: np.ndarray  # i32[n]
    test: np.ndarray | None  # i32[t]


def given(config: Any, private: Source) -> Clients | None:
    """The clients that `config.partition.file` names, else those of the data set; None for the other partitions.

    Raises:
        UserError: neither has any, the file cannot be read, not one number for each image, or numbers that are not
            0 .. num_clients - 1.
    """
    if config.partition.name != "given":
        return None
    name = config.partition.file
    if name:
        try:
            found = _from_file(Path(name).expanduser(), private)
        except UserError as error:
            raise UserError(f"config.partition.file: {error}") from error
    elif private.train_client is not None:
        found = Clients(private.train_client, private.test_client)
    else:
        raise UserError(
            "config.partition.name is 'given', but nothing says whose the images are; allowed is an array client in "
            "the .npz of config.data.private, or a file of numbers in config.partition.file."
        )
    _check(config.num_clients, found)
    return found


def _from_file(path: Path, private: Source) -> Clients:
    if path.suffix == ".npz":
        arrays = npz.read_clients(path)
    elif path.suffix == ".npy":
        arrays = {"client": npz.read_npy(path)}
    else:
        arrays = {"client": _from_text(path)}
    client, test = arrays["client"], arrays.get("test_client")
    images, tests = len(private.train_label), len(private.test_label)
    if private.held_out is not None and test is None:  # one list of images, of which a part was held out
        rows, test_rows = private.held_out
        if len(client) == images + tests:
            return Clients(client[rows], client[test_rows])
        images += tests
    if len(client) != images:
        raise UserError(f"{names.of_file(path)} numbers {len(client):,} clients; {images:,} are needed, one an image.")
    if test is not None and len(test) != tests:
        raise UserError(
            f"{names.of_file(path)} numbers {len(test):,} clients in test_client; {tests:,} are needed, one an image."
        )
    return Clients(client, test)


def _from_text(path: Path) -> np.ndarray:
    """Whole numbers with white space or commas between them."""
    try:
        words = packed.read_file(path, _MOST_TEXT).replace(b",", b" ").split()
        client = np.array([int(word) for word in words], np.int64)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {names.of_file(path)}.") from error
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        reason = names.in_sentence(error)
        raise UserError(
            f"{names.of_file(path)} is no list of whole numbers, one for each image, nor an .npy or .npz ({reason})."
        ) from error
    return npz.numbers(names.of_file(path), "the list", client)


def _check(num_clients: int, found: Clients) -> None:
    """Clients are numbered without gaps, and there are as many as the config says."""
    there = np.unique(found.train)
    if len(there) and there[-1] != len(there) - 1:
        missing = int(np.setdiff1d(np.arange(there[-1]), there)[0])
        raise UserError(
            f"config.partition.name is 'given', but no training image belongs to client {missing}, though clients are "
            f"numbered up to {there[-1]}; np.unique(client, return_inverse=True)[1] numbers them without gaps."
        )
    if len(there) != num_clients:
        raise UserError(
            f"config.num_clients is {num_clients}; allowed is {len(there)}, the number of clients that are given."
        )
    if found.test is not None and len(found.test) and found.test.max() >= num_clients:
        raise UserError(
            f"config.partition.name is 'given', but test_client numbers a client {found.test.max()}; allowed is 0 to "
            f"{num_clients - 1}."
        )
