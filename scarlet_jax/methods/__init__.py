"""The table of methods: what the program must know of a method before it loads the method's own file."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from scarlet_jax.errors import UserError, bad_field, first_line
from scarlet_jax.tables import load


class Entry(NamedTuple):
    """One method of the table. The defaults are those of a distillation method."""

    # "module:function", or the function; its parameters are the method's fields under config.method
    builder: str | Callable[..., Any]
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


def find(name: str) -> Entry:
    """The entry of a method: from the table, or of a method outside the package that is named "module:function".

    Raises:
      UserError: there is no such method, or its module cannot be imported.
    """
    if name in METHODS:
        return METHODS[name]
    if ":" in str(name):
        _check_outside(name)
        return Entry(name)
    near = difflib.get_close_matches(str(name), METHODS, 1)
    why = f"(did you mean {near[0]}?)" if near else ""
    raise bad_field("method.name", name, f"one of {', '.join(METHODS)}, or MODULE:FUNCTION", why)


def register(name: str, builder: Callable[..., Any], **facts: Any) -> None:
    """Give a method of one's own a name, for this process: `config.method.name = name` then runs it.

    Args:
      name: a new one.
      builder: a function of the method's parameters that returns a `Method`.
      **facts: fields of `Entry` that differ from their defaults, such as `duration`.

    Raises:
      UserError: the name is taken.
    """
    if name in METHODS:
        raise UserError(f"there is a method {name!r} already; give yours another name.")
    METHODS[name] = Entry(builder, **facts)


def parameters(name: str) -> dict[str, type]:
    """The parameters of a method and their types, by the defaults or annotations of its builder.

    Raises:
      UserError: as `find`.
    """
    found = inspect.signature(load(find(name).builder)).parameters
    return {key: _type(parameter) for key, parameter in found.items()}


def _type(parameter: inspect.Parameter) -> type:
    if parameter.default not in (None, parameter.empty):
        return type(parameter.default)
    written = getattr(parameter.annotation, "__name__", str(parameter.annotation))
    return next((kind for kind in (int, float, bool, str) if written.startswith(kind.__name__)), float)


def _check_outside(name: str) -> None:
    """Refuse a method outside the package that cannot be loaded, in one sentence."""
    allowed = "MODULE:FUNCTION, where Python finds that module"
    try:
        function = load(name)
    except Exception as error:  # the module is the user's, and may do anything
        why = f"which gives {type(error).__name__}: {first_line(error)}"
        raise bad_field("method.name", name, allowed, why) from error
    if not callable(function):
        raise bad_field("method.name", name, allowed, "which is no function")
