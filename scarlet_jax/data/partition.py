"""How private images are divided among clients.

Every partitioner takes one `np.random.Generator` and returns row numbers, one array per client. No row is given to
two clients. All but `client_dirichlet` give away every row. `given` takes the user's own partition beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scarlet_jax import counts
from scarlet_jax.errors import UserError


class Partition(NamedTuple):
    """Rows of each client, K arrays i64[n_k] per split."""

    train: tuple[np.ndarray, ...]
    test: tuple[np.ndarray, ...]


def client_dirichlet(
    rng: np.random.Generator,
    train_label: np.ndarray,
    test_label: np.ndarray,
    num_clients: int,
    num_classes: int,
    alpha: float,
) -> Partition:
    """The reference's partition: every client has class priors of its own from Dirichlet(alpha), and all equal sizes.

    Each client receives floor(n / K) images; the remaining n mod K stay unused, as in the reference. The test part
    uses the same priors. The generator is consumed draw for draw as the reference does.
    """
    _check_alpha(alpha)
    _check_clients(num_clients, len(train_label))
    priors = dirichlet_rows(rng, alpha, num_clients, num_classes)
    cumulative = priors.cumsum(axis=1)
    return Partition(_fill(rng, train_label, cumulative), _fill(rng, test_label, cumulative))


def _fill(rng: np.random.Generator, label: np.ndarray, cumulative: np.ndarray) -> tuple[np.ndarray, ...]:
    """Deal images one at a time: a random client, a class by its priors, else any class that has images left."""
    num_clients, num_classes = cumulative.shape
    size = len(label) // num_clients
    index = np.zeros((num_clients, size), np.int64)
    missing = [size] * num_clients  # a client's array is filled from the back
    left = [np.flatnonzero(label == c).tolist() for c in range(num_classes)]  # handed out from the end
    steps = [row.tolist() for row in cumulative]
    integers, random = rng.integers, rng.random  # random() is uniform() without its rescaling: the same bits
    todo = size * num_clients
    while todo:
        client = int(integers(num_clients))
        if not missing[client]:
            continue
        draw = random()
        # The first class whose cumulative prior reaches the draw; class 0 if rounding keeps the sum below it.
        chosen = next((c for c, step in enumerate(steps[client]) if draw <= step), 0)
        while not left[chosen]:
            chosen = int(integers(num_classes))
        missing[client] -= 1
        index[client, missing[client]] = left[chosen].pop()
        todo -= 1
    return tuple(index)


def label_dirichlet(
    rng: np.random.Generator,
    train_label: np.ndarray,
    test_label: np.ndarray,
    num_clients: int,
    num_classes: int,
    alpha: float,
) -> Partition:
    """Every class is divided among the clients in proportions from Dirichlet(alpha); sizes differ, down to 0.

    The test part is divided in the same proportions, class by class.
    """
    _check_alpha(alpha)
    _check_clients(num_clients, len(train_label))
    shares = dirichlet_rows(rng, alpha, num_classes, num_clients)
    return Partition(_deal(rng, train_label, shares), _deal(rng, test_label, shares))


def _deal(rng: np.random.Generator, label: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, ...]:
    """Divide each class c at random among the clients, in the proportions `shares[c]` f64[C, K]."""
    hands: list[list[np.ndarray]] = [[] for _ in range(shares.shape[1])]
    for c, share in enumerate(shares):
        rows = rng.permutation(np.flatnonzero(label == c))
        cuts = np.minimum(np.round(share.cumsum()[:-1] * len(rows)).astype(int), len(rows))
        for hand, part in zip(hands, np.split(rows, cuts), strict=True):
            hand.append(part)
    return tuple(np.concatenate(hand) for hand in hands)


def given(
    rng: np.random.Generator,
    train_label: np.ndarray,
    test_label: np.ndarray,
    num_clients: int,
    num_classes: int,
    train_client: np.ndarray,
    test_client: np.ndarray | None,
) -> Partition:
    """The user's own partition: `train_client` and `test_client` number the client of each image.

    Without `test_client`, the test images of a class are divided at random in the proportions in which the clients hold
    training images of that class (equally, if nobody holds any).
    """
    train = tuple(np.flatnonzero(train_client == client) for client in range(num_clients))
    if test_client is not None:
        return Partition(train, tuple(np.flatnonzero(test_client == client) for client in range(num_clients)))
    held = np.stack([np.bincount(train_label[rows], minlength=num_classes) for rows in train], axis=1)  # [C, K]
    held[held.sum(axis=1) == 0] = 1
    return Partition(train, _deal(rng, test_label, held / held.sum(axis=1, keepdims=True)))


def iid(
    rng: np.random.Generator, train_label: np.ndarray, test_label: np.ndarray, num_clients: int, num_classes: int
) -> Partition:
    """A random partition in which sizes differ by one at most."""
    _check_clients(num_clients, len(train_label))
    train = np.array_split(rng.permutation(len(train_label)), num_clients)
    return Partition(tuple(train), tuple(np.array_split(rng.permutation(len(test_label)), num_clients)))


def shards(
    rng: np.random.Generator,
    train_label: np.ndarray,
    test_label: np.ndarray,
    num_clients: int,
    num_classes: int,
    classes_per_client: int,
) -> Partition:
    """Every client holds `classes_per_client` classes; a class is divided evenly among the clients that hold it.

    Classes have equally many holders, give or take one. A client has the same classes in the test part. Classes
    without any image are left out of account.
    """
    _check_clients(num_clients, len(train_label))
    present = np.union1d(train_label, test_label)
    least = -(-len(present) // num_clients)  # fewer would leave a class without a client, and its images lost
    if not least <= classes_per_client <= len(present):
        raise UserError(
            f"config.partition.classes_per_client is {classes_per_client}; allowed is {least} to {len(present)} with "
            f"{len(present)} classes and {num_clients} clients, so that every class has a client."
        )
    holders: list[list[int]] = [[] for _ in present]
    for client in rng.permutation(num_clients).tolist():
        # The classes with the fewest holders so far, ties in random order: this keeps the numbers within one.
        order = sorted(rng.permutation(len(present)).tolist(), key=lambda c: len(holders[c]))
        for c in order[:classes_per_client]:
            holders[c].append(client)

    def deal(label: np.ndarray) -> tuple[np.ndarray, ...]:
        hands: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
        for value, clients in zip(present, holders, strict=True):
            rows = rng.permutation(np.flatnonzero(label == value))
            for client, part in zip(clients, np.array_split(rows, len(clients)), strict=True):
                hands[client].append(part)
        return tuple(np.concatenate(hand) for hand in hands)

    return Partition(deal(train_label), deal(test_label))


def dirichlet_rows(rng: np.random.Generator, alpha: float, rows: int, size: int) -> np.ndarray:
    """f64[rows, size], each row from a symmetric Dirichlet(alpha); finite for every alpha > 0.

    Where NumPy's sampler breaks down, a row is replaced by its limit: everything in one place for small alpha, the
    uniform row for large alpha. Nothing more is drawn where it does not.
    """
    table = rng.dirichlet([alpha] * size, size=rows)
    for row in np.flatnonzero(~np.isfinite(table).all(axis=1) | (np.abs(table.sum(axis=1) - 1) > 1e-6)):
        table[row] = np.eye(size)[rng.integers(size)] if alpha < 1 else np.full(size, 1 / size)
    return table


def hold_out(rng: np.random.Generator, rows: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held out): a random part of `rows` in random order, and the others in ascending order.

    int(n * (1 - ratio)) rows are kept, as in the reference, but one at least, so that a tiny client keeps an image to
    train on. `rows` are shuffled even with ratio 0, as in the reference.
    """
    count = counts.kept(len(rows), ratio)
    kept = rng.choice(rows, size=count, replace=False)
    return kept, np.setdiff1d(rows, kept)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < float("inf"):  # also refuses NaN
        raise UserError(f"config.partition.alpha is {alpha}; allowed is a number above 0.")


def _check_clients(num_clients: int, images: int) -> None:
    if not 1 <= num_clients <= images:
        raise UserError(
            f"config.num_clients is {num_clients}; allowed is 1 to {images}, the number of private images: each client "
            "needs one."
        )
