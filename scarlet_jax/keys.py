"""PRNG keys, derived and never stored: folded by purpose, round and client.

What a client draws depends on nothing but the seed, the purpose, the round and its own id.
"""

from __future__ import annotations

import enum

import jax


class Purpose(enum.IntEnum):
    """What a key is for. Values are part of every result: never renumber."""

    INIT = 0
    PARTICIPANTS = 1
    DRAW = 2
    DISTIL = 3
    FIT = 4
    PREDICT = 5
    AGGREGATE = 6
    CACHE = 7
    SERVER_DISTIL = 8
    DECODE = 9
    ASSUMED = 10  # what the byte planner draws in the place of data
    WARM_UP = 11


def derive(seed: jax.Array | int, purpose: Purpose, *numbers: jax.Array | int) -> jax.Array:
    """The key of a purpose, folded by `numbers` (round, then client id or group)."""
    key = jax.random.fold_in(jax.random.key(seed), purpose)
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key
