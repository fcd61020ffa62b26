"""What a compiled program is made of and what memory it takes: read from XLA's optimized HLO, without running it."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from scarlet_jax.engine.phases import Call, recording
from scarlet_jax.methods.base import Algorithm
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
    calls: dict[str, int]  # custom-call target -> occurrences in the program text, not multiplied by loop counts
    windows: dict[str, int]  # "3x3" -> convolutions with such a window
    collectives: dict[str, int]  # all-gather, ... -> how many
    text: str  # HLO


def record(algorithm: Algorithm, training: PyTree, evaluation: PyTree) -> list[Call]:
    """Every phase of a run: start, round, evaluation.

    Args:
      algorithm: made for any mesh, also of devices that are only described.
      training: `Data` of a round as shapes with the mesh's shardings, see `engine.feed.Feed`.
      evaluation: that of an evaluation.
    """
    with recording() as calls:
        state, report = algorithm.round(algorithm.init(training), training)
        algorithm.evaluate(state, evaluation, report.participants)
    return list(calls)


def compile_phase(call: Call, options: dict[str, Any] | None = None) -> Program:
    """Compile for the devices that the call's shapes lie on; where they are present, the run reuses the program.

    Args:
      call: of the phase.
      options: of the compiler, for devices that are only described (`cards.OPTIONS`).
    """
    compiled = call.traced.lower().compile(options)
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


def peak(resident: int, programs: Sequence[Program]) -> tuple[int, str]:
    """Most bytes of one device at any time, and the phase that needs them.

    Args:
      resident: bytes of what stays there all the time, state and data.
      programs: of a round.
    """
    return max((max(resident, p.arguments) + p.results + p.temporary, p.name) for p in programs)
