"""The participants and the public samples of a round. They depend on the seed and the round alone; participants may
also be given, in a table of all rounds.

The devices, the host (which sends images ahead of time) and the byte planner call the same functions.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scarlet_jax.keys import Purpose, derive


class GroupSize(NamedTuple):
    """Numbers of clients of a group, which are all that the draws need of it."""

    clients: int  # K of the group
    participants: int  # M of the group: each group has a fixed number of participants


class Draws(NamedTuple):
    """The random choices of a federation, round by round."""

    seed: int | jax.Array  # an argument of compiled programs, so that they are those of every seed
    groups: tuple[GroupSize, ...]  # with consecutive client ids
    public_size: int  # N; 0 where the method uses no public pool
    public_per_round: int  # P; 0 there, too
    given: np.ndarray | None = None  # i32[R, M] the participants of every round; None: they are drawn

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
        if self.given is not None:
            return jax.lax.dynamic_index_in_dim(jnp.asarray(self.given), round_, keepdims=False)
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
        # Sorting by random words draws without replacement. If two words are equal, the lower sample comes first.
        words = jax.random.bits(derive(self.seed, Purpose.DRAW, round_), (self.public_size,), jnp.uint32)
        return jnp.argsort(words, stable=True)[: self.public_per_round].astype(jnp.int32)
