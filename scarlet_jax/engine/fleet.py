"""Runs a function of one client over stacked clients: gathers participants, runs them block by block, scatters back.

Clients are stacked on a leading axis that is sharded over the mesh axis `clients`. One dispatch computes one *block* of
clients. On a device, a block is divided into *chunks*: the clients of a chunk run together (`vmap`), the chunks one
after another (`lax.map`). All blocks have one static size; places of the last one beyond a device's clients are
inactive, and their results are dropped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from scarlet_jax.engine import windows
from scarlet_jax.engine.layout import CLIENTS, REPLICATED, Layout
from scarlet_jax.engine.phases import Phase
from scarlet_jax.types import PyTree

# f(model, client id i32[], active bool[], *shared) -> (model, output)
OneClient = Callable[..., tuple[PyTree, PyTree]]


def pad_clients(stacked: PyTree, size: int) -> PyTree:
    """Lengthen the client axis to `size` with copies of client 0."""
    return jax.tree.map(lambda a: jnp.concatenate([a, jnp.repeat(a[:1], size - a.shape[0], 0)]), stacked)


def participant_ids(layout: Layout, ids: jax.Array) -> jax.Array:
    """Pad sorted client ids i32[M] to i32[capacity] with an id that no stored client has."""
    return jnp.pad(ids, (0, layout.capacity - ids.size), constant_values=layout.stored)


@functools.cache
def _moves(layout: Layout) -> tuple[Phase, Phase]:
    """The phases that gather a group's participants and scatter them back; all fleets of the group share them."""
    stacked, of = NamedSharding(layout.mesh, CLIENTS), f" from {layout.first}" if layout.first else ""

    def gather(models, ids):
        return jax.tree.map(lambda a: a.at[ids].get(mode="clip"), models)

    def scatter(models, ids, new):
        return jax.tree.map(lambda a, n: a.at[ids].set(n, mode="drop"), models, new)

    return (
        Phase(f"gather clients{of}", gather, out_shardings=stacked),
        Phase(f"scatter clients{of}", scatter, donate_argnums=0, out_shardings=stacked),
    )


class Fleet:
    """A one-client function, compiled for a layout.

    Args:
      one_client: `f(model, client_id, active, *shared) -> (model, output)` on unbatched arrays.
      layout: of the group.
      name: of the phase, see `Phase`.
      updates: whether the returned model replaces the client's; otherwise it is discarded.
    """

    def __init__(self, one_client: OneClient, layout: Layout, name: str, updates: bool = True):
        self.layout, self._updates, self._one_client = layout, updates, one_client
        stacked, replicated = (NamedSharding(layout.mesh, spec) for spec in (CLIENTS, REPLICATED))
        self._block = Phase(
            name,
            self._sharded_block,
            donate_argnums=(0, 1) if updates else (1,),
            out_shardings=(stacked if updates else None, stacked, replicated),
        )
        self._gather, self._scatter = _moves(layout)
        self._empty = Phase(f"{name}: outputs", self._empty_output, out_shardings=stacked)

    def __call__(
        self, models: PyTree, ids: jax.Array, *shared: PyTree, progress: Callable[[jax.Array], None] | None = None
    ) -> tuple[PyTree, PyTree]:
        """Run the function for the participants.

        Args:
          models: [stored, ...] every client of the group; donated if the fleet updates models.
          ids: i32[capacity], see `participant_ids`.
          *shared: replicated arguments. A `windows.HostStore` in them is replaced, for each block, by a window of its
            clients' rows, which are gathered and sent while the devices compute the block before.
          progress: called after each dispatch with an array that is ready when that block is done.

        Returns:
          The models with the participants' updates, and the outputs [capacity, ...] in the order of `ids`.
        """
        full = self.layout.full
        active = models if full else self._gather(models, ids)
        output = None
        for block in range(self.layout.blocks):
            own = windows.fetch(shared, self.layout, block)
            output = self._empty(active, ids, *own) if output is None else output
            new, output, done = self._block(active, output, ids, jnp.int32(block), *own)
            windows.add_pending(shared, done)
            active = new if self._updates else active
            if progress is not None:
                progress(done)
        if not self._updates:
            return models, output
        return (active if full else self._scatter(models, ids, active)), output

    def _empty_output(self, models, ids, *shared):
        model, client_id = jax.eval_shape(lambda m, i: (jax.tree.map(lambda a: a[0], m), i[0]), models, ids)
        shape = jax.eval_shape(self._one_client, model, client_id, jax.ShapeDtypeStruct((), bool), *shared)[1]
        return jax.tree.map(lambda s: jnp.zeros((self.layout.capacity, *s.shape), s.dtype), shape)

    def _sharded_block(self, models, output, ids, block, *shared):
        specs = (CLIENTS, CLIENTS, CLIENTS, REPLICATED, *windows.specs(shared))
        out_specs = (CLIENTS if self._updates else REPLICATED, CLIENTS)
        local = jax.shard_map(
            self._local_block, mesh=self.layout.mesh, in_specs=specs, out_specs=out_specs, check_vma=False
        )
        return *local(models, output, ids, block, *shared), block

    def _local_block(self, models, output, ids, block, *shared):
        size, chunk, own = self.layout.block, self.layout.chunk, self.layout.own
        start, whole = block * size, own % size == 0
        places = start + jnp.arange(size)

        def take(a):
            # Places beyond the device's clients, which only a last block has, read its last client.
            return jax.lax.dynamic_slice_in_dim(a, start, size) if whole else a.at[places].get(mode="clip")

        def put(a, part):
            part = part.reshape(size, *a.shape[1:])
            return (
                jax.lax.dynamic_update_slice_in_dim(a, part, start, 0) if whole else a.at[places].set(part, mode="drop")
            )

        def chunked(a):
            return a.reshape(size // chunk, chunk, *a.shape[1:]) if chunk > 1 else a

        def one(xs):
            return self._one_client(*xs, *shared)

        clients = take(ids)
        active = (clients < self.layout.stored) & (whole or places < own)
        xs = jax.tree.map(chunked, (jax.tree.map(take, models), clients, active))
        new, rows = jax.lax.map(jax.vmap(one) if chunk > 1 else one, xs)
        return jax.tree.map(put, models, new) if self._updates else 0, jax.tree.map(put, output, rows)
