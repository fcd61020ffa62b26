"""How programs are compiled where only what they do matters."""

import collections
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax

from scarlet_jax import build
from scarlet_jax.engine import phases


@contextlib.contextmanager
def compiling_quickly():
    """Most of XLA's optimizations off: for tests whose both sides are made by the same compiler."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


@contextlib.contextmanager
def compiled_programs(add: Callable[[str], None]) -> Iterator[None]:
    """Inside, `add` is called with the name of each program that XLA compiles."""

    def listener(event, duration, **found):
        if event == "/jax/core/compile/backend_compile_duration":
            add(str(found.get("fun_name")).removeprefix("jit(").removesuffix(")"))

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


_PROGRAMS: dict = {}
_make_algorithm = build.make_algorithm


def share_programs(patch: Any) -> None:
    """`build.make_algorithm` returns what it returned before for a config and choices that compute the same."""

    def make(config, data, num_classes, mesh, chosen):
        fields = json.loads(config.to_json())
        for name in ("rounds", "checkpoint", "wandb", "eval_every", "profile_rounds", "stop", "lr_horizon"):
            del fields[name]
        del fields["data"]["device_budget_mb"]
        key = json.dumps([fields, chosen], sort_keys=True)
        if key not in _PROGRAMS:
            _PROGRAMS[key] = _make_algorithm(config, data, num_classes, mesh, chosen)
        return _PROGRAMS[key]

    patch.setattr(build, "make_algorithm", make)


def with_round(algorithm: Any, round_: Callable[..., Any]) -> Any:
    """The algorithm with another round; where its phases are only listed, nothing is computed and its own is called."""

    def either(*args, **kwargs):
        return algorithm.round(*args, **kwargs) if phases.is_abstract(args) else round_(*args, **kwargs)

    return algorithm._replace(round=either)


@contextlib.contextmanager
def compilations(patch: Any) -> Iterator[dict[int, list[str]]]:
    """Names of what XLA compiles, by the number of the round that was dispatched last; -1 is the set-up."""
    events: dict[int, list[str]] = collections.defaultdict(list)
    now, make = {"round": -1}, build.make_algorithm

    def counting(*args):
        algorithm = make(*args)
        now["round"] = -1

        def round_(*args, **kwargs):
            now["round"] += 1
            return algorithm.round(*args, **kwargs)

        return with_round(algorithm, round_)

    patch.setattr(build, "make_algorithm", counting)
    with compiled_programs(lambda name: events[now["round"]].append(name)):
        yield events
