"""Image stores that stay on the host, and windows: the rows of them that are put on the devices.

Compiled code indexes a `Window` with the full store's row numbers, so it does not depend on where the images are kept.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from scarlet_jax.engine.layout import CLIENTS, REPLICATED, Layout
from scarlet_jax.types import Array, PyTree, Split


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Window:
    """Some rows of an image store of n images, indexed like the store. Rows that are not loaded read as row 0.

    Padding of batches names row 0, so that masked positions also read the same image as from the full store. If each
    device has a window of its own (`spread`), windows are indexed inside `shard_map`.
    """

    image: Array  # u8[windows x m, H, W, channels] row 0 of the store, then the loaded rows, zero-padded to m
    position: Array  # i32[windows, n] position of each row of the store in its window; 0 if it is not loaded
    spread: bool = dataclasses.field(metadata={"static": True})

    def __getitem__(self, rows: jax.Array) -> jax.Array:
        return self.image[self.position[0, rows]]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the full store."""
        return (self.position.shape[1], *self.image.shape[1:])


class PendingReads:
    """Dispatches that may still read windows.

    At most two windows are on the devices: one being read, one in transfer.
    """

    def __init__(self) -> None:
        self._readers: collections.deque[PyTree] = collections.deque()

    def wait(self) -> None:
        """Wait until all dispatches but the last have ended, so that one more window may be transferred."""
        while len(self._readers) > 1:
            jax.block_until_ready(self._readers.popleft())

    def add(self, done: PyTree) -> None:
        """Note a dispatch that reads a window and has ended when `done` is ready."""
        self._readers.append(done)


class Needs(NamedTuple):
    """The rows that each client of a block reads."""

    split: Split  # NumPy arrays, or their shapes
    participants: Callable[[], np.ndarray]  # i32[M] ids, ascending


@jax.tree_util.register_static
class HostStore:
    """An image store u8[n, H, W, channels] on the host. As a jit argument it is static: only its shape counts.

    Args:
      images: NumPy array, which may be a memory map; or its shape.
      mesh: the devices that windows are put on.
      pending: shared by all stores whose windows are transferred in turn.
      needs: the rows that `block` loads; None: no client reads this store.
    """

    def __init__(self, images: Array, mesh: Mesh, pending: PendingReads, needs: Needs | None = None):
        self.images, self.mesh, self.pending, self.needs = images, mesh, pending, needs
        self.shape = tuple(images.shape)

    # Stores of one shape are equal, so that a program that reads none of them is compiled once.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostStore) and self.shape == other.shape

    def __hash__(self) -> int:
        return hash(self.shape)

    def block(self, layout: Layout, block: int) -> HostStore | Window:
        """The rows of this block's clients on each device; the store itself, if no client reads it."""
        if self.needs is None:
            return self
        size = most_rows(self.needs.split, layout)
        if isinstance(self.images, jax.ShapeDtypeStruct):
            return self.window([], size)
        ids, split = self.needs.participants(), self.needs.split
        own = ids[(ids >= layout.first) & (ids < layout.first + layout.num_clients)]
        parts = []
        for places in layout.places(block):
            clients = own[places[places < own.size]]
            rows = [split.rows[client, : split.size[client]] for client in clients]
            parts.append(np.concatenate([np.zeros(0, np.int32), *rows]))
        return self.window(parts, size)

    def read_by(self, participants: np.ndarray) -> HostStore:
        """The same store, read by other clients."""
        needs = None if self.needs is None else self.needs._replace(participants=lambda: participants)
        return HostStore(self.images, self.mesh, self.pending, needs)

    def window(self, parts: Sequence[np.ndarray], size: int) -> Window:
        """Load `parts`, the rows for each device, as soon as there is memory for one more window."""
        return window(self.images, self.mesh, parts, size, spread=True, ready=self.pending.wait)


def window(
    images: Array,
    mesh: Mesh,
    parts: Sequence[np.ndarray],
    size: int,
    spread: bool,
    ready: Callable[[], None] = lambda: None,
) -> Window:
    """Put rows of a store on the devices.

    Args:
      images: the store, or its shape.
      mesh: of devices.
      parts: row numbers for each device, or, unless `spread`, one list for all; not read if `images` is a shape.
      size: most rows of a part; each part is padded to it.
      spread: whether each device gets rows of its own.
      ready: called after the rows have been gathered and before they are sent; it returns once the devices have memory
        for them.
    """
    count, own = (mesh.size if spread else 1), (size + 1, *images.shape[1:])
    sharding = NamedSharding(mesh, CLIENTS if spread else REPLICATED)
    image_shape, position_shape = (count * own[0], *own[1:]), (count, images.shape[0])
    if isinstance(images, jax.ShapeDtypeStruct):
        return Window(
            jax.ShapeDtypeStruct(image_shape, np.uint8, sharding=sharding),
            jax.ShapeDtypeStruct(position_shape, np.int32, sharding=sharding),
            spread,
        )

    def fill(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image, position = np.zeros(own, np.uint8), np.zeros((1, images.shape[0]), np.int32)
        image[0] = images[0]
        np.take(images, rows, axis=0, out=image[1 : len(rows) + 1], mode="clip")  # other modes make another copy
        position[0, rows] = np.arange(1, len(rows) + 1)
        return image, position

    local = {device.id for device in mesh.local_devices}
    here = [i for i, device in enumerate(mesh.devices.flat) if device.id in local] if spread else [0]
    filled = {part: fill(parts[part]) for part in here}
    ready()

    def put(shape: tuple[int, ...], field: int) -> jax.Array:
        def part(at: Any) -> np.ndarray:  # a tuple of slices
            return filled[(at[0].start or 0) // (shape[0] // count)][field]

        return jax.make_array_from_callback(shape, sharding, part)

    return Window(put(image_shape, 0), put(position_shape, 1), spread)


def most_rows(split: Split, layout: Layout) -> int:
    """The most rows that the clients of a block on one device can have together."""
    if isinstance(split.size, jax.ShapeDtypeStruct):  # clients are taken to be of equal size
        return layout.block * split.rows.shape[1]
    sizes = np.sort(np.asarray(split.size[layout.first : layout.first + layout.num_clients]))
    return int(sizes[-layout.block :].sum())


def fetch(tree: PyTree, layout: Layout, block: int) -> PyTree:
    """The tree, in which each store that clients read is replaced by the block's window on it."""
    return jax.tree.map(lambda x: x.block(layout, block) if isinstance(x, HostStore) else x, tree, is_leaf=_is_store)


def add_pending(tree: PyTree, done: PyTree) -> None:
    """Note that the windows on the tree's stores are read by a dispatch that has ended when `done` is ready."""
    read = [x for x in jax.tree.leaves(tree, is_leaf=_is_store) if isinstance(x, HostStore) and x.needs is not None]
    for pending in {id(store.pending): store.pending for store in read}.values():
        pending.add(done)


def reading(tree: PyTree, participants: np.ndarray | None) -> PyTree:
    """The tree, in which each store that clients read has other participants i32[M], ascending; None changes none."""
    if participants is None:
        return tree
    return jax.tree.map(lambda x: x.read_by(participants) if _is_store(x) else x, tree, is_leaf=_is_store)


def specs(tree: PyTree) -> PyTree:
    """The PartitionSpec of each leaf: replicated, except for windows of which each device has its own."""

    def one(x: Any) -> Any:
        return jax.tree.map(lambda _: CLIENTS if isinstance(x, Window) and x.spread else REPLICATED, x)

    return jax.tree.map(one, tree, is_leaf=lambda x: isinstance(x, Window))


def _is_store(x: Any) -> bool:
    return isinstance(x, HostStore)
