"""Decides where the images of a run are kept: on the devices, or on the host, from which each block gets its rows.

The participants and the public samples of a round depend on the seed and the round alone. The host therefore knows them
in advance, and gathers rows while the devices compute.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from scarlet_jax.engine import phases, windows
from scarlet_jax.engine.evaluation import piece_size
from scarlet_jax.engine.layout import REPLICATED, Layout, device_bytes
from scarlet_jax.protocol.draws import Draws
from scarlet_jax.types import Array, Data, Split

IMAGES = ("private_image", "test_image", "public_image", "public_val_image")


class Schedule:
    """Participants and public samples of every round, on the host.

    Args:
      draws: of the federation.
      layouts: of the groups.
      reads_all: whether every round reads all private images, so that they cannot be sent block by block.
      largest_batch: images of the largest batch that is made of a client's own; None: not known.
    """

    ROUNDS_AT_ONCE = 64  # rounds whose draws are computed in one call, and copied to the host together

    def __init__(
        self, draws: Draws, layouts: Sequence[Layout], reads_all: bool = False, largest_batch: int | None = None
    ):
        self.draws, self.layouts, self.reads_all, self.largest_batch = draws, tuple(layouts), reads_all, largest_batch
        self._computed: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # call -> draws of its rounds; the last two calls

        def draw(seed, first):
            own = draws._replace(seed=seed)
            rounds = first + jnp.arange(self.ROUNDS_AT_ONCE)
            return jax.lax.map(lambda r: (own.participants(r), own.public(r)), rounds)

        self._draw = jax.jit(draw)

    def participants(self, round_: int) -> np.ndarray:
        """The participants of a round, i32[M] ascending."""
        return self._round(round_)[0]

    def public(self, round_: int) -> np.ndarray:
        """The public samples of a round, i32[P]."""
        return self._round(round_)[1]

    def _round(self, round_: int) -> tuple[np.ndarray, np.ndarray]:
        call, place = divmod(round_, self.ROUNDS_AT_ONCE)
        if call not in self._computed:
            before = {call - 1: self._computed[call - 1]} if call - 1 in self._computed else {}
            arguments = np.uint32(self.draws.seed), np.int32(call * self.ROUNDS_AT_ONCE)
            self._computed = before | {call: jax.device_get(self._draw(*arguments))}
        participants, public = self._computed[call]
        return participants[place], public[place]


class Feed:
    """The data of a run, in the form in which its rounds and evaluations take them.

    Images above the budget stay on the host. Exceptions, which are always on the devices:
      - `public_val_image`, because every client predicts all of them;
      - `private_image`, if every round reads all of them;
      - `public_image`, if two rounds may draw the whole pool. Otherwise the samples of a round are sent once a round.

    Args:
      data: NumPy arrays, which may be memory maps; or shapes, of the images (see `outline`) or of everything.
      schedule: of the algorithm.
      budget_mb: MB of images allowed on each device; 0 is no limit.
      mesh: of the run.
    """

    def __init__(self, data: Data, schedule: Schedule, budget_mb: float, mesh: Mesh):
        batch = schedule.largest_batch
        data = data._replace(**{name: _columns(getattr(data, name), batch) for name in ("train", "val", "test")})
        self._data, self._schedule, self._budget_mb, self._mesh = data, schedule, budget_mb, mesh
        self._pending = windows.PendingReads()
        self.on_host = bool(budget_mb) and image_bytes(data) > budget_mb * 1e6
        self._fed: tuple[str, ...] = ()
        if self.on_host:
            private = () if schedule.reads_all else ("private_image",)
            drawn, pool = schedule.draws.public_per_round, schedule.draws.public_size
            public = ("public_image",) if 2 * drawn < pool else ()
            self._fed = (*private, *public, "test_image")
        none: dict[str, Any] = dict.fromkeys(self._fed, ())
        resident = data._replace(**none)
        self._resident = phases.put(resident, NamedSharding(mesh, REPLICATED))

    def training(self, round_: int) -> Data:
        """The data for `Algorithm.round` in a round."""
        data = self._around({"private_image": self._data.train}, round_)
        if "public_image" in self._fed:
            data = data._replace(public_image=self._public(round_))
        return data

    def evaluation(self, round_: int) -> Data:
        """The data for `Algorithm.evaluate` after a round."""
        return self._around({"private_image": self._data.val, "test_image": self._data.test}, round_)

    @property
    def device_bytes(self) -> int:
        """The most bytes of data on a device: resident images, two windows, and the public samples of two rounds."""
        total = device_bytes(self._resident)
        if not self.on_host:
            return total
        shapes = Feed(outline(self._data), self._schedule, self._budget_mb, self._mesh)
        reads = []
        for data in (shapes.training(0), shapes.evaluation(0)):
            fed = [getattr(data, name) for name in self._fed if name != "public_image"]
            reads += [device_bytes(windows.fetch(fed, layout, 0)) for layout in self._schedule.layouts]
        test = shapes.evaluation(0).test_image
        reads.append(device_bytes(test.window([], piece_size(test.shape[0], self._mesh.size))))
        public = device_bytes(shapes.training(0).public_image) if "public_image" in self._fed else 0
        return total + 2 * max(reads) + 2 * public

    def _around(self, read: dict[str, Split], round_: int) -> Data:
        """The resident data, with a HostStore for all other images. `read` has the split that clients read of each."""
        participants = functools.partial(self._schedule.participants, round_)

        def store(name: str) -> windows.HostStore:
            needs = windows.Needs(read[name], participants) if name in read else None
            return windows.HostStore(getattr(self._data, name), self._mesh, self._pending, needs)

        return self._resident._replace(**{name: store(name) for name in self._fed})

    def _public(self, round_: int) -> windows.Window:
        """The samples of the previous list and of this round's draw.

        The loop reads the results of round r - 1 before it dispatches round r + 1. The samples of at most two rounds
        are therefore on the devices, without any further waiting.
        """
        pool, size = self._data.public_image, 2 * self._schedule.draws.public_per_round
        rows = np.zeros(0, np.int32)
        if not phases.is_abstract(pool):
            rows = np.concatenate([self._schedule.public(r) for r in (round_ - 1, round_) if r >= 0])
        return windows.window(pool, self._mesh, [rows], size, spread=False)


def _columns(split: Split, largest_batch: int | None) -> Split:
    """The split with the columns that programs are made for. They change no result.

    There are none if no client has an image, so that nothing is compiled for it. Where clients differ in size, the
    largest one is another for each seed. Their number is then rounded up to a power of two, so that most seeds have the
    same programs; not below the largest batch, because a client without a full batch has a batch of its size.
    """
    if phases.is_abstract(split):
        return split
    if not np.any(split.size):
        return split._replace(rows=split.rows[:, :0])
    now = split.rows.shape[1]
    if largest_batch is None or now < largest_batch or np.ptp(split.size) < 2:
        return split
    return split._replace(rows=np.pad(split.rows, ((0, 0), (0, (1 << (now - 1).bit_length()) - now))))


def image_bytes(data: Data) -> int:
    """Bytes of all image stores together."""
    return sum(math.prod(getattr(data, name).shape) for name in IMAGES)


def outline(data: Data) -> Data:
    """The same data with shapes in the place of images."""
    images: dict[str, Any] = {name: jax.ShapeDtypeStruct(getattr(data, name).shape, np.uint8) for name in IMAGES}
    return data._replace(**images)


def all_rows(data: Data) -> Array:
    """Rows of the private images that clients train on, i32[n], client by client; for shapes, the shape of all rows."""
    if phases.is_abstract(data):
        return jax.ShapeDtypeStruct(data.private_label.shape, jnp.int32)
    rows, sizes = np.asarray(data.train.rows), np.asarray(data.train.size)
    return np.concatenate([own[:size] for own, size in zip(rows, sizes, strict=True)])
