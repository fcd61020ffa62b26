"""How clients are laid out on the devices: the mesh axis `clients`, and the blocks and chunks of a group along it."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from scarlet_jax.types import PyTree

AXIS = "clients"
CLIENTS, REPLICATED = PartitionSpec(AXIS), PartitionSpec()


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis, `clients`, over the given devices; by default over all."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)


class Layout(NamedTuple):
    """How the participants of one group of clients are laid out on the devices."""

    mesh: Mesh
    num_clients: int  # K of the group
    participants: int  # M of the group
    chunk: int  # clients trained together on a device
    block: int  # clients per device and block, a multiple of chunk
    blocks: int  # dispatches per round
    first: int = 0  # id of the group's first client

    @property
    def full(self) -> bool:
        """Whether all clients take part in each round, so that no models are gathered."""
        return self.participants == self.num_clients

    @property
    def own(self) -> int:
        """Number of a device's participants, with padding. Its last block may have places beyond them."""
        return -(-self.participants // self.mesh.size)

    @property
    def capacity(self) -> int:
        """Number of participants with padding: the next multiple of the devices, whatever the chunks and blocks."""
        return self.mesh.size * self.own

    @property
    def stored(self) -> int:
        """Number of clients with padding: those that the state holds."""
        return -(-self.num_clients // self.mesh.size) * self.mesh.size

    def client_id(self, local_id: jax.Array) -> jax.Array:
        """The id of a client in the whole federation; that of the group's last client for an inactive one."""
        return jnp.minimum(local_id, self.num_clients - 1) + self.first

    def places(self, block: int) -> np.ndarray:
        """Positions of a block's clients among the participants and their padding: i64[devices, at most block]."""
        device = np.arange(self.mesh.size)[:, None]
        return device * self.own + np.arange(block * self.block, min((block + 1) * self.block, self.own))


def make_layout(mesh: Mesh, num_clients: int, participants: int, clients_per_chunk: int, first: int = 0) -> Layout:
    """Choose the size of the blocks: about 16 blocks a round, and at most 5 % of their places without a client.

    Several blocks allow progress to be shown and signals to be handled within a round. A block has at least two chunks
    on each device, if there are two: XLA unrolls a loop of one step and fuses it differently, which would make the bits
    depend on the number of devices.

    Args:
      mesh: of devices.
      num_clients: of the group.
      participants: of the group, in a round.
      clients_per_chunk: clients trained together on a device; more than it has are cut down to those.
      first: id of the group's first client.
    """
    own = -(-participants // mesh.size)
    chunk = min(clients_per_chunk, own)
    chunks = -(-own // chunk)  # per device
    for size in range(max(2, -(-chunks // 16)), chunks):
        if -(-chunks // size) * size <= 1.05 * chunks:
            break
    else:
        size = chunks
    return Layout(mesh, num_clients, participants, chunk, size * chunk, -(-chunks // size), first)


def device_bytes(tree: PyTree) -> int:
    """Bytes that arrays, or shapes with shardings, take on one device."""
    return sum(a.dtype.itemsize * math.prod(a.sharding.shard_shape(a.shape)) for a in jax.tree.leaves(tree))
