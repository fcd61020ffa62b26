"""What a compiled program is made of and what memory it takes: read from XLA's optimized HLO, without running it."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from scarlet_jax.engine.phases import Call
from scarlet_jax.preview import cards
from scarlet_jax.types import PyTree

_CALL = re.compile(r'custom_call_target="([^"]+)"')
_WINDOW = re.compile(r"window=\{size=(\w+)[^\n]*custom_call_target")
_COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast)(?:-start)?\("
)


class Program(NamedTuple):
    """A compiled phase; bytes are those of one device."""

    name: str
    arguments: int
    results: int  # that are not written over arguments
    temporary: int
    calls: dict[str, int]  # custom-call target -> how often it stands in the program, whatever the trips of its loop
    windows: dict[str, int]  # "3x3" -> convolutions with such a window
    collectives: dict[str, int]  # all-gather, ... -> how many
    text: str  # HLO


def compile_phase(call: Call) -> Program:
    """Compile for the devices that the call's shapes lie on; where they are present, the run will use this program."""
    described = any(device.platform != jax.default_backend() for device in _devices(call))
    compiled = call.traced.lower().compile(cards.OPTIONS if described else None)
    text, memory = compiled.as_text() or "", compiled.memory_analysis()

    def count(pattern: re.Pattern[str]) -> dict[str, int]:
        return dict(collections.Counter(pattern.findall(text)))

    return Program(
        call.name,
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes - memory.alias_size_in_bytes,
        memory.temp_size_in_bytes,
        count(_CALL),
        count(_WINDOW),
        count(_COLLECTIVE),
        text,
    )


def device_bytes(tree: PyTree) -> int:
    """Bytes on one device of arrays, or of shapes with shardings."""
    return sum(a.dtype.itemsize * math.prod(a.sharding.shard_shape(a.shape)) for a in jax.tree.leaves(tree))


def peak(resident: int, programs: Sequence[Program]) -> tuple[int, str]:
    """Most bytes of one device at any time, and the phase that needs them.

    Args:
      resident: bytes of what stays there all the time, state and data.
      programs: of a round.
    """
    return max((max(resident, p.arguments) + p.results + p.temporary, p.name) for p in programs)


def _devices(call: Call) -> set[Any]:
    leaves = jax.tree.leaves((call.args, call.traced.out_info))
    return {device for leaf in leaves if leaf.sharding is not None for device in leaf.sharding.device_set}
