"""Who takes part in a round, and which public samples it draws: functions of the seed and the round alone.

The same functions serve the devices, the host (which sends images ahead of time) and the byte planner.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from scarlet_jax.keys import Purpose, derive


class GroupSize(NamedTuple):
    """A group of clients, as the draws see it."""

    clients: int  # K of the group
    participants: int  # M of the group: each group sends its own static number


class Draws(NamedTuple):
    """The draws of a federation."""

    seed: int
    groups: tuple[GroupSize, ...]  # with consecutive client ids
    public_size: int  # N
    public_per_round: int  # P

    @property
    def num_clients(self) -> int:
        """K."""
        return sum(group.clients for group in self.groups)

    @property
    def num_participants(self) -> int:
        """M."""
        return sum(group.participants for group in self.groups)

    @property
    def full_participation(self) -> bool:
        """Whether every client takes part in every round."""
        return self.num_participants == self.num_clients

    def participants(self, round_: jax.Array) -> jax.Array:
        """The participants of a round, i32[M] ascending."""
        ids, first = [], 0
        for number, group in enumerate(self.groups):
            chosen = jnp.arange(group.clients, dtype=jnp.int32)
            if group.participants < group.clients:
                key = derive(self.seed, Purpose.PARTICIPANTS, round_, number)
                chosen = jnp.sort(jax.random.permutation(key, chosen)[: group.participants])
            ids.append(chosen + first)
            first += group.clients
        return jnp.concatenate(ids)

    def public(self, round_: jax.Array) -> jax.Array:
        """The public samples of a round, i32[P] of N without replacement."""
        # One sort of random words; should two of 2^32 be equal, the lower sample comes first.
        words = jax.random.bits(derive(self.seed, Purpose.DRAW, round_), (self.public_size,), jnp.uint32)
        return jnp.argsort(words, stable=True)[: self.public_per_round].astype(jnp.int32)
