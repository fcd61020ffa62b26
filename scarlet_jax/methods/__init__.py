"""The table of methods: what is said of a method by its name, as data. One file per method holds the rest."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """What the program must know of a method before it is built."""

    builder: str  # "module:function"; its parameters are the method's fields under config.method
    distils: bool = True  # the builder returns a `base.Method`; otherwise a `base.Make`
    duration: int = 0  # the method's own D, where the config leaves cache.duration open
    server: bool = True  # whether there is a server model
    own_models: bool = True  # whether clients keep models of their own, or are evaluated with the server's
    one_architecture: bool = False  # clients and server must be of one architecture
    server_distils: bool = True  # whether a model learns from soft labels: then kd_lr may be why a loss diverges
    gradient: str = ""  # "module:function" of the same parameters: an optax transformation ahead of private training


_HERE = "scarlet_jax.methods"
METHODS: dict[str, Entry] = {
    "scarlet": Entry(f"{_HERE}.scarlet:scarlet", duration=50),
    "dsfl": Entry(f"{_HERE}.dsfl:dsfl"),
    "cfd": Entry(f"{_HERE}.cfd:cfd"),
    "comet": Entry(f"{_HERE}.comet:comet"),
    "selective_fd": Entry(f"{_HERE}.selective_fd:selective_fd"),
    "fedavg": Entry(
        f"{_HERE}.fedavg:fedavg",
        distils=False,
        own_models=False,
        one_architecture=True,
        server_distils=False,
        gradient=f"{_HERE}.fedavg:proximal",
    ),
    "feddf": Entry(f"{_HERE}.feddf:feddf", distils=False, own_models=False, one_architecture=True),
    "individual": Entry(f"{_HERE}.individual:individual", distils=False, server=False, server_distils=False),
    "centralized": Entry(
        f"{_HERE}.centralized:centralized",
        distils=False,
        own_models=False,
        one_architecture=True,
        server_distils=False,
    ),
}


def load(reference: str) -> Callable[..., Any]:
    """The function that "module:function" names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
