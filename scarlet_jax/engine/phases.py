"""Phases: the named, jitted functions that make up a round.

A profile shows the name, on the host around the dispatch and on the device around the operations. Under `recording()`
phases only trace: they take and return shapes. One pass over an algorithm's `init`, `round` and `evaluate` then lists
every program of a run, even for devices that are absent.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, ValuesView
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
from jax.sharding import Sharding

from scarlet_jax.types import PyTree


class Call(NamedTuple):
    """A phase and the shapes of its arguments."""

    name: str
    traced: jax.stages.Traced  # after `.lower().compile()`, later calls of the phase reuse the program
    args: tuple[PyTree, ...]  # of ShapeDtypeStructs


# The calls that `recording` collects, and the callback of `timed`. Threads that are started inside inherit neither.
_record: ContextVar[dict[Any, Call] | None] = ContextVar("record", default=None)
_clock: ContextVar[Callable[[str, float], None] | None] = ContextVar("clock", default=None)


@contextlib.contextmanager
def recording() -> Iterator[ValuesView[Call]]:
    """Inside, phases compute nothing and return shapes. Yields a live view of the distinct calls, in their order."""
    calls: dict[Any, Call] = {}
    token = _record.set(calls)
    try:
        yield calls.values()
    finally:
        _record.reset(token)


def shapes(function: Callable[..., Any], *args: PyTree) -> Any:
    """The shapes, with shardings, of what a function made of phases returns. Nothing is computed."""
    with recording():
        return function(*args)


@contextlib.contextmanager
def timed(clock: Callable[[str, float], None]) -> Iterator[None]:
    """Inside, each phase is waited for.

    Args:
      clock: called after each phase with its name and the seconds that it took.
    """
    token = _clock.set(clock)
    try:
        yield
    finally:
        _clock.reset(token)


class Phase:
    """`jax.jit` of a function, with a name.

    Args:
      name: shown in profiles and recordings.
      function: of pytrees, positional.
      **options: of `jax.jit`.
    """

    def __init__(self, name: str, function: Callable[..., Any], **options: Any):
        @functools.wraps(function)
        def named(*args):
            with jax.named_scope(name):
                return function(*args)

        self.name, self._jitted = name, jax.jit(named, **options)

    def __call__(self, *args: PyTree) -> Any:
        """Dispatch the function; under `recording()`, note the call and return the shapes of its results."""
        calls, clock = _record.get(), _clock.get()
        if calls is not None:
            return self._note(calls, args)
        with jax.profiler.TraceAnnotation(self.name):
            if clock is None:
                return self._jitted(*args)
            start = time.perf_counter()
            result = jax.block_until_ready(self._jitted(*args))
            clock(self.name, time.perf_counter() - start)
            return result

    def _note(self, calls: dict[Any, Call], args: tuple[PyTree, ...]) -> Any:
        args = jax.tree.map(_shape, args)
        leaves, structure = jax.tree.flatten(args)
        key = id(self), structure, tuple((leaf.shape, leaf.dtype, leaf.sharding) for leaf in leaves)
        if key not in calls:
            calls[key] = Call(self.name, self._jitted.trace(*args), args)
        return calls[key].traced.out_info


def is_abstract(tree: PyTree) -> bool:
    """Whether a tree has shapes in the place of arrays."""
    return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree))


def abstract(tree: PyTree, sharding: Sharding) -> PyTree:
    """The shapes of a tree of arrays or shapes, with the given sharding."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def put(tree: PyTree, sharding: Sharding) -> PyTree:
    """`jax.device_put` of arrays; of shapes, or for devices that are only described, the shapes with this sharding."""
    described = not sharding.device_set <= set(jax.devices())
    return abstract(tree, sharding) if described or is_abstract(tree) else jax.device_put(tree, sharding)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    """The shape of a leaf with its sharding, if it is committed to one; the number of a block, for example, is not."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding if leaf.committed else None)
