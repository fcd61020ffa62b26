"""Phases: the jitted functions that a round is a short sequence of, each with a name.

A profile shows the name, on the host around the dispatch and on the device around the operations. And inside
`recording()` nothing is computed: phases take and return shapes, so that running an algorithm's `init`, `round` and
`evaluate` once lists every program of a run with its arguments, for any devices, also for some that are not there.
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
    """A phase with the shapes it was called with."""

    name: str
    traced: jax.stages.Traced  # `.lower().compile()`; the program is then there for the calls to come
    args: tuple[PyTree, ...]  # of ShapeDtypeStructs


# What `recording` gathers, and whom `timed` tells; a thread that is started inside them sees neither.
_record: ContextVar[dict[Any, Call] | None] = ContextVar("record", default=None)
_clock: ContextVar[Callable[[str, float], None] | None] = ContextVar("clock", default=None)


@contextlib.contextmanager
def recording() -> Iterator[ValuesView[Call]]:
    """Phases called in here compute nothing: they return shapes. Yields the distinct calls, in order, as they come."""
    calls: dict[Any, Call] = {}
    token = _record.set(calls)
    try:
        yield calls.values()
    finally:
        _record.reset(token)


def shapes(function: Callable[..., Any], *args: PyTree) -> Any:
    """What a function made of phases would return, as shapes with shardings; nothing is computed."""
    with recording():
        return function(*args)


@contextlib.contextmanager
def timed(clock: Callable[[str, float], None]) -> Iterator[None]:
    """Phases called in here are waited for one by one; `clock(name, seconds)` is called after each."""
    token = _clock.set(clock)
    try:
        yield
    finally:
        _clock.reset(token)


class Phase:
    """`jax.jit` of a function, with a name.

    Args:
      name: in profiles, and in a recording.
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
        """Dispatch; inside `recording()`, write down the call and return the shapes of what it would return."""
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
    """Whether there are shapes in a tree where arrays would be."""
    return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree))


def abstract(tree: PyTree, sharding: Sharding) -> PyTree:
    """The shapes of a tree of arrays (or of shapes), laid out so."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def put(tree: PyTree, sharding: Sharding) -> PyTree:
    """`jax.device_put`, also of shapes."""
    return abstract(tree, sharding) if is_abstract(tree) else jax.device_put(tree, sharding)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    """A leaf as a recording knows it. An array made on the way (a block's number) may go anywhere."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding if leaf.committed else None)
