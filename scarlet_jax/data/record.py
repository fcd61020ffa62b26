"""What every source of images delivers, and the seeded split of sources that have no test part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np


class Images(NamedTuple):
    """Images that are yet to be decoded, block after block, so that they need not all be in memory."""

    shape: tuple[int, ...]  # n, H, W, channels
    blocks: Callable[[], Iterator[np.ndarray]]  # starts decoding: u8[b, H, W, channels], the b of all blocks sum to n


class Source(NamedTuple):
    """A decoded data set, in the order in which everything else draws from it."""

    name: str  # as the user typed it
    version: str  # of the data set, as its publisher counts; "" if it has none
    origin: str  # where the images came from, in words
    train_image: np.ndarray  # u8[n, H, W, channels]
    train_label: np.ndarray  # i32[n]
    test_image: np.ndarray  # u8[t, H, W, channels]
    test_label: np.ndarray  # i32[t]
    num_classes: int  # labels are 0 .. num_classes - 1; 0 for an unlabelled data set
    class_names: tuple[str, ...]  # of length num_classes, or empty if unknown
    train_client: np.ndarray | None = None  # i32[n] client of each image, where the data set says so
    test_client: np.ndarray | None = None  # i32[t]
    held_out: tuple[np.ndarray, np.ndarray] | None = None  # (train, test) rows of one list that was split here


def stratified_split(label: np.ndarray, test_share: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (train, test), both ascending; every class gives about `test_share` of its images to test.

    A class with one image keeps it in train. Where every class is so small that none would give any, single images of
    some classes make the test part; it is empty only if no class has two. The same labels, share and seed always give
    the same split.
    """
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(label), bool)
    for value in np.unique(label):
        rows = np.flatnonzero(label == value)
        chosen[rng.permutation(rows)[: round(test_share * len(rows))]] = True
    if not chosen.any():
        spare = np.setdiff1d(np.arange(len(label)), np.unique(label, return_index=True)[1])
        chosen[rng.permutation(spare)[: max(1, round(test_share * len(label)))]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
