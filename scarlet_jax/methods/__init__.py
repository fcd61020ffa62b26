"""The table of methods: what the program must know of a method before it loads the method's own file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """One method of the table. The defaults are those of a distillation method."""

    builder: str  # "module:function"; its parameters are the method's fields under config.method
    distils: bool = True  # whether the builder returns a `base.Method`; otherwise it returns a `base.Make`
    duration: int = 0  # the method's own D, used if the config leaves cache.duration open
    server: bool = True  # whether there is a server model
    own_models: bool = True  # whether clients keep their own models; otherwise the server's is evaluated for them
    one_architecture: bool = False  # whether clients and server must have one architecture
    server_distils: bool = True  # whether a model learns from soft labels: then kd_lr may be why a loss diverges
    # "module:function" with the builder's parameters: returns an optax transformation of the gradient, or None, that is
    # put before the optimizer of private training.
    gradient: str = ""


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
