"""What a compiled program is made of and what memory it takes: read from XLA's optimized HLO, without running it."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import jax

from scarlet_jax import paths
from scarlet_jax.engine.feed import Feed
from scarlet_jax.engine.layout import device_bytes
from scarlet_jax.engine.phases import Call, recording
from scarlet_jax.methods.base import Algorithm
from scarlet_jax.types import PyTree

_CALL = re.compile(r'custom_call_target="([^"]+)"')
_WINDOW = re.compile(r"window=\{size=(\w+)[^\n]*custom_call_target")
_COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast)(?:-start)?\("
)


# Text of a stage -> what the stage is done in; `runtime.stages.Stages` shows it.
Stage = Callable[[str], AbstractContextManager[None]]


def _unseen(text: str) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


class Size(NamedTuple):
    """Memory of a compiled phase, in bytes of one device."""

    name: str
    arguments: int
    results: int  # that are not written over arguments
    temporary: int


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


class Outline(NamedTuple):
    """A run as shapes: what it compiles, and what stays on a device."""

    calls: list[Call]  # as `record` lists them
    state: PyTree
    resident: int  # bytes of state and data on a device


def outline(algorithm: Algorithm, feed: Feed) -> Outline:
    """List the phases of a run without computing anything.

    Args:
      algorithm: made for any mesh, also of devices that are only described.
      feed: of shapes instead of images.
    """
    calls = record(algorithm, feed.training(0), feed.evaluation(0))
    state = calls[0].traced.out_info
    return Outline(calls, state, device_bytes(state) + feed.device_bytes)


def record(algorithm: Algorithm, training: PyTree, evaluation: PyTree) -> list[Call]:
    """Every phase of a run: the one that makes the state, those of a round, those of an evaluation.

    Args:
      algorithm: made for any mesh, also of devices that are only described.
      training: `Data` of a round as shapes with the mesh's shardings, see `engine.feed.Feed`.
      evaluation: that of an evaluation.
    """
    with recording() as calls:
        state, report = algorithm.round(algorithm.init(evaluation), training)
        algorithm.evaluate(state, evaluation, report.participants)
    return list(calls)


def compile_phase(call: Call, options: dict[str, Any] | None = None) -> Program:
    """Compile for the devices that the call's shapes lie on; where they are present, the run reuses the program.

    Args:
      call: of the phase.
      options: of the compiler, for devices that are only described (`cards.OPTIONS`).
    """
    compiled = call.traced.lower().compile(options)
    text = compiled.as_text() or ""

    def count(pattern: re.Pattern[str]) -> dict[str, int]:
        return dict(collections.Counter(pattern.findall(text)))

    return Program(*size_of(call.name, compiled), count(_CALL), count(_WINDOW), count(_COLLECTIVE), text)


def compile_all(calls: Sequence[Call], stage: Stage = _unseen, kept: Path | None = None) -> list[Size]:
    """Compile phases for the devices that are here, side by side, and tell what memory they take.

    Much of a compilation is the work of a single thread. The run reuses these programs.

    Args:
      calls: of the phases.
      stage: told which phase is compiled, and of how many.
      kept: a private folder, in which the sizes of programs are kept beside the programs; None: there is none.
    """
    number = itertools.count(1)

    def compile_one(call: Call) -> Size:
        with stage(f"compiling {call.name} ({next(number)} of {len(calls)})"):
            lowered = call.traced.lower()
            program = lowered.compile()
            if kept is None:
                return size_of(call.name, program)
            return _kept_size(call.name, program, kept / f"{key(lowered)}.json")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, calls))


def key(lowered: jax.stages.Lowered) -> str:
    """Identifies a program, for one version of the compiler and one kind of device."""
    return hashlib.sha256(f"{os.environ.get('XLA_FLAGS', '')}\0{lowered.as_text()}".encode()).hexdigest()


def _kept_size(name: str, program: jax.stages.Compiled, path: Path) -> Size:
    """The size that was found when the program was compiled: one that is loaded need not tell the same."""
    try:
        arguments, results, temporary = map(int, json.loads(path.read_bytes()))
        return Size(name, arguments, results, temporary)
    except (OSError, ValueError, TypeError):  # not there, or damaged
        size = size_of(name, program)
    if jax.process_index() == 0:
        with contextlib.suppress(OSError), paths.beside(path) as aside:
            aside.write_text(json.dumps(size[1:]))
            aside.replace(path)
    return size


def size_of(name: str, program: jax.stages.Compiled) -> Size:
    """The memory that a compiled phase takes, as its backend tells it."""
    memory = program.memory_analysis()
    if memory is None:  # a backend that does not tell
        return Size(name, 0, 0, 0)
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Size(name, memory.argument_size_in_bytes, results, memory.temp_size_in_bytes)


def peak(resident: int, programs: Sequence[Size | Program]) -> tuple[int, str]:
    """Most bytes of one device at any time, and the phase that needs them.

    Args:
      resident: bytes of what stays there all the time, state and data.
      programs: of the phases that run while the state is there.
    """
    return max((max(resident, p.arguments) + p.results + p.temporary, p.name) for p in programs)
